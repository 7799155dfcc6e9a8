"""Envelope senders that name the recipient, and the way back."""

import re
from email.headerregistry import Address

import pytest
from hypothesis import given, strategies as st

from notifier.mail import envelope_sender, recipient_of

BOUNCES = Address(addr_spec="bounces@example.org")
LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")

local_parts = st.from_regex(r"[a-z0-9+=_%-]{1,20}(\.[a-z0-9é蝶]{1,6})?", fullmatch=True) | st.text(
    min_size=1, max_size=12
)
domains = st.from_regex(r"[a-z0-9-]{1,12}\.[a-zü]{2,6}", fullmatch=True)


def test_the_recipient_stands_in_the_local_part() -> None:
    """As other senders write it, so that people who read bounces know it."""
    assert envelope_sender(BOUNCES, "ada@example.net") == "bounces+ada=example.net@example.org"
    assert envelope_sender(BOUNCES, "a+b=c@example.net") == "bounces+a+2Bb+3Dc=example.net@example.org"


@given(local_parts, domains)
def test_a_bounce_tells_whose_it_is(local_part: str, domain: str) -> None:
    """Any recipient is read back, or none was named; and the address is one that every server must take."""
    recipient = f"{local_part}@{domain}"
    try:
        recipient.encode()
    except UnicodeEncodeError:
        return  # half a character is no address
    address = envelope_sender(BOUNCES, recipient)
    name, _, host = address.rpartition("@")
    assert host == "example.org"
    assert LOCAL_PART.fullmatch(name)
    assert len(name) <= 64
    assert recipient_of(address, BOUNCES) == (None if address == "bounces@example.org" else recipient)


def test_what_is_too_long_comes_back_without_a_name() -> None:
    """RFC 5321 lets a server refuse more than 64 octets: better a bounce that is harder to read than no mail."""
    assert envelope_sender(BOUNCES, f"{'a' * 50}@example.net") == "bounces@example.org"
    assert envelope_sender(BOUNCES, "no address") == "bounces@example.org"


@pytest.mark.parametrize(
    "address",
    ["", "bounces@example.org", "bounces+ada@example.org", "other+a=b.org@example.org", "bounces+a=b.org@example.net",
     "bounces+é=b.org@example.org", "bounces+a+FF=b.org@example.org"],
)  # fmt: skip
def test_other_addresses_name_nobody(address: str) -> None:
    """Strangers write to it, too."""
    assert recipient_of(address, BOUNCES) is None


@given(st.text())
def test_no_address_breaks_it(address: str) -> None:
    """Any text names somebody or nobody."""
    found = recipient_of(address, BOUNCES)
    assert found is None or "@" in found
