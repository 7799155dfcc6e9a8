"""Parsing of any mail, also a malformed or hostile one, for display. Pure; no public function raises."""

import base64
import binascii
import codecs
import re
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.quoprimime import header_decode
from typing import Any, Final

_ENCODED_WORD: Final = re.compile(r"=\?([^?\s*]{1,40})(?:\*[^?\s]{0,40})?\?([bBqQ])\?([^?\s]*)\?=")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SLOW_CODECS: Final = frozenset({"idna", "punycode"})
"""Codecs that need quadratic time; no mail uses them, so they are decoded as UTF-8 instead."""
_IMAGE_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

MAX_HEADER_LENGTH: Final = 10_000
"""Characters of one header that are shown."""
MAX_HEADERS: Final = 500
"""Headers of a mail that are shown."""
MAX_TEXT_LENGTH: Final = 500_000
"""Characters of a text part or of a source that are shown."""
MAX_HTML_LENGTH: Final = 5_000_000
"""Characters of an HTML part that are shown."""


@dataclass(frozen=True, slots=True)
class MailSummary:
    """The entry of one mail in the list: sender, recipients and subject, decoded, each on one line; not escaped."""

    sender: str
    recipients: str
    """The header To, or without it the recipients that the sender named to the mail server."""
    subject: str


@dataclass(frozen=True, slots=True)
class HeaderField:
    """One header of a mail, not escaped."""

    name: str
    text: str
    """The value with its encoded words (RFC 2047) decoded, on one line."""
    raw: str
    """The value as it was sent, with its line breaks."""


@dataclass(frozen=True, slots=True)
class InlineImage:
    """An image that the HTML part of the same mail may show."""

    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class PartDescription:
    """The description of a part that is not shown as text or HTML."""

    content_type: str
    filename: str | None
    size: int
    """Bytes after decoding."""


@dataclass(frozen=True, slots=True)
class ParsedMail:
    """The readable parts of a mail, decoded and not escaped."""

    headers: tuple[HeaderField, ...]
    text: str | None
    """The first plain text; None if there is none."""
    html: str | None
    """The first HTML text, untrusted; None if there is none."""
    images: dict[str, InlineImage]
    """The images by their Content-ID, without its angle brackets."""
    parts: tuple[PartDescription, ...]
    """All other parts, images included."""
    defects: tuple[str, ...]
    """The defects of the mail's format, in words; empty for a well-formed mail."""


def summarize_mail(head: bytes) -> MailSummary:
    """Summarize a mail by its first bytes, which must hold the headers. Missing or unreadable fields are empty."""
    try:
        message = BytesHeaderParser().parsebytes(head)
    except Exception:  # noqa: BLE001 - whatever a hostile mail does to the parser, the mail is listed
        return MailSummary("", "", "")
    fields = {name: _read_header(message, name) for name in ("From", "To", "Delivered-To", "Subject")}
    return MailSummary(fields["From"], fields["To"] or fields["Delivered-To"], fields["Subject"])


def parse_mail(content: bytes) -> ParsedMail:
    """Parse a mail. Parts that cannot be parsed are left out, and described in `defects`."""
    try:
        message: Message[str, str] = BytesParser().parsebytes(content)
        return _collect_parts(message)
    except Exception as error:  # noqa: BLE001 - whatever a hostile mail does to the parser, its source is still shown
        return ParsedMail((), None, None, {}, (), (f"it cannot be parsed, {type(error).__name__}",))


def decode_source(content: bytes) -> str:
    """Decode the source of a mail for reading; what is not UTF-8 is replaced."""
    return content[:MAX_TEXT_LENGTH].decode("utf-8", "replace")


def decode_header_value(raw: str) -> str:
    """Decode the encoded words (RFC 2047) of a header's value, and make it one line.

    A malformed encoded word stays as it is, an unknown charset is taken for UTF-8, and what is invalid, as well as a
    control character, becomes U+FFFD. White space between two encoded words is dropped, and their bytes are decoded
    together if their charset is the same.
    """
    raw = _decode_raw(raw)
    decoded: list[str] = []
    charset, pending = "", b""
    at = 0
    for found in _ENCODED_WORD.finditer(raw):
        content = _decode_word(found[2], found[3])
        between = raw[at : found.start()]
        is_apart = not charset or content is None or bool(between.strip())
        if is_apart or found[1].lower() != charset:
            decoded.append(decode_bytes(pending, charset))
            pending = b""
        if is_apart:
            decoded.append(between)
        if content is None:
            decoded.append(found.group())
            charset = ""
        else:
            charset, pending = found[1].lower(), pending + content
        at = found.end()
    decoded += [decode_bytes(pending, charset), raw[at:]]
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", " ".join("".join(decoded).split()))


def decode_bytes(content: bytes, charset: str | None) -> str:
    """Decode bytes of a charset, or as UTF-8 if the charset is None or unknown; what is invalid becomes U+FFFD.

    The result can be encoded again: it has no lone surrogates.
    """
    try:
        codec = codecs.lookup(charset or "utf-8").name
        text = content.decode("utf-8" if codec in _SLOW_CODECS else codec, "replace")
    except (LookupError, ValueError):
        text = content.decode("utf-8", "replace")
    return text.encode("utf-8", "replace").decode()


def _decode_word(encoding: str, text: str) -> bytes | None:
    """Decode the text of an encoded word, of encoding B or Q; None if it is malformed."""
    try:
        if encoding in "qQ":
            return header_decode(text).encode("latin-1")
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _decode_raw(value: Any) -> str:
    """Return the text of a header's value, in which the parser has replaced each non-ASCII byte by a lone surrogate.

    The bytes are decoded as UTF-8; at most MAX_HEADER_LENGTH characters are returned.
    """
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")[:MAX_HEADER_LENGTH]


def _read_header(message: "Message[str, str]", name: str) -> str:
    """Return the decoded values of all headers of a name, separated by commas; empty if there are none."""
    values = [value for each, value in message.raw_items() if each.lower() == name.lower()]
    return ", ".join(decode_header_value(value) for value in values[:MAX_HEADERS])


def _collect_parts(message: "Message[str, str]") -> ParsedMail:
    """Collect the readable parts of a parsed mail. May raise any exception if the mail is malformed."""
    text = html = None
    images: dict[str, InlineImage] = {}
    parts: list[PartDescription] = []
    defects: dict[str, None] = {}
    for part in message.walk():
        defects |= dict.fromkeys(_describe_defect(each) for each in part.defects)
        if part.is_multipart():
            continue
        content_type = part.get_content_type()
        payload: Any = part.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else b""
        is_shown = part.get_content_disposition() != "attachment"
        if content_type == "text/plain" and text is None and is_shown:
            text = _decode_part(part, content, MAX_TEXT_LENGTH)
            continue
        if content_type == "text/html" and html is None and is_shown:
            html = _decode_part(part, content, MAX_HTML_LENGTH)
            continue
        content_id = _decode_raw(part.get("Content-ID", "")).strip().strip("<>")
        if content_type in _IMAGE_TYPES and content_id:
            images.setdefault(content_id, InlineImage(content_type, content))
        filename = part.get_filename()
        parts.append(PartDescription(content_type, filename and decode_header_value(filename), len(content)))
    headers = tuple(_make_field(name, value) for name, value in list(message.raw_items())[:MAX_HEADERS])
    return ParsedMail(headers, text, html, images, tuple(parts), tuple(defects))


def _decode_part(part: "Message[str, str]", content: bytes, limit: int) -> str:
    """Decode a text part by its own charset, with LF at the ends of its lines; at most `limit` characters."""
    # No charset needs more than four bytes for a character.
    text = decode_bytes(content[: 4 * limit], part.get_content_charset())
    return text.replace("\r\n", "\n")[:limit]


def _make_field(name: str, value: Any) -> HeaderField:
    """Build the header as it is shown: decoded, and as it was sent."""
    raw = _decode_raw(value)
    return HeaderField(_decode_raw(name), decode_header_value(value), _CONTROL.sub("\N{REPLACEMENT CHARACTER}", raw))


def _describe_defect(defect: Exception) -> str:
    """Return the name of a defect in words: StartBoundaryNotFoundDefect is `start boundary not found`."""
    name = type(defect).__name__.removesuffix("Defect")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
