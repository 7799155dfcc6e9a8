"""The bytes of the stream's tables, and which of an airport's days stand in which of them.

An airport's own entry is written with every batch, so it is kept small: it has the days that still change. A day that
is closed moves to an entry of its own in the table of history, with the first batch of the day after the next. A late
flight brings its day back into the airport's entry, until days move the next time. So a batch is one table write, but
for the one in a day that also moves days; and since the airport's entry outweighs the history's, and is written last,
a crash between the two repeats the move, and changes nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from domain.changes import NO_TRAFFIC
from domain.interests import Direction, Interest
from domain.traffic import DAY_HOURS, Day, DirectionTraffic, HourlyCounts, Traffic
from domain.windows import HOUR_S
from streams.errors import UndecodableError
from streams.messages import interest_of
from towerwatch.streams.v1 import state_pb2

_DAY_S: Final = DAY_HOURS * HOUR_S

LONGEST_HISTORY_DAYS: Final = 400
"""No setting asks for more; so far back it is looked for what has expired, since a setting may have been lowered."""

_SEQUENCE_TAG: Final = 0x08
"""Field 1, a varint (protobuf.dev, "Encoding"): what each entry begins with."""


@dataclass(frozen=True, slots=True)
class Airport:
    """What is known of one airport."""

    sequence: int = 0
    """Of the last batch that was folded."""
    traffic: Traffic = NO_TRAFFIC
    moving: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
    """The days that stand in the airport's own entry, of arrivals and of departures."""

    def followed_by(self, sequence: int, after: Traffic) -> "Airport":
        """The airport after a batch."""
        moving = tuple(
            frozenset(
                day
                for day in days.union(new.counts.find_changed_days(old.counts))
                if not _has_moved_past(old, new, day) and any(new.counts.day(day))
            )
            for days, (old, new) in zip(self.moving, self._flows(after), strict=True)
        )
        return Airport(sequence, after, (moving[0], moving[1]))

    def closed_days(self, after: "Airport", airport: str, history_days: int) -> Iterator[tuple[bytes, bytes]]:
        """The entries of history to be written before the airport is what it is `after`."""
        for direction, days, (old, new) in zip(_PARTS, self.moving, self._flows(after.traffic), strict=True):
            if not _moves(old, new):
                continue
            for day in sorted(days.union(new.counts.find_changed_days(old.counts))):
                if _has_moved_past(old, new, day) and day >= (_first_moving(new) or 0) - history_days:
                    counts = new.counts if new.counts.first_day <= day else old.counts
                    yield past_key(airport, direction, day), _past_entry(after.sequence, counts.day(day))

    def expired_days(self, after: "Airport", airport: str, history_days: int, since_days: int) -> Iterator[bytes]:
        """The keys of history that have no longer to be kept; few of them have ever been there.

        `since_days`: so many days back they were looked for before (`history_days`), or may never have been.
        """
        for direction, (old, new) in zip(_PARTS, self._flows(after.traffic), strict=True):
            last, now = _first_moving(old), _first_moving(new)
            if last is not None and now is not None and _moves(old, new):
                for day in range(last - since_days, min(last, now - history_days)):
                    yield past_key(airport, direction, day)

    def _flows(self, after: Traffic) -> Iterable[tuple[DirectionTraffic, DirectionTraffic]]:
        return (self.traffic.arrivals, after.arrivals), (self.traffic.departures, after.departures)


_PARTS: Final = Direction.BOTH.parts


def _first_moving(flow: DirectionTraffic) -> int | None:
    """The first day that still changes: the one before that of the watermark. None: all of them."""
    return None if flow.watermark is None else flow.watermark // _DAY_S - 1


def _moves(old: DirectionTraffic, new: DirectionTraffic) -> bool:
    """Whether days move: whenever there is another first one that still changes."""
    last, now = _first_moving(old), _first_moving(new)
    return now is not None and (last is None or last < now)


def _has_moved_past(old: DirectionTraffic, new: DirectionTraffic, day: int) -> bool:
    return _moves(old, new) and day < (_first_moving(new) or 0)


def past_key(airport: str, direction: Direction, day: int) -> bytes:
    """The key of a closed day in the table of history; `day`: days since 1970."""
    return f"{airport}/{direction.value}/{day}".encode()


def _past_entry(sequence: int, counts: Day) -> bytes:
    return state_pb2.PastDay(sequence=sequence, counts=counts).SerializeToString()


def decode_past_day(entry: bytes) -> Day:
    """The flights of a closed day, by hour."""
    return tuple(state_pb2.PastDay.FromString(entry).counts)


def encode_airport(airport: Airport) -> bytes:
    """An entry of the table of airports."""
    state = state_pb2.AirportState(sequence=airport.sequence)
    _write_flow(state.arrivals, airport.traffic.arrivals, airport.moving[0])
    _write_flow(state.departures, airport.traffic.departures, airport.moving[1])
    return state.SerializeToString()


def decode_airport(entry: bytes, past: Callable[[Direction, int], bytes | None]) -> Airport:
    """The airport of an entry; `past` gives the entry of a closed day, by direction and day."""
    state = state_pb2.AirportState.FromString(entry)
    arrivals, departures = (
        _read_flow(each, lambda day, part=part: past(part, day))  # type: ignore[misc]
        for part, each in zip(_PARTS, (state.arrivals, state.departures), strict=True)
    )
    moving = tuple(frozenset(each.day for each in flow.days) for flow in (state.arrivals, state.departures))
    return Airport(state.sequence, Traffic(arrivals, departures), (moving[0], moving[1]))


def _write_flow(into: state_pb2.FlowState, flow: DirectionTraffic, days: Iterable[int]) -> None:
    if flow.covered_from is not None:
        into.covered_from = flow.covered_from
    if flow.watermark is not None:
        into.watermark = flow.watermark
    for begin, end in flow.gaps:
        into.gaps.add(begin=begin, end=end)
    for day in sorted(days):
        into.days.add(day=day, counts=flow.counts.day(day))


def _read_flow(state: state_pb2.FlowState, past: Callable[[int], bytes | None]) -> DirectionTraffic:
    covered_from = state.covered_from if state.HasField("covered_from") else None
    watermark = state.watermark if state.HasField("watermark") else None
    days: dict[int, Day] = {}
    if covered_from is not None and watermark is not None:
        for day in range(covered_from // _DAY_S, watermark // _DAY_S - 1):
            entry = past(day)
            if entry is not None:
                days[day] = decode_past_day(entry)
    days |= {each.day: tuple(each.counts) for each in state.days}
    return DirectionTraffic(
        counts=HourlyCounts.from_days(days),
        covered_from=covered_from,
        watermark=watermark,
        gaps=tuple((gap.begin, gap.end) for gap in state.gaps),
    )


def encode_interest(sequence: int, value: bytes | None) -> bytes:
    """An entry of the table of interests: the event as it came, or that the interest was removed.

    A removed interest keeps its entry, so that a repeated older event does not bring it back.
    """
    entry = state_pb2.InterestEntry(sequence=sequence)
    if value is not None:
        entry.interest.ParseFromString(value)
    return entry.SerializeToString()


def decode_interest_entry(entry: bytes) -> tuple[int, Interest | None]:
    """The sequence, and the interest; None once it was removed.

    None also for one that this version refuses and an earlier one accepted: it must not stop the others.
    """
    state = state_pb2.InterestEntry.FromString(entry)
    if not state.HasField("interest"):
        return state.sequence, None
    try:
        return state.sequence, interest_of(state.interest)
    except UndecodableError:
        return state.sequence, None


def sequence_of(entry: bytes) -> int:
    """The sequence in an entry of any of the tables: its first field, so that the rest need not be read."""
    if not entry or entry[0] != _SEQUENCE_TAG:
        return 0  # what is 0 is not written
    sequence = shift = 0
    for byte in entry[1:11]:
        sequence |= (byte & 0x7F) << shift
        if byte < 0x80:
            return sequence
        shift += 7
    raise ValueError("an entry that ends within its sequence")
