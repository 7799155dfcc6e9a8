"""The MIME parts of a mail's body: a plain text, an HTML page with the same content, and the page's images."""

import re
import textwrap
from base64 import b64encode
from binascii import b2a_qp
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from jinja2.ext import Extension
from markupsafe import Markup, escape

from chassis.texts import Texts
from notifier.mail.serialization import WireMessage

_LINE_WIDTH: Final = 76
"""Characters of a line of the plain text."""

_BASE64_LINE_LENGTH: Final = 76
"""Characters of a line of an image (RFC 2045, 6.8)."""

_SIGNATURE: Final = "-- "
"""The line that begins a signature: mail programs show the text after it less prominently (RFC 3676, 4.3)."""


@dataclass(frozen=True, slots=True)
class InlineImage:
    """A PNG that the HTML page of a mail shows."""

    name: str
    """Unique in the mail; the page refers to it as cid:name."""
    png: bytes
    alt: str
    """The content in words, for readers who do not see the image."""


_CONSTANT_STYLE_CALL: Final = re.compile(r"\{\{ style\.(font|ink|faint)\(([\d, ]*)\) \}\}")


class _ConstantStyles(Extension):
    """Jinja extension that expands calls of style macros with constant arguments when a template is read.

    A page has some sixty such calls; they took half of the time of rendering it.
    """

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return the template's source with the styles in place of the calls."""

        def expand(call: re.Match[str]) -> str:
            macro = getattr(self.environment.get_template("styles.html").module, call[1])
            return str(macro(*(int(each) for each in call[2].split(",") if each)))

        return _CONSTANT_STYLE_CALL.sub(expand, source)


@cache
def _load_templates() -> Environment:
    """Return the Jinja environment of `notifier/templates`; created once, at the first call.

    Values are escaped in .html templates only, and a missing variable raises UndefinedError.
    """
    return Environment(
        loader=PackageLoader("notifier"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        auto_reload=False,  # they are part of the program; else each mail looks whether they have changed
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_ConstantStyles],
    )


@cache
def _load_template(name: str) -> Template:
    """Return the template with this file name; cached, since Jinja's own cache is slower."""
    return _load_templates().get_template(name)


def set_body(
    mail: WireMessage,
    template: str,
    texts: Texts,
    values: Mapping[str, object],
    images: Sequence[InlineImage] = (),
) -> None:
    """Set a mail's body: multipart/alternative of a text and an HTML page, rendered from the templates of this name.

    The templates are `notifier/templates/<template>.txt` and `.html`, which take their words from `texts` by `t(key)`;
    a variable that is missing in `values` raises Jinja's UndefinedError. The text is wrapped to 76 characters. Also
    sets MIME-Version and Content-Type. The images are related to the HTML part alone (RFC 2387 in RFC 2046, 5.1.4), so
    a reader of the text is not offered images to save.
    """
    text = _load_template(f"{template}.txt").render(values, t=texts.get)
    html = _load_template(f"{template}.html").render(values, t=partial(_get_markup, texts), language=texts.language)
    page = _build_text_part("html", encode_page(html))
    if images:
        # RFC 2387, 3.1: the type names the root part, to which the images belong.
        page = _build_multipart('multipart/related; type="text/html"', "page", page, *map(_build_image_part, images))
    mail["MIME-Version"] = "1.0"
    _set_parts(mail, "multipart/alternative", "forms", _build_text_part("plain", encode_text(text)), page)


def render_text_fragment(template: str, texts: Texts, values: Mapping[str, object]) -> str:
    """Return a part of a plain text, rendered from `notifier/templates/<template>.txt` and not wrapped."""
    return _load_template(f"{template}.txt").render(values, t=texts.get)


def render_page_fragment(template: str, texts: Texts, values: Mapping[str, object]) -> Markup:
    """Return a part of an HTML page, rendered from `notifier/templates/<template>.html`."""
    return Markup(_load_template(f"{template}.html").render(values, t=partial(_get_markup, texts)))


def _get_markup(texts: Texts, key: str, **values: object) -> Markup:
    """Return the text of a key as HTML, with its values escaped; the catalogues themselves hold nothing to escape."""
    if not values:
        return _get_fixed_markup(texts, key)
    escaped = {name: value if isinstance(value, int) else str(escape(value)) for name, value in values.items()}
    return Markup(texts.get(key, **escaped))


@cache
def _get_fixed_markup(texts: Texts, key: str) -> Markup:
    """Return the text of a key without values as HTML; cached."""
    return Markup(texts.get(key))


def _set_parts(mail: WireMessage, content_type: str, name: str, *parts: WireMessage) -> None:
    """Make a message a multipart of these parts, in their order: set its Content-Type and payload.

    `name` makes the boundary unique in the mail.
    """
    # No text in quoted-printable or base 64 can hold a boundary with these two signs (RFC 2045, 6.7).
    mail["Content-Type"] = f'{content_type}; boundary="=_towerwatch_{name}"'
    mail.set_payload([*parts])


def _build_multipart(content_type: str, name: str, *parts: WireMessage) -> WireMessage:
    """Return a new multipart of these parts, in their order; `name` makes its boundary unique in the mail."""
    part = WireMessage()
    _set_parts(part, content_type, name, *parts)
    return part


def _build_text_part(subtype: str, encoded: str) -> WireMessage:
    """Return a text/`subtype` part of a text that is already encoded in UTF-8 and quoted-printable."""
    part = WireMessage()
    part["Content-Type"] = f'text/{subtype}; charset="utf-8"'
    part["Content-Transfer-Encoding"] = "quoted-printable"
    part.set_payload(encoded)
    return part


def _build_image_part(image: InlineImage) -> WireMessage:
    """Return an image as a part in base 64, with the Content-ID by which the page refers to it."""
    part = WireMessage()
    part["Content-Type"] = "image/png"
    part["Content-Transfer-Encoding"] = "base64"
    part["Content-Disposition"] = "inline"
    part["Content-ID"] = f"<{image.name}>"
    part.set_payload(_encode_image(image.png))
    return part


@lru_cache(maxsize=512)
def _encode_image(png: bytes) -> str:
    """Return an image in base 64, in lines; cached, since one chart goes to many."""
    text = b64encode(png).decode("ascii")  # `encodebytes` encodes line by line, in several times the time
    lines = [text[at : at + _BASE64_LINE_LENGTH] for at in range(0, len(text), _BASE64_LINE_LENGTH)]
    return "\n".join(lines) + "\n"


def encode_page(html: str) -> str:
    """Return an HTML page in quoted-printable, without indentation, spaces at the end of lines and empty lines."""
    return "".join(map(_encode_page_line, html.splitlines()))


def encode_text(text: str) -> str:
    """Return a text in quoted-printable, each line wrapped to 76 characters, without empty lines at begin and end.

    The further lines of a wrapped list item ("- …") are indented as its text. The text ends with one line end.
    """
    return "".join(map(_encode_text_line, text.strip("\n").split("\n")))


@lru_cache(maxsize=4096)  # most lines of a mail are also in others
def _encode_page_line(line: str) -> str:
    """Return a line of HTML without indentation in quoted-printable, with its end; empty for a blank line. Cached."""
    stripped = line.strip()
    return _encode_lines(stripped) if stripped else ""


@lru_cache(maxsize=4096)
def _encode_text_line(line: str) -> str:
    """Return a line of text, wrapped, in quoted-printable, with its end. Cached."""
    return _encode_lines(_wrap_line(line))


def _encode_lines(text: str) -> str:
    """Return lines in UTF-8 and quoted-printable, which passes every server unchanged, with a line end at the end.

    No line's encoding depends on another line (RFC 2045, 6.7).
    """
    return b2a_qp(f"{text}\n".encode()).decode("ascii")


def _wrap_line(line: str) -> str:
    """Return one line of text, wrapped to several lines if it is longer than 76 characters; words are never split.

    A line of one word, a link for example, stays as it is, with its indentation. Further lines are indented as the
    first line's text after its spaces and hyphens. Spaces at the end are removed, except in the line that begins a
    signature, "-- ".
    """
    if len(line) <= _LINE_WIDTH or " " not in line.strip():
        return line if line == _SIGNATURE else line.rstrip()
    indent = " " * (len(line) - len(line.lstrip(" -")))
    if "  " in line or not line.isprintable() or line[0] == " " or line[-1] == " ":
        return _build_wrapper(indent).fill(line)
    return fill_words(line, indent)


def fill_words(line: str, indent: str) -> str:
    """Return a line of words with single spaces between them, wrapped as `textwrap` does, in a third of its time."""
    first, *words = line.split(" ")
    lines = [first]
    for word in words:
        if len(lines[-1]) + 1 + len(word) <= _LINE_WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(indent + word)
    return "\n".join(lines)


@lru_cache(maxsize=64)
def _build_wrapper(indent: str) -> textwrap.TextWrapper:
    """Return what wraps lines whose further lines have this indent; cached."""
    return textwrap.TextWrapper(_LINE_WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
