"""Comparison of an answer of the source with the stored flights: which flights are new, and which changed. Pure.

The rule, with an example, is in docs/adr/0012-corrections.md.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from collector.settled.duplicates import (
    SAME_EVENT_WITHIN,
    FlightKey,
    ToldFlight,
    compute_span,
    count_known_texts,
)
from collector.sources.flight import Flight
from domain.interests import Direction


@dataclass(frozen=True, slots=True)
class StoredFlight:
    """A stored flight of one airport and direction: its row's id and key, and the fields that may change later."""

    id: int
    icao24: str
    first_seen: datetime
    """As first published; a later first_seen of the source does not change it, for it is part of the row's key."""
    last_seen: datetime
    callsign: str
    other_airport: str

    @property
    def key(self) -> FlightKey:
        """Return the key of the row."""
        return self.icao24, self.first_seen

    def event_time(self, direction: Direction) -> datetime:
        """Return the time of the take-off or landing as the source gave it last."""
        return self.first_seen if direction is Direction.DEPARTURES else self.last_seen


@dataclass(frozen=True, slots=True)
class AnswerDiff:
    """The differences between an answer of the source and the stored flights."""

    new: tuple[Flight, ...]
    """Flights to store and to publish, in the order of their event times."""
    changed: tuple[StoredFlight, ...]
    """Stored flights with new values. They are not published: the count stays the same."""


def compare_with_stored(direction: Direction, told: Iterable[ToldFlight], stored: Iterable[StoredFlight]) -> AnswerDiff:
    """Return which flights of an answer are new and which stored flights change, whatever event time these have.

    New: no stored flight is the same one. A flight that is the same as several stored ones is not new either; it
    changes the nearest, and both stay. Stored flights that the answer lacks are ignored.
    """
    told_by_aircraft: defaultdict[str, list[ToldFlight]] = defaultdict(list)
    for each in told:
        told_by_aircraft[each.flight.icao24].append(each)
    stored_by_aircraft: defaultdict[str, list[StoredFlight]] = defaultdict(list)
    for row in sorted(stored, key=lambda row: row.key):
        stored_by_aircraft[row.icao24].append(row)
    new: list[Flight] = []
    changed: list[StoredFlight] = []
    for icao24, flights in told_by_aircraft.items():
        diff = _compare_aircraft(direction, flights, stored_by_aircraft[icao24])
        new.extend(diff.new)
        changed.extend(diff.changed)
    new.sort(key=lambda flight: (flight.event_time(direction), flight.icao24, flight.first_seen))
    return AnswerDiff(tuple(new), tuple(changed))


def find_missing(
    direction: Direction, told: Iterable[ToldFlight], stored: Iterable[StoredFlight]
) -> list[StoredFlight]:
    """Return the stored flights that the answer lacks: it has neither their key nor a flight that is the same one."""
    told_by_aircraft: defaultdict[str, list[ToldFlight]] = defaultdict(list)
    for each in told:
        told_by_aircraft[each.flight.icao24].append(each)
    missing = []
    for row in stored:
        span = compute_span(direction, row.first_seen, row.last_seen)
        if not any(row.key in each.keys or each.span.overlaps(span) for each in told_by_aircraft[row.icao24]):
            missing.append(row)
    return missing


def _compare_aircraft(direction: Direction, told: Sequence[ToldFlight], stored: Sequence[StoredFlight]) -> AnswerDiff:
    """Return the differences of one aircraft.

    First the stored flights that are told again take the times that the source gives them now. A told flight that
    overlapped only the earlier times is a flight of its own then.
    """
    if not stored:
        return AnswerDiff(tuple(each.flight for each in told), ())
    again = _find_told_again(direction, told, stored)
    rows = [replace(row, last_seen=_choose_last_seen(row, again.get(row.id))) for row in stored]
    spans = [compute_span(direction, row.first_seen, row.last_seen) for row in rows]
    used = {id(each) for each in again.values()}
    new: list[Flight] = []
    others: list[list[ToldFlight]] = [[] for _ in stored]
    for each in told:
        if id(each) in used:
            continue
        possible = [number for number, span in enumerate(spans) if each.span.overlaps(span)]
        if possible:
            others[min(possible, key=lambda number: _compute_distance(direction, each, rows[number]))].append(each)
        else:
            new.append(each.flight)
    updated = [_complete_texts(direction, row, again.get(row.id), more) for row, more in zip(rows, others, strict=True)]
    return AnswerDiff(tuple(new), tuple(row for row, before in zip(updated, stored, strict=True) if row != before))


def _find_told_again(
    direction: Direction, told: Sequence[ToldFlight], stored: Sequence[StoredFlight]
) -> dict[int, ToldFlight]:
    """Return the told flights that take the place of stored ones, by the id of the stored flight's row.

    A told flight with the row's key does. Without one, it is the nearest of those that take off (land) at most
    SAME_EVENT_WITHIN from it and know no less: the source has moved first_seen.
    """
    again = {row.id: each for row in stored if (each := _find_by_key(row, told))}
    used = {id(each) for each in again.values()}
    for row in stored:
        if row.id in again:
            continue
        moved = [
            each
            for each in told
            if id(each) not in used
            and _compute_distance(direction, each, row) <= SAME_EVENT_WITHIN
            and _count_known_texts(direction, each) >= count_known_texts(row.callsign, row.other_airport)
        ]
        if moved:
            again[row.id] = min(moved, key=lambda each: _compute_distance(direction, each, row))
            used.add(id(again[row.id]))
    return again


def _find_by_key(row: StoredFlight, told: Iterable[ToldFlight]) -> ToldFlight | None:
    """Return the told flight with the stored row's key: of two the one whose best row has it. None if there is none."""
    having_key = [each for each in told if row.key in each.keys]
    best = [each for each in having_key if each.flight.first_seen == row.first_seen]
    return next(iter(best + having_key), None)


def _choose_last_seen(row: StoredFlight, again: ToldFlight | None) -> datetime:
    """Return the last_seen of a stored row that is told again: the told one, unless it is before the row begins."""
    return row.last_seen if again is None or again.flight.last_seen < row.first_seen else again.flight.last_seen


def _compute_distance(direction: Direction, told: ToldFlight, row: StoredFlight) -> timedelta:
    """Return the time between the take-offs, or between the landings, of a told and a stored flight."""
    return abs(told.flight.event_time(direction) - row.event_time(direction))


def _count_known_texts(direction: Direction, told: ToldFlight) -> int:
    """Return how many of callsign and other airport a told flight has: two, one or none."""
    return count_known_texts(told.flight.callsign, told.flight.other_airport(direction))


def _complete_texts(
    direction: Direction, row: StoredFlight, again: ToldFlight | None, others: Sequence[ToldFlight]
) -> StoredFlight:
    """Return a stored flight with the texts of the told flight that takes its place, if any, where that has them.

    `others` are the same flight, too; they only add texts that are unknown. No known text is lost.
    """
    callsigns = [row.callsign, *(each.flight.callsign for each in others)]
    airports = [row.other_airport, *(each.flight.other_airport(direction) for each in others)]
    if again is not None:
        callsigns.insert(0, again.flight.callsign)
        airports.insert(0, again.flight.other_airport(direction))
    return replace(row, callsign=next(filter(None, callsigns), ""), other_airport=next(filter(None, airports), ""))
