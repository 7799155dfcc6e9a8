"""Tests of the match between the settled record and live movements: the pure rule, against every possible pairing."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations, permutations

import pytest
from hypothesis import given, strategies as st

from collector.model import LiveOutcome
from collector.settled.reconciliation import (
    MATCHED_WITHIN,
    LiveMovement,
    Scope,
    match_by_aircraft,
    match_times,
    reconcile,
)
from collector.sources.flight import Flight, PublishedFlight
from domain.interests import Direction
from tests.fakes.nightly_source import build_flight

DAY_BEGIN = datetime(2013, 2, 13, tzinfo=UTC)
DAY_END = DAY_BEGIN + timedelta(days=1)
MINUTE = timedelta(minutes=1)
DEPARTURES, ARRIVALS = Direction.DEPARTURES, Direction.ARRIVALS
WHOLE_DAY = Scope(decided_from=DAY_BEGIN, decided_until=DAY_END - MATCHED_WITHIN, end=DAY_END)

minutes = st.lists(st.integers(0, 90), max_size=5).map(sorted)


def at(minute: float) -> datetime:
    """Return an instant, in minutes since the day began."""
    return DAY_BEGIN + minute * MINUTE


def movement(
    minute: float, number: int = 1, outcome: LiveOutcome = LiveOutcome.PUBLISHED, aircraft: int = 1
) -> LiveMovement:
    """Return a live movement of an aircraft, so many minutes after the day began."""
    return LiveMovement(number, f"{aircraft:06x}", at(minute), outcome)


def rank(pairs: Sequence[tuple[int, int]], left: Sequence[int], right: Sequence[int]) -> tuple[int, int]:
    """Return how good a pairing is: the smaller the better."""
    return -len(pairs), sum(abs(left[one] - right[other]) for one, other in pairs)


def find_best_rank(left: Sequence[int], right: Sequence[int]) -> tuple[int, int]:
    """Return the rank of the best of all pairings, found by trying each."""
    best = (0, 0)
    for size in range(1, min(len(left), len(right)) + 1):
        for chosen in combinations(range(len(left)), size):
            for others in permutations(range(len(right)), size):
                pairs = list(zip(chosen, others, strict=True))
                if all(abs(left[one] - right[other]) <= 20 for one, other in pairs):
                    best = min(best, rank(pairs, left, right))
    return best


@given(minutes, minutes)
def test_as_many_as_possible_are_paired_and_of_these_the_nearest(left: list[int], right: list[int]) -> None:
    """No pairing of times at most 20 minutes apart, one to one, has more pairs, nor as many with less distance."""
    pairs = match_times([at(each) for each in left], [at(each) for each in right])
    assert len({one for one, _ in pairs}) == len({other for _, other in pairs}) == len(pairs)
    assert all(abs(left[one] - right[other]) <= 20 for one, other in pairs)
    assert rank(pairs, left, right) == find_best_rank(left, right)


entries = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 90)), max_size=6, unique=True)


@given(entries, entries, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(first, second, random) -> None:  # type: ignore[no-untyped-def]
    """Only rows of one aircraft are paired, and in whatever order the rows come, the pairs are the same."""

    def pair(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> set[tuple[tuple[int, int], tuple[int, int]]]:
        """Return the pairs themselves, in place of their indexes."""
        texts = [[(f"{aircraft:06x}", at(minute)) for aircraft, minute in part] for part in (left, right)]
        return {(left[one], right[other]) for one, other in match_by_aircraft(*texts)}

    expected = pair(first, second)
    assert all(one[0] == other[0] for one, other in expected)
    shuffled = [random.sample(part, len(part)) for part in (first, second)]
    assert pair(*shuffled) == expected


def test_a_trainers_circuits_are_paired_one_to_one() -> None:
    """Three landings found live and three of the record within 25 minutes are three pairs, not one and leftovers."""
    record = [at(each) for each in (0, 9, 20)]
    live = [at(each) for each in (8, 15, 24)]
    assert match_times(record, live) == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("direction", [DEPARTURES, ARRIVALS])
@pytest.mark.parametrize(("apart_s", "is_matched"), [(0, True), (1200, True), (-1200, True), (1201, False)])
def test_twenty_minutes_are_the_limit(direction: Direction, apart_s: int, is_matched: bool) -> None:
    """A flight takes off or lands at most 20 minutes from its movement; the limit itself still matches."""
    flight = build_flight(at(600))
    event_time = flight.event_time(direction)
    found = LiveMovement(7, flight.icao24, event_time + timedelta(seconds=apart_s), LiveOutcome.PUBLISHED)
    result = reconcile(direction, [flight], [], [found], WHOLE_DAY)
    if is_matched:
        assert result.matched == ((flight, found),)
        assert result.event_times == {(flight.icao24, flight.first_seen): found.event_time}
        assert (result.list_published(direction), result.taken_back) == ([], [])
    else:
        assert (result.added, result.retracted) == ((flight,), (found,))
        assert result.list_published(direction) == [flight]
        assert result.taken_back == [PublishedFlight(flight.icao24, found.event_time)]


def test_what_the_next_day_may_still_match_is_left_and_what_was_before_the_record_stands() -> None:
    """Only movements within the settled coverage, but not in its last 20 minutes, are retracted."""
    found = [movement(-10, 1), movement(0, 2), movement(1419, 3), movement(1420, 4), movement(1445, 5)]
    assert [each.id for each in reconcile(DEPARTURES, [], [], found, WHOLE_DAY).retracted] == [2, 3]
    late = Scope(decided_from=DAY_BEGIN - timedelta(days=1), decided_until=WHOLE_DAY.decided_until, end=DAY_END)
    assert [each.id for each in reconcile(DEPARTURES, [], [], found, late).retracted] == [1, 2, 3]


def test_movements_on_both_sides_of_the_day_match() -> None:
    """A flight just after midnight may be a movement of just before, or the reverse: it counts where it was told."""
    early, late = build_flight(at(5)), build_flight(at(1435), number=2)
    before, after = movement(-8, 1), movement(1445, 2, aircraft=2)
    result = reconcile(DEPARTURES, [early, late], [], [before, after], WHOLE_DAY)
    assert result.matched == ((early, before), (late, after))
    assert (result.added, result.retracted) == ((), ())


def test_a_flight_that_was_retracted_is_published_again_at_its_movements_time() -> None:
    """The record brings it late: it counts again in the hour in which it was first counted."""
    flight, gone = build_flight(at(605)), movement(598, 1, LiveOutcome.RETRACTED)
    result = reconcile(DEPARTURES, [flight], [], [gone], WHOLE_DAY)
    assert result.restored == ((flight, gone),)
    (published,) = result.list_published(DEPARTURES)
    assert (published.first_seen, published.last_seen) == (at(598), flight.last_seen)
    assert result.event_times == {(flight.icao24, flight.first_seen): at(598)}


def test_an_open_movement_comes_before_a_retracted_one() -> None:
    """A flight that is published is not published a second time because a retracted movement is nearer."""
    flight = build_flight(at(605))
    there, gone = movement(590, 1), movement(604, 2, LiveOutcome.RETRACTED)
    result = reconcile(DEPARTURES, [flight], [], [there, gone], WHOLE_DAY)
    assert (result.matched, result.restored) == (((flight, there),), ())


def test_a_retracted_movement_after_the_interval_is_not_published_with_it() -> None:
    """The stream would refuse a flight at or after the end of its batch."""
    flight, gone = build_flight(at(1435)), movement(1440, 1, LiveOutcome.RETRACTED)
    result = reconcile(DEPARTURES, [flight], [], [gone], WHOLE_DAY)
    assert (result.restored, result.added) == ((), (flight,))


def test_a_movement_of_a_flight_that_was_published_by_itself_is_a_duplicate() -> None:
    """It is taken back, but the record has it; a flight that another movement is does not count for two."""
    own, second = movement(600, 1), movement(606, 2)
    earlier = movement(603, 3, LiveOutcome.MATCHED)
    stored = PublishedFlight(own.icao24, at(602))
    result = reconcile(DEPARTURES, [], [stored], [own], WHOLE_DAY)
    assert (result.duplicates, result.retracted) == ((own,), ())
    assert result.taken_back == [own.identity]
    result = reconcile(DEPARTURES, [], [earlier.identity], [earlier, second], WHOLE_DAY)
    assert (result.duplicates, result.retracted) == ((), (second,))


new_flights = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 1439)), max_size=8, unique=True)
old_movements = st.lists(st.tuples(st.integers(1, 3), st.integers(-60, 1460), st.sampled_from(LiveOutcome)), max_size=8)


@given(new_flights, old_movements, st.booleans())
def test_afterwards_the_published_flights_are_those_of_the_record(flights, movements, is_first_day) -> None:  # type: ignore[no-untyped-def]
    """In the time that is decided, the published flights are those of the record, each published once.

    What was published before and stands there afterwards is only what another day decides about.
    """
    new = [build_flight(at(minute), number=aircraft) for aircraft, minute in flights]
    found = [
        movement(minute, number, outcome, aircraft) for number, (aircraft, minute, outcome) in enumerate(movements)
    ]
    begin = DAY_BEGIN if is_first_day else DAY_BEGIN - timedelta(days=1)
    scope = Scope(decided_from=begin, decided_until=WHOLE_DAY.decided_until, end=DAY_END)
    stored = [each.identity for each in found if each.outcome is LiveOutcome.MATCHED]
    result = reconcile(DEPARTURES, new, stored, found, scope)
    open_before = [each for each in found if each.outcome is LiveOutcome.PUBLISHED]
    matched = [each for _, each in result.matched]
    restored = [each for _, each in result.restored]
    touched = [*matched, *result.duplicates, *result.retracted]
    assert len({each.id for each in (*touched, *restored)}) == len(touched) + len(restored)
    assert all(each in open_before for each in touched)
    assert all(each.outcome is LiveOutcome.RETRACTED for each in restored)
    left = [each for each in open_before if each not in touched]
    assert not any(scope.decided_from <= each.event_time < scope.decided_until for each in left)
    # What the stream has: the published movements, less those taken back, and what is published now.
    after = len(stored) + len(open_before) - len(result.taken_back) + len(result.list_published(DEPARTURES))
    assert after == len(stored) + len(new) + len(left)
    assert sorted(_key(each) for each in new) == sorted(
        _key(each) for each in (*result.added, *(flight for flight, _ in (*result.matched, *result.restored)))
    )
    assert all(each.event_time(DEPARTURES) < DAY_END for each in result.list_published(DEPARTURES))


def _key(flight: Flight) -> tuple[str, datetime]:
    """Return the key of a flight."""
    return flight.icao24, flight.first_seen
