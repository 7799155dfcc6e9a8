"""The order of an airport's messages, from the ids of its flights and what became of its live movements."""

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from collector.rebuilt_log import (
    LateFlight,
    MovementGroup,
    StoredDirection,
    rebuild_messages,
)
from collector.record_order import DAY_S, FlightGroup, RecordOrder
from domain.interests import Direction
from domain.traffic import Coverage, Traffic
from domain.windows import HOUR_S

FIRST = 15_700
"""A day since 1970."""
NOW = (FIRST + 30) * DAY_S
TWO_DAYS = 2 * DAY_S


def at(day: int, hour: int = 12) -> int:
    """Return an hour of a day after FIRST, in seconds since 1970."""
    return (FIRST + day) * DAY_S + hour * HOUR_S


def store(days: int, *flights: FlightGroup, **changes: object) -> StoredDirection:
    """Return departures that the record covers for so many days."""
    stored = StoredDirection(Direction.DEPARTURES, (at(0, 0), at(days, 0)), flights=flights)
    return replace(stored, **changes)  # type: ignore[arg-type]


def describe(stored: StoredDirection) -> list[tuple[int, str, int, int]]:
    """Return day, coverage, and the number of flights and of retracted ones, of each message in order."""
    return [
        (
            each.observation.begin // DAY_S - FIRST,
            each.observation.coverage.value,
            len(each.observation.event_times),
            len(each.observation.retracted),
        )
        for each in rebuild_messages([stored], TWO_DAYS, NOW)
    ]


def test_days_follow_each_other_and_a_newer_row_of_an_older_day_is_a_correction() -> None:
    """A day without flights is there, too. The correction comes after the record whose rows are older."""
    flights = (FlightGroup(at(0), 4, 1, 20), FlightGroup(at(2), 3, 4, 6), FlightGroup(at(3), 1, 30, 30))
    order = RecordOrder(flights, (at(0, 0), at(4, 0)), frozenset())
    assert order.find_late_range(flights) == (at(0, 0), at(1, 0), 4)
    stored = store(4, *flights, late=[LateFlight(at(0), 20, was_live=False, is_undecided=False)])
    assert describe(stored) == [
        (0, "complete", 3, 0),
        (1, "complete", 0, 0),
        (2, "complete", 3, 0),
        (0, "complete", 1, 0),
        (3, "complete", 1, 0),
    ]


def test_history_comes_newest_day_first_after_the_first_record() -> None:
    """Its rows are newer than the first ones; a day of it without flights follows the day behind it."""
    flights = (FlightGroup(at(0), 2, 31, 32), FlightGroup(at(2), 2, 21, 22), FlightGroup(at(3), 1, 1, 1))
    earlier = frozenset({FIRST, FIRST + 1, FIRST + 2})
    stored = store(4, *flights, covered=(at(3, 0), at(4, 0)), earlier_days=earlier)
    assert [each[0] for each in describe(stored)] == [3, 2, 1, 0]


def list_history(stored: StoredDirection) -> list[tuple[int, int, int, bool]]:
    """Return begin and end (hours after FIRST), number of flights, and if it is history, of each message in order."""
    messages = [each.observation for each in rebuild_messages([stored], TWO_DAYS, NOW)]
    return [
        ((each.begin - at(0, 0)) // HOUR_S, (each.end - at(0, 0)) // HOUR_S, len(each.event_times), each.is_history)
        for each in messages
    ]


def test_days_that_were_published_as_history_are_history_again() -> None:
    """So no window of them is judged. One from before there was a mark is covered, as the stream has folded it."""
    flights = (FlightGroup(at(0), 2, 31, 32), FlightGroup(at(1), 2, 21, 22), FlightGroup(at(2), 1, 1, 1))
    stored = store(3, *flights, earlier_days=frozenset({FIRST, FIRST + 1}), history={FIRST + 1: at(2, 0)})
    assert list_history(stored) == [(48, 72, 1, False), (24, 48, 2, True), (0, 24, 2, False)]


def test_a_marked_day_is_history_although_the_record_has_no_flights() -> None:
    """Nothing else would say that it came after the record."""
    stored = store(2, FlightGroup(at(0), 2, 1, 2), earlier_days=frozenset({FIRST}), history={FIRST: at(1, 0)})
    assert list_history(stored) == [(24, 48, 0, False), (0, 24, 2, True)]


@pytest.mark.parametrize("row_id", [3, 9])
def test_of_a_day_that_was_covered_from_noon_the_morning_alone_came_as_history(row_id: int) -> None:
    """Whether its rows are older or newer than those of the next day: the afternoon is the record's."""
    flights = (FlightGroup(at(0, 6), 1, row_id, row_id), FlightGroup(at(0, 15), 2, 1, 2), FlightGroup(at(1), 1, 5, 5))
    late = [LateFlight(at(0, 6), row_id, was_live=False, is_undecided=False)] if row_id > 5 else []
    stored = store(2, *flights, earlier_days=frozenset({FIRST}), history={FIRST: at(0, 12)}, late=late)
    assert sorted(list_history(stored)) == [(0, 24, 1, True), (12, 24, 2, False), (24, 48, 1, False)]
    traffic = Traffic()
    for each in rebuild_messages([stored], TWO_DAYS, NOW):
        traffic = traffic.fold(each.observation)
    assert (traffic.departures.covered_from, traffic.departures.history) == (at(0, 12), ((at(0, 0), at(0, 12)),))


def test_days_from_before_a_gap_come_first() -> None:
    """Their rows are older, so they are no history: the gap is between them and the coverage."""
    flights = (FlightGroup(at(0), 2, 1, 2), FlightGroup(at(3), 1, 9, 9))
    stored = store(4, *flights, covered=(at(3, 0), at(4, 0)), earlier_days=frozenset({FIRST}))
    assert [each[0] for each in describe(stored)] == [0, 3]
    traffic = Traffic()
    for each in rebuild_messages([stored], TWO_DAYS, NOW):
        traffic = traffic.fold(each.observation)
    assert traffic.departures.gaps == ((at(1, 0), at(3, 0)),)


def test_a_day_that_was_given_up_is_a_gap_at_the_end() -> None:
    """The coverage ends behind it, and begins anew there."""
    flights = (FlightGroup(at(0), 2, 1, 2),)
    stored = store(2, *flights, covered=(at(2, 0), at(2, 0)), earlier_days=frozenset({FIRST}))
    assert describe(stored) == [(0, "complete", 2, 0), (1, "gap", 0, 0)]


def test_the_record_takes_back_what_it_does_not_have() -> None:
    """What it has is not published again; what it adds is; of the last minutes of the day the next record decides."""
    late_hour = at(0, 23)
    stored = store(
        2,
        FlightGroup(at(0), 3, 1, 3),
        FlightGroup(at(1), 1, 4, 4),
        movements=[
            MovementGroup(at(0), is_undecided=False, recorded=2, taken_back=1, open=0),
            MovementGroup(late_hour, is_undecided=True, recorded=0, taken_back=1, open=1),
        ],
        stretches=[(at(0, 0), at(1, 0))],
    )
    assert describe(stored) == [(0, "complete", 5, 0), (0, "complete", 1, 1), (1, "complete", 1, 1)]


def test_a_restored_flight_was_taken_back_and_comes_again() -> None:
    """A movement that the record did not have, and a correction has: retracted, then published once more."""
    stored = store(
        3,
        FlightGroup(at(0), 1, 9, 9),
        FlightGroup(at(0, 14), 1, 1, 1),
        FlightGroup(at(1), 1, 5, 5),
        FlightGroup(at(2), 1, 6, 6),
        movements=[MovementGroup(at(0), is_undecided=False, recorded=1, taken_back=0, open=0)],
        stretches=[(at(0, 0), at(1, 0))],
        late=[LateFlight(at(0), 9, was_live=True, is_undecided=False)],
    )
    assert describe(stored) == [
        (0, "complete", 1, 0),
        (0, "complete", 1, 1),
        (1, "complete", 1, 0),
        (2, "complete", 1, 0),
        (0, "complete", 1, 0),
    ]


def test_flights_of_today_cover_nothing() -> None:
    """They came before the record of their day."""
    stored = store(1, FlightGroup(at(0), 1, 1, 1), FlightGroup(at(1), 2, 2, 3))
    assert describe(stored) == [(0, "complete", 1, 0), (1, "partial", 2, 0)]


@given(st.data())
def test_in_the_end_the_counts_are_what_is_stored(data: st.DataObject) -> None:
    """Whatever the rows: after all messages an hour has its stored flights, and the movements that are still open."""
    days = data.draw(st.integers(1, 5))
    hours = sorted(data.draw(st.sets(st.integers(0, days * 24 - 1), max_size=12)))
    numbers = st.integers(0, 3)
    flights: list[FlightGroup] = []
    late: list[LateFlight] = []
    movements: list[MovementGroup] = []
    expected: dict[int, int] = {}
    for hour in hours:
        begin = at(0, hour)
        known, added, taken, is_open = (data.draw(numbers) for _ in range(4))
        ids = sorted(data.draw(st.lists(st.integers(1, 60), min_size=known + added, max_size=known + added)))
        if ids:
            flights.append(FlightGroup(begin, len(ids), ids[0], ids[-1]))
            late += [LateFlight(begin, each, was_live=n < known, is_undecided=False) for n, each in enumerate(ids)]
        movements.append(MovementGroup(begin, is_undecided=False, recorded=known, taken_back=taken, open=is_open))
        expected[begin // HOUR_S] = known + added + is_open
    stretches = [(at(0, 0), at(days, 0))] if data.draw(st.booleans()) else []
    order = RecordOrder(flights, (at(0, 0), at(days, 0)), frozenset())
    stored = store(
        days,
        *flights,
        late=[each for each in late if order.is_late(each.at // DAY_S, each.row_id)],
        movements=movements,
        stretches=stretches,
    )
    traffic = Traffic()
    for each in rebuild_messages([stored], TWO_DAYS, NOW):
        traffic = traffic.fold(each.observation)
        assert each.observation.coverage in Coverage
    counts = traffic.departures.counts
    assert {hour: counts.total(hour, 1) for hour in expected} == expected
    assert traffic.departures.watermark == at(days, 0)
    assert traffic.departures.gaps == ()
