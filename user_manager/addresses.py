"""E-mail addresses: validation, and the key by which two addresses are compared."""

import hashlib
from dataclasses import dataclass
from typing import Final

from email_validator import EmailNotValidError, validate_email

from user_manager.errors import AddressInvalidError

_GMAIL: Final = ("gmail.com", ".")
_PROTON: Final = ("proton.me", ".-_")
_IGNORED: Final = {
    "gmail.com": _GMAIL,
    "googlemail.com": _GMAIL,
    "proton.me": _PROTON,
    "protonmail.com": _PROTON,
    "protonmail.ch": _PROTON,
    "pm.me": _PROTON,
}
"""By domain: the domain that stands for it, and the characters that its mail server ignores in the local part.

For Gmail see https://support.google.com/mail/answer/7436150; Proton reserves all four domains for one user name, and
compares names without dots, hyphens and underscores.
"""

_ENCODED_WORD_START: Final = "=?"
"""The start of an encoded word (RFC 2047, 2), which programs decode in an address, too."""


@dataclass(frozen=True, slots=True)
class Address:
    """An e-mail address that can receive mail."""

    email: str
    """ASCII: a domain with other letters is in its IDNA form, which every mail server accepts."""

    @property
    def key(self) -> str:
        """Return the address in lower case, by which addresses are compared.

        RFC 5321 lets a mail server distinguish `Ann@` from `ann@`; none in use does, and people type either.
        """
        return self.email.lower()


def parse_address(text: str, *, allow_test: bool) -> Address:
    """Parse an e-mail address without a DNS query; a domain with other letters becomes its IDNA form.

    The local part must be ASCII, without the start of an encoded word, which no mail's header can hold in an address.
    `allow_test` also accepts the reserved domain .test (RFC 6761). Raises AddressInvalidError.
    """
    address = _parse_any_address(text, allow_test=allow_test)
    if _ENCODED_WORD_START in address.email:
        raise AddressInvalidError(
            f"This is not an e-mail address that can get mail: a mail's header cannot hold {_ENCODED_WORD_START}."
        )
    return address


def _parse_any_address(text: str, *, allow_test: bool) -> Address:
    """Parse an address as `parse_address` does, but accept one that looks like an encoded word (RFC 2047).

    Raises AddressInvalidError.
    """
    try:
        valid = validate_email(text, check_deliverability=False, allow_smtputf8=False, test_environment=allow_test)
    except EmailNotValidError as error:
        raise AddressInvalidError(f"This is not an e-mail address that can get mail: {error}") from None
    return Address(valid.ascii_email or valid.normalized)


def compute_lookup_key(text: str) -> str | None:
    """Return the key by which an account with the address `text` is found; None if `text` is no address.

    Always accepts test addresses and encoded words: an account that was registered while they were allowed stays
    findable.
    """
    try:
        return _parse_any_address(text, allow_test=True).key
    except AddressInvalidError:
        return None


def compute_address_digest(key: str) -> str:
    """Compute the digest by which a link names an address: the SHA-256 of its key, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def normalize_mailbox(key: str) -> str:
    """Return the mailbox that mail to this address (an address' key) most likely reaches.

    The `+tag` of the local part is removed (RFC 5233 names the convention), and what the domain's mail server ignores;
    of a provider's domains that lead to the same mailbox, one stands for all.
    """
    local_part, _, domain = key.rpartition("@")
    # A local part that begins with "+" has no other name for its mailbox.
    local_part = local_part.partition("+")[0] or local_part
    domain, ignored = _IGNORED.get(domain, (domain, ""))
    # Without them nothing may be left of an address that no mailbox has.
    local_part = local_part.translate(str.maketrans("", "", ignored)) or local_part
    return f"{local_part}@{domain}"
