"""The To header of a plain address, which is not parsed, beside that of the `email` package."""

from copy import deepcopy
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

import pytest
from hypothesis import example, given, strategies as st

from notifier.mail.contact import sanitize_name
from notifier.mail.headers import _PLAIN_ADDRESS
from notifier.mail.serialization import RecipientHeader, WireMessage
from tests.notifier.alerts import names

_addresses = st.from_regex(r"[a-zA-Z0-9_+.-]{1,70}@[a-zA-Z0-9.-]{1,70}", fullmatch=True)


def write(header: object) -> WireMessage:
    """Return a mail with this To header."""
    mail = WireMessage()
    mail["To"] = header
    mail.set_payload("")
    return mail


@given(name=names, email=_addresses.filter(lambda each: _PLAIN_ADDRESS.fullmatch(each) is not None))
@example(name="", email="ada@example.net")
@example(name="Lovelace, Ada " + "x" * 80, email="a.d-a_+1@example-2.net")
@example(name='Æ "蝶"  two  spaces', email="ada@example.net")
def test_a_header_that_is_not_parsed_is_the_same(name: str, email: str) -> None:
    """As text, as addresses, as our bytes and as those of other policies."""
    clean = sanitize_name(name)
    parsed = write(Address(clean, addr_spec=email))
    local_part, _, domain = email.rpartition("@")
    mail = write(RecipientHeader(Address(clean, local_part, domain)))
    assert mail.as_bytes() == parsed.as_bytes()
    assert mail.as_bytes(policy=SMTP) == parsed.as_bytes(policy=SMTP)
    in_utf8 = mail.policy.clone(utf8=True)  # type: ignore[call-arg]
    assert mail.as_bytes(policy=in_utf8) == parsed.as_bytes(policy=in_utf8)
    assert (str(mail["To"]), mail["To"].addresses) == (str(parsed["To"]), parsed["To"].addresses)
    assert mail["To"].addresses[0].addr_spec == email
    assert deepcopy(mail).as_bytes() == mail.as_bytes()


@pytest.mark.parametrize(
    "email", ["a..b@c", ".a@c", "a.@c", "a@b@c", "a@[1.2.3.4]", '"a"@c', "a b@c", "a@c\n", "è@c", "a@c.", "@c", "a@"]
)
def test_other_addresses_are_left_to_the_email_package(email: str) -> None:
    """It refuses some, and corrects others."""
    assert not _PLAIN_ADDRESS.fullmatch(email)


def test_a_foreign_boundary_is_still_found() -> None:
    """A multipart whose boundary is not ours is written with its own."""
    part = WireMessage()
    part["Content-Type"] = "text/plain"
    part.set_payload("x\n")
    mail = WireMessage()
    mail["Content-Type"] = 'multipart/mixed; boundary="a b"'
    mail.set_payload([part])
    assert mail.as_bytes() == EmailMessage.as_bytes(mail)
    assert b"\r\n--a b\r\n" in mail.as_bytes()
