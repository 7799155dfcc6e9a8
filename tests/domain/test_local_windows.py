"""Windows by the airport's own clock: where they begin, and that all alerts follow as the brute-force model says."""

import copy
import pickle
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.airports import find_airport
from domain.alerts import AlertState, Bound
from domain.calendar import find_calendar, find_grid
from domain.changes import NO_TRAFFIC, TrafficChange
from domain.explanation import judge_windows
from domain.hourly_counts import HourlyCounts, QuarterDay
from domain.interest_alerts import compute_alerts
from domain.interests import InterestError, check_alignment
from domain.preview import FlightHistory, preview
from domain.traffic import Coverage, Observation, Traffic
from domain.windows import AlignedTo, Window, instant, seconds
from tests.domain.brute_force import UNDECIDED, list_local_starts
from tests.domain.local_logs import CLOCKS, generate_local_log, judge_local_windows, tell_local_statements
from tests.domain.logs import an_interest
from tests.domain.test_threshold_index import build_index, find_alerts

local_logs = st.integers(0, 2**32).map(lambda seed: generate_local_log(Random(seed)))


def fold(traffic: Traffic, message: Observation, airport: str) -> Traffic:
    """Return the traffic of an airport after a message, as the stream folds it."""
    return traffic.fold(message, find_calendar(airport).splits_hours)


# Where windows begin.


@pytest.mark.parametrize("clock", CLOCKS, ids=lambda clock: f"{clock.zone}-{clock.at:%Y-%m}")
@pytest.mark.parametrize("window", [Window.SIX_HOURS, Window.ONE_DAY])
def test_windows_begin_when_the_clock_first_shows_their_time(clock, window):
    """A window begins when the clock shows a date, or a quarter of a day, that it never showed before.

    Compared with a look at the clock every quarter of an hour for three weeks; numbers have no break.
    """
    assert find_airport(clock.airport).time_zone == clock.zone
    starts = list_local_starts(clock.zone, window.hours, clock.at - timedelta(days=10), clock.at + timedelta(days=11))
    grid = find_grid(clock.airport, window, AlignedTo.AIRPORT)
    first = grid.find_number(seconds(starts[0]))
    assert [instant(grid.find_begin(first + place)) for place in range(len(starts))] == starts
    for place, start in enumerate(starts):
        number = first + place
        assert grid.find_number(seconds(start)) == grid.find_first_from(seconds(start)) == number
        assert (grid.find_number(seconds(start) - 1), grid.find_first_from(seconds(start) + 1)) == (
            number - 1,
            number + 1,
        )


@pytest.mark.parametrize(
    ("airport", "window", "moment", "hours"),
    [
        ("KJFK", Window.ONE_DAY, datetime(2013, 3, 10, 12, tzinfo=UTC), 23),
        ("KJFK", Window.SIX_HOURS, datetime(2013, 3, 10, 6, tzinfo=UTC), 5),
        ("KJFK", Window.ONE_DAY, datetime(2013, 11, 3, 12, tzinfo=UTC), 25),
        ("KJFK", Window.SIX_HOURS, datetime(2013, 11, 3, 6, tzinfo=UTC), 7),
        ("YLHI", Window.ONE_DAY, datetime(2013, 10, 5, 15, tzinfo=UTC), 23.5),
        ("YLHI", Window.ONE_DAY, datetime(2013, 4, 6, 20, tzinfo=UTC), 24.5),
        ("VNKT", Window.ONE_DAY, datetime(2013, 3, 10, 12, tzinfo=UTC), 24),
        ("HECA", Window.ONE_DAY, datetime(2014, 5, 16, 12, tzinfo=UTC), 23),
        ("NSFA", Window.ONE_DAY, datetime(2011, 12, 30, 9, 59, tzinfo=UTC), 24),  # the 29th
        ("NSFA", Window.ONE_DAY, datetime(2011, 12, 30, 10, tzinfo=UTC), 24),  # the 31st
    ],
)
def test_a_day_is_as_long_as_the_clock_makes_it(airport, window, moment, hours):
    """Days have 23 or 25 hours when clocks change, or half an hour more or less; a skipped day is no window."""
    grid = find_grid(airport, window, AlignedTo.AIRPORT)
    number = grid.find_number(seconds(moment))
    assert grid.find_begin(number + 1) - grid.find_begin(number) == hours * 3600


def test_an_hour_is_by_utc_alone():
    """Windows of one hour cannot be aligned to the airport's clock; the error says so."""
    check_alignment(AlignedTo.AIRPORT, Window.ONE_DAY)
    check_alignment(AlignedTo.UTC, Window.ONE_HOUR)
    with pytest.raises(InterestError, match="leave aligned_to out"):
        check_alignment(AlignedTo.AIRPORT, Window.ONE_HOUR)


# Quarters of an hour are counted where they are needed.


@pytest.mark.parametrize(
    ("airport", "moment", "is_split"),
    [
        ("KJFK", datetime(2013, 3, 10, tzinfo=UTC), False),
        ("VNKT", datetime(2013, 3, 10, tzinfo=UTC), True),
        ("YLHI", datetime(2013, 7, 1, tzinfo=UTC), True),
        ("YLHI", datetime(2013, 1, 1, tzinfo=UTC), False),  # summer time is 11 hours
        ("YLHI", datetime(2013, 4, 6, tzinfo=UTC), True),  # of that day's windows one begins at 19:30
        ("SVMI", datetime(2007, 1, 1, tzinfo=UTC), False),
        ("SVMI", datetime(2013, 1, 1, tzinfo=UTC), True),
        ("NSFA", datetime(2011, 12, 30, tzinfo=UTC), False),
    ],
)
def test_quarters_are_counted_only_on_days_in_whose_hours_a_window_begins(airport, moment, is_split):
    """Where all windows begin with an hour of UTC on a day, its flights are counted by the hour alone."""
    assert find_calendar(airport).splits_hours(seconds(moment) // 86400) is is_split
    flight = Observation(
        an_interest().direction, seconds(moment), seconds(moment) + 3600, (seconds(moment),), Coverage.COMPLETE
    )
    (day,) = fold(NO_TRAFFIC, flight, airport).departures.counts.days
    assert isinstance(day, QuarterDay) is is_split


def test_a_day_that_has_quarters_is_a_value():
    """Days with equal quarters are equal, others not, also with equal hours; copies keep the quarters."""
    first, moved = [0] * 96, [0] * 96
    first[4], moved[5] = 1, 1
    day = QuarterDay(first)
    assert day == QuarterDay(first)
    assert day != QuarterDay(moved)
    assert day != tuple(day)
    assert tuple(day) != day
    assert hash(day) == hash(QuarterDay(first))
    for other in (copy.deepcopy(day), pickle.loads(pickle.dumps(day))):  # of our own
        assert other == day


def test_a_window_that_begins_within_an_hour_that_is_only_known_whole_is_not_judged():
    """State that is older than counts by quarter has none: the unknown is not guessed, and later days are exact."""
    begin = datetime(2013, 5, 1, tzinfo=UTC)
    interest = an_interest(
        airport="VNKT", window=Window.ONE_DAY, aligned_to=AlignedTo.AIRPORT, high=0, effective_from=begin
    )
    first, day = seconds(begin), 86400
    times = (first + 18 * 3600,)  # the hour of 18:00 UTC holds midnight, 18:15
    before = NO_TRAFFIC.fold(Observation(interest.direction, first, first + day, times, Coverage.COMPLETE))
    after = before
    for number in (1, 2, 3):
        at = first + number * day
        message = Observation(interest.direction, at, at + day, (at + 18 * 3600 + 900,), Coverage.COMPLETE)
        after = fold(after, message, "VNKT")
    alerts = list(compute_alerts(interest, NO_TRAFFIC, after))
    assert [(alert.state, alert.window_start) for alert in alerts] == [
        ("FIRING", begin + timedelta(days=1, hours=18.25))
    ]


def test_flights_of_an_hour_are_split_between_the_windows_that_it_lies_in():
    """Counts between any two quarters are exact, also within one hour; None where only the whole hour is known."""
    chance = Random(5)
    times = [chance.randrange(3 * 86400) for _ in range(400)]
    counted: dict[int, int] = {}
    for at in times:
        counted[at // 900] = counted.get(at // 900, 0) + 1
    counts = HourlyCounts().with_changes({}, counted)
    for _ in range(300):
        begin = chance.randrange(3 * 96 + 8) - 4
        end = begin + chance.choice((0, 1, 2, 3, 5, 24, 100))
        expected = sum(begin * 900 <= at < end * 900 for at in times)
        assert counts.count_between(begin * 900, end * 900) == expected
    whole = HourlyCounts().with_changes({1: 3})
    assert whole.count_between(1800, 7200) == 3
    assert whole.count_between(0, 5400) is None
    assert whole.count_between(0, 1800) == 0


# Properties of any log.


@settings(max_examples=300, deadline=None)
@given(log=local_logs)
def test_each_message_says_what_the_model_says(log):
    """Each message raises exactly the model's statements, with the model's ids; who comes after sees the outcome.

    The index finds the same alerts, and no id comes twice. Logs have corrections, gaps, fills and changes of clocks.
    """
    told, outcome = tell_local_statements(log)
    traffic = NO_TRAFFIC
    for message, expected in zip(log.messages, told, strict=True):
        after = fold(traffic, message, log.interest.airport)
        alerts = list(compute_alerts(log.interest, traffic, after))
        assert {alert.alert_id for alert in alerts} == expected
        assert len(alerts) == len(expected)
        found = find_alerts(build_index([log.interest]), [log.interest], TrafficChange(traffic, after))
        assert found == alerts
        traffic = after
    assert {alert.alert_id for alert in compute_alerts(log.interest, NO_TRAFFIC, traffic)} == outcome
    assert len(set[UUID]().union(*told)) == sum(len(each) for each in told), "no id comes twice"


@settings(max_examples=100, deadline=None)
@given(log=local_logs)
def test_an_interest_is_explained_by_what_is_known_now(log):
    """The explanation has the model's states, and each window ends where the next begins."""
    traffic = NO_TRAFFIC
    for message in log.messages:
        traffic = fold(traffic, message, log.interest.airport)
    verdicts = list(judge_windows(log.interest, traffic))
    explained = {
        (bound.value, state.value, each.start)
        for each in verdicts
        for bound in Bound
        if (state := each.state_of(bound)) is not None
    }
    judged = judge_local_windows(log, len(log.messages))
    assert explained == {(bound, state, start) for bound, state, start in judged if state != UNDECIDED}
    assert all(one.end == next_one.start for one, next_one in pairwise(verdicts))


@pytest.mark.parametrize(
    ("airport", "start", "hours"),
    [("KJFK", datetime(2013, 3, 10, 5, tzinfo=UTC), 23), ("VNKT", datetime(2013, 3, 9, 18, 15, tzinfo=UTC), 24)],
)
def test_a_preview_counts_the_airports_days(airport, start, hours):
    """A flight a quarter of an hour after local midnight counts for the new day, one before it for the old one."""
    interest = an_interest(
        airport=airport,
        window=Window.ONE_DAY,
        aligned_to=AlignedTo.AIRPORT,
        high=1,
        effective_from=start - timedelta(days=2),
    )
    end = start + timedelta(hours=hours)
    times = (seconds(start), seconds(start) + 899, seconds(end) - 1, seconds(end))
    begin = seconds(start) // 86400 * 86400 - 86400
    answer = preview(interest, [FlightHistory(interest.direction, begin, begin + 5 * 86400, times)])
    (alert, resolved) = answer.alerts
    assert (alert.window_start, alert.window_end, alert.count) == (start, end, 3)
    assert resolved.window_start == end
    assert answer.counts == (0, 3, 1, 0)


def test_flights_that_turn_up_and_go_in_the_hour_of_the_coverage_correct_the_closed_day():
    """A day at Kathmandu closes within an hour: each change of it is a correction, and each alert has an id of its own.

    Without that the second alert of a day would have the id of the first, and would be taken for a repeat of it.
    """
    noon = seconds(datetime(2013, 5, 10, tzinfo=UTC))
    late = [(noon + 18 * 3600 + 600 + number, number) for number in (1, 2, 3)]
    interest = an_interest(
        airport="VNKT", low=5, high=None, window=Window.ONE_DAY, for_windows=1, aligned_to=AlignedTo.AIRPORT,
        effective_from=instant(noon - 10 * 3600),
    )  # fmt: skip
    end = noon + 18 * 3600 + 1800
    messages = [
        Observation(
            interest.direction,
            noon - 48 * 3600,
            end,
            (noon + 3600, noon + 7200),
            Coverage.COMPLETE,
            fingerprints=(8, 9),
        )
    ]
    for step in range(4):
        flights = () if step % 2 else tuple(late)
        messages.append(
            Observation(
                interest.direction,
                end + 300 * step,
                end + 300 * (step + 1),
                tuple(at for at, _ in flights),
                Coverage.COMPLETE,
                fingerprints=tuple(each for _, each in flights),
                retracted=tuple(late) if step % 2 else (),
            )
        )
    told, traffic = [], NO_TRAFFIC
    for message in messages:
        after = fold(traffic, message, "VNKT")
        told += [(each.state, each.count, each.revision) for each in compute_alerts(interest, traffic, after)]
        traffic = after
    firing, withdrawn = AlertState.FIRING, AlertState.WITHDRAWN
    assert told == [(firing, 2, 0), (withdrawn, 5, 0), (firing, 2, 1), (withdrawn, 5, 1), (firing, 2, 2)]
