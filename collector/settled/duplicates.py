"""The rule by which several rows of the source are one flight, and the merge of such rows in one answer. Pure.

OpenSky sometimes gives one flight in two rows, with first_seen seconds or minutes apart and often without the other
airport in one of them. Two rows of one aircraft at one airport and in one direction are one flight if an aircraft
cannot have flown both: their times in the air overlap, or they take off (departures) or land (arrivals) at most
SAME_EVENT_WITHIN of each other. The reasons and what must not be merged are in docs/adr/0012-corrections.md.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from collector.sources.flight import Flight
from domain.interests import Direction

FlightKey = tuple[str, datetime]
"""Identity of a row at one airport and in one direction: icao24 and first_seen."""

SAME_EVENT_WITHIN: Final = timedelta(minutes=10)
"""Two take-offs, or two landings, of one aircraft at one airport that are this close or closer are one."""

LONGEST_FLIGHT: Final = timedelta(days=1)
"""The longest time for which a row counts as in the air: after its take-off, or (arrivals) before its landing."""

_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """The time in which the aircraft of a row is on that flight: it cannot be on another flight then."""

    begin: datetime
    end: datetime
    """Excluded: the next flight may begin in the second in which this one ends, as in a touch-and-go."""

    def overlaps(self, other: "Span") -> bool:
        """Return True if the rows of the two spans, of one aircraft, airport and direction, are one flight."""
        return self.begin < other.end and other.begin < self.end


def compute_span(direction: Direction, first_seen: datetime, last_seen: datetime) -> Span:
    """Return the span of a row: its time in the air, but more than SAME_EVENT_WITHIN and at most LONGEST_FLIGHT.

    To change the length, the end that does not count is moved: the landing of a departure, the take-off of an arrival.
    The shortest span is one second longer than SAME_EVENT_WITHIN, because the source's times are whole seconds and two
    events exactly SAME_EVENT_WITHIN apart must overlap.
    """
    shortest, longest = SAME_EVENT_WITHIN + _SECOND, LONGEST_FLIGHT
    length = min(max(last_seen - first_seen, shortest), longest)
    if direction is Direction.DEPARTURES:
        return Span(first_seen, first_seen + length)
    return Span(last_seen - length, last_seen)


@dataclass(frozen=True, slots=True)
class ReportedFlight:
    """One flight of an answer of the source, merged from all its rows."""

    flight: Flight
    """The best row; a callsign or airport that it lacks is taken from the other rows."""
    keys: frozenset[FlightKey]
    """The keys of all its rows."""
    span: Span
    """The span of the best row."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of an answer with its span."""

    flight: Flight
    span: Span


def merge_duplicates(direction: Direction, flights: Iterable[Flight]) -> list[ReportedFlight]:
    """Return each flight of an answer once, ordered by icao24 and time.

    Rows with the same key are always merged. Other rows are merged only if each row of the group overlaps each other
    one, and into the smallest possible number of flights. So a row that overlaps two flights which do not overlap each
    other, such as a row that lasts for hours too long, does not make one flight of the two. The order of the rows does
    not change the result, and no two of the returned flights overlap.
    """
    rows_by_aircraft: defaultdict[str, list[_Row]] = defaultdict(list)
    for flight in _choose_best_versions(direction, flights):
        span = compute_span(direction, flight.first_seen, flight.last_seen)
        rows_by_aircraft[flight.icao24].append(_Row(flight, span))
    merged: list[ReportedFlight] = []
    for _, rows in sorted(rows_by_aircraft.items()):
        merged.extend(_choose_best_rows(direction, _group_rows(direction, rows)))
    return merged


def _choose_best_versions(direction: Direction, flights: Iterable[Flight]) -> Iterator[Flight]:
    """Yield the best row of each key, with texts that it lacks taken from the other rows of that key."""
    versions: defaultdict[FlightKey, list[Flight]] = defaultdict(list)
    for flight in flights:
        versions[flight.icao24, flight.first_seen].append(flight)
    for rows in versions.values():
        if len(rows) == 1:
            yield rows[0]
            continue
        ranked = sorted(rows, key=lambda flight: _build_rank_key(direction, flight), reverse=True)
        yield _fill_in_texts(ranked[0], ranked)


def _group_rows(direction: Direction, rows: Sequence[_Row]) -> list[tuple[_Row, list[_Row]]]:
    """Split the rows of one aircraft into the fewest groups in which all rows overlap each other.

    Return each group after its row that ends first. These rows do not overlap each other, so there cannot be fewer
    groups; all rows of a group are in the air when that row ends. A row that fits into several groups goes to the one
    whose first-ending row has the nearest event time.
    """
    first_to_end: list[_Row] = []
    for row in sorted(rows, key=lambda row: (row.span.end, row.flight.first_seen)):
        if not first_to_end or row.span.begin >= first_to_end[-1].span.end:
            first_to_end.append(row)
    groups: list[list[_Row]] = [[] for _ in first_to_end]
    for row in rows:
        possible = [
            number for number, first in enumerate(first_to_end) if row.span.begin < first.span.end <= row.span.end
        ]
        event_time = row.flight.event_time(direction)
        distances = [abs(first_to_end[number].flight.event_time(direction) - event_time) for number in possible]
        groups[possible[distances.index(min(distances))]].append(row)
    return list(zip(first_to_end, groups, strict=True))


def _choose_best_rows(direction: Direction, groups: Sequence[tuple[_Row, list[_Row]]]) -> Iterator[ReportedFlight]:
    """Yield the flight of each group of one aircraft: the group's best row that overlaps no flight of another group.

    There is always such a row: the one of the group that ends first.
    """
    previous: Span | None = None
    for number, (_, group) in enumerate(groups):
        following = groups[number + 1][0].span if number + 1 < len(groups) else None
        ranked = sorted(group, key=lambda row: _build_rank_key(direction, row.flight), reverse=True)
        best = next(
            row for row in ranked if not any(span and row.span.overlaps(span) for span in (previous, following))
        )
        previous = best.span
        keys = frozenset((row.flight.icao24, row.flight.first_seen) for row in group)
        yield ReportedFlight(_fill_in_texts(best.flight, [row.flight for row in ranked]), keys, best.span)


def count_known_texts(callsign: str, other_airport: str) -> int:
    """Return how many of the two texts are known: two, one or none."""
    return bool(callsign) + bool(other_airport)


def _build_rank_key(direction: Direction, flight: Flight) -> tuple[object, ...]:
    """Return the sort key of a row of a flight: the row with the greatest key is the best one.

    The best row has the most known texts; of these it was seen last, then seen first, because its track is the most
    complete. The texts in the key only make the choice independent of the order of the rows.
    """
    return (
        count_known_texts(flight.callsign, flight.other_airport(direction)),
        flight.last_seen,
        -flight.first_seen.timestamp(),
        flight.callsign,
        flight.departure_airport,
        flight.arrival_airport,
    )


def _fill_in_texts(flight: Flight, ranked: Sequence[Flight]) -> Flight:
    """Return the flight with each text that it lacks taken from the first of the ranked rows that has it."""
    if len(ranked) == 1:
        return flight
    texts = ("callsign", "departure_airport", "arrival_airport")
    missing = [name for name in texts if not getattr(flight, name)]
    found = {name: next(filter(None, (getattr(row, name) for row in ranked)), "") for name in missing}
    return flight.model_copy(update=found) if any(found.values()) else flight
