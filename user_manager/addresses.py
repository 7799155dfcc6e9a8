"""E-mail addresses: validation, and the key by which two addresses are compared."""

from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email

from user_manager.errors import AddressInvalidError


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

    The local part must be ASCII. `allow_test` also accepts the reserved domain .test (RFC 6761). Raises
    AddressInvalidError.
    """
    try:
        valid = validate_email(text, check_deliverability=False, allow_smtputf8=False, test_environment=allow_test)
    except EmailNotValidError as error:
        raise AddressInvalidError(f"This is not an e-mail address that can get mail: {error}") from None
    return Address(valid.ascii_email or valid.normalized)


def compute_lookup_key(text: str) -> str | None:
    """Return the key by which an account with the address `text` is found; None if `text` is no address.

    Always accepts test addresses: an account that was registered while they were allowed stays findable.
    """
    try:
        return parse_address(text, allow_test=True).key
    except AddressInvalidError:
        return None
