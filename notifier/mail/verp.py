"""Envelope senders that hold the recipient's address, so that a bounce names the mail's recipient (VERP)."""

import re
from email.headerregistry import Address
from typing import Final

_MAX_LOCAL_PART_LENGTH: Final = 64
"""Octets (RFC 5321, 4.5.3.1.1)."""

_UNESCAPED: Final = re.compile(r"[A-Za-z0-9!#$%&'*/?^_`{|}~.-]")
"""Characters of a local part without quotation marks (RFC 5321, 4.1.2), except + and =, which VERP uses itself."""

_ESCAPED: Final = re.compile(rb"\+([0-9A-F]{2})")


def build_envelope_sender(sender: Address, recipient: str) -> str:
    """Return the address to which a mail to `recipient` bounces: bounces+ada=example.net@example.org.

    A character that an address may not hold, and + and =, is written as + and two hexadecimal digits for each octet of
    UTF-8. Returns the sender's own address, without the recipient, where the result is longer than a server must
    accept, or invalid.
    """
    local_part, at, domain = recipient.rpartition("@")
    coded = f"{_escape(local_part)}={_escape(domain)}"
    bounce_local_part = f"{sender.username}+{coded}"
    if (
        not (at and local_part and domain)
        or len(bounce_local_part) > _MAX_LOCAL_PART_LENGTH
        or not _is_dot_atom(bounce_local_part)
    ):
        return sender.addr_spec
    return f"{bounce_local_part}@{sender.domain}"


def parse_recipient(address: str, sender: Address) -> str | None:
    """Return the recipient that `build_envelope_sender` wrote into an address; None for any other address.

    The address must have the sender's domain, in upper or lower case, begin with the sender's local part and "+", and
    hold "=" and valid escapes.
    """
    local_part, _, domain = address.rpartition("@")
    begin = f"{sender.username}+"
    if domain.lower() != sender.domain.lower() or not local_part.startswith(begin):
        return None
    name, equals, of_domain = local_part.removeprefix(begin).rpartition("=")
    if not equals:
        return None
    try:
        return f"{_unescape(name)}@{_unescape(of_domain)}"
    except ValueError:
        return None


def _escape(text: str) -> str:
    """Return the text with each character that is not in `_UNESCAPED` as +XX for each octet of its UTF-8."""
    return "".join(
        each if _UNESCAPED.fullmatch(each) else "".join(f"+{octet:02X}" for octet in each.encode()) for each in text
    )


def _unescape(text: str) -> str:
    """Return the text that `_escape` was given: each +XX becomes an octet of UTF-8, any other character stays.

    Raises ValueError for text beyond ASCII and for invalid UTF-8.
    """
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode("ascii")).decode()


def _is_dot_atom(local_part: str) -> bool:
    """Return True if the dots stand only between other characters, as RFC 5321 requires without quotation marks."""
    return not (local_part.startswith(".") or local_part.endswith(".") or ".." in local_part)
