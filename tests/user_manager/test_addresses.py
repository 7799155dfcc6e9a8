"""Addresses: what may register, and when two are the same."""

import pytest

from user_manager.addresses import compute_lookup_key, parse_address
from user_manager.errors import AddressInvalidError


def test_addresses_are_compared_without_case() -> None:
    """Who writes it in another case means the same mailbox; the mail goes to what was written."""
    written = parse_address("Ann.Smith@Example.ORG", allow_test=False)
    assert written.email == "Ann.Smith@example.org"
    assert written.key == parse_address("aNN.sMITH@EXAMPLE.org", allow_test=False).key


def test_a_domain_in_other_letters_is_kept_as_mail_servers_take_it() -> None:
    """IDNA: both spellings are one address."""
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
    ],
)
def test_what_gets_no_mail_is_refused(text: str) -> None:
    """Each has a text that says why."""
    with pytest.raises(AddressInvalidError, match="not an e-mail address"):
        parse_address(text, allow_test=False)


def test_test_addresses_register_where_a_setting_allows_it() -> None:
    """The reserved domain .test is for demos only."""
    assert parse_address("ann@tower.test", allow_test=True).email == "ann@tower.test"


def test_a_lookup_finds_whoever_could_ever_register() -> None:
    """Also test addresses, where they are no longer allowed; what is no address is nobody's."""
    assert compute_lookup_key("ANN@tower.TEST") == "ann@tower.test"
    assert compute_lookup_key("nonsense") is None
