import re
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import compat32, default
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from domain.alerts import Alert, Bound, State
from domain.interests import Direction
from domain.windows import Window
from notifier.alert_header import ALERT_HEADER, parse_alert_header, told
from notifier.errors import PermanentlyRefused
from notifier.mail import Contact, alert_mail, confirmation_mail, subject
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, NOW, SENDER, alerts, names

HEADERS = [
    "Date",
    "From",
    "To",
    "Message-ID",
    "Auto-Submitted",
    "Subject",
    "X-Towerwatch-Alert",
    "X-Towerwatch-Cause",
    "Content-Type",
    "Content-Transfer-Encoding",
    "MIME-Version",
]


def delivered(mail: EmailMessage) -> EmailMessage:
    """The mail as a recipient's program reads it."""
    return message_from_bytes(mail.as_bytes(), EmailMessage, policy=default)


def body(mail: EmailMessage) -> str:
    """Its text, unwrapped."""
    return " ".join(delivered(mail).get_content().split())


def shown_name(mail: EmailMessage) -> str:
    """The name in the To header by RFC 2047; Python 3.11's own parser keeps the space between encoded words."""
    phrase = str(message_from_bytes(mail.as_bytes(), policy=compat32)["To"]).rpartition("<")[0]
    decoded = str(make_header(decode_header("".join(phrase.splitlines())))).strip()
    return re.sub(r"\\(.)", r"\1", decoded[1:-1]) if decoded.startswith('"') and phrase.startswith('"') else decoded


@pytest.mark.parametrize(
    ("alert", "line"),
    [
        (ALERT, "KJFK: 24 departures, above 20, 2013-02-08 00:00–01:00 UTC"),
        (
            replace(ALERT, state=State.RESOLVED, count=15, window_start=datetime(2013, 2, 8, 1, tzinfo=UTC)),
            "KJFK: back to normal, 15 departures, 2013-02-08 01:00–02:00 UTC (threshold: above 20)",
        ),
        (replace(ALERT, state=State.STILL), "KJFK: 24 departures, still above 20, 2013-02-08 00:00–01:00 UTC"),
        (
            replace(
                ALERT,
                airport="KBOS",
                direction=Direction.ARRIVALS,
                window=Window.ONE_DAY,
                window_start=datetime(2013, 2, 9, tzinfo=UTC),
                bound=Bound.LOW,
                count=0,
                threshold=10,
            ),
            "KBOS: 0 arrivals, below 10, 2013-02-09 UTC",
        ),
        (
            replace(ALERT, bound=Bound.LOW, state=State.WITHDRAWN, withdrawn_count=19),
            "KJFK: correction, 24 departures (not 19), not below 20, 2013-02-08 00:00–01:00 UTC",
        ),
        (
            replace(
                ALERT,
                window=Window.SIX_HOURS,
                window_start=datetime(2013, 2, 8, 18, tzinfo=UTC),
                direction=Direction.BOTH,
                for_windows=3,
            ),
            "KJFK: 24 arrivals and departures, above 20 for 3 six-hour windows in a row, 2013-02-08 18:00–24:00 UTC",
        ),
        (replace(ALERT, count=1, threshold=0), "KJFK: 1 departure, above 0, 2013-02-08 00:00–01:00 UTC"),
    ],
)
def test_the_subject_says_it_all(alert: Alert, line: str) -> None:
    """Airport, count, level and window can be read without opening the mail."""
    assert subject(alert) == line


def test_the_text_tells_airport_level_and_both_times() -> None:
    """A reader learns which airport it is, what was passed, and when it was on their own clock."""
    text = body(alert_mail(ALERT, CONTACT, SENDER, NOW, CAUSE))
    assert text.startswith(
        "Hello Ada Lovelace, John F Kennedy International Airport (KJFK), New York, had 24 departures"
    )
    assert "more than your level of 20" in text
    assert "2013-02-08 00:00–01:00 UTC 2013-02-07 19:00–20:00 in your time zone, America/New_York" in text
    assert "may be higher" in text
    assert f"remove the interest {ALERT.interest_id}" in text


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "Africa/Abidjan", "Mars/Olympus", "", "../etc", "Europe"])
def test_a_time_zone_that_adds_nothing_is_left_out(zone: str) -> None:
    """UTC is not said twice, and a zone that nobody knows does no harm."""
    assert "your time zone" not in body(alert_mail(ALERT, replace(CONTACT, time_zone=zone), SENDER, NOW, CAUSE))


def test_a_run_of_windows_is_explained() -> None:
    """Who asked for several windows in a row is told that it was that many."""
    assert "so for 3 hours in a row" in body(alert_mail(replace(ALERT, for_windows=3), CONTACT, SENDER, NOW, CAUSE))


def test_headers_for_people_and_machines() -> None:
    """Real date, our mailbox, the person's name, a Message-ID that is the same each time, no holiday replies."""
    mail = delivered(alert_mail(ALERT, replace(CONTACT, name="Zoë, Ålesund"), SENDER, NOW, CAUSE))
    assert mail["Date"].datetime == NOW
    assert str(mail["From"]) == "Towerwatch <alerts@example.org>"
    assert mail["To"].addresses[0].display_name == "Zoë, Ålesund"
    assert mail["To"].addresses[0].addr_spec == "ada@example.net"
    assert mail["Message-ID"] == f"<{ALERT.alert_id}@example.org>"
    assert mail["Auto-Submitted"] == "auto-generated"


@given(alerts, names, st.sampled_from(("UTC", "America/New_York", "Asia/Kathmandu", "nowhere")))
def test_any_alert_to_any_name_is_a_sound_mail(alert: Alert, name: str, zone: str) -> None:
    """Whatever a person calls themselves: no defects, no header that we did not write, each in one line, and the
    machine's header reads back."""
    mail = delivered(alert_mail(alert, replace(CONTACT, name=name, time_zone=zone), SENDER, NOW, CAUSE))
    assert mail.keys() == HEADERS
    assert not mail.defects
    for header in mail.values():
        assert not header.defects
        assert not {"\r", "\n"} & set(header)
    [recipient] = mail["To"].addresses
    assert recipient.addr_spec == "ada@example.net"
    kept = " ".join("".join(each if each.isprintable() else " " for each in name).split())
    assert kept.startswith(shown_name(mail))
    assert len(shown_name(mail)) >= min(len(kept), 59)
    assert parse_alert_header(mail[ALERT_HEADER]) == told(alert)
    assert mail["Subject"] == subject(alert)
    assert all(len(line) <= 78 and line.isascii() for line in mail.as_bytes().split(b"\n"))


@pytest.mark.parametrize("address", ["", "nobody", "a@b\r\nBcc: c@d", "a b@c", "@", "zoë", "@ü"])
def test_an_impossible_address_is_refused_for_good(address: str) -> None:
    """No mail can be written to it, now or later."""
    with pytest.raises(PermanentlyRefused) as refused:
        alert_mail(ALERT, replace(CONTACT, email=address), SENDER, NOW, CAUSE)
    assert not address or address not in str(refused.value)


@given(names, st.uuids())
def test_a_confirmation_mail_holds_its_link_whole(name: str, wish: UUID) -> None:
    """The link is on a line of its own, however long it is."""
    url = "https://towerwatch.example.org/users/confirm?token=" + "a-B_9." * 40
    contact: Contact = replace(CONTACT, name=name, confirmed=False, confirm_url=url)
    mail = delivered(confirmation_mail(contact, str(wish), SENDER, NOW))
    assert url in mail.get_content().splitlines()
    assert not mail.defects
    assert mail["Message-ID"] == delivered(confirmation_mail(contact, str(wish), SENDER, NOW))["Message-ID"]
