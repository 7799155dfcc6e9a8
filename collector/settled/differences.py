"""Comparison of a source's answer with the stored flights: which flights are new, and which have changed. Pure.

The rule, with an example, is in docs/adr/0012-corrections.md.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from collector.settled.duplicates import (
    SAME_EVENT_WITHIN,
    FlightKey,
    ReportedFlight,
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


def compare_with_stored(
    direction: Direction, reported: Iterable[ReportedFlight], stored: Iterable[StoredFlight]
) -> AnswerDiff:
    """Return which flights of an answer are new and which stored flights change; their event times do not matter.

    A flight is new if no stored flight is the same flight. If several stored flights are, it is not new either: it
    changes the nearest of them, and all of them stay. Stored flights that the answer lacks are ignored.
    """
    reported_by_aircraft: defaultdict[str, list[ReportedFlight]] = defaultdict(list)
    for each in reported:
        reported_by_aircraft[each.flight.icao24].append(each)
    stored_by_aircraft: defaultdict[str, list[StoredFlight]] = defaultdict(list)
    for row in sorted(stored, key=lambda row: row.key):
        stored_by_aircraft[row.icao24].append(row)
    new: list[Flight] = []
    changed: list[StoredFlight] = []
    for icao24, flights in reported_by_aircraft.items():
        diff = _compare_aircraft(direction, flights, stored_by_aircraft[icao24])
        new.extend(diff.new)
        changed.extend(diff.changed)
    new.sort(key=lambda flight: (flight.event_time(direction), flight.icao24, flight.first_seen))
    return AnswerDiff(tuple(new), tuple(changed))


def find_missing(
    direction: Direction, reported: Iterable[ReportedFlight], stored: Iterable[StoredFlight]
) -> list[StoredFlight]:
    """Return the stored flights that the answer lacks: neither their key nor a flight that is the same is in it."""
    reported_by_aircraft: defaultdict[str, list[ReportedFlight]] = defaultdict(list)
    for each in reported:
        reported_by_aircraft[each.flight.icao24].append(each)
    missing = []
    for row in stored:
        span = compute_span(direction, row.first_seen, row.last_seen)
        if not any(row.key in each.keys or each.span.overlaps(span) for each in reported_by_aircraft[row.icao24]):
            missing.append(row)
    return missing


def _compare_aircraft(
    direction: Direction, reported: Sequence[ReportedFlight], stored: Sequence[StoredFlight]
) -> AnswerDiff:
    """Return the new and the changed flights of one aircraft.

    First each stored flight gets the last_seen of the reported flight that matches it. Then each other reported flight
    is compared with these new times: if it overlaps a stored flight, it is the same flight and only fills in unknown
    texts; otherwise it is new.
    """
    if not stored:
        return AnswerDiff(tuple(each.flight for each in reported), ())
    matches = _match_stored_flights(direction, reported, stored)
    rows = [replace(row, last_seen=_choose_last_seen(row, matches.get(row.id))) for row in stored]
    spans = [compute_span(direction, row.first_seen, row.last_seen) for row in rows]
    used = {id(each) for each in matches.values()}
    new: list[Flight] = []
    others: list[list[ReportedFlight]] = [[] for _ in stored]
    for each in reported:
        if id(each) in used:
            continue
        possible = [number for number, span in enumerate(spans) if each.span.overlaps(span)]
        if possible:
            others[min(possible, key=lambda number: _compute_distance(direction, each, rows[number]))].append(each)
        else:
            new.append(each.flight)
    updated = [
        _fill_in_texts(direction, row, matches.get(row.id), more) for row, more in zip(rows, others, strict=True)
    ]
    return AnswerDiff(tuple(new), tuple(row for row, before in zip(updated, stored, strict=True) if row != before))


def _match_stored_flights(
    direction: Direction, reported: Sequence[ReportedFlight], stored: Sequence[StoredFlight]
) -> dict[int, ReportedFlight]:
    """Return the reported flight that is the present version of each stored flight, by the id of its row.

    It is the reported flight with the row's key. If there is none, the source may have changed first_seen: it is the
    nearest of those that take off (land) at most SAME_EVENT_WITHIN from the stored flight and have as many known texts
    or more. A stored flight without either is left out.
    """
    matches = {row.id: each for row in stored if (each := _find_by_key(row, reported))}
    used = {id(each) for each in matches.values()}
    for row in stored:
        if row.id in matches:
            continue
        moved = [
            each
            for each in reported
            if id(each) not in used
            and _compute_distance(direction, each, row) <= SAME_EVENT_WITHIN
            and _count_known_texts(direction, each) >= count_known_texts(row.callsign, row.other_airport)
        ]
        if moved:
            matches[row.id] = min(moved, key=lambda each: _compute_distance(direction, each, row))
            used.add(id(matches[row.id]))
    return matches


def _find_by_key(row: StoredFlight, reported: Iterable[ReportedFlight]) -> ReportedFlight | None:
    """Return the reported flight with the stored row's key, or None.

    If several have it, the one whose best row has that first_seen comes first.
    """
    having_key = [each for each in reported if row.key in each.keys]
    best = [each for each in having_key if each.flight.first_seen == row.first_seen]
    return next(iter(best + having_key), None)


def _choose_last_seen(row: StoredFlight, match: ReportedFlight | None) -> datetime:
    """Return the last_seen of the matching reported flight, else the row's own.

    The row keeps its own, too, if the match was last seen before the row's first_seen.
    """
    return row.last_seen if match is None or match.flight.last_seen < row.first_seen else match.flight.last_seen


def _compute_distance(direction: Direction, reported: ReportedFlight, row: StoredFlight) -> timedelta:
    """Return the time between the take-offs, or between the landings, of a reported and a stored flight."""
    return abs(reported.flight.event_time(direction) - row.event_time(direction))


def _count_known_texts(direction: Direction, reported: ReportedFlight) -> int:
    """Return how many of callsign and other airport a reported flight has: two, one or none."""
    return count_known_texts(reported.flight.callsign, reported.flight.other_airport(direction))


def _fill_in_texts(
    direction: Direction, row: StoredFlight, match: ReportedFlight | None, others: Sequence[ReportedFlight]
) -> StoredFlight:
    """Return a stored flight with the best known callsign and other airport.

    Each comes from `match` (the present version of the flight) if it is known there, else from the row, else from
    `others`, which are the same flight, too. No known text becomes unknown.
    """
    callsigns = [row.callsign, *(each.flight.callsign for each in others)]
    airports = [row.other_airport, *(each.flight.other_airport(direction) for each in others)]
    if match is not None:
        callsigns.insert(0, match.flight.callsign)
        airports.insert(0, match.flight.other_airport(direction))
    return replace(row, callsign=next(filter(None, callsigns), ""), other_airport=next(filter(None, airports), ""))
