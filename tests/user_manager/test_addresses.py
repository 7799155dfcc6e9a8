"""E-mail addresses: validation, and the key by which two addresses are compared."""

from contextlib import suppress
from email.headerregistry import Address as HeaderAddress

import pytest
from hypothesis import given, strategies as st

from user_manager.addresses import compute_lookup_key, parse_address
from user_manager.errors import AddressInvalidError


def test_addresses_are_compared_without_case() -> None:
    """Addresses that differ in case only are equal; mail goes to the address as it was written."""
    written = parse_address("Ann.Smith@Example.ORG", allow_test=False)
    assert written.email == "Ann.Smith@example.org"
    assert written.key == parse_address("aNN.sMITH@EXAMPLE.org", allow_test=False).key


def test_an_international_domain_is_stored_as_idna() -> None:
    """Both spellings of a domain, Unicode and IDNA, are one address."""
    unicode = parse_address("ann@bücher.example.com", allow_test=False)
    assert unicode == parse_address("ann@xn--bcher-kva.example.com", allow_test=False)
    assert unicode.email.isascii()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ann",
        "ann@localhost",
        "ann@",
        "@example.org",
        "ann@exam ple.org",
        "Ann <ann@example.org>",
        "ann@example.org\r\nBcc: bob@example.org",
        "ann@[127.0.0.1]",
        "ann@" + "a-long-label." * 20 + "example.org",
        "ann@tower.test",
        "=?utf-8?q?a?=@example.org",
        "a=?b@example.org",
    ],
)
def test_invalid_addresses_are_rejected(text: str) -> None:
    """A text that is no address that can receive mail is rejected with a reason."""
    with pytest.raises(AddressInvalidError, match="not an e-mail address"):
        parse_address(text, allow_test=False)


def test_the_domain_test_is_accepted_only_if_allowed() -> None:
    """The reserved domain .test is for demos only."""
    assert parse_address("ann@tower.test", allow_test=True).email == "ann@tower.test"


def test_a_lookup_always_accepts_test_addresses() -> None:
    """A lookup accepts test addresses even if they may not register now; an invalid address has no key."""
    assert compute_lookup_key("ANN@tower.TEST") == "ann@tower.test"
    assert compute_lookup_key("nonsense") is None
    assert compute_lookup_key("=?utf-8?q?a?=@example.org") == "=?utf-8?q?a?=@example.org"


@given(st.text("aqbB8_.+-=?!#'*/{|}~", min_size=1, max_size=20), st.sampled_from(["{}", "=?utf-8?q?{}?="]))
def test_whoever_registers_can_be_written_to(local_part: str, frame: str) -> None:
    """A mail's header can hold each address that may register.

    Before, anybody registered an address that `email` decodes as an encoded word; its mail was a dead letter, and the
    alert DeadLetters fired.
    """
    with suppress(AddressInvalidError):
        email = parse_address(f"{frame.format(local_part)}@example.org", allow_test=False).email
        assert HeaderAddress(addr_spec=email).addr_spec == email
