"""The bytes of the stream's table entries, and which of an airport's days are stored in which table.

An airport's own entry is written with every batch, so the entry is kept small: it has only the open days, which still
change. A day that is closed moves to an entry of its own in the history table, with the first batch of the day after
the next. A late flight opens its day again: the day returns to the airport's entry, until days close the next time. So
a batch is one table write, except for the one batch a day that also closes days, and for batches of history: each
closes the days that the one before it has opened, because weeks of them come within minutes.

The history is written before the airport's entry. A crash between the two writes changes nothing, because a day moves
only as the airport's entry before the batch has it, and that entry takes precedence. A day that the closing batch
itself changes (by a late or a retracted flight) stays open, in the airport's entry, until days close the next time. The
caller must therefore have written the entry before the batch: see `AirportState.build_history_entries`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from domain.changes import NO_TRAFFIC
from domain.corrections import Correction
from domain.hourly_counts import DAY_HOURS, Day, HourlyCounts, QuarterDay
from domain.interests import Direction, Interest
from domain.traffic import DirectionTraffic, Traffic, find_oldest_coverage
from domain.usual import Usual, UsualDay
from domain.windows import HOUR_S
from streams.correction_entries import decode_correction, encode_correction
from streams.errors import UndecodableError
from streams.live_entries import decode_live_record, encode_live_record
from streams.messages import convert_interest
from towerwatch.streams.v1 import state_pb2

_DAY_S: Final = DAY_HOURS * HOUR_S

LONGEST_HISTORY_DAYS: Final = 400
"""Most days that a setting may keep. Expired days are searched this far back, because the setting may be lowered."""

_UsualDays = tuple[dict[int, UsualDay], dict[int, UsualDay]]
"""The usual counts by day (since 1970) that are kept with the days of one direction: its own, and those of both."""
_NOTHING_USUAL: Final[dict[int, UsualDay]] = {}

_SEQUENCE_TAG: Final = 0x08
"""First byte of each entry: the tag of field 1, a varint (protobuf.dev, "Encoding")."""


@dataclass(frozen=True, slots=True)
class AirportState:
    """The folded state of one airport: the last batch's sequence, the traffic, and the days that still change.

    Frozen: each batch gives a new state. `before.build_history_entries(after, …)` and `before.list_expired_keys(after,
    …)` give the changes of the history table between two states.
    """

    sequence: int = 0
    """Sequence of the last batch that was folded. 0: none."""
    traffic: Traffic = NO_TRAFFIC
    open_days: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
    """Days (since 1970) that are stored in the airport's own entry, of arrivals and of departures."""

    def after_batch(self, sequence: int, after: Traffic) -> "AirportState":
        """Return the state after a batch that has this sequence and leads to the traffic `after`.

        Its open days are the days open before, without those that the batch closes, and all days that the batch
        changes. A day whose last flight was retracted stays open, so that its older entry in the history is not read.
        """
        arrivals, departures = (
            _find_open_days(days, old, new, fixed)
            for days, (old, new), fixed in zip(
                self.open_days, self._pair_directions(after), self._list_fixed_days(after), strict=True
            )
        )
        return AirportState(sequence, after, (arrivals, departures))

    def without_direction(self, direction: Direction) -> "AirportState":
        """Return a copy in which nothing is known of one direction, ARRIVALS or DEPARTURES, not even open days.

        Without arrivals nothing is usual in both directions either, which is kept with the days of departures: those
        days are open then, so that their entries in the history are not read.
        """
        arrivals, departures = self.open_days
        if direction is Direction.ARRIVALS:
            days = frozenset[int](), departures | self.traffic.usual.both.keys()
        else:
            days = arrivals, frozenset[int]()
        return AirportState(self.sequence, self.traffic.without_direction(direction), days)

    def build_history_entries(
        self, after: "AirportState", airport: str, history_days: int
    ) -> Iterator[tuple[bytes, bytes]]:
        """Build the history entries (key, entry) of the days that are open in this state and close to `after`.

        First arrivals, then departures, each in the order of the days; days older than `history_days` are left out.
        Yields nothing if the first open day stays the same. To be written before the airport's own entry of `after`,
        which no longer has these days, and once the changelog has the airport's entry of this state, which has them.
        """
        for place, (old, new) in enumerate(self._pair_directions(after.traffic)):
            if not _moves_days(old, new):
                continue
            direction, days, usual = _PARTS[place], self.open_days[place], _pair_usual_days(self.traffic.usual)[place]
            fixed = self._list_fixed_days(after.traffic)[place]
            for day in _find_closed_days(days, old, new, fixed):
                if day >= (_first_open_day(new) or 0) - history_days:
                    yield history_key(airport, direction, day), _encode_history_day(after.sequence, old, day, usual)

    def list_expired_keys(
        self, after: "AirportState", airport: str, history_days: int, since_days: int
    ) -> Iterator[bytes]:
        """List the keys of the history days that expire (are older than `history_days`) from this state to `after`.

        Yields nothing if no days close. The keys are computed, and few are in the table. `since_days`: number of days
        before this state's first open day from which on to list; `history_days` where older days were listed before.
        """
        for direction, (old, new) in zip(_PARTS, self._pair_directions(after.traffic), strict=True):
            last, now = _first_open_day(old), _first_open_day(new)
            if last is not None and now is not None and _closes_days(old, new):
                for day in range(last - since_days, min(last, now - history_days)):
                    yield history_key(airport, direction, day)

    def _pair_directions(self, after: Traffic) -> Iterable[tuple[DirectionTraffic, DirectionTraffic]]:
        """Return two pairs of this state's traffic and the traffic `after`: of arrivals, then of departures."""
        return (self.traffic.arrivals, after.arrivals), (self.traffic.departures, after.departures)

    def _list_fixed_days(self, after: Traffic) -> tuple[frozenset[int], frozenset[int]]:
        """Return the days (since 1970) in which a usual was fixed between this state's traffic and the traffic `after`.

        First those of arrivals, then those of departures and of both directions, which are kept with them.
        """
        old, new = self.traffic.usual, after.usual
        if new is old:
            return frozenset(), frozenset()
        departures = _find_fixed_days(old.departures, new.departures)
        return _find_fixed_days(old.arrivals, new.arrivals), departures | _find_fixed_days(old.both, new.both)


_PARTS: Final = Direction.BOTH.parts


def _first_open_day(flow: DirectionTraffic) -> int | None:
    """Return the first day that still changes: the day before the watermark's day, in days since 1970.

    None: never covered, so that all days still change.
    """
    return None if flow.watermark is None else flow.watermark // _DAY_S - 1


def _find_fixed_days(old: dict[int, UsualDay], new: dict[int, UsualDay]) -> frozenset[int]:
    """Return the days (since 1970) in which a usual was fixed from `old` to `new`."""
    fixed: list[int] = []
    if new is not old:
        for day, packed in reversed(new.items()):
            if old.get(day) is packed:
                break  # days are reached in order, so that all earlier ones are as they were
            fixed.append(day)
    return frozenset(fixed)


def _pair_usual_days(usual: Usual) -> tuple[_UsualDays, _UsualDays]:
    """Return what is usual as it is kept with the arrivals' days, then with the departures' days.

    Each is the direction's own days, and those of both directions.
    """
    return (usual.arrivals, _NOTHING_USUAL), (usual.departures, usual.both)


def _find_open_days(
    days: frozenset[int], old: DirectionTraffic, new: DirectionTraffic, fixed: frozenset[int]
) -> frozenset[int]:
    """Return the days (since 1970) of one direction that are open after a batch.

    `days`: those open before it; `fixed`: those in which it fixed what is usual.
    """
    if old is new and not fixed:
        return days
    since = new.first_retained_day
    changed = days.union(new.find_changed_days(old), fixed)
    return frozenset([day for day in changed.difference(_find_closed_days(days, old, new, fixed)) if day >= since])


def _find_closed_days(
    days: frozenset[int], old: DirectionTraffic, new: DirectionTraffic, fixed: frozenset[int]
) -> list[int]:
    """Return, in order, the open days (`days`, since 1970) that close from `old` to `new`.

    These are the days before the new first open day, without those that changed, or in which a usual was `fixed`. Empty
    in a batch that closes no day, also if a day was closed before and a late flight opened it again.
    """
    if not _moves_days(old, new):
        return []
    first_open = _first_open_day(new) or 0
    return sorted([day for day in days.difference(new.find_changed_days(old), fixed) if day < first_open])


def _closes_days(old: DirectionTraffic, new: DirectionTraffic) -> bool:
    """Return True if days close from `old` to `new`: `new` has a first open day that is later, or `old` had none."""
    last, now = _first_open_day(old), _first_open_day(new)
    return now is not None and (last is None or last < now)


def _moves_days(old: DirectionTraffic, new: DirectionTraffic) -> bool:
    """Return True if closed days move to the history table from `old` to `new`: days close, or history is added."""
    return new.history is not old.history or _closes_days(old, new)


def history_key(airport: str, direction: Direction, day: int) -> bytes:
    """Return the key of a closed day in the history table; `day`: days since 1970."""
    return f"{airport}/{direction.value}/{day}".encode()


def _encode_history_day(sequence: int, flow: DirectionTraffic, day: int, usual: _UsualDays) -> bytes:
    """Encode what is known, and usual, of a closed day of one direction as an entry of the history table."""
    entry = state_pb2.PastDay(sequence=sequence, counts=flow.counts.day(day))
    _encode_day(entry, flow, day, usual)
    return entry.SerializeToString()


def decode_history_day(entry: bytes) -> Day:
    """Decode an entry of the history table to the flights of a closed day, by hour or by quarter; drop the sequence."""
    return _decode_counts(state_pb2.PastDay.FromString(entry))


def encode_airport_entry(airport: AirportState) -> bytes:
    """Encode an airport's state as an entry of the table of airports, with the counts of its open days alone."""
    state = state_pb2.AirportState(sequence=airport.sequence)
    arrivals, departures = _pair_usual_days(airport.traffic.usual)
    _encode_direction(state.arrivals, airport.traffic.arrivals, airport.open_days[0], arrivals)
    _encode_direction(state.departures, airport.traffic.departures, airport.open_days[1], departures)
    return state.SerializeToString()


def decode_airport_entry(entry: bytes, read_history: Callable[[Direction, int], bytes | None]) -> AirportState:
    """Decode an entry of the table of airports, and complete its traffic with the closed days of the history table.

    `read_history` returns the history entry of a direction and a day (since 1970), or None; it is called for each
    retained day that is closed. A day in the airport's own entry takes precedence.
    """
    state = state_pb2.AirportState.FromString(entry)
    (arrivals, usual_arrivals), (departures, usual_departures) = (
        _decode_direction(each, lambda day, part=part: read_history(part, day))  # type: ignore[misc]
        for part, each in zip(_PARTS, (state.arrivals, state.departures), strict=True)
    )
    usual = Usual(usual_arrivals[0], *usual_departures)
    open_days = tuple(frozenset(each.day for each in flow.days) for flow in (state.arrivals, state.departures))
    return AirportState(state.sequence, Traffic(arrivals, departures, usual), (open_days[0], open_days[1]))


def _encode_direction(
    state: state_pb2.FlowState, flow: DirectionTraffic, open_days: Iterable[int], usual: _UsualDays
) -> None:
    """Set the fields of the empty message `state` to one direction's traffic, with only its open days."""
    if flow.covered_from is not None:
        state.covered_from = flow.covered_from
    if flow.watermark is not None:
        state.watermark = flow.watermark
    for begin, end in flow.gaps:
        state.gaps.add(begin=begin, end=end)
    for begin, end in flow.history:
        state.history.add(begin=begin, end=end)
    if flow.live is not None:
        encode_live_record(state.live, flow.live)
    for day in sorted(open_days):
        _encode_day(state.days.add(day=day, counts=flow.counts.day(day)), flow, day, usual)


def _decode_direction(
    state: state_pb2.FlowState, read_history: Callable[[int], bytes | None]
) -> tuple[DirectionTraffic, _UsualDays]:
    """Decode the traffic of one direction: coverage, gaps, the counts of closed and of open days, and what is usual.

    `read_history` returns the history entry of a closed day, or None; it is called for each retained day to the last
    closed day, also before the start of coverage, which may still be filled. A day in `state` takes precedence over the
    history's.
    """
    covered_from = state.covered_from if state.HasField("covered_from") else None
    watermark = state.watermark if state.HasField("watermark") else None
    days: dict[int, state_pb2.DayCounts | state_pb2.PastDay] = {}
    if covered_from is not None and watermark is not None:
        for day in range(find_oldest_coverage(watermark) // _DAY_S, watermark // _DAY_S - 1):
            entry = read_history(day)
            if entry is not None:
                days[day] = state_pb2.PastDay.FromString(entry)
    days |= {each.day: each for each in state.days}
    usual = {day: each.usual for day, each in days.items() if each.usual}
    usual_both = {day: each.usual_both for day, each in days.items() if each.usual_both}
    traffic = DirectionTraffic(
        counts=HourlyCounts.from_days({day: _decode_counts(each) for day, each in days.items()}),
        covered_from=covered_from,
        watermark=watermark,
        gaps=tuple((gap.begin, gap.end) for gap in state.gaps),
        known={day: each.flights for day, each in days.items() if each.flights},
        corrections=_decode_corrections(days.values()),
        forgotten={day: each.forgotten for day, each in days.items() if each.forgotten},
        live=decode_live_record(state.live) if state.HasField("live") else None,
        history=tuple((each.begin, each.end) for each in state.history),
    )
    return traffic, (usual, usual_both)


def _decode_counts(state: state_pb2.DayCounts | state_pb2.PastDay) -> Day:
    """Return the counts of a day, by quarter of an hour if the message has these."""
    return QuarterDay(state.quarters) if state.quarters else tuple(state.counts)


def _decode_corrections(days: Iterable[state_pb2.DayCounts | state_pb2.PastDay]) -> tuple[Correction, ...]:
    """Return the corrections of all days in their order."""
    corrections = [decode_correction(more) for each in days for more in each.corrections]
    return tuple(sorted(corrections, key=lambda each: each.number))


def _encode_day(
    state: state_pb2.DayCounts | state_pb2.PastDay, flow: DirectionTraffic, day: int, usual: _UsualDays
) -> None:
    """Set the fields of a day's message besides its hours and its key: quarters, flights, corrections, the usual."""
    own, both = usual
    if day in own:
        state.usual = own[day]
    if day in both:
        state.usual_both = both[day]
    counts = flow.counts.day(day)
    if isinstance(counts, QuarterDay):
        state.quarters.extend(counts.quarters)
    state.flights = flow.known.get(day, b"")
    if flow.forgotten:
        state.forgotten = flow.forgotten.get(day, 0)
    if flow.corrections:
        for correction in flow.corrections:
            if correction.day == day:
                encode_correction(state.corrections.add(), correction)


def encode_interest_entry(sequence: int, value: bytes | None) -> bytes:
    """Encode an entry of the table of interests: the sequence and the event's own value. Value None: removed.

    A removed interest keeps its entry, so that an older duplicate event does not set the interest again.
    """
    entry = state_pb2.InterestEntry(sequence=sequence)
    if value is not None:
        entry.interest.ParseFromString(value)
    return entry.SerializeToString()


def decode_interest_entry(entry: bytes) -> tuple[int, Interest | None]:
    """Decode an entry of the table of interests: its sequence, and the interest. None: removed.

    None also for an interest that an earlier version accepted and this version refuses: the other interests must not
    stop because of it.
    """
    state = state_pb2.InterestEntry.FromString(entry)
    if not state.HasField("interest"):
        return state.sequence, None
    try:
        return state.sequence, convert_interest(state.interest)
    except UndecodableError:
        return state.sequence, None


def read_sequence(entry: bytes) -> int:
    """Read the sequence from an entry of any table, without decoding the rest: it is the first field.

    Return 0 for an entry without a sequence. Raises ValueError for an entry that ends within its sequence.
    """
    if not entry or entry[0] != _SEQUENCE_TAG:
        return 0  # protobuf does not write a field that is 0
    sequence = shift = 0
    for byte in entry[1:11]:
        sequence |= (byte & 0x7F) << shift
        if byte < 0x80:
            return sequence
        shift += 7
    raise ValueError("an entry that ends within its sequence")
