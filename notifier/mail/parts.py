"""The parts of a mail: a text, the same as a page, and the pictures on the page."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

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
        trim_blocks=True,
        lstrip_blocks=True,
    )


def fill(mail: EmailMessage, template: str, values: Mapping[str, object], pictures: Sequence[Picture] = ()) -> None:
    """Give a mail its body: multipart/alternative of a text and an HTML, with the pictures related to the HTML.

    Related to it alone (RFC 2387 in RFC 2046, 5.1.4), so who reads the text is not handed pictures to save.
    """
    text = _templates().get_template(f"{template}.txt").render(values)
    html = _templates().get_template(f"{template}.html").render(values)
    # Quoted-printable passes any server unchanged, whatever the name's alphabet.
    mail.set_content(_wrapped(text), cte="quoted-printable")
    mail.make_alternative()
    page = EmailMessage(policy=mail.policy)
    page.set_content(_without_indents(html), subtype="html", cte="quoted-printable")
    for picture in pictures:
        page.add_related(picture.png, "image", "png", cid=f"<{picture.name}>", disposition="inline")
    if pictures:
        page.set_param("type", "text/html")  # RFC 2387, 3.1: the type of the part that the others are for
    del page["MIME-Version"]  # of the whole mail, not of its parts
    mail.attach(page)


def _without_indents(html: str) -> str:
    return "\n".join(stripped for line in html.splitlines() if (stripped := line.strip())) + "\n"


def _wrapped(text: str) -> str:
    """Lines of a width that mail programs show whole; what continues an item is set in as far as its text."""
    return "\n".join(_fold(line) for line in text.strip("\n").split("\n")) + "\n"


def _fold(line: str) -> str:
    if line == _SIGNATURE:
        return line
    indent = " " * (len(line) - len(line.lstrip(" -")))
    return textwrap.fill(line, _LINE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
