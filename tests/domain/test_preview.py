"""Tests of the preview: its alerts are those of the brute-force model and those of the stream."""

from collections.abc import Iterable
from datetime import timedelta
from random import Random

import pytest
from hypothesis import example, given, settings, strategies as st

from domain.alerts import AlertState
from domain.calendar import find_calendar
from domain.interests import Direction, Interest
from domain.preview import FlightHistory, Preview, compute_percentile, preview
from domain.traffic import Coverage, Observation
from domain.windows import HOUR_S, Window, seconds
from tests.domain.brute_force import LENGTHS
from tests.domain.logs import BASE, an_interest, build_model_logs, expected_ids, interests, interleaved
from tests.domain.percent_model import compute_expected_ids
from tests.domain.test_percents import a_percent
from tests.domain.test_rule import seen
from tests.streams.events import interest_set, observed
from tests.streams.join_state_on_dicts import JoinStateOnDicts
from tests.streams.traffic import generate_observations

HOUR = timedelta(hours=1)


def build_histories(log: list[Observation], direction: Direction) -> list[FlightHistory]:
    """Return the histories that a collector has stored after it published a log."""
    return [
        FlightHistory(
            part,
            seconds(fact.covered[0]),
            seconds(fact.covered[1]),
            sorted(seconds(at) for at in fact.flights),
            _merge_gaps((seconds(begin), seconds(end)) for begin, end in fact.gaps),
        )
        for part, fact in zip(direction.parts, build_model_logs(log, direction), strict=True)
        if fact.covered is not None
    ]


def test_a_preview_by_percents_is_what_the_model_says_of_weeks_of_flights():
    """Of both directions, too: their histories go back as far, and are taken in turns of a day."""
    chance = Random(8)
    for airport in ("KJFK", "B000"):
        log = generate_observations(chance, hours=70, weeks_before=5)
        for direction in Direction:
            interest = a_percent(
                airport=airport, direction=direction, high_percent=130, effective_from=BASE, for_windows=2, repeat=True
            )
            shown = preview(interest, build_histories(log, direction))
            zone = find_calendar(airport).time_zone
            assert {alert.alert_id for alert in shown.alerts} == compute_expected_ids(zone, interest, log) != set()


def _merge_gaps(gaps: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the gaps with adjacent ones merged."""
    merged: list[tuple[int, int]] = []
    for begin, end in gaps:
        if merged and merged[-1][1] == begin:
            begin = merged.pop()[0]
        merged.append((begin, end))
    return merged


def history(
    begin: float, end: float, times: Iterable[float] = (), gaps: Iterable[tuple[float, float]] = ()
) -> FlightHistory:
    """Return a history of departures; all times in hours after BASE."""

    def at(hour: float) -> int:
        return seconds(BASE + timedelta(hours=hour))

    return FlightHistory(
        Direction.DEPARTURES, at(begin), at(end), [at(each) for each in times], [(at(b), at(e)) for b, e in gaps]
    )


def summarize(shown: Preview) -> list[tuple[str, str, int, int]]:
    """Return bound, state, window (hours after BASE) and count of each alert."""
    return [(a.bound.value, a.state.value, (a.window_start - BASE) // HOUR, a.count) for a in shown.alerts]


def test_a_preview_has_the_alerts_and_the_counts():
    """Windows with three flights, none and one: more than two fires, then resolves, and all three counts are shown."""
    shown = preview(an_interest(), [history(0, 3, (0.1, 0.2, 0.3, 2.5))])
    assert summarize(shown) == [("high", "FIRING", 0, 3), ("high", "RESOLVED", 1, 0)]
    assert shown.counts == (3, 0, 1)
    assert shown.mails_a_week == 2 * (7 * 24 / 3)


def test_a_window_that_cannot_be_judged_has_no_count():
    """Windows before effective_from, before or after coverage, or touched by a gap have no count."""
    interest = an_interest(effective_from=BASE + HOUR)
    known = history(0, 5.5, (0.5, 1.5, 2.5, 3.5, 4.1, 4.2, 5.1), [(2.9, 3.1)])
    assert preview(interest, [known]).counts == (1, 2)
    assert preview(interest, [history(1.5, 3, (1.6, 2.5))]).counts == (1,)


def test_of_a_direction_without_a_history_nothing_is_known():
    """A direction without a history counts neither as zero flights nor as the other direction alone."""
    both = an_interest(direction=Direction.BOTH, high=None, low=100)
    for histories in ([], [history(0, 24)]):
        shown = preview(both, histories)
        assert (shown.alerts, shown.counts, shown.mails_a_week) == ((), (), None)


def test_a_long_history_is_judged_within_the_retained_hours():
    """The stream retains 40 days of counts: older windows are not judged for an interest that is set now."""
    long_ago = history(0, 24 * 60, [24 * day + 1 for day in range(60)])
    shown = preview(an_interest(window=Window.ONE_DAY, high=0, repeat=True), [long_ago])
    assert [alert.state for alert in shown.alerts] == [AlertState.FIRING, *[AlertState.STILL] * 39]
    assert shown.counts == (1,) * 40


@settings(max_examples=400, deadline=None)
@example(
    # a run across a gap, none of whose own windows is lost
    log=[seen(0, 2, (0.1, 0.2, 0.3)), seen(2, 4, coverage=Coverage.GAP), seen(4, 8, (5.5, 6.5))],
    interest=an_interest(high=0, for_windows=2),
)
@given(log=interleaved(), interest=interests)
def test_a_preview_has_the_alerts_of_the_model(log: list[Observation], interest: Interest):
    """A preview of any log has the alerts of the brute-force model, each once, in order."""
    shown = preview(interest, build_histories(log, interest.direction))
    ids = [alert.alert_id for alert in shown.alerts]
    assert set(ids) == expected_ids(interest, log)
    assert len(set(ids)) == len(ids)
    assert [alert.window_start for alert in shown.alerts] == sorted(alert.window_start for alert in shown.alerts)


@settings(max_examples=400, deadline=None)
@given(log=interleaved(), interest=interests)
def test_a_preview_has_the_alerts_of_the_stream(log: list[Observation], interest: Interest):
    """A preview equals the stream's alerts for the same interest, set after the same flights were folded."""
    bench = JoinStateOnDicts()
    for sequence, observation in enumerate(log, start=1):
        bench.fold(observed("KJFK", sequence, observation))
    assert preview(interest, build_histories(log, interest.direction)).alerts == bench.fold(interest_set(interest, 1))


@settings(max_examples=200, deadline=None)
@given(log=interleaved(), interest=interests)
def test_the_counts_are_those_of_the_model(log: list[Observation], interest: Interest):
    """A preview has one count for each window that all directions cover to its end and that no gap touches."""
    parts = build_model_logs(log, interest.direction)
    counts = []
    if all(part.covered is not None for part in parts):
        length = LENGTHS[interest.window.value]
        start = BASE - timedelta(days=5)
        while start < BASE + timedelta(days=40):
            end = start + length
            if (
                start >= interest.effective_from
                and all(part.covered[0] <= start and end <= part.covered[1] for part in parts if part.covered)
                and not any(begin < end and start < stop for part in parts for begin, stop in part.gaps)
            ):
                counts.append(sum(start <= flight < end for part in parts for flight in part.flights))
            start = end
    assert preview(interest, build_histories(log, interest.direction)).counts == tuple(counts)


@given(
    begin=st.integers(0, 30 * HOUR_S),
    length=st.integers(1, 30 * 24 * HOUR_S),
    times=st.lists(st.integers(0, 60 * 24 * HOUR_S), max_size=30),
)
def test_every_flight_of_the_history_is_observed_once(begin: int, length: int, times: list[int]):
    """A history of any length becomes adjacent intervals, and each of its flights is in one of them."""
    observations = list(FlightHistory(Direction.ARRIVALS, begin, begin + length, sorted(times)).to_observations())
    assert [each.begin for each in observations] == [begin, *(each.end for each in observations[:-1])]
    assert observations[-1].end == begin + length
    observed = [at for each in observations for at in each.event_times]
    assert observed == sorted(at for at in times if begin <= at < begin + length)
    assert all(at in each.valid_times for each in observations for at in each.event_times)


@given(counts=st.lists(st.integers(0, 50), min_size=1), percent=st.integers(0, 100))
def test_a_percentile_is_the_smallest_count_that_is_enough(counts: list[int], percent: int):
    """At least `percent` % of all counts do not exceed the percentile, and no smaller count has this property."""
    found = compute_percentile(counts, percent)
    assert found in counts
    assert sum(count <= found for count in counts) * 100 >= percent * len(counts)
    assert sum(count < found for count in counts) * 100 < percent * len(counts) or found == min(counts)


def test_nothing_has_no_percentile():
    """The percentile of no counts is not zero: ValueError is raised."""
    with pytest.raises(ValueError):
        compute_percentile([], 50)
