"""Made-up flights and interests: the same airport day after day, busier on some days, always the same for a size."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, count
from typing import Final

from domain.interests import Direction
from domain.traffic import Coverage, Observation
from domain.windows import HOUR_S, Window, seconds
from tests.streams.events import build_flights_message
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.topics import FLIGHTS_OBSERVED, JOIN_PARTITIONS, partition_of

PAST: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""Where coverage begins."""
PAST_WEEKS: Final = 6
"""So long is what is known of an airport before anything is measured: all the days that a state remembers."""
NOW: Final = seconds(PAST) + PAST_WEEKS * 7 * 24 * HOUR_S
"""Where the flights begin that are measured, and from where on interests are judged (seconds since 1970)."""

_HOURLY: Final = (10, 8, 8, 8, 10, 20, 45, 60, 60, 55, 50, 50, 50, 50, 50, 55, 60, 60, 60, 55, 50, 40, 30, 16)
"""Flights in one direction at each hour of an ordinary day: 960 in all."""
_BUSIEST, _QUIETEST = 1.2, 0.8
"""What a day may have, in ordinary days."""


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record of one of the stream's inputs."""

    partition: int
    key: bytes
    value: bytes
    sequence: int
    flights: int = 0


def airports(number: int) -> list[str]:
    """Codes of made-up airports, spread evenly over the partitions."""
    wanted = dict.fromkeys(range(JOIN_PARTITIONS), number // JOIN_PARTITIONS)
    for partition in range(number % JOIN_PARTITIONS):
        wanted[partition] += 1
    found: list[str] = []
    for code in count():
        if len(found) == number:
            return found
        airport = f"B{code:03d}" if code < 1000 else f"{code:04d}"
        partition = partition_of(airport, FLIGHTS_OBSERVED)
        if wanted[partition]:
            wanted[partition] -= 1
            found.append(airport)
    raise AssertionError("count() does not end")


def past(direction: Direction) -> list[Observation]:
    """Six weeks with a flight in each hour, in few batches: they make a state as large as it becomes."""
    begin, week = seconds(PAST), 7 * 24 * HOUR_S
    return [
        Observation(direction, at, at + week, tuple(range(at, at + week, HOUR_S)), Coverage.COMPLETE)
        for at in range(begin, NOW, week)
    ]


def batches(direction: Direction, size: int) -> Iterator[Observation]:
    """Flights from NOW on, `size` in each batch, without end; each batch covers up to its last flight."""
    begin, times = NOW, []
    for at in _event_times(direction):
        times.append(at)
        if len(times) == size:
            yield Observation(direction, begin, at + 1, tuple(times), Coverage.COMPLETE)
            begin, times = at + 1, []


def _event_times(direction: Direction) -> Iterator[int]:
    chance = random.Random(direction.value)
    for day in count(NOW, 24 * HOUR_S):
        busy = chance.uniform(_QUIETEST, _BUSIEST)
        for hour, ordinary in enumerate(_HOURLY):
            flights = round(ordinary * busy)
            start = day + hour * HOUR_S
            yield from (start + number * HOUR_S // flights for number in range(flights))


def records_of(observations: Iterable[Observation], names: list[str], sequence: Iterator[int]) -> Iterator[Record]:
    """Each observation at each of the airports, with sequences from `sequence`."""
    for seen in observations:
        yield from _records(build_flights_message("", seen), names, sequence)


def past_records(names: list[str], sequence: Iterator[int]) -> list[Record]:
    """The past of all airports."""
    both = zip(past(Direction.ARRIVALS), past(Direction.DEPARTURES), strict=True)
    return list(records_of(chain.from_iterable(both), names, sequence))


def flight_records(names: list[str], size: int, messages: int, sequence: Iterator[int]) -> list[Record]:
    """What follows: `messages` batches of `size` flights; the airports and directions take turns."""
    records: list[Record] = []
    turns = zip(batches(Direction.ARRIVALS, size), batches(Direction.DEPARTURES, size), strict=True)
    while len(records) < messages:
        records += records_of(next(turns), names, sequence)
    return records[:messages]


def _records(message: flights_pb.FlightsObserved, names: list[str], sequence: Iterator[int]) -> list[Record]:
    """The same batch at each of the airports: to make it once is quicker."""
    records = []
    for airport in names:
        message.airport = airport
        partition = partition_of(airport, FLIGHTS_OBSERVED)
        records.append(
            Record(partition, airport.encode(), message.SerializeToString(), next(sequence), len(message.flights))
        )
    return records


def quiet_interests(names: list[str], number: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of `number` interests, as many at each airport, that no day here makes fire.

    Of all directions, windows and runs of 1 to 3; every other one has a threshold above, every third one below.
    """
    kinds = [
        _wish(direction, window, for_windows, high, low)
        for direction in Direction
        for window in Window
        for for_windows in (1, 2, 3)
        for high, low in _quiet_thresholds(direction, window)
    ]
    return _interests(names, number, kinds, "4000")


def watching_interests(names: list[str], number: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of `number` interests, as many at each airport, that fire now and then: on the busier days."""
    day, hour = sum(_HOURLY), max(_HOURLY)
    levels = [(Window.ONE_DAY, day * share // 100) for share in range(108, 118)]
    levels += [(Window.ONE_HOUR, hour * share // 100) for share in range(108, 118)]
    levels += [(Window.ONE_HOUR, hour // 4)]  # this one each morning
    kinds = [_wish(direction, window, 1, high, None) for window, high in levels for direction in Direction.BOTH.parts]
    return _interests(names, number, kinds, "5000")


def alarmed_interests(airport: str, number: int, high: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of `number` interests in one airport's departures that fire together, with flight `high` + 1."""
    return _interests([airport], number, [_wish(Direction.DEPARTURES, Window.ONE_DAY, 1, high, None)], "6000")


def _quiet_thresholds(direction: Direction, window: Window) -> Iterator[tuple[int | None, int | None]]:
    flows = len(direction.parts)
    hours = [_HOURLY[start : start + window.hours] for start in range(0, 24, window.hours)]
    most = int(max(map(sum, hours)) * flows * _BUSIEST) + window.hours * flows
    least = int(min(map(sum, hours)) * flows * _QUIETEST) - window.hours * flows
    for step in range(1, 101):
        high, low = most + most * step // 50, least * step // 101
        yield from ((high, None), (None, low), (high, low))


def _wish(
    direction: Direction, window: Window, for_windows: int, high: int | None, low: int | None
) -> interests_pb.InterestSet:
    wish = interests_pb.InterestSet(
        direction=flights_pb.Direction.Value(f"DIRECTION_{direction.name}"),
        window=interests_pb.Window.Value(f"WINDOW_{window.name}"),
        high=high,
        low=low,
        for_windows=for_windows,
        version=1,
    )
    wish.effective_from.seconds = NOW
    return wish


def _interests(
    names: list[str], number: int, kinds: list[interests_pb.InterestSet], family: str
) -> Iterator[tuple[bytes, bytes]]:
    """In the order of the airports, so that of each kind every airport has as many. `family` keeps the ids apart."""
    share, rest = divmod(number, len(names))
    for place, airport in enumerate(names):
        tails = [_without_ids(kind, airport) for kind in kinds]
        # One after the other would fill the thresholds from one end.
        random.Random(place).shuffle(tails)
        for each in range(share + (place < rest)):
            interest_id = f"{each:08x}-0000-{family}-8000-{place:012x}".encode()
            user_id = f"{each:08x}-0001-4000-8000-{place:012x}".encode()
            value = b"\x0a\x24%b\x12\x24%b%b" % (interest_id, user_id, tails[each % len(tails)])
            yield b"%b/%b" % (airport.encode(), interest_id), value


def _without_ids(kind: interests_pb.InterestSet, airport: str) -> bytes:
    """All of an InterestSet but its first two fields. They are put before it as bytes: a million messages take long."""
    kind.airport = airport
    return kind.SerializeToString()
