"""The fast serialization writes the same bytes as `email`."""

import re
from dataclasses import replace
from email.header import Header
from email.message import EmailMessage

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from domain.alerts import Alert
from notifier.mail import compose_alerts_mail, compose_confirmation_mail
from notifier.mail.serialization import WireMessage, encode_words, fold_at_spaces
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, EARLIER, NOW, SENDER, a_day_at_five_airports, alerts, names

LINK = "https://example.org/u?t=" + "a" * 80
printable_ascii = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(alerts, min_size=1, max_size=4, unique_by=lambda each: each.alert_id), names)
def test_a_mail_is_written_as_email_writes_it(given: list[Alert], name: str) -> None:
    """The bytes of any mail are equal to those of `email`, also for a server with SMTPUTF8."""
    contact = replace(CONTACT, name=name, unsubscribe_url=LINK, confirm_url=LINK)
    for mail in (
        compose_alerts_mail(given, contact, SENDER, NOW, CAUSE),
        compose_confirmation_mail(contact, "1", SENDER, NOW),
    ):
        assert mail.as_bytes() == EmailMessage.as_bytes(mail)
        utf8 = mail.policy.clone(utf8=True)  # type: ignore[call-arg]
        assert mail.as_bytes(policy=utf8) == EmailMessage.as_bytes(mail, policy=utf8)


def test_the_same_mail_is_the_same_bytes() -> None:
    """A mail that is sent again after a crash is equal to the first one."""
    for reported in ([replace(ALERT, earlier=EARLIER)], a_day_at_five_airports(NOW)):
        one, other = (compose_alerts_mail(reported, CONTACT, SENDER, NOW, CAUSE).as_bytes() for _ in range(2))
        assert one == other


def test_encoded_lines_have_their_width() -> None:
    """Lines in quoted-printable and in base 64 have 76 characters at most (RFC 2045, 6.7 and 6.8)."""
    mail = compose_alerts_mail(a_day_at_five_airports(NOW), CONTACT, SENDER, NOW, CAUSE)
    content = mail.as_bytes().partition(b"\r\n\r\n")[2]
    assert max(map(len, content.split(b"\r\n"))) == 76


def test_no_part_contains_a_boundary() -> None:
    """A name that equals a boundary does not end a part."""
    mallory = replace(CONTACT, name="--=_towerwatch_forms--")
    mail = compose_alerts_mail([replace(ALERT, earlier=EARLIER)], mallory, SENDER, NOW, CAUSE)
    content = mail.as_bytes().partition(b"\r\n\r\n")[2]
    assert content.count(b"--=_towerwatch_forms") == 3
    assert content.count(b"--=_towerwatch_page") == 3
    assert "Hello --=_towerwatch_forms--," in mail.get_body(("plain",)).get_content()


@given(st.sampled_from(("Subject", "X-Towerwatch-Alert", "List-Unsubscribe")), printable_ascii)
def test_folding_keeps_the_value(name: str, value: str) -> None:
    """The unfolded header (RFC 5322, 2.2.3) is the original; no line is longer than necessary, and none is empty."""
    folded = fold_at_spaces(name, value, "\r\n")
    if folded is None:
        assert "  " in value or value != value.strip(" ")
        return
    assert re.sub(r"\r\n(?= )", "", folded) == f"{name}: {value}\r\n"
    lines = folded.removesuffix("\r\n").split("\r\n")
    for number, line in enumerate(lines):
        assert len(line) <= 78 or " " not in line.removeprefix(f"{name}: " if number == 0 else " ")
        assert line.strip() or not value.strip()


@settings(max_examples=300)
@given(st.text(st.characters(codec="utf-8").filter(str.isprintable), min_size=1, max_size=200))
def test_encoded_words_are_those_of_email(text: str) -> None:
    """The words in "Q" are equal to those of `email`; where `email` chooses "B", the result is empty."""
    usual = Header(text, "utf-8", header_name="Subject").encode()
    words = encode_words("Subject", text)
    assert "\n ".join(words) == usual if words else "=?utf-8?b?" in usual


@pytest.mark.parametrize("value", ["a\r\nBcc: eve@example.net", "a\nb", "a\rb", "a\x0bb", "\u2028a\u2028b"])
def test_no_header_ends_early(value: str) -> None:
    """Setting a header to a value with a line's end raises ValueError."""
    for name in ("Subject", "X-Towerwatch-Alert", "Message-ID", "Content-Type"):
        with pytest.raises(ValueError):
            WireMessage()[name] = value


def test_a_stored_header_can_be_parsed() -> None:
    """A header is stored as text, and parsed when a caller reads it."""
    message = WireMessage()
    message["Subject"] = "00:00–01:00"
    message["Date"] = "Mon, 23 Nov 2026 05:00:00 +0000"
    message["Content-Type"] = 'text/plain; charset="utf-8"'
    assert message["Subject"] == "00:00–01:00"
    assert message["Date"].datetime == NOW
    assert (message.get_content_type(), message["Content-Type"].params["charset"]) == ("text/plain", "utf-8")
    with pytest.raises(ValueError):
        message["Subject"] = "another"
