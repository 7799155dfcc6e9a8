"""The evidence that the source's record of a UTC day is there and whole: questions, and what answers prove. Pure.

The source makes its record of a finished day in a nightly batch, at a time that nobody knows, perhaps in parts, late,
or not at all. A day counts as recorded only with evidence: an airport has flights in the day's last hours, and the same
airport has the same ones when it is asked again after the settle time. The rules, and what they cannot see, are in
docs/adr/0026-evidence-of-the-record.md.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from collector.intervals import DAY, Interval, day_of
from collector.sources.flight import Flight
from domain.interests import Direction

DEFAULT_BEACONS: Final = ("EDDF", "KATL", "RJTT")
"""Large airports on three continents, with many receivers nearby and with flights in the last hours of a UTC day."""

LAST_HOURS: Final = timedelta(hours=6)
"""The part of a day, before its end, in which an evidence airport must have flights."""

GIVE_UP_AFTER: Final = 7 * DAY
"""Time after the end of a day at which a record that is still not there is taken as missing for good."""
_ATTEMPTS_BEFORE_GIVING_UP: Final = 3
"""Answers without flights that a day needs, too, before it is given up: one airport alone may be silent."""

_QUESTION_PAUSES: Final = ((timedelta(hours=18), timedelta(hours=1)), (3 * DAY, timedelta(hours=6)))
"""Pause between two questions about a record that is not there, by the age of the day up to which it holds.

A question costs little as long as the day's last hours are less than a day old: until 18 hours after its end.
"""
_LONGEST_PAUSE: Final = DAY

RecordKey = tuple[datetime, Direction]
"""The UTC midnight that a day begins with, and a direction."""


@dataclass(frozen=True, slots=True)
class RecordTiming:
    """The settings that decide when a record is asked for, and when it counts as whole."""

    asked_after: timedelta
    """Time after midnight (UTC) before which the record of the day that has ended is not asked for."""
    settle_time: timedelta
    """Time after which an evidence airport is asked again; the same answer then proves that the record is whole."""


@dataclass(frozen=True, slots=True)
class NightlyRecord:
    """The source's record of one UTC day and direction, as far as the evidence airport's answers prove it."""

    day: datetime
    """The UTC midnight that the day begins with."""
    direction: Direction
    asked_at: datetime | None = None
    """Time of the last question that was answered. None: no answer yet."""
    attempts: int = 0
    """Number of answers so far."""
    airport: str | None = None
    """The evidence airport, which had flights in the day's last hours. None: the record is not there."""
    flights: int = 0
    """Number of these flights."""
    digest: str | None = None
    """A hash of these flights, by which two answers are compared."""
    there_since: datetime | None = None
    """Time of the first of the equal answers."""
    whole_since: datetime | None = None
    """Time of the answer that proved the record to be whole. None: not proven."""

    @property
    def key(self) -> RecordKey:
        """The record's day and direction."""
        return self.day, self.direction

    @property
    def end(self) -> datetime:
        """The UTC midnight that the day ends with."""
        return self.day + DAY

    def after_answer(
        self, airport: str, flights: Iterable[Flight], now: datetime, settle: timedelta
    ) -> "NightlyRecord":
        """Return the record after an airport's answer for the day's last hours, which was given at `now`.

        Without flights it is not there. The same flights of the same airport as at least `settle` before prove that it
        is whole; any other flights begin a new wait. A whole record does not change any more.
        """
        if self.whole_since is not None:
            return self
        asked = replace(self, asked_at=now, attempts=self.attempts + 1)
        rows = sorted((flight.icao24, flight.first_seen, flight.last_seen) for flight in flights)
        if not rows:
            return replace(asked, airport=None, flights=0, digest=None, there_since=None)
        digest = hashlib.sha256(repr(rows).encode()).hexdigest()
        if self.there_since is None or (airport, digest) != (self.airport, self.digest):
            return replace(asked, airport=airport, flights=len(rows), digest=digest, there_since=now)
        return replace(asked, whole_since=now) if now - self.there_since >= settle else asked

    def compute_question_time(self, timing: RecordTiming) -> datetime:
        """Return the time from which on the next question about this record may be asked.

        Before the record is there: `asked_after` after the day's end, then hourly, and less often once questions have
        become expensive. Once it is there: after the settle time, but not within an hour of the last question.
        """
        if self.asked_at is None:
            return self.end + timing.asked_after
        if self.there_since is not None:
            return max(self.there_since + timing.settle_time, self.asked_at + timedelta(hours=1))
        age = self.asked_at - self.end
        return self.asked_at + next((pause for limit, pause in _QUESTION_PAUSES if age < limit), _LONGEST_PAUSE)

    def is_given_up(self, now: datetime) -> bool:
        """Return True if the record is not there a week after its day, False if it is there or may still come."""
        return (
            self.there_since is None and self.end + GIVE_UP_AFTER <= now and self.attempts >= _ATTEMPTS_BEFORE_GIVING_UP
        )


class NightlyRecords:
    """The records of all days that were asked for, by day and direction.

    Departures are recorded in the same batch as arrivals, or so it seems; should the source give departures earlier,
    they prove nothing about the batch. So a day of departures is whole only if its arrivals are whole, too.
    """

    def __init__(self, records: Iterable[NightlyRecord] = ()) -> None:
        self._records: Mapping[RecordKey, NightlyRecord] = {record.key: record for record in records}

    def get(self, day: datetime, direction: Direction) -> NightlyRecord:
        """Return the record of a day (UTC midnight) and direction; an empty one if it was never asked for."""
        return self._records.get((day, direction)) or NightlyRecord(day, direction)

    def is_whole(self, day: datetime, direction: Direction) -> bool:
        """Return True if the evidence proves that all flights of the day and direction are recorded, else False."""
        return all(self.get(day, each).whole_since is not None for each in _list_needed(direction))

    def is_given_up(self, day: datetime, direction: Direction, now: datetime) -> bool:
        """Return True if a record that the day and direction need is given up, False if it may still come."""
        return any(self.get(day, each).is_given_up(now) for each in _list_needed(direction))

    def find_unproven(self, day: datetime, direction: Direction) -> NightlyRecord | None:
        """Return the first record that the day and direction need and that is not whole; None if all are whole."""
        return next(
            (each for part in _list_needed(direction) if (each := self.get(day, part)).whole_since is None), None
        )

    def list_newest(self, count: int) -> list[NightlyRecord]:
        """Return the records of the last `count` days that were asked for, newest day first."""
        days = sorted({day for day, _ in self._records}, reverse=True)[:count]
        return [
            self._records[day, part] for day in days for part in Direction.BOTH.parts if (day, part) in self._records
        ]

    def find_last_airport(self, direction: Direction) -> str | None:
        """Return the airport that proved the newest whole record of the direction; None if none was proven yet."""
        whole = [
            each for each in self._records.values() if each.direction is direction and each.whole_since is not None
        ]
        return max(whole, key=lambda record: record.day).airport if whole else None


def _list_needed(direction: Direction) -> tuple[Direction, ...]:
    """Return the directions whose records must be whole for a direction to be recorded; arrivals first."""
    return (Direction.ARRIVALS,) if direction is Direction.ARRIVALS else (Direction.ARRIVALS, Direction.DEPARTURES)


@dataclass(frozen=True, slots=True)
class EvidenceCall:
    """A question about a record: the flights of one airport in the day's last hours."""

    record: NightlyRecord
    airport: str

    @property
    def interval(self) -> Interval:
        """The interval to ask for."""
        return Interval(self.airport, self.record.direction, self.record.end - LAST_HOURS, self.record.end)


def list_evidence_calls(
    records: NightlyRecords,
    pending: Mapping[Direction, Iterable[datetime]],
    candidates: Mapping[Direction, Sequence[str]],
    now: datetime,
    timing: RecordTiming,
) -> list[EvidenceCall]:
    """Return the questions that are due: of recent, cheap days the newest first, then of old days the oldest first.

    At most one for each day and direction. `pending`: by direction, the days (UTC midnights) that some airport waits
    for; unfinished days are left out. Departures of a day are asked for once its arrivals are there, so that no earlier
    flights count. The airport is the record's evidence airport; while there is none, the direction's first candidate
    (for departures the airport that proves the day's arrivals), and in between the others in turn.
    """
    days = {day for each in pending.values() for day in each if day + DAY <= now}
    departure_days = set(pending.get(Direction.DEPARTURES, ()))
    calls = []
    for day in sorted(days, key=lambda day: _rank_day(day, now)):
        arrivals = records.get(day, Direction.ARRIVALS)
        needed = [arrivals]
        if day in departure_days and arrivals.there_since is not None:
            needed.append(records.get(day, Direction.DEPARTURES))
        for record in needed:
            airports = candidates[record.direction]
            if record is not arrivals and arrivals.airport is not None:
                airports = list(dict.fromkeys([arrivals.airport, *airports]))
            airport = record.airport or _choose_airport(airports, record.attempts)
            if airport is not None and record.whole_since is None and record.compute_question_time(timing) <= now:
                calls.append(EvidenceCall(record, airport))
    return calls


def _rank_day(day: datetime, now: datetime) -> tuple[bool, datetime | timedelta]:
    """Return the sort key of a day's questions: recent days come first, the newest of them first, then the oldest.

    A collection goes on with its oldest day, so old days are proven in that order.
    """
    is_old = day + DAY - LAST_HOURS < now - DAY
    return is_old, day if is_old else now - day


def _choose_airport(candidates: Sequence[str], attempts: int) -> str | None:
    """Return the first candidate at every other attempt, and in between the others in turn; None without candidates."""
    if len(candidates) < 2 or attempts % 2 == 0:
        return candidates[0] if candidates else None
    return candidates[1 + attempts // 2 % (len(candidates) - 1)]


def choose_candidates(last: str | None, watched: Sequence[str], beacons: Sequence[str]) -> list[str]:
    """Return the airports to ask about a record, each once: the last one with evidence, two watched ones, beacons."""
    return list(dict.fromkeys([*([last] if last else []), *watched[:1], *beacons, *watched[1:2]]))


def list_days(begin: datetime, end: datetime) -> list[datetime]:
    """Return the UTC midnights of the days that [begin, end) touches, in order."""
    first = day_of(begin)
    return [first + number * DAY for number in range(max(-((first - end) // DAY), 0))]
