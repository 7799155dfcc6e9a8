"""What is written faster than `email` writes it is what `email` would write."""

import re
from dataclasses import replace
from email.header import Header
from email.message import EmailMessage

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from domain.alerts import Alert
from notifier.mail import alerts_mail, confirmation_mail
from notifier.mail.serialization import Letter, encoded_words, folded_at_spaces
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, EARLIER, NOW, SENDER, a_day_at_five_airports, alerts, names

printable_ascii = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(alerts, min_size=1, max_size=4, unique_by=lambda each: each.alert_id), names)
def test_a_letter_is_written_as_email_writes_it(given: list[Alert], name: str) -> None:
    """Byte by byte, whatever it tells; and for a server of another alphabet too."""
    contact = replace(CONTACT, name=name, unsubscribe_url="https://example.org/u?t=" + "a" * 80)
    for mail in (alerts_mail(given, contact, SENDER, NOW, CAUSE), confirmation_mail(contact, "1", SENDER, NOW)):
        assert mail.as_bytes() == EmailMessage.as_bytes(mail)
        utf8 = mail.policy.clone(utf8=True)  # type: ignore[call-arg]
        assert mail.as_bytes(policy=utf8) == EmailMessage.as_bytes(mail, policy=utf8)


def test_the_same_mail_is_the_same_bytes() -> None:
    """Who gets it twice, after a crash, has the same thing twice."""
    for some in ([replace(ALERT, earlier=EARLIER)], a_day_at_five_airports(NOW)):
        one, other = (alerts_mail(some, CONTACT, SENDER, NOW, CAUSE).as_bytes() for _ in range(2))
        assert one == other


def test_encoded_lines_have_their_width() -> None:
    """76 characters at most, in quoted-printable and in base 64 (RFC 2045, 6.7 and 6.8)."""
    content = alerts_mail(a_day_at_five_airports(NOW), CONTACT, SENDER, NOW, CAUSE).as_bytes().partition(b"\r\n\r\n")[2]
    assert max(map(len, content.split(b"\r\n"))) == 76


def test_boundaries_stand_in_no_part() -> None:
    """Each ends a part and nothing else, though the text tries."""
    mallory = replace(CONTACT, name="--=_towerwatch_forms--")
    mail = alerts_mail([replace(ALERT, earlier=EARLIER)], mallory, SENDER, NOW, CAUSE)
    content = mail.as_bytes().partition(b"\r\n\r\n")[2]
    assert content.count(b"--=_towerwatch_forms") == 3
    assert content.count(b"--=_towerwatch_page") == 3
    assert "Hello --=_towerwatch_forms--," in mail.get_body(("plain",)).get_content()


@given(st.sampled_from(("Subject", "X-Towerwatch-Alert", "List-Unsubscribe")), printable_ascii)
def test_folding_changes_nothing(name: str, value: str) -> None:
    """Unfolded by RFC 5322, 2.2.3, it is what it was; no line is too long that could be shorter, and none is empty."""
    folded = folded_at_spaces(name, value, "\r\n")
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
    """In "Q" the same, character by character; where "B" would be shorter they are left to it."""
    usual = Header(text, "utf-8", header_name="Subject").encode()
    words = encoded_words("Subject", text)
    assert "\n ".join(words) == usual if words else "=?utf-8?b?" in usual


@pytest.mark.parametrize("value", ["a\r\nBcc: eve@example.net", "a\nb", "a\rb", "a\x0bb", "\u2028a\u2028b"])
def test_no_header_ends_early(value: str) -> None:
    """It is refused when it is set."""
    for name in ("Subject", "X-Towerwatch-Alert", "Message-ID", "Content-Type"):
        with pytest.raises(ValueError):
            Letter()[name] = value


def test_a_header_reads_as_itself() -> None:
    """Kept as text, it is taken apart for whoever asks."""
    letter = Letter()
    letter["Subject"] = "00:00–01:00"
    letter["Date"] = "Mon, 23 Nov 2026 05:00:00 +0000"
    letter["Content-Type"] = 'text/plain; charset="utf-8"'
    assert letter["Subject"] == "00:00–01:00"
    assert letter["Date"].datetime == NOW
    assert (letter.get_content_type(), letter["Content-Type"].params["charset"]) == ("text/plain", "utf-8")
    with pytest.raises(ValueError):
        letter["Subject"] = "another"
