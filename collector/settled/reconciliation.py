"""Reconciliation: which flights of the settled record are movements that were published live, and what differs. Pure.

The rule, with an example, is in docs/adr/0042-reconciliation.md.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from collector.model import LiveOutcome
from collector.sources.flight import Flight, PublishedFlight
from domain.interests import Direction

MATCHED_WITHIN: Final = timedelta(minutes=20)
"""The longest time between a movement and a flight of the record, of one aircraft, that are the same (ADR 42)."""


@dataclass(frozen=True, slots=True)
class LiveMovement:
    """A movement of one airport and direction that was published live."""

    id: int
    """The id of its row."""
    icao24: str
    event_time: datetime
    outcome: LiveOutcome

    @property
    def identity(self) -> PublishedFlight:
        """Return that by which the stream knows the movement's flight."""
        return PublishedFlight(self.icao24, self.event_time)


@dataclass(frozen=True, slots=True)
class Scope:
    """The time of one airport and direction about which an answer of the record decides."""

    decided_from: datetime
    """The begin of the settled coverage: nothing that was live before is taken back."""
    decided_until: datetime
    """From here on the next day's record decides, because its first flights may be these movements."""
    end: datetime
    """The end of the interval of the answer: what is published with it must lie before."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What becomes of the record's new flights and of the movements that were published live."""

    matched: tuple[tuple[Flight, LiveMovement], ...] = ()
    """New flights that were published as movements: they are stored with the movement's event time, and not published
    again."""
    restored: tuple[tuple[Flight, LiveMovement], ...] = ()
    """New flights whose movements were retracted: they are published again, with the movement's event time."""
    added: tuple[Flight, ...] = ()
    """New flights that live did not find; they are published with their own event times."""
    duplicates: tuple[LiveMovement, ...] = ()
    """Movements whose flight the record has, and that was published by itself: they are retracted, it stays."""
    retracted: tuple[LiveMovement, ...] = ()
    """Movements that the record does not have."""

    @property
    def taken_back(self) -> list[PublishedFlight]:
        """Return the flights of all movements that are retracted, also of the duplicates."""
        return [movement.identity for movement in (*self.duplicates, *self.retracted)]

    def list_published(self, direction: Direction) -> list[Flight]:
        """Return the flights to publish, in the order of the event times with which they are published."""
        restored = [flight.with_event_time(direction, movement.event_time) for flight, movement in self.restored]
        return sorted([*self.added, *restored], key=lambda each: (each.event_time(direction), each.icao24))

    @property
    def event_times(self) -> Mapping[tuple[str, datetime], datetime]:
        """Return the event time with which each matched or restored flight is stored, by its icao24 and first_seen."""
        pairs = (*self.matched, *self.restored)
        return {(flight.icao24, flight.first_seen): movement.event_time for flight, movement in pairs}


def reconcile(
    direction: Direction,
    new: Sequence[Flight],
    published: Iterable[PublishedFlight],
    movements: Iterable[LiveMovement],
    scope: Scope,
) -> Reconciliation:
    """Return what becomes of the record's new flights, and of the movements of the same airport and direction.

    `published`: the stored flights around the interval; `movements`: those around it, whatever their outcome. New
    flights are matched first with movements whose outcome is open, then with retracted ones that lie before the end of
    the scope. An open movement that is left is compared with the stored flights that no other movement is; if none is
    the same, it is retracted if the scope decides about its time.
    """
    by_outcome: defaultdict[LiveOutcome, list[LiveMovement]] = defaultdict(list)
    for movement in movements:
        by_outcome[movement.outcome].append(movement)
    matched, added, open_movements = _match_flights(direction, new, by_outcome[LiveOutcome.PUBLISHED])
    retracted_before = [each for each in by_outcome[LiveOutcome.RETRACTED] if each.event_time < scope.end]
    restored, added, _ = _match_flights(direction, added, retracted_before)
    paired = {each.identity for each in by_outcome[LiveOutcome.MATCHED]}
    free = [each for each in published if each not in paired]
    decided = [each for each in open_movements if scope.decided_from <= each.event_time < scope.decided_until]
    duplicates = [
        decided[number]
        for _, number in match_by_aircraft(
            [(each.icao24, each.event_time) for each in free],
            [(each.icao24, each.event_time) for each in decided],
        )
    ]
    taken = {each.id for each in duplicates}
    return Reconciliation(
        matched=tuple(matched),
        restored=tuple(restored),
        added=tuple(added),
        duplicates=tuple(duplicates),
        retracted=tuple(each for each in decided if each.id not in taken),
    )


def match_by_aircraft(
    first: Sequence[tuple[str, datetime]], second: Sequence[tuple[str, datetime]]
) -> list[tuple[int, int]]:
    """Return pairs of indexes into two lists of (icao24, event time): one to one, the same aircraft, near in time.

    Near: at most MATCHED_WITHIN apart. As many as possible are paired, and of these pairings one with the least sum of
    distances is chosen; which one does not depend on the order of the lists, unless two entries are equal.
    """
    others: defaultdict[str, list[int]] = defaultdict(list)
    for number, (icao24, _) in enumerate(second):
        others[icao24].append(number)
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, (icao24, _) in enumerate(first):
        if icao24 in others:
            numbers[icao24].append(number)
    pairs = []
    for icao24, own in sorted(numbers.items()):
        own.sort(key=lambda number: first[number][1])
        theirs = sorted(others[icao24], key=lambda number: second[number][1])
        found = match_times([first[number][1] for number in own], [second[number][1] for number in theirs])
        pairs += [(own[left], theirs[right]) for left, right in found]
    return pairs


def match_times(left: Sequence[datetime], right: Sequence[datetime]) -> list[tuple[int, int]]:
    """Return pairs of indexes into two lists of times, each in order: most pairs, then the least sum of distances.

    Crossing pairs never do better than the same times paired in order, so the best pairing of the first times of both
    lists follows from the pairings of fewer (dynamic programming, as in the alignment of sequences).
    """
    nothing = (0, timedelta())
    # best[i][j]: of the first i and j times, the pairs (negative: more is less) and the sum of their distances.
    best = [[nothing] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, one in enumerate(left, 1):
        for j, other in enumerate(right, 1):
            found = min(best[i - 1][j], best[i][j - 1])
            if (distance := abs(one - other)) <= MATCHED_WITHIN:
                pairs, total = best[i - 1][j - 1]
                found = min(found, (pairs - 1, total + distance))
            best[i][j] = found
    matched = []
    i, j = len(left), len(right)
    while i and j:
        if best[i][j] == best[i - 1][j]:
            i -= 1
        elif best[i][j] == best[i][j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            matched.append((i, j))
    return matched[::-1]


def _match_flights(
    direction: Direction, flights: Sequence[Flight], movements: Sequence[LiveMovement]
) -> tuple[list[tuple[Flight, LiveMovement]], list[Flight], list[LiveMovement]]:
    """Return the flights with the movements that they are, the other flights, and the other movements, in order."""
    pairs = match_by_aircraft(
        [(each.icao24, each.event_time(direction)) for each in flights],
        [(each.icao24, each.event_time) for each in movements],
    )
    matched_flights, matched_movements = {left for left, _ in pairs}, {right for _, right in pairs}
    return (
        [(flights[left], movements[right]) for left, right in sorted(pairs)],
        [each for number, each in enumerate(flights) if number not in matched_flights],
        [each for number, each in enumerate(movements) if number not in matched_movements],
    )
