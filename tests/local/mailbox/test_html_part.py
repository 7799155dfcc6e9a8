"""The document in which the HTML part of a mail is shown."""

import pytest

from local.mailbox.html_part import MAX_IMAGES_LENGTH, POLICY, build_document
from local.mailbox.parsing import InlineImage

IMAGES = {"chart@example.org": InlineImage("image/png", b"\x89PNG")}
DATA_URL = "data:image/png;base64,iVBORw=="


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ('<img src="cid:chart@example.org">', f'<img src="{DATA_URL}">'),
        ("<img src=cid:chart%40example.org>", f"<img src={DATA_URL}>"),
        ("<td background='CID:chart&#64;example.org'>", f"<td background='{DATA_URL}'>"),
        ("a{background:url(cid:chart@example.org)}", f"a{{background:url({DATA_URL})}}"),
        ('<img src="cid:other">', '<img src="cid:other">'),
        ("the text acid:chart@example.org", "the text acid:chart@example.org"),
    ],
)
def test_the_mails_own_images_are_in_the_document(html: str, shown: str) -> None:
    """Their URLs (RFC 2392) name another part of the same mail; nothing else is replaced."""
    assert build_document(html, IMAGES).endswith(shown)


def test_an_image_that_is_named_very_often_does_not_fill_the_memory() -> None:
    """A short mail could otherwise have a document of gigabytes."""
    images = {"x": InlineImage("image/png", b"x" * 1_000_000)}
    assert len(build_document('<img src="cid:x">' * 10_000, images)) < MAX_IMAGES_LENGTH + 1_000_000


def test_links_open_new_pages_and_link_elements_do_nothing() -> None:
    """The first <base> counts, so it comes before all of the mail. A `<link>` could connect to a server."""
    document = build_document('<base target="_self"><LINK rel=preconnect href=//e.org><linked><link/>', {})
    assert document.startswith('<!doctype html>\n<base target="_blank">')
    assert document.endswith("<x-link rel=preconnect href=//e.org><linked><x-link/>")


def test_the_policy_permits_nothing_but_styles_and_embedded_images() -> None:
    """It holds also for a person who opens the document by itself."""
    policy = dict(each.strip().split(" ", 1) for each in POLICY.split(";"))
    assert policy == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'self'",
        "sandbox": "allow-popups allow-popups-to-escape-sandbox",
    }
