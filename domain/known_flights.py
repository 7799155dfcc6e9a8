"""Known flights: fingerprints of the counted flights, by which a flight is recognised when it is retracted.

A day's fingerprints are packed into bytes, 4 for each flight, because they are written with each batch.
"""

import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, islice, pairwise
from operator import le
from typing import Final
from zlib import crc32

from domain.hourly_counts import (
    DAY_HOURS,
    DAY_QUARTERS,
    QUARTER_S,
    HourlyCounts,
    QuarterDay,
    SplitDays,
    count_by_hour,
    split_no_day,
)
from domain.windows import HOUR_S

KnownFlights = Mapping[int, bytes]
"""By day (since 1970) of the event time, the fingerprints of the flights; a day without flights is left out.

A flight that was published twice has its fingerprint twice.
"""

_DAY_S: Final = DAY_HOURS * HOUR_S
_FINGERPRINT_BYTES: Final = 4


def compute_fingerprints(addresses: Sequence[str], event_times: Sequence[int]) -> tuple[int, ...]:
    """Return the fingerprints of flights: 32 bits of the aircraft's address and the event time (seconds since 1970).

    A fingerprint is the CRC-32 of the address with the time as its initial value; it is the same on every machine.
    Among the thousand flights of a day another flight has the same fingerprint with a probability of one in four
    million. Raises ValueError unless there are as many addresses as event times.
    """
    if len(addresses) != len(event_times):
        raise ValueError("a flight has one address and one event time")
    # crc32 takes the lowest 32 bits of its initial value. In C throughout: all flights of all airports pass here.
    return tuple(map(crc32, map(str.encode, addresses), event_times))


def add_flights(known: KnownFlights, times: Sequence[int], fingerprints: Sequence[int], first_day: int) -> KnownFlights:
    """Return the known flights with more flights, given by event time (seconds since 1970) and fingerprint.

    Flights before `first_day` (since 1970) are left out, and all if there are no fingerprints. Returns `known` itself
    if nothing is added.
    """
    if not times or not fingerprints:
        return known
    added = {
        day: known.get(day, b"") + struct.pack(f"<{len(more)}I", *more)
        for day, more in _split_by_day(times, fingerprints)
        if day >= first_day
    }
    return {**known, **added} if added else known


def _split_by_day(times: Sequence[int], fingerprints: Sequence[int]) -> Iterable[tuple[int, Sequence[int]]]:
    """Return the fingerprints of flights by day (since 1970) of their event times, each day once, in their order."""
    first, last = min(times) // _DAY_S, max(times) // _DAY_S
    if first == last:  # most batches
        return [(first, fingerprints)]
    if all(map(le, times, islice(times, 1, None))):  # most of the others: slices are faster than a loop
        ends = [bisect_left(times, (day + 1) * _DAY_S) for day in range(first, last + 1)]
        days = zip(count(first), pairwise([0, *ends]), strict=False)
        return [(day, fingerprints[begin:end]) for day, (begin, end) in days if begin < end]
    by_day: dict[int, list[int]] = {}
    for at, fingerprint in zip(times, fingerprints, strict=True):
        by_day.setdefault(at // _DAY_S, []).append(fingerprint)
    return by_day.items()


def remove_flight(known: KnownFlights, event_time: int, fingerprint: int) -> KnownFlights | None:
    """Return the known flights without one flight with this event time and fingerprint; None if none is known."""
    day, wanted = event_time // _DAY_S, fingerprint.to_bytes(_FINGERPRINT_BYTES, "little")
    packed = known.get(day, b"")
    at = packed.find(wanted)
    while at % _FINGERPRINT_BYTES and at != -1:
        at = packed.find(wanted, at + 1)
    if at == -1:
        return None
    rest = packed[:at] + packed[at + _FINGERPRINT_BYTES :]
    days = {**known, day: rest}
    if not rest:
        del days[day]
    return days


def drop_days(known: KnownFlights, first_day: int) -> KnownFlights:
    """Return the known flights without the days before `first_day` (since 1970); `known` itself if it has none."""
    if not known or min(known) >= first_day:
        return known
    return {day: packed for day, packed in known.items() if day >= first_day}


def retract_flights(
    retracted: Iterable[tuple[int, int]],
    counts: HourlyCounts,
    known: KnownFlights,
    splits: SplitDays = split_no_day,
) -> tuple[HourlyCounts, KnownFlights]:
    """Return the counts and the known flights without the retracted flights that are known.

    `retracted`: event time (seconds since 1970) and fingerprint of each. `splits`: the days with counts by quarter.
    """
    taken: Counter[int] = Counter()
    taken_quarters: Counter[int] = Counter()
    times: list[int] = []
    for at, fingerprint in retracted:
        hour, quarter = at // HOUR_S, at // QUARTER_S
        without = remove_flight(known, at, fingerprint)
        # Another flight may have the same fingerprint: no count falls below 0 because of it.
        if without is None or counts.total(hour, 1) <= taken[hour]:
            continue
        day = counts.day(at // _DAY_S)
        if isinstance(day, QuarterDay) and day.quarters[quarter % DAY_QUARTERS] <= taken_quarters[quarter]:
            continue
        known = without
        taken[hour] += 1
        taken_quarters[quarter] += 1
        times.append(at)
    hours, quarters = count_by_hour(times, splits)
    return counts.with_changes(_negate(hours), _negate(quarters)), known


def _negate(flights: Mapping[int, int]) -> dict[int, int]:
    """Return numbers of flights to be taken away, as changes."""
    return {at: -number for at, number in flights.items()}
