"""Envelope senders that hold the recipient (VERP), and parsing them."""

import re
from email.headerregistry import Address

import pytest
from hypothesis import given, strategies as st

from notifier.mail import build_envelope_sender, parse_recipient

BOUNCES = Address(addr_spec="bounces@example.org")
LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")

local_parts = st.from_regex(r"[a-z0-9+=_%-]{1,20}(\.[a-z0-9é蝶]{1,6})?", fullmatch=True) | st.text(
    min_size=1, max_size=12
)
domains = st.from_regex(r"[a-z0-9-]{1,12}\.[a-zü]{2,6}", fullmatch=True)


def test_the_local_part_holds_the_recipient() -> None:
    """The form is that of other VERP senders, which people who read bounces know."""
    assert build_envelope_sender(BOUNCES, "ada@example.net") == "bounces+ada=example.net@example.org"
    assert build_envelope_sender(BOUNCES, "a+b=c@example.net") == "bounces+a+2Bb+3Dc=example.net@example.org"


@given(local_parts, domains)
def test_the_recipient_is_parsed_from_a_bounce_address(local_part: str, domain: str) -> None:
    """Any recipient is parsed back, or was not written; and the address is one that every server must accept."""
    recipient = f"{local_part}@{domain}"
    try:
        recipient.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate is not a character
    address = build_envelope_sender(BOUNCES, recipient)
    name, _, host = address.rpartition("@")
    assert host == "example.org"
    assert LOCAL_PART.fullmatch(name)
    assert len(name) <= 64
    assert parse_recipient(address, BOUNCES) == (None if address == "bounces@example.org" else recipient)


def test_a_recipient_that_is_too_long_is_omitted() -> None:
    """RFC 5321 lets a server refuse more than 64 octets: a bounce without the recipient is better than no mail."""
    assert build_envelope_sender(BOUNCES, f"{'a' * 50}@example.net") == "bounces@example.org"
    assert build_envelope_sender(BOUNCES, "no address") == "bounces@example.org"


@pytest.mark.parametrize(
    "address",
    ["", "bounces@example.org", "bounces+ada@example.org", "other+a=b.org@example.org", "bounces+a=b.org@example.net",
     "bounces+é=b.org@example.org", "bounces+a+FF=b.org@example.org"],
)  # fmt: skip
def test_other_addresses_hold_no_recipient(address: str) -> None:
    """Anybody may write to the bounce address: parsing returns None."""
    assert parse_recipient(address, BOUNCES) is None


@given(st.text())
def test_no_address_crashes_the_parser(address: str) -> None:
    """Any text gives a recipient or None."""
    found = parse_recipient(address, BOUNCES)
    assert found is None or "@" in found
