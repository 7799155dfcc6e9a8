"""The expected alerts of thresholds in percent, against the product's rule on real flights, and facts by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.calendar import find_calendar
from domain.changes import NO_TRAFFIC
from domain.grids import LOCAL_WINDOWS
from domain.interest_alerts import compute_alerts
from domain.interests import Direction, Interest
from domain.traffic import Coverage, Observation
from domain.usual_fold import fold_with_usual
from domain.windows import AlignedTo, Window, seconds
from local.demo.expected import ExpectedCoverage, compute_expected_alerts
from local.demo.options import parse_interest
from local.demo.plan import list_days
from local.opensky import nycflights
from local.opensky.flights import Timetable
from notifier.mail.alert_header import AlertHeaderFields, select_header_fields

DAY: Final = timedelta(days=1)


@pytest.fixture(scope="module")
def timetable(flights_cache: Path) -> Timetable:
    """The timetable of the real flights."""
    return Timetable(nycflights.load(flights_cache))


def compute_by_rule(
    timetable: Timetable, interest: Interest, end: datetime, missing: frozenset[datetime]
) -> list[AlertHeaderFields]:
    """Return the alerts that the product's fold and rule give, day by day from five weeks before on."""
    traffic, alerts = NO_TRAFFIC, []
    for day in list_days(max(interest.effective_from - 38 * DAY, datetime(2013, 1, 1, tzinfo=UTC)), end):
        before = traffic
        for part in interest.direction.parts:
            first, last = seconds(day), seconds(day + DAY) - 1
            if part is Direction.DEPARTURES:
                times = tuple(each.first_seen for each in timetable.find_departures(interest.airport, first, last))
            else:
                times = tuple(each.last_seen for each in timetable.find_arrivals(interest.airport, first, last))
            is_gap = day in missing
            seen = Observation(
                part, first, last + 1, () if is_gap else times, Coverage.GAP if is_gap else Coverage.COMPLETE
            )
            traffic = fold_with_usual(traffic, seen, find_calendar(interest.airport))
        alerts += [select_header_fields(each) for each in compute_alerts(interest, before, traffic)]
    return alerts


@settings(max_examples=40, deadline=None)
@given(
    icao=st.sampled_from(["KJFK", "KEWR", "KLGA", "KBOS", "KLAX", "PHNL", "KPHX"]),
    direction=st.sampled_from(Direction),
    window=st.sampled_from(Window),
    percents=st.tuples(st.none() | st.integers(101, 160), st.none() | st.integers(40, 99)).filter(any),
    for_windows=st.integers(1, 3),
    repeat=st.booleans(),
    first_day=st.integers(15, 350),
    days=st.integers(1, 6),
    missing=st.frozensets(st.integers(-20, 5), max_size=3),
    aligned_to=st.sampled_from(AlignedTo),
)
def test_they_agree_with_the_products_rule(
    timetable: Timetable,
    icao: str,
    direction: Direction,
    window: Window,
    percents: tuple[int | None, int | None],
    for_windows: int,
    repeat: bool,
    first_day: int,
    days: int,
    missing: frozenset[int],
    aligned_to: AlignedTo,
) -> None:
    """By brute force as by the rule: also in the weeks after a change of clocks, in January, and with days missing.

    By both clocks; of the airport's days the last one is open when the last UTC day is known.
    """
    begin = datetime(2013, 1, 1, tzinfo=UTC) + first_day * DAY
    gone = frozenset(begin + number * DAY for number in missing if first_day + number >= 1)
    interest = Interest(
        UUID(int=1), UUID(int=2), icao, direction, window, None, None, for_windows, repeat, begin, 1, *percents
    )
    if window in LOCAL_WINDOWS:
        interest = replace(interest, aligned_to=aligned_to)
    end = begin + days * DAY
    said = compute_expected_alerts(timetable, interest, end, ExpectedCoverage(begin - DAY, gone))
    by_rule = compute_by_rule(timetable, interest, end, gone)
    key = lambda alert: (alert.window_start, alert.bound, alert.state)  # noqa: E731
    assert sorted(said, key=key) == sorted(by_rule, key=key)


def test_the_blizzard_is_unusual(timetable: Timetable) -> None:
    """On 9 February 2013 the airport opened again in the morning; the hour at noon had 5 of usually 17."""
    begin = datetime(2013, 2, 8, tzinfo=UTC)
    interest = parse_interest("KJFK:departures:1h:low=50%", begin)
    said = compute_expected_alerts(timetable, interest, begin + 3 * DAY)
    assert said[0].threshold > said[0].count
    assert {each.window_start.date().isoformat() for each in said} >= {"2013-02-08", "2013-02-09"}


def test_both_measures_of_one_interest_are_expected(timetable: Timetable) -> None:
    """A bound in flights is judged as ever beside one in percent."""
    begin = datetime(2013, 2, 8, tzinfo=UTC)
    mixed, flights, percent = (
        compute_expected_alerts(timetable, parse_interest(f"KJFK:departures:1h:{text}", begin), begin + 3 * DAY)
        for text in ("high=20:low=50%", "high=20", "low=50%")
    )
    assert mixed == [*flights, *percent]
    assert flights
    assert percent
