"""E-mail addresses: which may register, and when two are the same."""

from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email

from user_manager.errors import AddressInvalidError


@dataclass(frozen=True, slots=True)
class Address:
    """An address that mail can be sent to."""

    email: str
    """ASCII: a domain with other letters is in its IDNA form, so that every mail server takes it."""

    @property
    def key(self) -> str:
        """Equal for addresses that differ in case only.

        RFC 5321 lets a mail server tell `Ann@` from `ann@`; none in use does, and people type either.
        """
        return self.email.lower()


def parse_address(text: str, *, allow_test: bool) -> Address:
    """The address in `text`. Asks no DNS.

    `allow_test` accepts the reserved domain .test too (RFC 6761). Raises AddressInvalidError.
    """
    try:
        valid = validate_email(text, check_deliverability=False, allow_smtputf8=False, test_environment=allow_test)
    except EmailNotValidError as error:
        raise AddressInvalidError(f"This is not an e-mail address that can get mail: {error}") from None
    return Address(valid.ascii_email or valid.normalized)


def lookup_key(text: str) -> str | None:
    """The key of an existing account's address, or None when `text` can be nobody's.

    Accepts test addresses always: who could register once can be found for ever.
    """
    try:
        return parse_address(text, allow_test=True).key
    except AddressInvalidError:
        return None
