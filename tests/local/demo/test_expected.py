"""The expected alerts, against the facts of the blizzard and against the brute-force model."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import AlertState, Bound
from domain.interests import Direction, Interest
from domain.windows import Window, instant, seconds
from local.demo.expected import compare_alerts, compute_expected_alerts, compute_expected_coverage
from local.demo.options import parse_interest
from local.demo.plan import plan_demo
from local.opensky import nycflights
from local.opensky.flights import Timetable, TimetableFlight
from local.opensky.nightly_record import RecordSchedule
from notifier.mail.alert_header import AlertHeaderFields
from tests.domain.brute_force import Log, ModelInterest, compute_model_alerts
from tests.local.demo.blizzard import BOS, JFK, parse_alerts

DAY = timedelta(days=1)
BEGIN, END = datetime(2013, 2, 8, tzinfo=UTC), datetime(2013, 2, 11, tzinfo=UTC)


@pytest.fixture(scope="module")
def all_flights(flights_cache: Path) -> list[TimetableFlight]:
    """All real flights."""
    return nycflights.load(flights_cache)


@pytest.fixture(scope="module")
def timetable(all_flights) -> Timetable:
    """The timetable of the real flights."""
    return Timetable(all_flights)


def brief(alerts: list[AlertHeaderFields]) -> list[tuple[str, str, str, int]]:
    """Return bound, state, window start and count of each alert."""
    return [(a.bound.value, a.state.value, f"{a.window_start:%Y-%m-%dT%H:%M:%SZ}", a.count) for a in alerts]


@pytest.mark.parametrize(
    ("interest", "facts"), [("KJFK:departures:1h:high=20:low=1", JFK), ("KBOS:arrivals:1d:low=10", BOS)]
)
def test_the_blizzards_alerts_are_expected(timetable, interest, facts):
    """The known facts of 8 to 10 February 2013 are expected, each with its count."""
    assert brief(compute_expected_alerts(timetable, parse_interest(interest, BEGIN), END)) == parse_alerts(facts)


airports = st.sampled_from(["KJFK", "KEWR", "KLGA", "KBOS", "KLAX", "KATL", "PHNL", "EDDF"])
thresholds = st.none() | st.integers(0, 60)


@settings(max_examples=150, deadline=None)
@given(
    icao=airports,
    direction=st.sampled_from(Direction),
    window=st.sampled_from(Window),
    limits=st.tuples(thresholds, thresholds).filter(lambda pair: None in pair or pair[0] > pair[1]),
    for_windows=st.integers(1, 3),
    repeat=st.booleans(),
    first_day=st.integers(0, 360),
    days=st.integers(1, 4) | st.integers(40, 50),
)
def test_expected_alerts_agree_with_the_brute_force_model(
    timetable, icao, direction, window, limits, for_windows, repeat, first_day, days
):
    """On real flights the rule agrees with a model that counts the flights one by one."""
    begin = datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days=first_day)
    end = begin + timedelta(days=days)
    interest = Interest(UUID(int=1), UUID(int=2), icao, direction, window, *limits, for_windows, repeat, begin, 1)
    logs = []
    for part in direction.parts:
        find = timetable.find_departures if part is Direction.DEPARTURES else timetable.find_arrivals
        found = find(icao, seconds(begin), seconds(end) - 1)
        times = [instant(f.first_seen if part is Direction.DEPARTURES else f.last_seen) for f in found]
        logs.append(Log(times, (begin, end), []))
    wish = ModelInterest(window.value, *limits, for_windows, repeat, begin)
    expected = compute_model_alerts(logs, wish)
    said = compute_expected_alerts(timetable, interest, end)
    assert {(a.bound.value, a.state.value, a.window_start) for a in said} == expected
    for alert in said:
        inside = [
            at for log in logs for at in log.flights if alert.window_start <= at < alert.window_start + window.length
        ]
        assert alert.count == len(inside)


@settings(max_examples=100, deadline=None)
@given(
    icao=st.sampled_from(["KJFK", "KLGA", "KBOS", "PANC", "KEYW", "KLEX", "KHDN", "KMTJ", "EDDF"]),
    directions=st.lists(st.sampled_from(Direction), min_size=1, max_size=2, unique=True),
    window=st.sampled_from(Window),
    low=st.integers(1, 30),
    first_day=st.integers(0, 350),
    days=st.integers(1, 6),
    missing=st.frozensets(st.integers(-1, 5), max_size=3),
    unheard=st.booleans(),
)
def test_nothing_is_expected_before_the_first_flight_and_of_missing_days(
    timetable, all_flights, icao, directions, window, low, first_day, days, missing, unheard
):
    """Coverage begins with the airport's first flight in any direction, and a day without a record is a gap.

    The model looks at all flights of the airport, and knows nothing of the plan.
    """
    begin = datetime(2013, 1, 2, tzinfo=UTC) + timedelta(days=first_day)
    end = begin + timedelta(days=days)
    gone = {begin + timedelta(days=number) for number in missing}
    schedule = RecordSchedule(
        missing_days=frozenset(day.date() for day in gone), unheard_airports=frozenset({icao} if unheard else ())
    )
    interests = [
        Interest(UUID(int=1), UUID(int=2), icao, each, window, 10 * low, low, 1, False, begin, 1) for each in directions
    ]
    asked = [begin + timedelta(days=number) for number in range(-1, days)]
    asked = [day for day in asked if day not in gone]
    times = {
        Direction.DEPARTURES: [instant(f.first_seen) for f in all_flights if f.departure_airport == icao],
        Direction.ARRIVALS: [instant(f.last_seen) for f in all_flights if f.arrival_airport == icao],
    }
    parts = {part for each in directions for part in each.parts}
    heard = sorted(at for part in parts for at in times[part] if any(day <= at < day + DAY for day in asked))
    coverage = compute_expected_coverage(timetable, interests, plan_demo(begin, end, schedule))[icao]
    if unheard or not heard:
        assert coverage is None
        return
    since = asked[0] if heard[0] < asked[0] + DAY else heard[0]
    assert coverage is not None
    assert coverage.begin == since
    gaps = [(day, day + DAY) for day in gone if since <= day < end]
    for interest in interests:
        logs = []
        for part in interest.direction.parts:
            recorded = [at for at in times[part] if since <= at < end and not any(b <= at < e for b, e in gaps)]
            logs.append(Log(recorded, (since, end), gaps))
        wish = ModelInterest(window.value, interest.high, low, 1, False, begin)
        said = compute_expected_alerts(timetable, interest, end, coverage)
        assert {(a.bound.value, a.state.value, a.window_start) for a in said} == compute_model_alerts(logs, wish)


def told(**changes) -> AlertHeaderFields:
    """Return an alert for a breach of a high threshold, changed in some fields."""
    alert = AlertHeaderFields(
        "KJFK", Direction.DEPARTURES, Window.ONE_HOUR, Bound.HIGH, AlertState.FIRING, BEGIN, count=24, threshold=20
    )
    return replace(alert, **changes)


def test_an_early_high_may_have_a_smaller_count():
    """The count must exceed the threshold and not the final count; nothing else may differ."""
    assert not compare_alerts([told()], [told(count=21)])
    assert compare_alerts([told()], [told(count=20)])
    assert compare_alerts([told()], [told(count=25)])
    assert compare_alerts([told(state=AlertState.RESOLVED, count=15)], [told(state=AlertState.RESOLVED, count=14)])


def test_missing_and_unexpected_alerts_are_told_apart():
    """An alert that is mailed twice is unexpected once."""
    wrong = compare_alerts([told(), told(bound=Bound.LOW, count=0)], [told(), told()])
    assert wrong.missing == (told(bound=Bound.LOW, count=0),)
    assert wrong.unexpected == (told(),)
