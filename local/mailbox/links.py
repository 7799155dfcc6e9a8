"""Links in plain text."""

import re
from dataclasses import dataclass
from typing import Final

_LINK: Final = re.compile(r"\bhttps?://[^\s<>\"'`{}|\\^\x00-\x20\x7f]+", re.IGNORECASE)
_TRAILING: Final = ".,;:!?*_"
"""Characters that end a sentence and not a link."""
MAX_LINK_LENGTH: Final = 2_000
"""Longer ones stay text."""


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of a text: a link, or what is between links."""

    text: str
    """As it stands in the text, not escaped."""
    is_link: bool
    """True: `text` is an absolute URL with the scheme http or https, of any case. False: it must not be made a link."""


def split_links(text: str) -> list[TextPiece]:
    """Split a text at its links, which begin with http:// or https://; the pieces together are the text.

    A link ends before white space, quotes, angle brackets, the end of a sentence, and a bracket that was opened before
    the link. Nothing else is a link, in particular no other scheme.
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
    """Remove the end of a sentence, and closing brackets without an opening one, from the end of a link."""
    surplus = {end: url.count(end) - url.count(begin) for begin, end in ("()", "[]")}
    end = len(url)
    while url[end - 1] in _TRAILING or surplus.get(url[end - 1], 0) > 0:
        if url[end - 1] in surplus:
            surplus[url[end - 1]] -= 1
        end -= 1
        if url[:end].endswith("//"):
            break
    return url[:end]
