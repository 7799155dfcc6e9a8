"""Fast serialization of mails: the same bytes as `email` writes, in a fraction of the time.

`email` parses each header when it is set and again when it is written, makes a class for each, and writes parts line by
line. Our headers are texts that we made ourselves: they are stored unparsed, and parsed only when somebody reads them.
"""

from collections.abc import Iterator
from email.header import Header
from email.headerregistry import Address, AddressHeader, BaseHeader, Group, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import EmailPolicy, Policy
from functools import cache, lru_cache
from typing import Any, Final

_MAX_LINE_LENGTH: Final = 78
"""Characters without the line's end (RFC 5322, 2.1.1), for header lines that can be folded."""

_MAX_ENCODED_LINE_LENGTH: Final = 76
"""Characters of a header line that holds an encoded word (RFC 2047, 2)."""
_ENCODED_WORD: Final = "=?utf-8?q?{}?="


class _CachingRegistry(HeaderRegistry):
    """A header registry that caches the class of each header name and the parsed header of each content type.

    The plain registry of `email` makes a class and parses again for each header.
    """

    def __getitem__(self, name: str) -> type[BaseHeader]:
        return _header_class(name.lower())

    def __call__(self, name: str, value: Any) -> BaseHeader:
        if type(value) is str and name == "Content-Type":
            return _parse_content_type(value)
        return self[name](name, value)


_PLAIN_REGISTRY: Final = HeaderRegistry()


@cache
def _header_class(name: str) -> type[BaseHeader]:
    """Return the class with which `email` parses a header of this name, in lower case; cached."""
    return _PLAIN_REGISTRY[name]


@lru_cache(maxsize=64)
def _parse_content_type(value: str) -> BaseHeader:
    """Return the parsed Content-Type header of this value; cached, since few values occur."""
    return _header_class("content-type")("Content-Type", value)


@lru_cache(maxsize=64)
def build_from_header(display_name: str, username: str, domain: str) -> BaseHeader:
    """Return the From header; cached, since all mails have the same sender."""
    return _header_class("from")("From", Address(display_name, username, domain))


class RecipientHeader(_header_class("to")):  # type: ignore[misc]
    """A To header of one mailbox. It is parsed only if `email` has to fold it; our policy mostly folds it itself."""

    def __new__(cls, mailbox: Address) -> "RecipientHeader":
        """Create the header of a mailbox whose address needs no quotation marks."""
        header = str.__new__(cls, str(mailbox))
        header.init("To", defects=[], parse_tree=None, groups=[Group(None, [mailbox])])
        return header

    def fold(self, *, policy: Policy) -> str:
        """Parse the header, and return it as `email` folds it."""
        [mailbox] = self.addresses
        return _header_class("to")("To", mailbox).fold(policy=policy)

    def __reduce__(self) -> tuple[type["RecipientHeader"], tuple[Address, ...]]:
        """Return the class and the mailbox from which a copy is made."""
        return RecipientHeader, self.addresses


class _WirePolicy(EmailPolicy):
    """The policy of our mails: stores headers unparsed, and folds them with `email.header`.

    The newer folding code of Python 3.11 changes the spaces of the headers that it folds.
    """

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        """Return a header's name and the value to store when the header is set.

        A printable text is stored unparsed if it is ASCII or its header has no structure (Subject and the like). All
        other values are left to `email`, which parses texts and raises ValueError for a text with a line end.
        """
        # Every character that could end a line is unprintable, and is left to `email`, which refuses it.
        if type(value) is str and value.isprintable() and (value.isascii() or _is_unstructured(name)):
            return name, value
        return super().header_store_parse(name, value)

    def fold_binary(self, name: str, value: str) -> bytes:
        """Return a stored header as the bytes that go out: name and value, folded, encoded and with its line end.

        ASCII is folded at spaces. Unstructured headers and, unless the policy has `utf8`, a mailbox's display name
        beyond ASCII become encoded words (RFC 2047). Every other header is written by `email`.
        """
        if value.isascii() and value.isprintable() and "=?" not in value:
            folded = fold_at_spaces(name, value, self.linesep)
            if folded is not None:
                return folded.encode()
        if _is_unstructured(name):
            return f"{name}: {self._fold_or_encode(name, value)}{self.linesep}".encode()
        if not isinstance(value, BaseHeader):
            value = self.header_factory(name, value)
        if isinstance(value, AddressHeader) and not (self.utf8 or value.isascii()):
            [mailbox] = value.addresses
            folded = self._fold_or_encode(name, mailbox.display_name)
            return f"{name}: {folded}{self.linesep} <{mailbox.addr_spec}>{self.linesep}".encode()
        return super().fold_binary(name, value)

    def _fold_or_encode(self, name: str, text: str) -> str:
        """Return a header's value in folded lines, without the name and the last line end.

        A text beyond ASCII becomes encoded words (RFC 2047), in the shorter of the encodings "Q" and "B".
        """
        charset = "us-ascii" if text.isascii() else "utf-8"
        if charset == "utf-8" and text.isprintable() and (words := encode_words(name, text)):
            return f"{self.linesep} ".join(words)
        return Header(text, charset, header_name=name).encode(linesep=self.linesep)


@cache
def _is_unstructured(name: str) -> bool:
    """Return True if the header of this name is free text to `email`, as Subject is; False if it is parsed."""
    return issubclass(_header_class(name.lower()), UnstructuredHeader)


WIRE_POLICY: Final = _WirePolicy(linesep="\r\n", header_factory=_CachingRegistry())


def fold_at_spaces(name: str, value: str, linesep: str) -> str | None:
    """Return a header ("name: value") of printable ASCII, folded at spaces into lines of up to 78 characters.

    Each line, also the last, ends with `linesep`; further lines begin with a space. A word that is longer stays whole.
    Returns None where a reader that unfolds the lines might get another value: for a header that must be folded and has
    spaces at an end, or several in a row.
    """
    if len(name) + 2 + len(value) <= _MAX_LINE_LENGTH:
        return f"{name}: {value}{linesep}"
    words = value.split(" ")
    if "" in words:
        return None
    lines = [f"{name}: {words[0]}"]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= _MAX_LINE_LENGTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f" {word}")
    return linesep.join(lines) + linesep


def encode_words(name: str, text: str) -> list[str]:
    """Return a header's text as encoded words (RFC 2047) in the encoding "Q", one for each line of up to 76 characters.

    `name`: of the header, for which the first line needs space. A character is never split between two words. "Q" keeps
    ASCII letters readable. Returns an empty list where the encoding "B" is shorter.
    """
    words, word, space_left = [], "", _MAX_ENCODED_LINE_LENGTH - len(f"{name}: {_ENCODED_WORD.format('')}")
    for character in text:
        piece = _encode_q(character)
        if len(word) + len(piece) > space_left:
            words.append(_ENCODED_WORD.format(word))
            word, space_left = "", _MAX_ENCODED_LINE_LENGTH - len(f" {_ENCODED_WORD.format('')}")
        word += piece
    words.append(_ENCODED_WORD.format(word))
    length_in_b = -(-len(text.encode()) // 3) * 4
    return words if sum(map(len, words)) - len(words) * len(_ENCODED_WORD.format("")) <= length_in_b else []


@lru_cache(maxsize=4096)
def _encode_q(character: str) -> str:
    """Return one character in the encoding "Q" of RFC 2047: a space as _, ASCII letters, digits and !*+-/ unchanged.

    Any other character is =XX for each octet of its UTF-8.
    """
    if character == " ":
        return "_"
    if character.isascii() and (character.isalnum() or character in "!*+-/"):  # 5, (3): also right in a phrase
        return character
    return "".join(f"={octet:02X}" for octet in character.encode())


class WireMessage(EmailMessage):
    """A mail, or a MIME part of one, that is serialized fast.

    The payload is a list of parts (multipart), or ASCII text in lines that end with \\n.
    """

    def __init__(self) -> None:
        super().__init__(policy=WIRE_POLICY)

    def as_bytes(self, unixfrom: bool = False, policy: Policy | None = None) -> bytes:
        """Return the bytes of the mail, the same as `email` would write.

        Leaves the work to `email`, which is slow, for `unixfrom` and for a policy that is not ours.
        """
        policy = policy or self.policy
        if unixfrom or not isinstance(policy, _WirePolicy):
            return super().as_bytes(unixfrom, policy)
        return b"".join(_serialize(self, policy))


def _serialize(part: WireMessage, policy: Policy) -> Iterator[bytes]:
    """Yield the bytes of a part in pieces: its headers, an empty line, and its text or its parts between boundaries.

    Lines end as in the policy. Nested parts are serialized in the same way.
    """
    end = policy.linesep.encode()
    content_type = ""
    for name, value in part.raw_items():
        yield policy.fold_binary(name, value)
        if name == "Content-Type":
            content_type = value
    yield end
    payload: str | list[WireMessage] = part._payload  # type: ignore[attr-defined]  # `get_payload` parses headers first
    if not isinstance(payload, list):
        yield str(payload).replace("\n", policy.linesep).encode("ascii")
        return
    boundary = b"--" + _find_boundary(content_type)
    for each in payload:
        yield boundary + end
        yield from _serialize(each, policy)
        yield end
    yield boundary + b"--" + end


@lru_cache(maxsize=64)
def _find_boundary(content_type: str) -> bytes:
    """Return the boundary between the parts of a multipart of this type; cached, since few values occur."""
    part = EmailMessage(policy=WIRE_POLICY)
    part["Content-Type"] = content_type
    return str(part.get_boundary()).encode("ascii")
