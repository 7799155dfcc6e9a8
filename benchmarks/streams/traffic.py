"""Made-up flights and interests of busy airports; some days are busier, and every run has the same flights."""

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
"""Begin of the coverage."""
PAST_WEEKS: Final = 6
"""Weeks of flights that are folded before the measurement: as many days as a state holds."""
NOW: Final = seconds(PAST) + PAST_WEEKS * 7 * 24 * HOUR_S
"""Begin of the measured flights, and the time from which interests are judged (seconds since 1970)."""

_HOURLY: Final = (10, 8, 8, 8, 10, 20, 45, 60, 60, 55, 50, 50, 50, 50, 50, 55, 60, 60, 60, 55, 50, 40, 30, 16)
"""Flights in one direction at each hour of an ordinary day: 960 in all."""
USUAL_FLIGHTS: Final = 10
"""Flights in each hour of the weeks before, where thresholds are in percent of the usual."""
_BUSIEST, _QUIETEST = 1.2, 0.8
"""Flights of the busiest and the quietest day, as multiples of an ordinary day."""


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record to fill a topic with; `flights` is the number of flights in it, if any."""

    partition: int
    key: bytes
    value: bytes
    sequence: int
    flights: int = 0


def choose_airports(number: int) -> list[str]:
    """Choose the codes of `number` made-up airports, always the same, that are spread evenly over the partitions."""
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


def build_past(direction: Direction, flights_an_hour: int = 1) -> list[Observation]:
    """Build the six weeks before NOW in one direction, with flights in each hour, in a batch for each week.

    A state that holds them has the largest size.
    """
    begin, week, step = seconds(PAST), 7 * 24 * HOUR_S, HOUR_S // flights_an_hour
    return [
        Observation(direction, at, at + week, tuple(range(at, at + week, step)), Coverage.COMPLETE)
        for at in range(begin, NOW, week)
    ]


def generate_batches(direction: Direction, size: int) -> Iterator[Observation]:
    """Generate batches of `size` flights from NOW on, without end.

    Each batch covers the time from the end of the one before to its own last flight.
    """
    begin, times = NOW, []
    for at in _generate_event_times(direction):
        times.append(at)
        if len(times) == size:
            yield Observation(direction, begin, at + 1, tuple(times), Coverage.COMPLETE)
            begin, times = at + 1, []


def _generate_event_times(direction: Direction) -> Iterator[int]:
    """Generate the times of flights from NOW on (seconds since 1970), in order and without end.

    The number of flights depends on the hour and on the day; every run generates the same times.
    """
    chance = random.Random(direction.value)
    for day in count(NOW, 24 * HOUR_S):
        busy = chance.uniform(_QUIETEST, _BUSIEST)
        for hour, ordinary in enumerate(_HOURLY):
            flights = round(ordinary * busy)
            start = day + hour * HOUR_S
            yield from (start + number * HOUR_S // flights for number in range(flights))


def build_records(observations: Iterable[Observation], names: list[str], sequence: Iterator[int]) -> Iterator[Record]:
    """Build a record of each observation at each airport, in this order; `sequence` gives their sequences."""
    for seen in observations:
        yield from _build_batch_records(build_flights_message("", seen), names, sequence)


def build_past_records(names: list[str], sequence: Iterator[int], flights_an_hour: int = 1) -> list[Record]:
    """Build the records of the past six weeks of all airports, with arrivals and departures in turn."""
    arrivals, departures = (build_past(part, flights_an_hour) for part in Direction.BOTH.parts)
    both = zip(arrivals, departures, strict=True)
    return list(build_records(chain.from_iterable(both), names, sequence))


def build_flight_records(names: list[str], size: int, messages: int, sequence: Iterator[int]) -> list[Record]:
    """Build the records after the past: `messages` batches of `size` flights, at each airport and direction in turn."""
    records: list[Record] = []
    turns = zip(generate_batches(Direction.ARRIVALS, size), generate_batches(Direction.DEPARTURES, size), strict=True)
    while len(records) < messages:
        records += build_records(next(turns), names, sequence)
    return records[:messages]


def _build_batch_records(
    message: flights_pb.FlightsObserved, names: list[str], sequence: Iterator[int]
) -> list[Record]:
    """Build a record of the same batch at each airport, in one message whose airport is changed, which is faster."""
    records = []
    for airport in names:
        message.airport = airport
        partition = partition_of(airport, FLIGHTS_OBSERVED)
        records.append(
            Record(partition, airport.encode(), message.SerializeToString(), next(sequence), len(message.flights))
        )
    return records


def build_quiet_interests(
    names: list[str], number: int, shares: list[float] | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """Build keys and values of `number` interests that never fire here.

    `shares`: the part of them that each airport has, in the order of `names`; None: they are spread evenly.
    They have all directions and windows, and runs of 1 to 3; of three, one has a high threshold, one a low, one both.
    """
    kinds = [
        _build_interest(direction, window, for_windows, high, low)
        for direction in Direction
        for window in Window
        for for_windows in (1, 2, 3)
        for high, low in _choose_quiet_thresholds(direction, window)
    ]
    return _build_interests(names, number, kinds, "4000", shares)


def build_quiet_percents(names: list[str], number: int) -> Iterator[tuple[bytes, bytes]]:
    """Build keys and values of `number` interests with thresholds in percent, spread evenly over the airports.

    They have the shapes of `build_quiet_interests`, and never fire if USUAL_FLIGHTS are usual in each hour.
    """
    busiest = max(_HOURLY) * 100 // USUAL_FLIGHTS * 2
    kinds = []
    for direction in Direction:
        for window in Window:
            for for_windows in (1, 2, 3):
                for step in range(100):
                    high, low = busiest + step * 50, 1 + step * 49 // 100
                    for percents in ((high, None), (None, low), (high, low)):
                        kind = _build_interest(direction, window, for_windows, None, None)
                        _set_percents(kind, *percents)
                        kinds.append(kind)
    return _build_interests(names, number, kinds, "7000")


def _set_percents(interest: interests_pb.InterestSet, high: int | None, low: int | None) -> None:
    """Set the thresholds in percent of an interest; None: no such threshold."""
    if high is not None:
        interest.high_percent = high
    if low is not None:
        interest.low_percent = low


def build_watching_interests(names: list[str], number: int) -> Iterator[tuple[bytes, bytes]]:
    """Build keys and values of `number` interests, spread evenly over the airports, that fire on the busier days.

    They have high thresholds of a day or an hour alone, in one direction; some fire each morning.
    """
    day, hour = sum(_HOURLY), max(_HOURLY)
    levels = [(Window.ONE_DAY, day * share // 100) for share in range(108, 118)]
    levels += [(Window.ONE_HOUR, hour * share // 100) for share in range(108, 118)]
    levels += [(Window.ONE_HOUR, hour // 4)]  # fires each morning
    kinds = [
        _build_interest(direction, window, 1, high, None)
        for window, high in levels
        for direction in Direction.BOTH.parts
    ]
    return _build_interests(names, number, kinds, "5000")


def build_alarmed_interests(airport: str, number: int, high: int) -> Iterator[tuple[bytes, bytes]]:
    """Build keys and values of `number` interests in an airport's departures that all fire with flight `high` + 1."""
    return _build_interests(
        [airport], number, [_build_interest(Direction.DEPARTURES, Window.ONE_DAY, 1, high, None)], "6000"
    )


def _choose_quiet_thresholds(direction: Direction, window: Window) -> Iterator[tuple[int | None, int | None]]:
    """Choose 300 pairs (high, low) of thresholds that no window of the made-up flights breaches; None: no threshold."""
    flows = len(direction.parts)
    hours = [_HOURLY[start : start + window.hours] for start in range(0, 24, window.hours)]
    most = int(max(map(sum, hours)) * flows * _BUSIEST) + window.hours * flows
    least = int(min(map(sum, hours)) * flows * _QUIETEST) - window.hours * flows
    for step in range(1, 101):
        high, low = most + most * step // 50, least * step // 101
        yield from ((high, None), (None, low), (high, low))


def _build_interest(
    direction: Direction, window: Window, for_windows: int, high: int | None, low: int | None
) -> interests_pb.InterestSet:
    """Build an interest, effective from NOW on, without ids and airport; `high` or `low` None: no such threshold."""
    interest = interests_pb.InterestSet(
        direction=flights_pb.Direction.Value(f"DIRECTION_{direction.name}"),
        window=interests_pb.Window.Value(f"WINDOW_{window.name}"),
        high=high,
        low=low,
        for_windows=for_windows,
        version=1,
    )
    interest.effective_from.seconds = NOW
    return interest


def _build_interests(
    names: list[str],
    number: int,
    kinds: list[interests_pb.InterestSet],
    family: str,
    shares: list[float] | None = None,
) -> Iterator[tuple[bytes, bytes]]:
    """Build keys and values of `number` interests, airport by airport, with the kinds in a shuffled order in turn.

    Every airport has about as many of each kind. `family` is a part of the interests' ids. `shares`: the part of the
    interests that each airport has, rounded; None: all have about as many.
    """
    share, rest = divmod(number, len(names))
    for place, airport in enumerate(names):
        here = share + (place < rest) if shares is None else round(number * shares[place])
        tails = [_encode_without_ids(kind, airport) for kind in kinds]
        # Shuffled, because sorted thresholds would fill the index from one end.
        random.Random(place).shuffle(tails)
        for index in range(here):
            interest_id = f"{index:08x}-0000-{family}-8000-{place:012x}".encode()
            user_id = f"{index:08x}-0001-4000-8000-{place:012x}".encode()
            value = b"\x0a\x24%b\x12\x24%b%b" % (interest_id, user_id, tails[index % len(tails)])
            yield b"%b/%b" % (airport.encode(), interest_id), value


def _encode_without_ids(kind: interests_pb.InterestSet, airport: str) -> bytes:
    """Encode an InterestSet without its ids, which the caller adds as bytes: a million messages would take long."""
    kind.airport = airport
    return kind.SerializeToString()
