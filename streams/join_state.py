"""The state of the join of the two inputs: the result of each event, its alerts and its table entries.

Without side effects on the tables: the module reads them and returns what to send and what to write, so that the agent
can send first and write afterwards. The indexes in memory are derived from the tables and may be discarded at any time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from uuid import UUID

from domain.alerts import Alert
from domain.calendar import find_calendar
from domain.changes import NO_TRAFFIC, TrafficChange
from domain.hourly_counts import DAY_HOURS, Day, HourlyCounts
from domain.interest_alerts import build_alert, compute_alerts
from domain.interests import Direction, Interest
from domain.threshold_index import InterestAlert, ThresholdIndex
from domain.traffic import RETAINED_HOURS, Observation, Traffic
from domain.usual_fold import fold_with_usual
from domain.windows import HOUR_S
from streams.entries import (
    LONGEST_HISTORY_DAYS,
    AirportState,
    decode_airport_entry,
    decode_history_day,
    decode_interest_entry,
    encode_airport_entry,
    encode_interest_entry,
    history_key,
)
from streams.errors import UndecodableError
from streams.messages import ObservedFlights, decode_interest, decode_interest_key, is_past_interest

DEFAULT_HISTORY_DAYS: Final = 90
_INTERESTS_PER_STEP: Final = 2_000
"""Interests that are indexed in one step; some 20 ms."""

_decode_cached: Final = lru_cache(4_096)(decode_interest_entry)
"""Decodes an interest's entry; the last 4,096 are cached (some MB): the end of a breach alerts the same people."""


@dataclass(frozen=True, slots=True)
class InterestChange:
    """An interest before and after an event. `before` None: not in force before; `after` None: removed.

    Both None: the removal of an interest that was not in force.
    """

    before: Interest | None
    after: Interest | None


@dataclass(frozen=True, slots=True)
class FoldResult:
    """The result of folding one event, which changed nothing yet: alerts to publish, then table entries to write.

    A batch has its alerts in short form, an interest has them complete. The caller publishes the alerts, writes
    `history_entries` and then `entry`, and applies the result to the `JoinState`.
    """

    key: bytes
    """Key of the table entry."""
    entry: bytes
    airport: str
    state: AirportState | InterestChange
    """The state that `entry` encodes."""
    interest_alerts: tuple[InterestAlert, ...] = ()
    """Alerts of a batch in short form; `JoinState.build_alerts` completes them."""
    traffic_change: TrafficChange | None = field(default=None, compare=False)
    """The traffic before and after a batch, from which its alerts are built. None: no alerts, or no batch."""
    new_interest_alerts: tuple[Alert, ...] = ()
    """Alerts of an interest that was just set, about windows whose flights are known already."""
    history_entries: Mapping[bytes, bytes | None] = field(default_factory=dict)
    """Entries of the history table, to be written (None: deleted) and in its changelog before `entry` is written.

    Empty except for one batch a day. The airport's entry of all earlier batches must be in its changelog before."""
    direction: Direction | None = None
    """Direction of a batch. None: the event is of an interest."""
    flights: int = 0
    """Number of flights folded."""
    late_flights: int = 0
    """Number of folded flights that lie before the batch's interval."""
    retracted_flights: int = 0
    """Number of flights that the batch takes back, also of those that are not known."""
    stray_flights: int = 0
    """Number of flights left out, because they lie out of the batch's reach."""


class JoinState:
    """The airports and interests of this worker's partitions, read from the tables and indexed in memory.

    `fold_flights` and `fold_interest` compute a result and change nothing; `apply_before_write` or `apply_after_write`
    makes the result part of the state. The tables are never written here. Interests are indexed step by step after the
    start and after each `discard_indexes`; airports are read when they are first needed.
    """

    def __init__(
        self,
        airports: Mapping[bytes, bytes],
        interests: Mapping[bytes, bytes],
        history: Mapping[bytes, bytes],
        history_days: int = DEFAULT_HISTORY_DAYS,
    ) -> None:
        """The mappings are the tables, which only the caller writes. `history_days`: days of history to keep."""
        self.epoch = 0
        """Number of calls of `discard_indexes`: results that were applied in an earlier epoch are lost."""
        self._airport_table = airports
        self._interest_table = interests
        self._history_table = history
        self._history_days = history_days
        self._airports: dict[str, AirportState] = {}
        self._cleaned_airports: set[str] = set()
        """Airports whose history has no more expired days of an earlier setting, which may have kept more days."""
        self._unwritten: dict[bytes, bytes] = {}
        """By key, entries of interests that are applied here and not yet written to the table."""
        self._thresholds: dict[str, ThresholdIndex] = {}
        self._indexing: Iterator[None] | None = self._index_interests()
        """The indexing of the table of interests. None: complete."""

    def discard_indexes(self) -> None:
        """Discard all state in memory and begin a new epoch: the tables may have changed (a rebalance, a recovery).

        Results that were applied before their write are lost with it. The indexing of the interests starts again with
        the next call that needs it.
        """
        self.epoch += 1
        self._airports.clear()
        self._cleaned_airports.clear()
        self._unwritten.clear()
        self._thresholds = {}
        self._indexing = self._index_interests()

    def index_more_interests(self) -> bool:
        """Index up to 2,000 more interests of the table, so that a million of them do not block the event loop.

        Return True while interests may remain to be indexed, False once all are; then further calls do nothing. The
        table must not change before that.
        """
        if self._indexing is not None and next(self._indexing, self) is self:
            self._indexing = None
        return self._indexing is not None

    def _index_interests(self) -> Iterator[None]:
        """Index by airport the thresholds of all interests of the table, with a yield before each 2,000 of them.

        Removed interests are skipped.
        """
        for number, entry in enumerate(self._interest_table.values()):
            if number % _INTERESTS_PER_STEP == 0:
                yield
            _, interest = decode_interest_entry(entry)
            if interest is not None:
                self._thresholds.setdefault(interest.airport, ThresholdIndex()).add(interest)

    def read_traffic(self, airport: str) -> tuple[int, Traffic]:
        """Return the sequence of the last batch applied at an airport, and its traffic; (0, NO_TRAFFIC) before any.

        The state is read from the tables if it is not in memory, and kept there.
        """
        state = self._load_airport(airport)
        return state.sequence, state.traffic

    def _load_airport(self, airport: str) -> AirportState:
        """Return an airport's state from memory, or else decode it from the tables and keep it in memory.

        An airport without an entry has the empty state.
        """
        state = self._airports.get(airport)
        if state is None:
            entry = self._airport_table.get(airport.encode())
            state = AirportState()
            if entry:
                state = decode_airport_entry(
                    entry, lambda part, day: self._history_table.get(history_key(airport, part, day))
                )
            self._airports[airport] = state
        return state

    def read_history(self, airport: str, direction: Direction) -> HourlyCounts:
        """Return the flights of one direction by hour: the days in memory, and the older days of the history table.

        `direction`: ARRIVALS or DEPARTURES. Goes back `history_days` and two more days from the end of the counts in
        memory, and queries the table once for each older day. Days without an entry count as days without flights.
        """
        counts = self._load_airport(airport).traffic.select_directions(direction)[0].counts
        days: dict[int, Day] = {}
        for day in range(counts.end_day - self._history_days - 2, counts.first_day):  # two days are not closed yet
            entry = self._history_table.get(history_key(airport, direction, day))
            if entry is not None:
                days[day] = decode_history_day(entry)
        return HourlyCounts.from_days(days | {day: counts.day(day) for day in range(counts.first_day, counts.end_day)})

    def find_thresholds(self, airport: str) -> ThresholdIndex:
        """Return the thresholds of the interests in force at an airport; an empty index where there are none.

        First indexes all interests that are not indexed yet, which may be slow. The caller must not change the index.
        """
        while self.index_more_interests():
            pass
        return self._thresholds.get(airport, _NO_THRESHOLDS)

    def list_watched_airports(self) -> Iterable[str]:
        """Return the airports that have interests in force, in no order.

        First indexes all interests that are not indexed yet, which may be slow.
        """
        while self.index_more_interests():
            pass
        return tuple(self._thresholds)

    def find_oldest_watermark(self, direction: Direction) -> int | None:
        """Return the oldest watermark (seconds since 1970) of the airports whose interests need this direction.

        Airports that were never covered are left out. None: no such airport was ever covered, or the interests are not
        all indexed yet. `direction`: ARRIVALS or DEPARTURES.
        """
        if self._indexing is not None:
            return None
        watermarks = (
            self._load_airport(airport).traffic.select_directions(direction)[0].watermark
            for airport, thresholds in self._thresholds.items()
            if direction in thresholds.list_directions()
        )
        return min((watermark for watermark in watermarks if watermark is not None), default=None)

    def find_interest(self, airport: str, interest_id: UUID) -> Interest | None:
        """Return an interest in force by its airport and id, also if its entry is not written to the table yet.

        None: not set, or removed, or refused by this version of the rules.
        """
        entry = self._find_interest_entry(f"{airport}/{interest_id}".encode())
        return _decode_cached(entry)[1] if entry else None

    def _find_interest_entry(self, key: bytes) -> bytes | None:
        """Return the newest entry of an interest: one not written to the table yet, or else the table's, or None."""
        return self._unwritten.get(key) or self._interest_table.get(key)

    def fold_flights(self, sequence: int, batch: ObservedFlights) -> FoldResult | None:
        """Compute the result of a batch of flights: the airport's new state, its alerts, and closed days to write.

        Return None for a duplicate: its sequence is not above the airport's last. Nothing is applied or written. First
        indexes all interests that are not indexed yet. Flights out of the batch's reach are counted and left out.

        A batch that is past has no alerts, nor has one whose earlier coverage is not in the tables: they were lost, and
        all is published again. If a batch begins anew, it is folded upon an empty direction, and the days that the
        history has of the direction are deleted.
        """
        airport = batch.airport
        before = self._load_airport(airport)
        if sequence <= before.sequence:
            return None
        seen = batch.observation
        present = before.without_direction(seen.direction) if batch.begins_anew else before
        after = present.after_batch(sequence, fold_with_usual(present.traffic, seen, find_calendar(airport)))
        change = TrafficChange(present.traffic, after.traffic, seen.cause)
        (flow,) = present.traffic.select_directions(seen.direction)
        is_silent = batch.is_past or (batch.has_earlier_coverage and flow.watermark is None)
        interest_alerts = () if is_silent else self.find_thresholds(airport).find_alerts(change)
        history_entries = self._compute_history_entries(airport, present, after)
        if batch.begins_anew:
            history_entries = {**self._list_history_to_delete(airport, before, seen), **history_entries}
        within = seen.list_valid_times()
        return FoldResult(
            key=airport.encode(),
            entry=encode_airport_entry(after),
            airport=airport,
            state=after,
            interest_alerts=tuple(interest_alerts),
            traffic_change=change if interest_alerts else None,
            history_entries=history_entries,
            direction=seen.direction,
            flights=len(within),
            late_flights=sum(at < seen.begin for at in within) if seen.span and seen.span[0] < seen.begin else 0,
            retracted_flights=len(seen.retracted),
            stray_flights=len(seen.event_times) - len(within),
        )

    def _compute_history_entries(
        self, airport: str, before: AirportState, after: AirportState
    ) -> Mapping[bytes, bytes | None]:
        """Return the changes of the history table by key: entries of days that close, and None to delete expired days.

        Empty if the batch closes no day. Only expired days that are in the table are deleted. They are searched
        LONGEST_HISTORY_DAYS back until an airport's first changes since `discard_indexes` are applied, and later
        `history_days` back.
        """
        # Another setting may have kept more days; days that were deleted once are not looked for again.
        since_days = self._history_days if airport in self._cleaned_airports else LONGEST_HISTORY_DAYS
        expired = before.list_expired_keys(after, airport, self._history_days, since_days)
        changes: dict[bytes, bytes | None] = {key: None for key in expired if key in self._history_table}
        return changes | dict(before.build_history_entries(after, airport, self._history_days))

    def _list_history_to_delete(
        self, airport: str, before: AirportState, seen: Observation
    ) -> Mapping[bytes, bytes | None]:
        """Return the entries that delete the history of the observation's direction: None by key for each stored day.

        Days are searched from LONGEST_HISTORY_DAYS before the observation or the end of the known days, whichever is
        earlier, to RETAINED_HOURS after the later of the two.
        """
        day = seen.begin // (DAY_HOURS * HOUR_S)
        known = before.traffic.select_directions(seen.direction)[0].counts.end_day or day
        days = range(min(day, known) - LONGEST_HISTORY_DAYS, max(day, known) + RETAINED_HOURS // DAY_HOURS)
        keys = (history_key(airport, seen.direction, each) for each in days)
        return {key: None for key in keys if key in self._history_table}

    def fold_interest(self, sequence: int, key: bytes, value: bytes | None) -> FoldResult | None:
        """Compute the result of an interest that is set, with its alerts so far, or removed (value None).

        Return None for a duplicate (its sequence is not above the entry's) or a version that is not newer than the
        interest in force. An interest that is past replaces any version, and has no alerts. Nothing is applied or
        written. First indexes all interests that are not indexed yet. Raises UndecodableError, also for an interest
        whose airport and id are not those of the key.
        """
        airport, interest_id = decode_interest_key(key)
        self.find_thresholds(airport)  # the index must be complete before the table changes
        entry = self._find_interest_entry(key)
        last_sequence, present = decode_interest_entry(entry) if entry else (0, None)
        if sequence <= last_sequence:
            return None
        if value is None:
            return FoldResult(key, encode_interest_entry(sequence, None), airport, InterestChange(present, None))
        interest, is_past = decode_interest(value), is_past_interest(value)
        if (interest.airport, interest.interest_id) != (airport, interest_id):
            raise UndecodableError("an InterestSet under another interest's key")
        if present is not None and interest.version <= present.version and not is_past:
            return None
        alerts = () if is_past else compute_alerts(interest, NO_TRAFFIC, self._load_airport(airport).traffic)
        return FoldResult(
            key,
            encode_interest_entry(sequence, value),
            airport,
            InterestChange(present, interest),
            new_interest_alerts=tuple(alerts),
        )

    def build_alerts(self, result: FoldResult) -> Iterator[Alert]:
        """Build the complete alerts of an event, one at a time when iterated: a batch may concern every interest.

        The interests of a batch's alerts are read from the table then: iterate before an interest changes, and while
        this worker owns the tables. Raises LookupError if an interest of the index is missing.
        """
        yield from result.new_interest_alerts
        if result.traffic_change is None:
            return
        for finding in result.interest_alerts:
            interest = self.find_interest(result.airport, finding.interest_id)
            if interest is None:
                raise LookupError("the index has an interest that its table has not")
            yield build_alert(interest, result.traffic_change, finding.range_alert, finding.threshold)

    def apply_before_write(self, result: FoldResult) -> None:
        """Apply a result to the state in memory before its entry is written, so that the next event builds on it.

        An interest's entry is kept until `mark_written`, so that `find_interest` returns the new interest already.
        Afterwards the caller either writes the entries soon, in this order, with a call of `mark_written` for each; or
        calls `discard_indexes` and writes none.
        """
        self._apply(result)
        if isinstance(result.state, InterestChange):
            self._unwritten[result.key] = result.entry

    def mark_written(self, key: bytes, entry: bytes) -> None:
        """Discard the copy of an entry that was applied before its write: from now on the table has the entry.

        Does nothing if a later entry of the same key was applied meanwhile, or for an airport's entry.
        """
        if self._unwritten.get(key) is entry:
            del self._unwritten[key]

    def apply_after_write(self, result: FoldResult) -> None:
        """Apply a result to the airports and thresholds in memory. To be called right after its entry was written."""
        self._apply(result)

    def _apply(self, result: FoldResult) -> None:
        """Apply a result to the state in memory: replace the airport's state, or the interest's thresholds.

        Does nothing for an interest while the interests are not all indexed, because the indexing will read it from the
        table. An airport without thresholds is removed from the index.
        """
        if isinstance(result.state, AirportState):
            self._airports[result.airport] = result.state
            if result.history_entries:
                self._cleaned_airports.add(result.airport)
            return
        if self._indexing is not None:
            return  # discarded since: the indexing will find the change in the table
        thresholds = self._thresholds.setdefault(result.airport, ThresholdIndex())
        if result.state.before is not None:
            thresholds.remove(result.state.before)
        if result.state.after is not None:
            thresholds.add(result.state.after)
        if not len(thresholds):
            del self._thresholds[result.airport]


_NO_THRESHOLDS: Final = ThresholdIndex()
