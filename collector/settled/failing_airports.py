"""The airports whose evidence calls for a record failed a short time ago: others are asked in their place. No I/O.

One airport that the source refuses must not keep it from proving the records, for which all other airports wait. Nor
must one day that it refuses keep other days from being proven: so each record has its own.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from domain.interests import Direction

RecordKey = tuple[datetime, Direction]
"""What identifies a record: the begin of its day in UTC, and its direction."""

_PASSED_OVER_FOR: Final = timedelta(hours=6)
"""Time after a failed call in which other airports are asked instead: two of them can prove a record meanwhile."""


class FailingAirports:
    """The airports whose last evidence call for a record failed, each with the time until which it is passed over.

    It is kept in memory: a new leader learns it anew, at one call for each record and airport that fails.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[RecordKey, str], datetime] = {}

    def add_failure(self, record: RecordKey, airport: str, now: datetime) -> None:
        """Pass over an airport whose call for a record has just failed, and forget those that are not any more."""
        self._until = {key: until for key, until in self._until.items() if until > now}
        self._until[record, airport] = now + _PASSED_OVER_FOR

    def add_answer(self, record: RecordKey, airport: str) -> None:
        """Take an airport as one that does not fail for a record, because the source has answered."""
        self._until.pop((record, airport), None)

    def choose_usable(self, record: RecordKey, airports: Sequence[str], now: datetime) -> list[str]:
        """Return the airports that are not passed over now for a record, in their order.

        If all are passed over, return the one that failed first of them: so each has its turn. Empty for no airports.
        """
        usable = [airport for airport in airports if self._until.get((record, airport), now) <= now]
        return usable or sorted(airports, key=lambda airport: self._until[record, airport])[:1]
