"""Tests of the merge of rows that are one flight, with a slow model of the rule that tries all subsets."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from hypothesis import example, given, strategies as st

from collector.settled.duplicates import ReportedFlight, merge_duplicates
from collector.sources.flight import Flight
from domain.interests import Direction

DAWN = datetime(2013, 2, 13, 6, tzinfo=UTC)
DEPARTURES, ARRIVALS = Direction.DEPARTURES, Direction.ARRIVALS
BOTH = pytest.mark.parametrize("direction", [DEPARTURES, ARRIVALS])


def row(begin: float, end: float, callsign: str = "", other: str = "", aircraft: int = 1) -> Flight:
    """Return a row that is first and last seen so many minutes after DAWN, with the same airport at either end."""
    first_seen, last_seen = (int(DAWN.timestamp() + minutes * 60) for minutes in (begin, end))
    return Flight.model_validate(
        {
            "icao24": f"{aircraft:06x}",
            "firstSeen": first_seen,
            "lastSeen": last_seen,
            "callsign": callsign,
            "estDepartureAirport": other,
            "estArrivalAirport": other,
        }
    )


def flights_of(reported: Sequence[ReportedFlight]) -> list[Flight]:
    """Return the flights of merged rows."""
    return [each.flight for each in reported]


def are_one(direction: Direction, one: Flight, other: Flight) -> bool:
    """Return True if the two rows are one flight: the rule as the issue words it, independent of the code."""
    if one.icao24 != other.icao24:
        return False
    day = timedelta(days=1)
    if direction is DEPARTURES:
        begins = [each.first_seen for each in (one, other)]
        ends = [min(each.last_seen, each.first_seen + day) for each in (one, other)]
    else:
        begins = [max(each.first_seen, each.last_seen - day) for each in (one, other)]
        ends = [each.last_seen for each in (one, other)]
    if begins[0] < ends[1] and begins[1] < ends[0]:
        return True
    return abs(one.event_time(direction) - other.event_time(direction)) <= timedelta(minutes=10)


def count_distinct(direction: Direction, rows: Sequence[Flight]) -> int:
    """Return the size of the largest subset of the rows in which no two are one; tries all subsets."""
    return max(
        size
        for size in range(len(rows) + 1)
        for subset in combinations(rows, size)
        if not any(are_one(direction, *pair) for pair in combinations(subset, 2))
    )


def build_rows(unique_by: Callable[[Flight], object] | None) -> st.SearchStrategy[list[Flight]]:
    """Return a strategy for rows of two aircraft within some hours, some of them longer than any flight."""
    return st.lists(
        st.builds(
            lambda begin, length, callsign, other, aircraft: row(begin, begin + length, callsign, other, aircraft),
            begin=st.integers(0, 90) | st.floats(0, 90),
            length=st.sampled_from([0, 1, 5, 10, 15, 30, 60, 24 * 60, 40 * 60]) | st.floats(0, 40),
            callsign=st.sampled_from(["", "TW1", "TW2"]),
            other=st.sampled_from(["", "LICC", "EDDF"]),
            aircraft=st.integers(1, 2),
        ),
        max_size=9,
        unique_by=unique_by,
    )


ROWS = build_rows(unique_by=lambda flight: (flight.icao24, flight.first_seen))
VERSIONS = build_rows(unique_by=None)
"""Rows of which some have one key."""
DIRECTIONS = st.sampled_from([DEPARTURES, ARRIVALS])


@given(DIRECTIONS, ROWS)
@example(DEPARTURES, [row(0, 600), row(10, 20), row(60, 70)])
@example(ARRIVALS, [row(0, 600), row(10, 20), row(60, 70)])
@example(DEPARTURES, [row(minutes, minutes + 1) for minutes in range(0, 72, 8)])
def test_as_many_flights_remain_as_rows_are_distinct(direction: Direction, rows: list[Flight]) -> None:
    """No more and no fewer: the largest number of rows of which no two are one."""
    assert len(merge_duplicates(direction, rows)) == count_distinct(direction, rows)


@given(DIRECTIONS, ROWS)
def test_no_two_flights_of_one_answer_are_one(direction: Direction, rows: list[Flight]) -> None:
    """Each pair of merged flights is distinct by the rule, and their times are those of rows of the source."""
    merged = flights_of(merge_duplicates(direction, rows))
    assert not any(are_one(direction, *pair) for pair in combinations(merged, 2))
    times = {(each.icao24, each.first_seen, each.last_seen) for each in rows}
    assert {(each.icao24, each.first_seen, each.last_seen) for each in merged} <= times


@given(DIRECTIONS, ROWS)
def test_merging_merged_flights_changes_nothing(direction: Direction, rows: list[Flight]) -> None:
    """The merge is idempotent."""
    merged = flights_of(merge_duplicates(direction, rows))
    assert flights_of(merge_duplicates(direction, merged)) == merged


@given(DIRECTIONS, ROWS.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows + rows[:2]))))
def test_the_order_and_repeats_of_rows_do_not_matter(
    direction: Direction, orders: tuple[list[Flight], list[Flight]]
) -> None:
    """The same rows in another order, some of them twice, are the same flights."""
    rows, shuffled = orders
    assert merge_duplicates(direction, shuffled) == merge_duplicates(direction, rows)


@given(DIRECTIONS, ROWS)
def test_rows_that_are_not_one_are_never_merged(direction: Direction, rows: list[Flight]) -> None:
    """Also not by a third row that overlaps both: each two rows of a merged flight are one. No row is lost."""
    merged = merge_duplicates(direction, rows)
    assert sum(len(each.keys) for each in merged) == len(rows)
    for reported in merged:
        own = [each for each in rows if (each.icao24, each.first_seen) in reported.keys]
        assert all(are_one(direction, *pair) for pair in combinations(own, 2))


@given(DIRECTIONS, ROWS)
def test_no_known_text_is_lost(direction: Direction, rows: list[Flight]) -> None:
    """A flight has a callsign and an airport at the other end if one of its rows has."""
    for reported in merge_duplicates(direction, rows):
        own = [each for each in rows if (each.icao24, each.first_seen) in reported.keys]
        for text in ("callsign", "departure_airport", "arrival_airport"):
            known = {getattr(each, text) for each in own} - {""}
            assert getattr(reported.flight, text) in (known or {""})


@given(DIRECTIONS, ROWS, st.integers(0, 9))
def test_more_rows_never_make_fewer_flights(direction: Direction, rows: list[Flight], without: int) -> None:
    """A wrong row hides no flight."""
    assert len(merge_duplicates(direction, rows)) >= len(merge_duplicates(direction, rows[without:]))


@given(DIRECTIONS, VERSIONS)
def test_rows_with_one_key_are_one_flight(direction: Direction, rows: list[Flight]) -> None:
    """Whatever their lengths, the one that knows most remains, of two of these the longer one. Each can be stored."""
    merged = flights_of(merge_duplicates(direction, rows))
    assert len({(each.icao24, each.first_seen) for each in merged}) == len(merged)
    assert not any(are_one(direction, *pair) for pair in combinations(merged, 2))
    assert merge_duplicates(direction, rows[::-1]) == merge_duplicates(direction, rows)
    assert flights_of(merge_duplicates(direction, [row(0, 0), row(0, 60), row(0, 30)])) == [row(0, 60)]


@BOTH
@pytest.mark.parametrize("seconds", [16, 145])
def test_the_pairs_of_the_real_record_are_one_flight(direction: Direction, seconds: int) -> None:
    """First seen seconds apart, the second row without the other airport: the row that knows more remains."""
    known = row(0, 90, "TW1", "LICC")
    repeated = row(seconds / 60, 90 + seconds / 60, "TW1")
    assert flights_of(merge_duplicates(direction, [repeated, known])) == [known]


@BOTH
def test_each_text_is_taken_from_the_row_that_has_it(direction: Direction) -> None:
    """One row has the callsign, the other one the airport; the times are those of the row that was last seen later."""
    (reported,) = merge_duplicates(direction, [row(0, 60, callsign="TW1"), row(1, 61, other="LICC")])
    assert reported.flight == row(1, 61, "TW1", "LICC")


def test_the_end_at_the_airport_decides_how_near_two_rows_are() -> None:
    """Departures are one if they take off within ten minutes, arrivals if they land within ten, ends included."""
    for minutes, count in ((10, 1), (10 + 1 / 60, 2)):
        assert len(merge_duplicates(DEPARTURES, [row(0, 2), row(minutes, 90)])) == count
        assert len(merge_duplicates(ARRIVALS, [row(0, 90), row(90 + minutes - 2, 90 + minutes)])) == count
    assert len(merge_duplicates(ARRIVALS, [row(0, 2), row(5, 90)])) == 2
    assert len(merge_duplicates(DEPARTURES, [row(0, 90), row(95, 97)])) == 2


@BOTH
@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([row(0, 14), row(15, 30)], id="a circuit with a touch-and-go"),
        pytest.param([row(0, 15), row(15, 30)], id="a touch-and-go in one second"),
        pytest.param([row(0, 40), row(60, 100)], id="a rotation an hour later"),
        pytest.param([row(0, 90, aircraft=1), row(0, 90, aircraft=2)], id="two aircraft at one time"),
        pytest.param([row(0, 0), row(11, 11)], id="rows without a duration"),
    ],
)
def test_what_one_aircraft_can_have_flown_is_not_merged(direction: Direction, rows: list[Flight]) -> None:
    """Neither overlap nor the same take-off or landing: two flights."""
    assert sorted(flights_of(merge_duplicates(direction, rows)), key=repr) == sorted(rows, key=repr)


@BOTH
def test_a_row_without_a_duration_within_a_flight_is_that_flight(direction: Direction) -> None:
    """It is one position of the same aircraft."""
    assert flights_of(merge_duplicates(direction, [row(30, 30, "TW2", "EDDF"), row(0, 60, "TW1", "LICC")])) == [
        row(0, 60, "TW1", "LICC")
    ]


@BOTH
@pytest.mark.parametrize("callsign", ["", "TW1"])
def test_a_row_that_lasts_too_long_hides_no_flight(direction: Direction, callsign: str) -> None:
    """It overlaps two flights, which both remain as they are, even if it knows more than they do."""
    first, second = row(0, 60), row(180, 240)
    (one, other) = flights_of(merge_duplicates(direction, [row(0.5, 250, callsign), first, second]))
    assert {one.callsign, other.callsign} == {"", callsign}
    assert [one.last_seen, other.first_seen] == [first.last_seen, second.first_seen]


def test_alone_a_row_that_lasts_too_long_ends_after_a_day() -> None:
    """It takes the flights of one day for its own, and no more."""
    days = [24 * 60 * day for day in range(4)]
    assert len(merge_duplicates(DEPARTURES, [row(days[0], days[3]), row(days[1] + 1, days[1] + 60)])) == 2
    assert len(merge_duplicates(ARRIVALS, [row(days[0], days[3]), row(days[1], days[1] + 60)])) == 2
