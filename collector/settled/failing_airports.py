"""The airports whose evidence calls for a record failed a short time ago: others are asked in their place. No I/O.

One airport that the source refuses must not keep it from proving the records, for which all other airports wait. Nor
must one day that it refuses keep other days from being proven: so each record has its own. Nor must answers that prove
nothing, but for which the source has charged credits, use up the credits: they have a pause.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from domain.interests import Direction

RecordKey = tuple[datetime, Direction]
"""What identifies a record: the begin of its day in UTC, and its direction."""

_PASSED_OVER_FOR: Final = timedelta(hours=6)
"""Time after a failed call in which other airports are asked instead: two of them can prove a record meanwhile."""
_PASSED_OVER_AS_COSTLY_FOR: Final = timedelta(days=7)
"""The same after a failed call that cost the price of old flights: until each of the others had its turn."""
_PAUSE_AFTER_CHARGE: Final = timedelta(hours=6)
"""Time after a failed call that cost credits until the next call about the record."""
_REMEMBERED_FOR: Final = timedelta(days=7)
"""Time after which a failed call is forgotten, counted from the end of its airport's being passed over."""
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_ANSWERS_COUNT_FOR: Final = timedelta(hours=30)
"""Time for which an answer shows that the source answers: there is one each night, but not at the same hour."""
_REFUSED_FOR: Final = timedelta(days=2)
"""Time for which all calls for an airport's own flights fail before the source is taken to refuse them: longer than
_ANSWERS_COUNT_FOR, so that others were answered since the first failure."""


class FailingTargets:
    """The airports and directions whose calls for their own flights fail, each with the first and the last failure.

    It is kept in memory: a new leader begins anew, which makes it later.
    """

    def __init__(self) -> None:
        self._failures: dict[tuple[str, Direction], tuple[datetime, datetime]] = {}

    def add_failure(self, target: tuple[str, Direction], now: datetime, *, is_outage: bool) -> bool:
        """Take note of a failed call; return True if the source refuses the target for days, else False.

        `is_outage`: True if the source has answered nobody lately; then, and after a long time without a call, the days
        begin anew.
        """
        if is_outage:
            self._failures.pop(target, None)
            return False
        first, last = self._failures.get(target, (now, now))
        if not timedelta(0) <= now - last <= _ANSWERS_COUNT_FOR:
            first = now
        self._failures[target] = first, now
        return now - first >= _REFUSED_FOR

    def add_answer(self, target: tuple[str, Direction]) -> None:
        """Take an airport and direction as one that does not fail, because the source has answered."""
        self._failures.pop(target, None)


class FailingAirports:
    """The airports whose last evidence call for a record failed, each with the time until which it is passed over.

    It is kept in memory: a new leader learns it anew, at one call for each record and airport that fails.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[RecordKey, str], datetime] = {}
        self._charged_until: dict[RecordKey, datetime] = {}
        """By record: the end of the pause after a failed call that cost credits."""
        self._answered_at: dict[RecordKey, datetime] = {}
        """By record: the time of the last answer."""

    def add_failure(
        self, record: RecordKey, airport: str, now: datetime, *, is_charged: bool = False, is_old: bool = False
    ) -> None:
        """Pass over an airport whose call for a record has just failed, and forget those that failed long ago.

        `is_charged`: True if the call cost credits all the same; then the record has a pause. `is_old`: True if it was
        made at the price of old flights.
        """
        self._until = {key: until for key, until in self._until.items() if until > now - _REMEMBERED_FOR}
        self._charged_until = {key: until for key, until in self._charged_until.items() if until > now}
        self._until[record, airport] = now + (_PASSED_OVER_AS_COSTLY_FOR if is_charged and is_old else _PASSED_OVER_FOR)
        if is_charged:
            self._charged_until[record] = now + _PAUSE_AFTER_CHARGE

    def add_answer(self, record: RecordKey, airport: str, now: datetime) -> None:
        """Take an airport as one that does not fail for a record, because the source has answered at `now`."""
        self._until.pop((record, airport), None)
        self._answered_at = {key: at for key, at in self._answered_at.items() if now - at < _ANSWERS_COUNT_FOR}
        self._answered_at[record] = now

    def choose_usable(
        self, record: RecordKey, airports: Sequence[str], now: datetime, *, is_old: bool = False
    ) -> list[str]:
        """Return the airports that are not passed over now for a record: those that have not failed, in their order.

        After them those whose time is over, the one that failed first at the front: else a poll that the circuit
        breaker ends after a few failures would never come to the last ones, if the next poll is hours later.
        If all are passed over, return the one that failed first of them: so each has its turn. Empty for no airports,
        and during the pause after a failed call that cost credits, unless the next call is for another airport at the
        price of recent flights. `is_old`: True if it is not at that price.
        """
        is_in_pause = self._charged_until.get(record, now) > now
        usable = [airport for airport in airports if self._until.get((record, airport), now) <= now]
        if is_in_pause and (is_old or not usable):
            return []
        usable.sort(key=lambda airport: self._until.get((record, airport), _NEVER))
        return usable or sorted(airports, key=lambda airport: self._until[record, airport])[:1]

    def has_answer(self, now: datetime, *, but_for: RecordKey | None = None) -> bool:
        """Return True if the source has answered lately about a record, other than `but_for`; else False."""
        return any(key != but_for and now - at < _ANSWERS_COUNT_FOR for key, at in self._answered_at.items())

    def is_refused_everywhere(self, record: RecordKey, airports: Sequence[str], now: datetime) -> bool:
        """Return True if the calls for a record fail at all airports, though the source answers about other records.

        False if one of them is not passed over, and during an outage, in which nothing is answered.
        """
        is_passed_over = [self._until.get((record, airport), now) > now for airport in airports]
        return all(is_passed_over) and self.has_answer(now, but_for=record)
