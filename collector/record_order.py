"""The order in which the record of an airport's days was stored, from the ids of the flights' rows. Pure."""

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from domain.windows import HOUR_S

DAY_S: Final = 24 * HOUR_S


class FlightGroup(NamedTuple):
    """The stored flights of one hour, or of one minute where windows begin within an hour."""

    at: int
    """Begin of the hour or minute."""
    flights: int
    first_id: int
    """The lowest id of their rows."""
    last_id: int


class RecordOrder:
    """The order in which the record of each day was stored, from the ids of the flights."""

    def __init__(
        self,
        flights: Iterable[FlightGroup],
        covered: tuple[int, int] | None,
        earlier: frozenset[int],
        known_history: Collection[int] = (),
    ) -> None:
        """Find the first row of each day, and which of the earlier days are history.

        These are `known_history`, and those stored after a later day.
        """
        self.first_ids = _find_first_ids(flights)
        within = [] if covered is None else range(covered[0] // DAY_S, -(-covered[1] // DAY_S))
        proper = [day for day in within if day not in earlier]
        first_proper = min([self.first_ids[day] for day in proper if day in self.first_ids], default=None)
        history: set[int] = set()
        for day in sorted(earlier, reverse=True):
            if day in known_history:
                is_history = True
            elif day not in self.first_ids or first_proper is None:
                is_history = first_proper is not None and (day + 1 in history or day + 1 in proper)
            else:
                is_history = self.first_ids[day] > first_proper
            if is_history:
                history.add(day)
        self.history = sorted(history, reverse=True)
        """The days (since 1970) that were collected as history, newest first, as they are collected."""
        self.ordinary = sorted({*proper, *earlier} - history)
        """The other days, in order."""
        self._later_ids = self._find_later_ids()

    def _find_later_ids(self) -> dict[int, int]:
        """Return, by ordinary day, the lowest id of the rows of all later ordinary days, if these have any."""
        found: dict[int, int] = {}
        lowest: int | None = None
        for day in reversed(self.ordinary):
            if lowest is not None:
                found[day] = lowest
            first = self.first_ids.get(day)
            if first is not None:
                lowest = first if lowest is None else min(lowest, first)
        return found

    def is_late(self, day: int, row_id: int) -> bool:
        """Return True if a flight of a day was stored after the record of a later day: by a correction."""
        later = self._later_ids.get(day)
        return later is not None and row_id >= later

    def find_late_range(self, flights: Iterable[FlightGroup]) -> tuple[int, int, int] | None:
        """Return begin and end of the days that have late flights, and the lowest id of these; None: no day has any."""
        days = {day for each in flights if self.is_late(day := each.at // DAY_S, each.last_id)}
        if not days:
            return None
        return min(days) * DAY_S, (max(days) + 1) * DAY_S, min(self._later_ids[day] for day in days)

    def find_day_before(self, row_id: int) -> int | None:
        """Return the ordinary day whose record was the last to be stored before a row; None: none was."""
        known = [day for day in self.ordinary if self.first_ids.get(day, row_id + 1) <= row_id]
        return max(known, key=lambda day: self.first_ids[day], default=None)


def _find_first_ids(flights: Iterable[FlightGroup]) -> dict[int, int]:
    """Return the lowest row id of each day (since 1970) that has flights.

    Flights of its first and last hour count only if it has no others: they may be live movements of the day beside,
    stored with that day's record.
    """
    inner: dict[int, int] = {}
    outer: dict[int, int] = {}
    for each in flights:
        day, second = divmod(each.at, DAY_S)
        ids = inner if HOUR_S <= second < DAY_S - HOUR_S else outer
        ids[day] = min(each.first_id, ids.get(day, each.first_id))
    return outer | inner
