"""Times in mails where clocks go back or forward: told apart in subject, text and page, and only where they must be."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from domain.windows import Window
from notifier.mail import compose_alert_mail, compose_alerts_mail
from notifier.mail.threshold_charts import _build_time_labels
from notifier.mail.times import ReaderTimes
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, ENGLISH, SENDER, delivered


def at(text: str) -> datetime:
    """Return the UTC moment of a text without a zone: "2026-10-25 00:00"."""
    return datetime.fromisoformat(f"{text}Z")


def compose(zone: str, *starts: str, window: Window = Window.ONE_HOUR) -> tuple[str, str, str]:
    """Return subject, text and page of a mail to a reader in a zone about windows that begin then; written soon after.

    Text and page are in one line each.
    """
    given = [
        replace(ALERT, alert_id=UUID(int=n), window=window, window_start=at(start)) for n, start in enumerate(starts, 1)
    ]
    now = at(starts[-1]) + window.length + timedelta(minutes=5)
    contact = replace(CONTACT, time_zone=zone)
    if len(given) == 1:
        mail = delivered(compose_alert_mail(given[0], contact, SENDER, now, CAUSE))
    else:
        mail = delivered(compose_alerts_mail(given, contact, SENDER, now, CAUSE))
    html = mail.get_body(("html",)).get_content()
    page = unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL))
    return mail["Subject"], " ".join(mail.get_body(("plain",)).get_content().split()), " ".join(page.split())


@pytest.mark.parametrize(
    ("zone", "start", "in_subject", "in_body"),
    [
        ("Europe/Rome", "2026-10-24 23:00", "(01:00 local)", "Sun 25 Oct 01:00–02:00 CEST"),
        ("Europe/Rome", "2026-10-25 00:00", "(02:00 CEST local)", "Sun 25 Oct 02:00 CEST – 02:00 CET"),
        ("Europe/Rome", "2026-10-25 01:00", "(02:00 CET local)", "Sun 25 Oct 02:00 CET – 03:00"),
        ("Europe/Rome", "2026-10-25 02:00", "(03:00 local)", "Sun 25 Oct 03:00–04:00"),
        ("Europe/Rome", "2026-03-29 00:00", "(01:00 local)", "Sun 29 Mar 01:00–03:00"),
        ("America/New_York", "2026-11-01 05:00", "(01:00 EDT local)", "Sun 1 Nov 01:00 EDT – 01:00 EST"),
        ("America/New_York", "2026-11-01 06:00", "(01:00 EST local)", "Sun 1 Nov 01:00 EST – 02:00"),
        ("Australia/Lord_Howe", "2026-04-04 15:00", "(01:30 UTC+10:30 local)", "Sun 5 Apr 01:30 UTC+10:30 – 02:30"),
        ("Africa/Casablanca", "2026-02-15 01:00", "(02:00 UTC+1 local)", "Sun 15 Feb 02:00 UTC+1 – 02:00 UTC+0"),
        ("Antarctica/Troll", "2026-10-25 00:00", "(02:00 UTC+2 local)", "Sun 25 Oct 02:00 UTC+2 – 01:00 UTC+0"),
        ("America/Sao_Paulo", "2018-02-18 02:00", "(23:00 UTC-3 local)", "Sat 17 Feb 23:00 UTC-3 – 24:00"),
        ("America/Havana", "2026-11-01 04:00", "(00:00 CDT local)", "Sun 1 Nov 00:00 CDT – 00:00 CST"),
        ("Asia/Kolkata", "2026-10-25 00:00", "(05:30 local)", "Sun 25 Oct 05:30–06:30"),
        ("Pacific/Apia", "2011-12-30 09:00", "(23:00 local)", "Thu 29 Dec 23:00 – Sat 31 Dec 00:00"),
    ],
)
def test_two_mails_of_the_hour_in_which_clocks_go_back_differ(
    zone: str, start: str, in_subject: str, in_body: str
) -> None:
    """Subject, text and page name the letters or the offset of a local time that clocks show twice, of no other."""
    subject, text, page = compose(zone, start)
    assert subject.endswith(in_subject)
    assert f"{in_body} in your time zone, {zone}" in text
    assert f"{in_body} ({zone.replace('_', ' ')})" in page


def test_lines_about_several_alerts_are_told_apart() -> None:
    """A mail about several runs shows in each line which of the two hours it means."""
    _, text, page = compose("Europe/Rome", "2026-10-24 22:00", "2026-10-25 00:00", "2026-10-25 02:00")
    for shown in (text, page):
        for line in ("(Sun 25 Oct 00:00–01:00 local)", "(02:00 CEST – 02:00 CET local)", "(03:00–04:00 local)"):
            assert line in shown


@pytest.mark.parametrize(
    ("zone", "start", "length", "text"),
    [
        ("Europe/Rome", "2026-10-24 22:00", timedelta(hours=25), "Sun 25 Oct"),
        ("Europe/Rome", "2026-03-28 23:00", timedelta(hours=23), "Sun 29 Mar"),
        ("Europe/Rome", "2026-10-24 22:00", timedelta(hours=49), "Sun 25 Oct – Mon 26 Oct"),
        ("Europe/Rome", "2026-10-24 18:00", timedelta(hours=6), "Sat 24 Oct 20:00 – Sun 25 Oct 02:00 CEST"),
        ("Europe/Rome", "2026-10-25 00:00", timedelta(days=1), "Sun 25 Oct 02:00 CEST – Mon 26 Oct 01:00"),
        ("America/Havana", "2026-10-31 04:00", timedelta(days=1), "Sat 31 Oct"),
        ("America/Havana", "2026-10-31 23:00", timedelta(hours=6), "Sat 31 Oct 19:00 – Sun 1 Nov 00:00 CST"),
        ("America/Havana", "2026-11-01 04:00", timedelta(hours=25), "Sun 1 Nov"),
        ("Pacific/Apia", "2011-12-29 10:00", timedelta(days=1), "Thu 29 Dec"),
        ("Pacific/Apia", "2011-12-29 10:00", timedelta(days=2), "Thu 29 Dec – Sat 31 Dec"),
        ("Pacific/Apia", "2011-12-30 00:00", timedelta(days=1), "Thu 29 Dec 14:00 – Sat 31 Dec 14:00"),
        ("America/Sao_Paulo", "2018-11-04 03:00", timedelta(hours=23), "Sun 4 Nov 01:00–24:00"),
        ("America/St_Johns", "2010-11-07 02:30", timedelta(hours=1), "Sun 7 Nov 00:00 NDT – 00:00 NST"),
        ("Europe/London", "2026-03-29 00:00", timedelta(hours=6), "Sun 29 Mar 00:00–07:00"),
    ],
)
def test_ranges_over_a_change_of_clocks(zone: str, start: str, length: timedelta, text: str) -> None:
    """Days of 23 and 25 hours are their date; a day that does not exist is never named; no range seems empty."""
    begin = at(start)
    assert ReaderTimes.of(zone, begin, ENGLISH).format_range(begin, begin + length, ZoneInfo(zone)) == text


@pytest.mark.parametrize(
    ("start", "hours", "is_shown"),
    [
        ("2026-03-29 00:00", 1, False),
        ("2026-03-29 00:00", 6, True),
        ("2026-03-29 01:00", 1, True),
        ("2026-10-25 00:00", 1, True),
        ("2026-10-25 00:00", 6, True),
        ("2026-10-25 01:00", 1, False),
    ],
)
def test_local_times_are_shown_where_they_differ_from_utc(start: str, hours: int, is_shown: bool) -> None:
    """The reader's zone is shown for a window in which its clocks differ from UTC, if only for a part of it."""
    times = ReaderTimes.of("Europe/London", at(start), ENGLISH)
    assert (times.local_zone(at(start), at(start) + timedelta(hours=hours)) is not None) is is_shown


def test_the_bars_of_a_chart_are_told_apart() -> None:
    """The labels below the bars of the two hours differ; all others are hours alone."""
    starts = tuple(at("2026-10-24 23:00") + timedelta(hours=each) for each in range(4))
    labels = _build_time_labels(ENGLISH, starts, Window.ONE_HOUR, UTC, ZoneInfo("Europe/Rome"))
    assert [local for _, local in labels] == ["01:00", "02:00 CEST", "02:00 CET", "03:00"]
