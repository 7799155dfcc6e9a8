"""The desk where the two inputs meet: what each event changes, and what it makes to be said.

Pure in its effects: it reads the tables and returns what to send and what to write, so that the agent can do
the one before the other. The indexes in memory are derived from the tables and may be dropped at any time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from domain.alerts import Alert
from domain.changes import NO_TRAFFIC, TrafficChange, build_alert, compute_alerts
from domain.interests import Direction, Interest
from domain.threshold_index import InterestAlert, ThresholdIndex
from domain.traffic import Day, HourlyCounts, Traffic
from streams.entries import (
    LONGEST_HISTORY_DAYS,
    Airport,
    decode_airport,
    decode_interest_entry,
    decode_past_day,
    encode_airport,
    encode_interest,
    past_key,
)
from streams.errors import UndecodableError
from streams.messages import ObservedFlights, decode_interest, decode_interest_key

DEFAULT_HISTORY_DAYS: Final = 90
_STEP: Final = 2_000
"""Interests that are indexed at once; some 20 ms."""


@dataclass(frozen=True, slots=True)
class InterestChange:
    """An interest that is set, or removed (`now` None), and what it was before."""

    before: Interest | None
    now: Interest | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows from an event: alerts to be acknowledged by the broker first, then one table entry to write."""

    key: bytes
    entry: bytes
    airport: str
    known: Airport | InterestChange
    """What the entry means."""
    findings: tuple[InterestAlert, ...] = ()
    """What a batch makes to be said; `Desk.alerts` tells it in full."""
    change: TrafficChange | None = field(default=None, compare=False)
    """What a batch changed: the findings are made of it."""
    alerts: tuple[Alert, ...] = ()
    """What an interest that was set makes to be said."""
    past: Mapping[bytes, bytes | None] = field(default_factory=dict)
    """Entries of history to be written (None: deleted) and kept before the entry is. Empty but for once a day."""
    direction: Direction | None = None
    """Of a batch."""
    flights: int = 0
    """How many flights were folded."""
    late_flights: int = 0
    """How many of them lie before their batch's interval."""
    stray_flights: int = 0
    """How many were left out, because they lie out of their batch's reach."""


class Desk:
    """The airports and interests of the partitions that this worker owns."""

    def __init__(
        self,
        airports: Mapping[bytes, bytes],
        interests: Mapping[bytes, bytes],
        history: Mapping[bytes, bytes],
        history_days: int = DEFAULT_HISTORY_DAYS,
    ) -> None:
        self.epoch = 0
        """Grows with each `forget`: what was followed in another one is not known any more."""
        self._airport_table = airports
        self._interest_table = interests
        self._history_table = history
        self._history_days = history_days
        self._airports: dict[str, Airport] = {}
        self._swept: set[str] = set()
        self._unwritten: dict[bytes, bytes] = {}
        self._thresholds: dict[str, ThresholdIndex] = {}
        self._deriving: Iterator[None] | None = self._derived()

    def forget(self) -> None:
        """Drop the indexes, because the tables may have changed under them (a rebalance, a recovery)."""
        self.epoch += 1
        self._airports.clear()
        self._swept.clear()
        self._unwritten.clear()
        self._thresholds = {}
        self._deriving = self._derived()

    def derive(self) -> bool:
        """Index some of the interests; whether there are more. So a million of them need not stop everything else."""
        if self._deriving is not None and next(self._deriving, self) is self:
            self._deriving = None
        return self._deriving is not None

    def _derived(self) -> Iterator[None]:
        for number, entry in enumerate(self._interest_table.values()):
            if number % _STEP == 0:
                yield
            _, interest = decode_interest_entry(entry)
            if interest is not None:
                self._thresholds.setdefault(interest.airport, ThresholdIndex()).add(interest)

    def traffic(self, airport: str) -> tuple[int, Traffic]:
        """The sequence of the last batch folded, and the traffic; (0, NOTHING_KNOWN) where there is none."""
        known = self._airport(airport)
        return known.sequence, known.traffic

    def _airport(self, airport: str) -> Airport:
        known = self._airports.get(airport)
        if known is None:
            entry = self._airport_table.get(airport.encode())
            known = Airport()
            if entry:
                known = decode_airport(entry, lambda part, day: self._history_table.get(past_key(airport, part, day)))
            self._airports[airport] = known
        return known

    def past(self, airport: str, direction: Direction) -> HourlyCounts:
        """The flights of arrivals or departures as far back as they are kept."""
        counts = self._airport(airport).traffic.select_directions(direction)[0].counts
        days: dict[int, Day] = {}
        for day in range(counts.end_day - self._history_days - 2, counts.first_day):  # two days are not closed yet
            entry = self._history_table.get(past_key(airport, direction, day))
            if entry is not None:
                days[day] = decode_past_day(entry)
        return HourlyCounts.from_days(days | {day: counts.day(day) for day in range(counts.first_day, counts.end_day)})

    def thresholds(self, airport: str) -> ThresholdIndex:
        """The thresholds of the interests in force at an airport. Not to be changed."""
        while self.derive():
            pass
        return self._thresholds.get(airport, _NOBODYS)

    def airports_watched(self) -> Iterable[str]:
        """The airports that have interests."""
        while self.derive():
            pass
        return tuple(self._thresholds)

    def oldest_watermark(self, direction: Direction) -> int | None:
        """Up to where (seconds) all that is watched is covered, if it ever was; None where nothing is."""
        if self._deriving is not None:
            return None
        watermarks = (
            self._airport(airport).traffic.select_directions(direction)[0].watermark
            for airport, thresholds in self._thresholds.items()
            if direction in thresholds.list_directions()
        )
        return min((each for each in watermarks if each is not None), default=None)

    def interest(self, airport: str, interest_id: UUID) -> Interest | None:
        """An interest in force, by its airport and id."""
        entry = self._interest_entry(f"{airport}/{interest_id}".encode())
        return decode_interest_entry(entry)[1] if entry else None

    def _interest_entry(self, key: bytes) -> bytes | None:
        return self._unwritten.get(key) or self._interest_table.get(key)

    def flights_observed(self, sequence: int, batch: ObservedFlights) -> Outcome | None:
        """Fold a batch, or None where it was folded before."""
        airport = batch.airport
        before = self._airport(airport)
        if sequence <= before.sequence:
            return None
        after = before.followed_by(sequence, before.traffic.fold(batch.observation))
        change = TrafficChange(before.traffic, after.traffic)
        findings = self.thresholds(airport).find_alerts(change)
        seen = batch.observation
        within = seen.list_valid_times()
        return Outcome(
            key=airport.encode(),
            entry=encode_airport(after),
            airport=airport,
            known=after,
            findings=tuple(findings),
            change=change if findings else None,
            past=self._past_changes(airport, before, after),
            direction=seen.direction,
            flights=len(within),
            late_flights=sum(at < seen.begin for at in within) if within and min(within) < seen.begin else 0,
            stray_flights=len(seen.event_times) - len(within),
        )

    def _past_changes(self, airport: str, before: Airport, after: Airport) -> Mapping[bytes, bytes | None]:
        # With another setting more may have been kept; what is gone once is not looked for again.
        since_days = self._history_days if airport in self._swept else LONGEST_HISTORY_DAYS
        expired = before.expired_days(after, airport, self._history_days, since_days)
        changes: dict[bytes, bytes | None] = {key: None for key in expired if key in self._history_table}
        return changes | dict(before.closed_days(after, airport, self._history_days))

    def interest_changed(self, sequence: int, key: bytes, value: bytes | None) -> Outcome | None:
        """Set or remove (value None) an interest, or None where that was done before or is out of date."""
        airport, interest_id = decode_interest_key(key)
        self.thresholds(airport)  # to be complete before the table changes
        known = self._interest_entry(key)
        folded, present = decode_interest_entry(known) if known else (0, None)
        if sequence <= folded:
            return None
        if value is None:
            return Outcome(key, encode_interest(sequence, None), airport, InterestChange(present, None))
        interest = decode_interest(value)
        if (interest.airport, interest.interest_id) != (airport, interest_id):
            raise UndecodableError("an InterestSet under another interest's key")
        if present is not None and interest.version <= present.version:
            return None
        return Outcome(
            key,
            encode_interest(sequence, value),
            airport,
            InterestChange(present, interest),
            alerts=tuple(compute_alerts(interest, NO_TRAFFIC, self._airport(airport).traffic)),
        )

    def alerts(self, outcome: Outcome) -> Iterator[Alert]:
        """What follows from an event, told in full, as it is taken: a batch may have something to say to everybody.

        To be taken before an interest changes, and while the tables are still this worker's.
        """
        yield from outcome.alerts
        if outcome.change is None:
            return
        for finding in outcome.findings:
            interest = self.interest(outcome.airport, finding.interest_id)
            if interest is None:
                raise LookupError("the index has an interest that its table has not")
            yield build_alert(interest, outcome.change, finding.range_alert, finding.threshold)

    def follow(self, outcome: Outcome) -> None:
        """Take an outcome for what is, before it is written; what follows from the next event, follows from it.

        Either what was followed is written soon, in this order, and `settle` is called; or `forget`, and none of it is.
        """
        self._follow(outcome)
        if isinstance(outcome.known, InterestChange):
            self._unwritten[outcome.key] = outcome.entry

    def settle(self, key: bytes, entry: bytes) -> None:
        """An entry that was followed is written."""
        if self._unwritten.get(key) is entry:
            del self._unwritten[key]

    def written(self, outcome: Outcome) -> None:
        """Follow what was just written. To be called right after the write."""
        self._follow(outcome)

    def _follow(self, outcome: Outcome) -> None:
        if isinstance(outcome.known, Airport):
            self._airports[outcome.airport] = outcome.known
            if outcome.past:
                self._swept.add(outcome.airport)
            return
        if self._deriving is not None:
            return  # forgotten since: the change will be found in the table
        thresholds = self._thresholds.setdefault(outcome.airport, ThresholdIndex())
        if outcome.known.before is not None:
            thresholds.remove(outcome.known.before)
        if outcome.known.now is not None:
            thresholds.add(outcome.known.now)
        if not len(thresholds):
            del self._thresholds[outcome.airport]


_NOBODYS: Final = ThresholdIndex()
