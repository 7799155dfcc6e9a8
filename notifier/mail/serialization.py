"""How a mail is kept and written: as `email` does, in a fraction of its time.

`email` takes each header apart when it is set and again when it is written, makes a class for each, and writes parts
line by line. Ours are text that we made ourselves: they are kept as they are, and taken apart when somebody reads them.
"""

from collections.abc import Iterator
from email.header import Header
from email.headerregistry import Address, AddressHeader, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import EmailPolicy, Policy
from functools import cache, lru_cache
from typing import Any, Final, cast

_LONGEST_LINE: Final = 78
"""Characters without the line's end (RFC 5322, 2.1.1), for lines that can be broken."""

_LONGEST_ENCODED_LINE: Final = 76
"""Of those that hold an encoded word (RFC 2047, 2)."""
_WORD: Final = "=?utf-8?q?{}?="


class _Registry(HeaderRegistry):
    """With one class for each name, and one header for each type of content: there are few."""

    def __getitem__(self, name: str) -> type[BaseHeader]:
        return _header_class(name.lower())

    def __call__(self, name: str, value: Any) -> BaseHeader:
        if type(value) is str and name == "Content-Type":
            return _content_type(value)
        return self[name](name, value)


_PLAIN_REGISTRY: Final = HeaderRegistry()


@cache
def _header_class(name: str) -> type[BaseHeader]:
    return _PLAIN_REGISTRY[name]


@lru_cache(maxsize=64)
def _content_type(value: str) -> BaseHeader:
    return _header_class("content-type")("Content-Type", value)


@lru_cache(maxsize=64)
def sender_header(display_name: str, username: str, domain: str) -> BaseHeader:
    """From: the same in all mails."""
    return _header_class("from")("From", Address(display_name, username, domain))


class _Wire(EmailPolicy):
    """Folds headers with `email.header`: the newer code of Python 3.11 changes the spaces of what it folds."""

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        # Whatever could end a line is not printable, and is left to `email`, which refuses it.
        if type(value) is str and value.isprintable() and (value.isascii() or _is_unstructured(name)):
            return name, value
        return super().header_store_parse(name, value)

    def fold_binary(self, name: str, value: str) -> bytes:
        if value.isascii() and value.isprintable() and "=?" not in value:
            folded = folded_at_spaces(name, value, self.linesep)
            if folded is not None:
                return folded.encode()
        if _is_unstructured(name):
            return f"{name}: {self._folded(name, value)}{self.linesep}".encode()
        if not isinstance(value, BaseHeader):
            value = self.header_factory(name, value)
        if isinstance(value, AddressHeader) and not (self.utf8 or value.isascii()):
            [mailbox] = value.addresses
            folded = self._folded(name, mailbox.display_name)
            return f"{name}: {folded}{self.linesep} <{mailbox.addr_spec}>{self.linesep}".encode()
        return super().fold_binary(name, value)

    def _folded(self, name: str, text: str) -> str:
        charset = "us-ascii" if text.isascii() else "utf-8"
        if charset == "utf-8" and text.isprintable() and (words := encoded_words(name, text)):
            return f"{self.linesep} ".join(words)
        return Header(text, charset, header_name=name).encode(linesep=self.linesep)


@cache
def _is_unstructured(name: str) -> bool:
    return issubclass(_header_class(name.lower()), UnstructuredHeader)


WIRE: Final = _Wire(linesep="\r\n", header_factory=_Registry())


def folded_at_spaces(name: str, value: str, linesep: str) -> str | None:
    """A header of printable ASCII, in lines as full as they may be; what has no space stays whole.

    None where an unfolding reader might not find the same: spaces at an end, or several in a row.
    """
    if len(name) + 2 + len(value) <= _LONGEST_LINE:
        return f"{name}: {value}{linesep}"
    words = value.split(" ")
    if "" in words:
        return None
    lines = [f"{name}: {words[0]}"]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= _LONGEST_LINE:
            lines[-1] += f" {word}"
        else:
            lines.append(f" {word}")
    return linesep.join(lines) + linesep


def encoded_words(name: str, text: str) -> list[str]:
    """A text as encoded words of RFC 2047, one for each line of a header, of 76 characters (2) at most.

    In "Q", where letters can be read; none where "B" is shorter.
    """
    words, word, room = [], "", _LONGEST_ENCODED_LINE - len(f"{name}: {_WORD.format('')}")
    for character in text:
        piece = _in_q(character)
        if len(word) + len(piece) > room:
            words.append(_WORD.format(word))
            word, room = "", _LONGEST_ENCODED_LINE - len(f" {_WORD.format('')}")
        word += piece
    words.append(_WORD.format(word))
    in_b = -(-len(text.encode()) // 3) * 4
    return words if sum(map(len, words)) - len(words) * len(_WORD.format("")) <= in_b else []


@lru_cache(maxsize=4096)
def _in_q(character: str) -> str:
    if character == " ":
        return "_"
    if character.isascii() and (character.isalnum() or character in "!*+-/"):  # 5, (3): also right in a phrase
        return character
    return "".join(f"={octet:02X}" for octet in character.encode())


class Letter(EmailMessage):
    """A mail, or a part of one. What is no multipart holds ASCII text in lines that end with \\n."""

    def __init__(self) -> None:
        super().__init__(policy=WIRE)

    def as_bytes(self, unixfrom: bool = False, policy: Policy | None = None) -> bytes:
        """As `email` writes it."""
        policy = policy or self.policy
        if unixfrom or not isinstance(policy, _Wire):
            return super().as_bytes(unixfrom, policy)
        return b"".join(_pieces(self, policy))


def _pieces(part: Letter, policy: Policy) -> Iterator[bytes]:
    end = policy.linesep.encode()
    for name, value in part.raw_items():
        yield policy.fold_binary(name, value)
    yield end
    if not part.is_multipart():
        yield str(part.get_payload()).replace("\n", policy.linesep).encode("ascii")
        return
    boundary = b"--" + str(part.get_boundary()).encode("ascii")
    for each in cast(list[Letter], part.get_payload()):
        yield boundary + end
        yield from _pieces(each, policy)
        yield end
    yield boundary + b"--" + end
