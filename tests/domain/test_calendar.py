"""Tests of calendars: the same local time weeks before, also around changes of clocks."""

from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo

import airportsdata
import pytest
from hypothesis import given, settings, strategies as st

from domain.airports import find_airport
from domain.calendar import REGULAR, WEEK_HOURS, WEEKS_BACK, Calendar, find_calendar
from domain.windows import EPOCH, HOUR_S, Window, instant, seconds

QUARTER = timedelta(minutes=15)
WEEK = timedelta(days=7)

CHANGES = {
    "Asia/Kathmandu": [date(1986, 1, 1), date(2013, 3, 10)],  # from +5:30 to +5:45; no change
    "Australia/Lord_Howe": [date(2013, 4, 7), date(2013, 10, 6)],  # half an hour of summer time
    "Australia/Adelaide": [date(2013, 4, 7), date(2013, 10, 6)],
    "Pacific/Apia": [date(2011, 12, 30), date(2012, 4, 1)],  # a day that does not exist
    "America/New_York": [date(2013, 3, 10), date(2013, 11, 3)],
    "Pacific/Honolulu": [date(2013, 3, 10)],
    "America/Phoenix": [date(2013, 3, 10)],
    "Africa/Casablanca": [date(2013, 7, 7), date(2013, 8, 10), date(2024, 3, 10), date(2024, 4, 14)],
    "Africa/Cairo": [date(2014, 5, 15), date(2014, 6, 26), date(2024, 4, 26), date(2023, 10, 27)],
    "Europe/London": [date(2013, 10, 27)],  # clocks go back to midnight of UTC's grid
    "America/Havana": [date(2013, 11, 3)],  # clocks go back at 01:00 to midnight
    "Asia/Gaza": [date(2011, 8, 1), date(2011, 8, 30), date(2011, 9, 30)],
    "America/Caracas": [date(2016, 5, 1)],  # from -4:30 to -4
    "Pacific/Kwajalein": [date(1993, 8, 21)],  # a day that does not exist
    "Europe/Lisbon": [date(1992, 9, 27), date(1996, 3, 31)],
}
"""Days of changes of clocks, and days without any, by zone."""


def find_by_stepping(zone: str, start: int, weeks: int) -> int | None:
    """Return the first instant at which the clock of `zone` showed the local time of `start`, some weeks before.

    Steps through all quarters of an hour of the days around it, and looks at the clock; None: it never showed it.
    """
    clock = ZoneInfo(zone)
    wanted = instant(start).astimezone(clock).replace(tzinfo=None) - weeks * WEEK
    at = instant(start) - weeks * WEEK - timedelta(hours=27)
    for _ in range(2 * 27 * 4):
        if at.astimezone(clock).replace(tzinfo=None) == wanted:
            return seconds(at)
        at += QUARTER
    return None


@pytest.mark.parametrize("zone", CHANGES)
def test_the_same_local_time_is_the_first_instant_at_which_the_clock_showed_it(zone):
    """Around each change of clocks, for all hours of some days in the six weeks after it: as a walk through time."""
    calendar = Calendar(zone)
    for changed in CHANGES[zone]:
        first = seconds(datetime(changed.year, changed.month, changed.day, tzinfo=UTC)) // HOUR_S
        for days in (-1, 0, 1, 7, 20, 35):
            for hour in range(first + 24 * days, first + 24 * days + 24, 1 if days in (0, 7) else 5):
                expected = [find_by_stepping(zone, hour * HOUR_S, weeks) for weeks in range(1, WEEKS_BACK + 1)]
                assert list(calendar.find_same_times(hour * HOUR_S)) == expected, (zone, instant(hour * HOUR_S))


@pytest.mark.parametrize("zone", CHANGES)
def test_a_day_is_planned_as_each_of_its_hours(zone):
    """A day's plan says of each hour what the clock says of it, also where it says it of all 24 hours at once."""
    calendar = Calendar(zone)
    for changed in CHANGES[zone]:
        middle = (datetime(changed.year, changed.month, changed.day, tzinfo=UTC) - EPOCH).days
        for day in range(middle - 3, middle + 40):
            plan = calendar.plan_day(day)
            for hour in range(24 * day, 24 * day + 24):
                planned = [
                    hour - weeks * WEEK_HOURS if hours is None else hours[hour - 24 * day]
                    for weeks, hours in enumerate(plan, 1)
                ]
                same = calendar.find_same_times(hour * HOUR_S)
                assert planned == [None if at is None or at % HOUR_S else at // HOUR_S for at in same]


@settings(deadline=None)
@given(zone=st.sampled_from(sorted(CHANGES)), hour=st.integers(0, 80 * 8766))
def test_any_hour_has_the_same_local_time_weeks_before(zone, hour):
    """At any time since 1970 the clock showed the same time of the same weekday, unless it skipped it."""
    clock = ZoneInfo(zone)
    shown = instant(hour * HOUR_S).astimezone(clock)
    for weeks, at in enumerate(Calendar(zone).find_same_times(hour * HOUR_S), 1):
        if at is not None:
            before = instant(at).astimezone(clock)
            assert before.replace(tzinfo=None) == shown.replace(tzinfo=None) - weeks * WEEK
            assert before.fold == 0


def test_most_days_are_regular_and_the_weeks_after_a_change_are_not():
    """New York changed clocks on 10 March 2013: until five weeks later some base day is on the other side."""
    calendar = find_calendar("KJFK")
    first = (datetime(2013, 3, 10, tzinfo=UTC) - EPOCH).days
    days = range(first - 30, first + 80)
    assert [day for day in days if calendar.plan_day(day) is not REGULAR] == list(range(first, first + 7 * 5 + 2))


def test_an_hour_of_utc_may_have_no_base_hour():
    """On Lord Howe clocks change by half an hour, so that in the weeks after no hour of UTC is the same."""
    changed = (datetime(2013, 10, 6, tzinfo=UTC) - EPOCH).days
    assert Calendar("Australia/Lord_Howe").plan_day(changed + 2)[0] == (None,) * 24
    assert Calendar("Pacific/Apia").plan_day((datetime(2012, 1, 6, tzinfo=UTC) - EPOCH).days)[0][:10] == (None,) * 10


def test_each_airport_has_a_calendar_and_a_code_of_nobody_that_of_utc():
    """An airport's clock is that of its zone, and what is stored of a code that was retired is judged on by UTC."""
    for icao, zone in (("KJFK", "America/New_York"), ("VNKT", "Asia/Kathmandu"), ("YLHI", "Australia/Lord_Howe")):
        assert find_calendar(icao).time_zone == zone == find_airport(icao).time_zone
    assert find_calendar("B000").time_zone == "UTC"
    assert find_calendar("B000") is find_calendar("B001")


def test_the_rules_of_zones_are_those_of_the_locked_package():
    """Two machines with other tables of zones of their own must name the same base windows."""
    zone = files("tzdata").joinpath("zoneinfo", "Pacific", "Apia")
    assert zone.is_file()
    with pytest.raises(FileNotFoundError):
        Calendar("Mars/Olympus_Mons")


def test_the_zone_of_each_airport_is_among_the_rules():
    """A newer table of airports or of zones must not stop the stream at an airport whose zone it lacks."""
    zones = {airport["tz"] for airport in airportsdata.load("ICAO").values()}
    assert len(zones) > 300
    for zone in zones:
        Calendar(zone)


def test_windows_of_all_lengths_begin_at_hours_of_utc():
    """A day's plan is by the hour: it serves the windows of all lengths that are aligned to UTC."""
    assert all(24 % window.hours == 0 for window in Window)
