"""The airports whose evidence calls failed a short time ago: others are asked in their place. No I/O.

One airport that the source refuses must not keep it from proving the records, for which all other airports wait.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

_PASSED_OVER_FOR: Final = timedelta(hours=6)
"""Time after a failed call in which other airports are asked instead: two of them can prove a record meanwhile."""


class FailingAirports:
    """The airports whose last evidence call failed, each with the time until which it is passed over.

    It is kept in memory: a new leader learns it anew, at one call for each airport that fails.
    """

    def __init__(self) -> None:
        self._until: dict[str, datetime] = {}

    def add_failure(self, airport: str, now: datetime, pause: timedelta = timedelta(0)) -> None:
        """Pass over an airport whose call has just failed; `pause`: time in which the source wants no call at all."""
        self._until[airport] = now + pause + _PASSED_OVER_FOR

    def add_answer(self, airport: str) -> None:
        """Take an airport as one that does not fail, because the source has answered."""
        self._until.pop(airport, None)

    def choose_usable(self, airports: Sequence[str], now: datetime) -> list[str]:
        """Return the airports that are not passed over now, in their order.

        If all are passed over, return the one that failed first of them: so each has its turn. Empty for no airports.
        """
        usable = [airport for airport in airports if self._until.get(airport, now) <= now]
        return usable or sorted(airports, key=lambda airport: self._until[airport])[:1]
