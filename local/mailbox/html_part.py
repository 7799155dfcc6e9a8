"""The document in which a mail's HTML part is shown: whatever is in the mail, it runs nothing and loads nothing."""

import base64
import re
from collections.abc import Mapping
from html import unescape
from typing import Final
from urllib.parse import unquote

from local.mailbox.parsing import InlineImage

SANDBOX: Final = "allow-popups allow-popups-to-escape-sandbox"
"""The rights of the frame: its links open pages, which have all rights of a page. No scripts, no forms, no origin."""

POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; "
    f"frame-ancestors 'self'; sandbox {SANDBOX}"
)
"""The Content-Security-Policy of the document, which holds outside of the frame, too."""

MAX_IMAGES_LENGTH: Final = 40_000_000
"""Characters of all images in a document; a mail could name one image any number of times."""

# Links have no target of their own in most mails, and nothing else than the mail may be shown in the frame. A doctype,
# <html> and <head> of the mail, which come after this, change nothing; the first <base> with a target counts.
_BEGIN: Final = '<!doctype html>\n<base target="_blank">\n'
_CONTENT_ID: Final = re.compile(r"""(?<=["'(=\s])cid:([^"'()\s<>]+)""", re.IGNORECASE)
_LINK_ELEMENT: Final = re.compile(r"<link(?=[\s/>])", re.IGNORECASE)


def build_document(html: str, images: Mapping[str, InlineImage]) -> str:
    """Build the document of an HTML part, with its inline images in it; to be served with POLICY.

    The links open in new pages. `<link>` elements are made unknown ones: a policy need not prevent that they
    connect to a server (`rel=preconnect`).
    """
    return _BEGIN + _LINK_ELEMENT.sub("<x-link", _embed_images(html, images))


def _embed_images(html: str, images: Mapping[str, InlineImage]) -> str:
    """Replace the URLs of the mail's images (`cid:`, RFC 2392) by `data:` URLs, up to MAX_IMAGES_LENGTH together."""
    urls: dict[str, str] = {}
    remaining = MAX_IMAGES_LENGTH

    def replace_url(found: re.Match[str]) -> str:
        nonlocal remaining
        name = unquote(unescape(found[1]))
        image = images.get(name)
        if image is None:
            return found.group()
        if name not in urls:
            urls[name] = f"data:{image.content_type};base64,{base64.b64encode(image.content).decode()}"
        remaining -= len(urls[name])
        return urls[name] if remaining >= 0 else found.group()

    return _CONTENT_ID.sub(replace_url, html)
