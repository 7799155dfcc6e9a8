"""The parts of a mail: a text, the same as a page, and the pictures on the page."""

import textwrap
from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from notifier.mail.serialization import Letter

_LINE: Final = 76

_SIGNATURE: Final = "-- "
"""The line after which mail programs show text in a lower voice (RFC 3676, 4.3)."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG that the page shows by its name."""

    name: str
    """Unique in the mail; the page has it as cid:name."""
    png: bytes
    alt: str
    """The same in words."""


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("notifier"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        auto_reload=False,  # they are part of the program; else each mail looks whether they have changed
        trim_blocks=True,
        lstrip_blocks=True,
    )


def fill(mail: Letter, template: str, values: Mapping[str, object], pictures: Sequence[Picture] = ()) -> None:
    """Give a mail its body: multipart/alternative of a text and an HTML, with the pictures related to the HTML.

    Related to it alone (RFC 2387 in RFC 2046, 5.1.4), so who reads the text is not handed pictures to save.
    """
    text = _templates().get_template(f"{template}.txt").render(values)
    html = _templates().get_template(f"{template}.html").render(values)
    page = _text("html", _without_indents(html))
    if pictures:
        # RFC 2387, 3.1: with the type of the part that the others are for.
        page = _multipart('multipart/related; type="text/html"', "page", page, *map(_shown, pictures))
    mail["MIME-Version"] = "1.0"
    _fill(mail, "multipart/alternative", "forms", _text("plain", _wrapped(text)), page)


def _fill(mail: Letter, content_type: str, name: str, *parts: Letter) -> None:
    # No text in quoted-printable or base 64 can hold a boundary with these two signs (RFC 2045, 6.7).
    mail["Content-Type"] = f'{content_type}; boundary="=_towerwatch_{name}"'
    mail.set_payload([*parts])


def _multipart(content_type: str, name: str, *parts: Letter) -> Letter:
    part = Letter()
    _fill(part, content_type, name, *parts)
    return part


def _text(subtype: str, text: str) -> Letter:
    """In quoted-printable, which passes any server unchanged, whatever the name's alphabet."""
    part = Letter()
    part["Content-Type"] = f'text/{subtype}; charset="utf-8"'
    part["Content-Transfer-Encoding"] = "quoted-printable"
    part.set_payload(b2a_qp(text.encode()).decode("ascii"))
    return part


def _shown(picture: Picture) -> Letter:
    part = Letter()
    part["Content-Type"] = "image/png"
    part["Content-Transfer-Encoding"] = "base64"
    part["Content-Disposition"] = "inline"
    part["Content-ID"] = f"<{picture.name}>"
    part.set_payload(encodebytes(picture.png).decode("ascii"))
    return part


def _without_indents(html: str) -> str:
    return "\n".join(stripped for line in html.splitlines() if (stripped := line.strip())) + "\n"


def _wrapped(text: str) -> str:
    """Lines of a width that mail programs show whole; what continues an item is set in as far as its text."""
    return "\n".join(_fold(line) for line in text.strip("\n").split("\n")) + "\n"


def _fold(line: str) -> str:
    if len(line) <= _LINE:
        return line if line == _SIGNATURE else line.rstrip()
    indent = " " * (len(line) - len(line.lstrip(" -")))
    return textwrap.fill(line, _LINE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
