"""The mails about windows by the airport's own clock: they name the airport's day, and how long it was."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from domain.alerts import Alert, AlertState, Bound
from domain.windows import AlignedTo, Window
from notifier.mail.own_windows import format_own_range
from notifier.mail.subject import format_catch_up_subject, format_subject, format_summary_subject
from notifier.mail.summary import group_by_threshold
from notifier.mail.times import ReaderTimes
from notifier.mail.wording import format_times
from tests.notifier.alerts import ALERT, ENGLISH
from tests.notifier.mail.test_compose import plain_text_of

TIMES = ReaderTimes.of("Europe/Rome", datetime(2013, 3, 11, 12, tzinfo=UTC), ENGLISH)
SHORT_DAY = replace(
    ALERT,
    airport="KBOS",
    window=Window.ONE_DAY,
    window_start=datetime(2013, 3, 10, 5, tzinfo=UTC),
    aligned_to=AlignedTo.AIRPORT,
    own_end=datetime(2013, 3, 11, 4, tzinfo=UTC),
    bound=Bound.LOW,
    count=7,
    threshold=10,
    earlier=(300, 310, None, 290),
)


@pytest.mark.parametrize(
    ("alert", "shown"),
    [
        (SHORT_DAY, "Sun 10 Mar (23 hours) at KBOS"),
        (
            replace(
                SHORT_DAY,
                window_start=datetime(2013, 11, 3, 4, tzinfo=UTC),
                own_end=datetime(2013, 11, 4, 5, tzinfo=UTC),
            ),
            "Sun 3 Nov (25 hours) at KBOS",
        ),
        (
            replace(
                SHORT_DAY,
                window_start=datetime(2013, 3, 11, 4, tzinfo=UTC),
                own_end=datetime(2013, 3, 12, 4, tzinfo=UTC),
            ),
            "Mon 11 Mar at KBOS",
        ),
        (
            replace(SHORT_DAY, window=Window.SIX_HOURS, own_end=datetime(2013, 3, 10, 10, tzinfo=UTC)),
            "Sun 10 Mar 00:00–06:00 (5 hours) at KBOS",
        ),
        (
            replace(
                SHORT_DAY,
                airport="YLHI",
                window_start=datetime(2013, 4, 6, 13, tzinfo=UTC),
                own_end=datetime(2013, 4, 7, 13, 30, tzinfo=UTC),
            ),
            "Sun 7 Apr (24.5 hours) at YLHI",
        ),
        (
            replace(
                SHORT_DAY,
                airport="VNKT",
                window_start=datetime(2013, 3, 9, 18, 15, tzinfo=UTC),
                own_end=datetime(2013, 3, 10, 18, 15, tzinfo=UTC),
            ),
            "Sun 10 Mar at VNKT",
        ),
    ],
)
def test_the_subject_names_the_airports_day(alert: Alert, shown: str) -> None:
    """The day is that of the airport, whatever its time in UTC; its length is said only where clocks change."""
    assert format_subject(alert, TIMES).endswith(f", {shown}")
    assert format_own_range(alert, alert.window_start, alert.window_end, TIMES) == shown


def test_the_times_are_those_of_the_airport_of_utc_and_of_the_reader() -> None:
    """Each with its zone, so that a reader far away sees what the airport's day is at home."""
    assert format_times(SHORT_DAY, TIMES) == [
        ("At KBOS", "Sun 10 Mar (23 hours)", "America/New_York"),
        ("UTC", "Sun 10 Mar 05:00 – Mon 11 Mar 04:00", ""),
        ("Your time", "Sun 10 Mar 06:00 – Mon 11 Mar 05:00", "Europe/Rome"),
    ]
    by_utc = replace(SHORT_DAY, aligned_to=AlignedTo.UTC, own_end=None)
    assert [label for label, _, _ in format_times(by_utc, TIMES)] == ["UTC", "Your time"]


def test_the_text_does_not_take_the_airports_zone_for_the_readers() -> None:
    """The airport's day is named with the airport, and only the reader's own time with the reader's zone."""
    text = plain_text_of(SHORT_DAY)
    assert "Sun 10 Mar 2013 (23 hours) at KBOS, America/New_York" in text
    assert text.count("in your time zone") <= 1


def test_the_days_before_are_the_airports_too() -> None:
    """Counts of the days before stand at the airport's midnights, also before a change of clocks; Apia skips a day."""
    after = replace(
        SHORT_DAY,
        window_start=datetime(2013, 3, 12, 4, tzinfo=UTC),
        own_end=datetime(2013, 3, 13, 4, tzinfo=UTC),
        earlier=(301, 302, 303),
    )
    (summary,) = group_by_threshold([after])
    assert summary.collect_chart_counts() == (datetime(2013, 3, 9, 5, tzinfo=UTC), [301, 302, 303, 7])
    earlier = [after.find_earlier_start(back) for back in (3, 2, 1, 0, -1)]
    assert [(each.day, each.hour) for each in earlier] == [(9, 5), (10, 5), (11, 4), (12, 4), (13, 4)]
    apia = replace(after, airport="NSFA", window_start=datetime(2011, 12, 30, 10, tzinfo=UTC))
    assert apia.find_earlier_start(1) == datetime(2011, 12, 29, 10, tzinfo=UTC)


def test_a_breach_goes_on_over_a_change_of_clocks() -> None:
    """The day of 23 hours and the one after it are one run of two days; so is a mail about both."""
    episode = SHORT_DAY.alert_id
    first = replace(SHORT_DAY, earlier=(), episode_id=episode)
    second = replace(
        first,
        alert_id=ALERT.user_id,
        state=AlertState.STILL,
        window_start=first.window_end,
        own_end=first.window_end + timedelta(days=1),
    )
    (summary,) = group_by_threshold([first, second])
    (run,) = summary.split_into_runs()
    assert run.count_windows() == 2
    assert "Sun 10 Mar 2013 – Mon 11 Mar 2013 at KBOS" in plain_text_of(first, second)


def test_a_mail_of_several_alerts_names_the_airports_days_in_its_subject() -> None:
    """If all windows are by the clock of one airport; with windows by UTC or of another airport the time is in UTC."""
    first = replace(SHORT_DAY, episode_id=SHORT_DAY.alert_id)
    second = replace(
        first, alert_id=ALERT.user_id, state=AlertState.STILL, window_start=first.window_end,
        own_end=first.window_end + timedelta(days=1),
    )  # fmt: skip
    other = replace(second, interest_id=ALERT.alert_id, bound=Bound.HIGH, state=AlertState.FIRING, count=12)

    def name(*alerts: Alert) -> str:
        """Return the subject of a mail about some alerts."""
        return format_summary_subject(group_by_threshold(alerts), TIMES)

    assert name(first, second).endswith(", Sun 10 Mar – Mon 11 Mar at KBOS")
    assert name(first, other).endswith("(2 alerts, Sun 10 Mar – Mon 11 Mar at KBOS)")
    assert name(first, replace(other, window_start=first.window_start, own_end=first.own_end)).endswith(
        "(2 alerts, Sun 10 Mar (23 hours) at KBOS)"
    )
    by_utc = replace(other, aligned_to=AlignedTo.UTC, own_end=None)
    assert name(first, by_utc).endswith("(2 alerts, Sun 10 Mar 05:00 – Tue 12 Mar 04:00 UTC (06:00 local))")
    assert " UTC" in name(first, replace(other, airport="KJFK"))
    assert format_catch_up_subject([first, other], TIMES) == "Mailed late: 2 alerts, Sun 10 Mar – Mon 11 Mar at KBOS"


def test_an_airport_whose_code_was_retired_has_the_clock_of_utc() -> None:
    """The stream judges its windows by UTC, and so the mail names them."""
    start = datetime(2013, 3, 10, tzinfo=UTC)
    retired = replace(SHORT_DAY, airport="0000", window_start=start, own_end=start + timedelta(days=1))
    assert format_own_range(retired, start, retired.window_end, TIMES) == "Sun 10 Mar UTC"
