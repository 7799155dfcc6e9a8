"""The evidence that the source's record of a UTC day is complete: which API calls to make, what answers prove. Pure.

The source makes its record of a finished day in a nightly batch, at a time that nobody knows, perhaps in parts, late,
or not at all. A day counts as recorded only with evidence from two answers about one airport, the evidence airport:

- the record is *there* once the airport has FEWEST_FLIGHTS or more in the day's last hours;
- the record is *whole* (complete) once the same call, after the settle time or later, returns flights of the same
  aircraft.

The rules, and what they cannot detect, are in docs/adr/0026-evidence-of-the-record.md.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from collector.intervals import DAY, Interval, day_of
from collector.settled.duplicates import merge_duplicates
from collector.settled.failing_airports import FailingAirports, RecordKey
from collector.sources.flight import Flight
from domain.interests import Direction

DEFAULT_BEACONS: Final = ("EDDF", "KATL", "RJTT")
"""Large airports on three continents, with many receivers nearby and with flights in the last hours of a UTC day."""

JITTER: Final = timedelta(minutes=1)
"""Time by which a scheduled poll may come early: what is due within it counts as due."""

_MANY_ATTEMPTS: Final = 4
"""Number of answers about one record after which a change of the answer makes us ask another airport."""

FEWEST_FLIGHTS: Final = 5
"""Fewest flights in the last hours that prove something: all of a few may be in the first part of a record."""

LAST_HOURS: Final = timedelta(hours=6)
"""The part of a day, before its end, in which an evidence airport must have flights."""

GIVE_UP_AFTER: Final = 7 * DAY
"""Time after the end of a day after which a record that is still not there is given up: its day becomes a gap."""
_ATTEMPTS_BEFORE_GIVING_UP: Final = 3
"""Number of attempts that are also needed before a day is given up, because a single airport may have no flights."""

_CALL_PAUSES: Final = ((timedelta(hours=18), timedelta(hours=1)), (3 * DAY, timedelta(hours=6)))
"""Pairs of a time since the day's end and the pause between two calls about a record that is not there until then.

A call costs little as long as the day's last hours are less than a day old: until 18 hours after the day's end.
"""
_LONGEST_PAUSE: Final = DAY
"""The pause between two such calls later than that."""


@dataclass(frozen=True, slots=True)
class RecordTiming:
    """The two delays by which evidence calls are made: the first after a day's end, the second after the first."""

    asked_after: timedelta
    """Time after the end of a day (UTC midnight) at which the first call about its record may be made."""
    settle_time: timedelta
    """Time after which the call is repeated; the same aircraft then prove that the record is whole."""


@dataclass(frozen=True, slots=True)
class NightlyRecord:
    """The evidence about the source's record of one UTC day and direction: what the answers so far prove."""

    day: datetime
    """The UTC midnight that the day begins with."""
    direction: Direction
    asked_at: datetime | None = None
    """Time of the last attempt. None: no attempt yet."""
    attempts: int = 0
    """Number of answers so far, and of the polls in which all airports failed that `after_failure` counts."""
    airport: str | None = None
    """The evidence airport, which had flights in the day's last hours. None: the record is not there."""
    flights: int = 0
    """Number of these flights."""
    digest: str | None = None
    """A hash of the aircraft of these flights, to compare two answers."""
    there_since: datetime | None = None
    """Time of the first of the equal answers. None: the record is not there."""
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
        """Return the record as it is after an answer about the day's last hours at an airport, received at `now`.

        Without flights, or with fewer than FEWEST_FLIGHTS, the record is not there. With flights of the same aircraft
        at the same airport as in an answer `settle` or more before, it is whole; with any others, it is there since
        `now`, or after many answers not there at all. A whole record does not change.
        """
        if self.whole_since is not None:
            return self
        # By aircraft, without duplicates: an answer in which one flight is in two rows proves the same.
        aircraft = _list_aircraft(self.direction, flights)
        asked = replace(self, asked_at=now, attempts=self.attempts + 1)
        digest = hashlib.sha256(repr(aircraft).encode()).hexdigest()
        is_same = self.there_since is not None and (airport, digest) == (self.airport, self.digest)
        if len(aircraft) < FEWEST_FLIGHTS or (
            self.there_since is not None and not is_same and asked.attempts >= _MANY_ATTEMPTS
        ):
            # After many attempts, another airport may prove what this one does not, whose answers go on changing.
            return replace(asked, airport=None, flights=0, digest=None, there_since=None)
        if self.there_since is None or not is_same:
            return replace(asked, airport=airport, flights=len(aircraft), digest=digest, there_since=now)
        return replace(asked, whole_since=now) if now - self.there_since >= settle - JITTER else asked

    def after_history(self, airport: str | None, flights: int, now: datetime) -> "NightlyRecord":
        """Return the record as it is after an answer for history at `now`: whole if `airport` had enough flights.

        None: no airport that was asked had; that is one more attempt. A whole record does not change.
        """
        if self.whole_since is not None:
            return self
        asked = replace(self, asked_at=now, attempts=self.attempts + 1)
        if airport is None:
            return asked
        return replace(asked, airport=airport, flights=flights, there_since=now, whole_since=now)

    def after_failure(self, now: datetime) -> "NightlyRecord":
        """Return the record as it is after a poll at `now` in which the calls for it failed at every airport.

        Such a poll counts as an attempt once the record is old enough to be given up, but not within a day of the last
        attempt: a failure may pass. Evidence that cannot be confirmed for so long is dropped.
        """
        is_too_early = self.asked_at is not None and now < self.asked_at + _LONGEST_PAUSE - JITTER
        if self.whole_since is not None or now < self.end + GIVE_UP_AFTER or is_too_early:
            return self
        return replace(self.without_evidence(now), attempts=self.attempts + 1)

    def without_evidence(self, now: datetime) -> "NightlyRecord":
        """Return the record without its evidence, after an answer at `now` that contradicts the evidence."""
        return replace(self, asked_at=now, airport=None, flights=0, digest=None, there_since=None, whole_since=None)

    def compute_next_call_time(self, timing: RecordTiming) -> datetime:
        """Return the earliest time of the next evidence call about this record.

        Until the record is there: `asked_after` after the day's end, then hourly, and less often once calls have become
        expensive. Once it is there: after the settle time, but not within an hour of the last answer.
        """
        if self.asked_at is None:
            return self.end + timing.asked_after
        if self.there_since is not None:
            return max(self.there_since + timing.settle_time, self.asked_at + timedelta(hours=1))
        age = self.asked_at - self.end
        return self.asked_at + next((pause for limit, pause in _CALL_PAUSES if age < limit), _LONGEST_PAUSE)

    def is_given_up(self, now: datetime) -> bool:
        """Return True if the record is taken as missing: it is not whole GIVE_UP_AFTER its day, after several attempts.

        False if it is whole, or may still come. A record that is there, but whose answers go on changing, is given up
        after more attempts. The last one must be from the end of that time: after an absence of the collector the
        source is asked again.
        """
        needed = _ATTEMPTS_BEFORE_GIVING_UP if self.there_since is None else 2 * _MANY_ATTEMPTS
        if self.whole_since is not None or self.asked_at is None or self.attempts < needed:
            return False
        given_up_at = self.end + GIVE_UP_AFTER
        return given_up_at <= now and self.asked_at >= given_up_at - _LONGEST_PAUSE - JITTER


def _list_aircraft(direction: Direction, flights: Iterable[Flight]) -> list[str]:
    """Return the aircraft of an answer in their order, one for each flight, however many rows it is in."""
    return sorted(reported.flight.icao24 for reported in merge_duplicates(direction, flights))


def is_proof(direction: Direction, flights: Iterable[Flight]) -> bool:
    """Return True if an answer about a day's last hours has enough flights to prove something, else False."""
    return len(_list_aircraft(direction, flights)) >= FEWEST_FLIGHTS


class NightlyRecords:
    """The evidence about all records, by day and direction.

    Whether one batch records arrivals and departures is not known. The source may give departures earlier, and these
    prove nothing about the batch. So the departures of a day are whole only if its arrivals are whole, too.
    """

    def __init__(self, records: Iterable[NightlyRecord] = ()) -> None:
        self._records: Mapping[RecordKey, NightlyRecord] = {record.key: record for record in records}

    def get(self, day: datetime, direction: Direction) -> NightlyRecord:
        """Return the record of a day (UTC midnight) and direction; one without evidence if there was no answer."""
        return self._records.get((day, direction)) or NightlyRecord(day, direction)

    def is_whole(self, day: datetime, direction: Direction) -> bool:
        """Return True if the evidence proves that all flights of the day and direction are recorded, else False."""
        return all(self.get(day, each).whole_since is not None for each in _list_needed(direction))

    def is_given_up(self, day: datetime, direction: Direction, now: datetime) -> bool:
        """Return True if a record that the day and direction need is given up, False if none is."""
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
        """Return the airport that proved the newest whole record of the direction; None if none was proven yet.

        None, too, if it had fewer than FEWEST_FLIGHTS: an earlier version took them for a proof.
        """
        whole = [
            each for each in self._records.values() if each.direction is direction and each.whole_since is not None
        ]
        newest = max(whole, key=lambda record: record.day, default=None)
        return newest.airport if newest is not None and newest.flights >= FEWEST_FLIGHTS else None


def _list_needed(direction: Direction) -> tuple[Direction, ...]:
    """Return the directions whose records must be whole before a direction may be collected; arrivals first."""
    return (Direction.ARRIVALS,) if direction is Direction.ARRIVALS else (Direction.ARRIVALS, Direction.DEPARTURES)


@dataclass(frozen=True, slots=True)
class EvidenceCall:
    """An API call to get evidence about a record: for the flights of one airport in the day's last hours."""

    record: NightlyRecord
    airport: str

    @property
    def interval(self) -> Interval:
        """The interval of the call: the last hours of the record's day."""
        return Interval(self.airport, self.record.direction, self.record.end - LAST_HOURS, self.record.end)


def list_evidence_calls(
    records: NightlyRecords,
    pending: Mapping[Direction, Iterable[datetime]],
    candidates: Mapping[Direction, Sequence[str]],
    now: datetime,
    timing: RecordTiming,
    failing: FailingAirports | None = None,
) -> list[EvidenceCall]:
    """Return the evidence calls that are due: first about recent days (cheap), then about old days.

    The newest recent day and the oldest old day come first. At most one call for each day and direction. `pending`: by
    direction, the days (UTC midnights) that some airport waits for; days that have not ended are ignored. `candidates`:
    by direction, the airports for a record that is not there; for departures, the airport that proves the day's
    arrivals comes before them. A record that is there is asked for at its evidence airport again. `failing`: airports
    in whose place others are asked, the evidence airport included. Calls about departures are due only once the day's
    arrivals are there: departures that the source gives before its batch must not count.
    """
    failing = failing or FailingAirports()
    days = {day for each in pending.values() for day in each if day + DAY <= now}
    departure_days = set(pending.get(Direction.DEPARTURES, ()))
    calls = []
    for day in sorted(days, key=lambda day: _build_day_sort_key(day, now)):
        arrivals = records.get(day, Direction.ARRIVALS)
        needed = [arrivals]
        if day in departure_days and arrivals.there_since is not None:
            needed.append(records.get(day, Direction.DEPARTURES))
        for record in needed:
            asked = list_airports_to_ask(record, records, candidates[record.direction])
            usable = failing.choose_usable(record.key, asked, now, is_old=_is_old(day, now))
            airport = record.airport if record.airport in usable else _choose_airport(usable, record.attempts)
            if (
                airport is not None
                and record.whole_since is None
                and record.compute_next_call_time(timing) <= now + JITTER
            ):
                calls.append(EvidenceCall(record, airport))
    return calls


def list_airports_to_ask(record: NightlyRecord, records: NightlyRecords, candidates: Iterable[str]) -> list[str]:
    """Return all airports that may be asked about a record, in their order.

    First its evidence airport; for departures, then the one that proves the day's arrivals; last the candidates.
    """
    first = [record.airport]
    if record.direction is Direction.DEPARTURES:
        first.append(records.get(record.day, Direction.ARRIVALS).airport)
    return list(dict.fromkeys([*filter(None, first), *candidates]))


def _build_day_sort_key(day: datetime, now: datetime) -> tuple[bool, datetime | timedelta]:
    """Return the sort key of the calls about a day: recent days, the newest first, then old days, the oldest first.

    Old days are proven in the order in which they will be collected.
    """
    return (True, day) if _is_old(day, now) else (False, now - day)


def _is_old(day: datetime, now: datetime) -> bool:
    """Return True if calls about a day have the price of old flights, False if they are cheap."""
    return day + DAY - LAST_HOURS < now - DAY


def _choose_airport(candidates: Sequence[str], attempts: int) -> str | None:
    """Return the airport for the next attempt; None without candidates.

    Every second attempt is for the first candidate; the attempts between are for the others in turn.
    """
    if len(candidates) < 2 or attempts % 2 == 0:
        return candidates[0] if candidates else None
    return candidates[1 + attempts // 2 % (len(candidates) - 1)]


def choose_candidates(last: str | None, watched: Sequence[str], beacons: Sequence[str]) -> list[str]:
    """Return the candidates for an evidence call in their order, each airport once.

    `last` (the last airport that proved a record), all `beacons`, and the first two of `watched` (airports with
    interests). Beacons come before watched airports, which strangers choose, and which may have little traffic.
    """
    return list(dict.fromkeys([*([last] if last else []), *beacons, *watched[:2]]))


def list_days(begin: datetime, end: datetime) -> list[datetime]:
    """Return the UTC midnights of the days that [begin, end) touches, in order."""
    first = day_of(begin)
    return [first + number * DAY for number in range(max(-((first - end) // DAY), 0))]
