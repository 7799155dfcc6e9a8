"""Tests of the comparison of answers with stored flights: one flight is published once, however it is told."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

import pytest
from hypothesis import given, strategies as st

from collector.settled.differences import StoredFlight, compare_with_stored, find_missing
from collector.settled.duplicates import merge_duplicates
from collector.sources.flight import Flight
from domain.interests import Direction
from tests.collector.settled.test_duplicates import (
    ARRIVALS,
    BOTH,
    DEPARTURES,
    DIRECTIONS,
    ROWS,
    VERSIONS,
    count_distinct,
    row,
)


class FlightTable:
    """The stored flights of one airport and direction, in memory."""

    def __init__(self, direction: Direction) -> None:
        self.direction = direction
        self.stored: dict[int, StoredFlight] = {}
        """The stored flights by id."""
        self.published: list[Flight] = []

    def store_answer(self, answer: Iterable[Flight]) -> tuple[int, int]:
        """Store an answer as the collector does, and return how many flights were new and how many changed."""
        reported = merge_duplicates(self.direction, answer)
        diff = compare_with_stored(self.direction, reported, self.stored.values())
        for flight in diff.changed:
            before = self.stored[flight.id]
            assert (flight.key, flight.id) == (before.key, before.id)
            assert flight.last_seen >= flight.first_seen
            assert flight.callsign or not before.callsign
            assert flight.other_airport or not before.other_airport
            self.stored[flight.id] = flight
        keys = {flight.key for flight in self.stored.values()}
        for new in diff.new:
            assert (new.icao24, new.first_seen) not in keys, "two rows with one key"
            number = len(self.stored)
            self.stored[number] = StoredFlight(
                number, new.icao24, new.first_seen, new.last_seen, new.callsign, new.other_airport(self.direction)
            )
        self.published.extend(diff.new)
        return len(diff.new), len(diff.changed)

    def find_missing(self, answer: Iterable[Flight]) -> list[StoredFlight]:
        """Return the stored flights that an answer lacks."""
        return find_missing(self.direction, merge_duplicates(self.direction, answer), self.stored.values())


def store_answers(direction: Direction, *answers: Sequence[Flight]) -> FlightTable:
    """Return the table after some answers."""
    table = FlightTable(direction)
    for answer in answers:
        table.store_answer(answer)
    return table


@given(DIRECTIONS, st.lists(VERSIONS, max_size=5))
def test_an_answer_that_comes_again_publishes_nothing(direction: Direction, answers: list[list[Flight]]) -> None:
    """After any answers, the last one told once more brings no new flight, and lacks none of its own."""
    table = FlightTable(direction)
    for answer in answers:
        table.store_answer(answer)
        assert table.store_answer(answer)[0] == 0


@given(DIRECTIONS, ROWS)
def test_the_first_answer_publishes_what_it_has(direction: Direction, answer: list[Flight]) -> None:
    """Each distinct flight once; the same answer lacks none of them."""
    table = store_answers(direction, answer)
    assert len(table.published) == count_distinct(direction, answer)
    assert table.find_missing(answer) == []


TOLD = st.lists(
    st.builds(
        lambda flight, minutes, length, text: (flight, minutes, length, text),
        flight=st.integers(0, 5),
        minutes=st.integers(0, 10),
        length=st.integers(0, 60),
        text=st.sampled_from(["", "TW1", "TW2"]),
    ),
    max_size=25,
)
"""Rows of six flights, 90 minutes apart: number, minutes by which take-off or landing is moved, and length."""


@given(DIRECTIONS, TOLD, st.data())
def test_it_does_not_matter_how_rows_are_cut_into_answers(
    direction: Direction, told: list[tuple[int, int, int, str]], data: st.DataObject
) -> None:
    """Rows with one take-off (landing) are published once, in any order, in any answers, any number of times."""
    rows = []
    for flight, minutes, length, text in told:
        at = 90 * flight + minutes
        rows.append(row(at, at + length, text) if direction is DEPARTURES else row(at - length, at, text))
    table = FlightTable(direction)
    for _ in range(2):
        rest = data.draw(st.permutations(rows))
        while rest:
            size = data.draw(st.integers(1, len(rest)))
            table.store_answer(rest[:size])
            rest = rest[size:]
    assert len(table.published) == len({flight for flight, *_ in told})
    assert table.find_missing(rows) == []


@given(DIRECTIONS, st.integers(20, 60), st.permutations(range(5)))
def test_rows_that_only_overlap_are_published_once(direction: Direction, length: int, order: list[int]) -> None:
    """Pieces of one track, each of which overlaps the others, one in each answer."""
    table = FlightTable(direction)
    for number in order:
        table.store_answer([row(4 * number, 4 * number + length)])
    assert len(table.published) == 1


@BOTH
@pytest.mark.parametrize("seconds", [-145, -16, 16, 145])
def test_a_flight_whose_first_seen_moves_is_the_same_flight(direction: Direction, seconds: int) -> None:
    """It is updated under its key, not new, and not missing."""
    before, after = row(0, 60, "TW1"), row(seconds / 60, 75, "TW7", "LICC")
    table = store_answers(direction, [before])
    if direction is ARRIVALS:
        after = row(seconds / 60, 65, "TW7", "LICC")
    assert table.find_missing([after]) == []
    assert table.store_answer([after]) == (0, 1)
    assert table.stored[0] == StoredFlight(0, "000001", before.first_seen, after.last_seen, "TW7", "LICC")


@BOTH
def test_a_row_that_knows_less_replaces_nothing(direction: Direction) -> None:
    """The second row of a pair, without the other airport, comes alone in a later answer."""
    known = row(0, 60, "TW1", "LICC")
    table = store_answers(direction, [known])
    assert table.store_answer([row(2, 58, "TW1")]) == (0, 0)


@BOTH
def test_a_text_that_is_known_is_not_forgotten(direction: Direction) -> None:
    """The source gives the same row later without callsign and airport; its times count all the same."""
    table = store_answers(direction, [row(0, 60, "TW1", "LICC")], [row(0, 70)])
    (stored,) = table.stored.values()
    assert (stored.callsign, stored.other_airport) == ("TW1", "LICC")
    assert stored.last_seen == row(0, 70).last_seen


def test_a_row_that_ends_before_the_stored_one_begins_leaves_its_times() -> None:
    """The take-offs are seven minutes apart; last_seen is never before first_seen."""
    table = store_answers(DEPARTURES, [row(7, 60)], [row(0, 3, "TW1")])
    (stored,) = table.stored.values()
    assert (stored.last_seen, stored.callsign) == (row(7, 60).last_seen, "TW1")


@BOTH
def test_a_row_that_joins_two_stored_flights_publishes_nothing(direction: Direction) -> None:
    """Both stay, and neither is missing from the answer; the one with the nearest event takes the callsign."""
    first, second = row(0, 60), row(90, 150)
    joining = row(1, 160, "TW1") if direction is DEPARTURES else row(-10, 149, "TW1")
    table = store_answers(direction, [first, second])
    assert table.find_missing([joining]) == []
    assert table.store_answer([joining]) == (0, 1)
    named = [flight.callsign for flight in table.stored.values()]
    assert named == (["TW1", ""] if direction is DEPARTURES else ["", "TW1"])


@BOTH
def test_a_correction_uncovers_what_a_wrong_last_seen_hid(direction: Direction) -> None:
    """A stored row lasts for hours too long. The source shortens it, with or without another first_seen.

    The flight that overlapped it is a flight of its own then.
    """
    for moved in (0, 0.25):
        if direction is DEPARTURES:
            table = store_answers(direction, [row(0, 600)])
            corrected = [row(moved, 60), row(200, 260)]
        else:
            table = store_answers(direction, [row(0, 600)])
            corrected = [row(540 + moved, 600), row(200, 260)]
        assert table.store_answer(corrected)[0] == (1 if direction is DEPARTURES else 0)


@BOTH
def test_another_flight_of_the_same_aircraft_is_new(direction: Direction) -> None:
    """A touch-and-go, and a rotation an hour later, told in later answers."""
    table = store_answers(direction, [row(0, 14)], [row(15, 30)], [row(90, 130)])
    assert len(table.published) == 3


@BOTH
def test_a_flight_that_the_answer_lacks_is_missing(direction: Direction) -> None:
    """Another flight of the aircraft, or another aircraft, does not stand for it."""
    table = store_answers(direction, [row(0, 60)])
    assert len(table.find_missing([row(90, 150), row(0, 60, aircraft=2)])) == 1


def test_moved_by_more_than_ten_minutes_a_stored_flight_keeps_its_times() -> None:
    """A row that only overlaps the stored one adds what is unknown, and nothing else."""
    table = store_answers(DEPARTURES, [row(0, 60, "TW1")], [row(30, 90, "TW2", "LICC")])
    (stored,) = table.stored.values()
    assert (stored.last_seen - stored.first_seen, stored.callsign) == (timedelta(hours=1), "TW1")
    assert stored.other_airport == "LICC"
