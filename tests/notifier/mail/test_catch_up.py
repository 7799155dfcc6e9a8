"""The catch-up mail: one mail says that alerts are late, lists them, and is bounded in length."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from uuid import UUID

from hypothesis import HealthCheck, given, settings, strategies as st

from domain.alerts import Alert, AlertState
from notifier.mail import compose_alerts_mail, compose_catch_up_mail
from notifier.mail.alert_header import ALERT_HEADER, parse_alert_header, select_header_fields
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, NOW, SENDER, a_day_at_five_airports, alerts, delivered

BEGIN = datetime(2026, 11, 3, tzinfo=UTC)


def compose(listed: list[Alert], alerts: list[Alert] | None = None) -> EmailMessage:
    """Return the catch-up mail, as its recipient's program parses it. `alerts` None: as `listed`."""
    return delivered(compose_catch_up_mail(listed, alerts or listed, CONTACT, SENDER, NOW, CAUSE))


def read_text(mail: EmailMessage, kind: str = "plain") -> str:
    """Return the text of a mail, or the source of its page, in one line."""
    body = mail.get_body((kind,))
    assert body is not None
    return " ".join(body.get_content().split())


def build_days(days: int, airports: tuple[str, ...] = ("KJFK",)) -> list[Alert]:
    """Return an alert at each airport for each of so many days from BEGIN on."""
    return [
        replace(ALERT, alert_id=UUID(int=number << 32 | day), interest_id=UUID(int=number), airport=airport,
                window_start=BEGIN + timedelta(days=day))
        for number, airport in enumerate(airports, 1)
        for day in range(days)
    ]  # fmt: skip


def test_the_mail_says_that_its_alerts_are_late_and_come_once() -> None:
    """The subject has their number, days and airports; each alert has its line and its header."""
    mail = compose(build_days(9, ("KJFK", "KBOS")))
    assert mail["Subject"] == "Mailed late: 18 alerts, Tue 3 Nov 00:00 – Wed 11 Nov 01:00 UTC (KBOS, KJFK)"
    text = read_text(mail)
    assert "We could not mail you 18 alerts in time. They are about Tue 3 Nov 00:00 – Wed 11 Nov 01:00 UTC." in text
    assert "They are told here once, and by no other mail." in text
    assert text.count("Tue 10 Nov 00:00–01:00 UTC") == 2
    assert "more alerts are not shown" not in text
    assert len(mail.get_all(ALERT_HEADER)) == 18
    page = read_text(mail, "html")
    assert "We could not mail you 18 alerts in time" in page
    assert "They are told here once" in page


def test_one_alert_is_told_in_the_singular() -> None:
    """A person may have missed a single one."""
    mail = compose([ALERT])
    assert mail["Subject"] == "Mailed late: 1 alert, Fri 8 Feb 2013 00:00–01:00 UTC (KJFK)"
    assert "We could not mail you 1 alert in time." in read_text(mail)
    assert "when this alert came up. It is told here once" in read_text(mail)


def test_the_message_id_depends_on_the_set_of_alerts_alone() -> None:
    """It is that of a mail that lists the same alerts in time: the server may have that one."""
    given = build_days(3)
    ids = {compose(listed, given)["Message-ID"] for listed in (given, given[::-1], given[:1])}
    assert ids == {delivered(compose_alerts_mail(given, CONTACT, SENDER, NOW, CAUSE))["Message-ID"]}
    assert compose(given[:2])["Message-ID"] not in ids


def test_a_long_absence_makes_no_endless_mail() -> None:
    """500 alerts of 50 thresholds: 30 thresholds with 12 lines each at most, and the number of the others' alerts."""
    airports = tuple(f"K{number:03}" for number in range(50))
    mail = compose(build_days(10, airports))
    text = read_text(mail)
    assert "200 more alerts are not shown, to keep this mail short: at K" in text
    assert sum(f"- {airport}," in text for airport in airports) == 30
    assert len(mail["Subject"]) < 200
    assert len(mail.as_bytes()) < 500_000
    assert "200 more alerts are not shown" in read_text(mail, "html")


def test_breaches_are_shown_before_what_has_ended() -> None:
    """Of more thresholds than the mail shows those in breach come first, however long ago."""
    ended = [replace(each, state=AlertState.RESOLVED) for each in build_days(1, tuple(f"K{n:03}" for n in range(40)))]
    breach = replace(ALERT, alert_id=UUID(int=7), interest_id=UUID(int=99), airport="LICC", window_start=BEGIN)
    text = read_text(compose([*ended, breach]))
    assert "LICC" in text
    assert "11 more alerts are not shown" in text


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(alerts, min_size=1, max_size=6))
def test_any_alerts_make_a_mail_whose_headers_name_each_of_them(given: list[Alert]) -> None:
    """Whatever the alerts are, the mail can be written and read."""
    listed = list({each.alert_id: each for each in given}.values())
    mail = compose(given)
    in_headers = [parse_alert_header(str(value)) for value in mail.get_all(ALERT_HEADER)]
    assert Counter(in_headers) == Counter(select_header_fields(each) for each in listed)


def test_a_day_at_five_airports_has_its_charts() -> None:
    """As in the mail of a day in time."""
    mail = compose(a_day_at_five_airports(NOW))
    assert sum(part.get_content_type() == "image/png" for part in mail.walk()) == 5
