"""Recognition of links in plain text."""

import re
from dataclasses import dataclass
from typing import Final

_LINK: Final = re.compile(r"\bhttps?://[^\s<>\"'`{}|\\^\x00-\x20\x7f]+", re.IGNORECASE)
_TRAILING: Final = ".,;:!?*_"
"""Characters at the end of a match that belong to the sentence, not to the link."""
MAX_LINK_LENGTH: Final = 2_000
"""Maximum length of a link; a longer one stays text."""


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of a text: a link, or what is between links."""

    text: str
    """As it stands in the text, not escaped."""
    is_link: bool
    """True: `text` is an absolute URL with the scheme http or https, of any case. False: it is to be shown as text."""


def split_links(text: str) -> list[TextPiece]:
    """Split a text at its links, which begin with http:// or https://; the pieces together are the text.

    A link ends before white space, quotes, angle brackets, punctuation that ends a sentence, and a closing bracket that
    was opened before the link. URLs of other schemes are not links.
    """
    pieces = []
    at = 0
    for found in _LINK.finditer(text):
        url = _trim_link(found.group())
        if len(url) > MAX_LINK_LENGTH or url.endswith("://"):
            continue
        if at < found.start():
            pieces.append(TextPiece(text[at : found.start()], False))
        pieces.append(TextPiece(url, True))
        at = found.start() + len(url)
    if at < len(text):
        pieces.append(TextPiece(text[at:], False))
    return pieces


def _trim_link(url: str) -> str:
    """Remove trailing punctuation, and closing brackets that are not opened in the link, from the end of a link."""
    surplus = {end: url.count(end) - url.count(begin) for begin, end in ("()", "[]")}
    end = len(url)
    while url[end - 1] in _TRAILING or surplus.get(url[end - 1], 0) > 0:
        if url[end - 1] in surplus:
            surplus[url[end - 1]] -= 1
        end -= 1
        if url[:end].endswith("//"):
            break
    return url[:end]
