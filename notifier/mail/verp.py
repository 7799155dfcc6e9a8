"""Envelope senders that tell, when a mail comes back, to whom it could not be delivered (VERP)."""

import re
from email.headerregistry import Address
from typing import Final

_LONGEST_LOCAL_PART: Final = 64
"""Octets (RFC 5321, 4.5.3.1.1)."""

_ATOM: Final = re.compile(r"[A-Za-z0-9!#$%&'*/?^_`{|}~.-]")
"""What may stand in a local part that is not quoted (RFC 5321, 4.1.2), but for the two signs that mean something."""

_ESCAPED: Final = re.compile(rb"\+([0-9A-F]{2})")


def envelope_sender(sender: Address, recipient: str) -> str:
    """The address to which a mail to `recipient` comes back: bounces+ada=example.net@example.org.

    What may not stand in an address is written as + and two hexadecimal digits for each octet of UTF-8. Where that
    is longer than a server must take, the sender's own address, without the recipient.
    """
    local_part, at, domain = recipient.rpartition("@")
    coded = f"{_coded(local_part)}={_coded(domain)}"
    told = f"{sender.username}+{coded}"
    if not (at and local_part and domain) or len(told) > _LONGEST_LOCAL_PART or not _is_dot_atom(told):
        return sender.addr_spec
    return f"{told}@{sender.domain}"


def recipient_of(address: str, sender: Address) -> str | None:
    """Whom `envelope_sender` named in an address; None where it named nobody."""
    local_part, _, domain = address.rpartition("@")
    begin = f"{sender.username}+"
    if domain.lower() != sender.domain.lower() or not local_part.startswith(begin):
        return None
    name, equals, of_domain = local_part.removeprefix(begin).rpartition("=")
    if not equals:
        return None
    try:
        return f"{_decoded(name)}@{_decoded(of_domain)}"
    except ValueError:
        return None


def _coded(text: str) -> str:
    return "".join(
        each if _ATOM.fullmatch(each) else "".join(f"+{octet:02X}" for octet in each.encode()) for each in text
    )


def _decoded(text: str) -> str:
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode("ascii")).decode()


def _is_dot_atom(local_part: str) -> bool:
    return not (local_part.startswith(".") or local_part.endswith(".") or ".." in local_part)
