"""Which stretches of time to collect. Pure: no clock, no database."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from domain.interests import Direction
from domain.windows import Window

DAY: Final = timedelta(days=1)

FARTHEST_BACK: Final = 30 * DAY
"""How far before now the first collection of an airport may begin."""

CORRECTED_WITHIN: Final = 7 * DAY
"""A correction that could not be afforded for so long after it was due is given up: nobody acts upon it any more."""


@dataclass(frozen=True, slots=True)
class Lags:
    """How long the source takes to know."""

    departures: timedelta
    arrivals: timedelta
    """After midnight (UTC), for the nightly batch."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch [begin, end) to collect, within one UTC day and in whole seconds."""

    airport: str
    direction: Direction
    begin: datetime
    end: datetime


def day_of(instant: datetime) -> datetime:
    """The UTC midnight that the instant's day begins with."""
    return Window.ONE_DAY.start_of(instant)


def known_until(direction: Direction, now: datetime, lags: Lags) -> datetime:
    """Up to where the source knows every flight: departures lag, arrivals are of closed days only."""
    if direction is Direction.DEPARTURES:
        return (now - lags.departures).replace(microsecond=0)
    return day_of(now - lags.arrivals)


def first_begin(wanted_from: datetime, now: datetime) -> datetime:
    """Where the first collection of an airport begins: with yesterday, or with the earliest day that somebody wants."""
    return max(min(day_of(wanted_from), day_of(now) - DAY), day_of(now - FARTHEST_BACK))


def by_days(airport: str, direction: Direction, begin: datetime, end: datetime) -> Iterator[Interval]:
    """[begin, end) split at UTC midnights, for the source answers (and charges) by the day."""
    while begin < end:
        cut = min(day_of(begin) + DAY, end)
        yield Interval(airport, direction, begin, cut)
        begin = cut


def resumption(covered_until: datetime | None, wanted_from: datetime, now: datetime) -> datetime:
    """Where collection goes on: at the cursor, unless a first collection would begin later.

    What lies between the two is a gap: nobody wants it, or it lies too far back, and the source charges for every day.
    """
    begin = first_begin(wanted_from, now)
    return begin if covered_until is None else max(covered_until, begin)


def correction_due(
    corrected_until: datetime, covered_until: datetime, now: datetime, after: timedelta
) -> tuple[datetime, datetime] | None:
    """The oldest stretch to collect once more: of one covered day, whose end is `after` behind. Never where it is 0."""
    begin = max(corrected_until, day_of(now - after - CORRECTED_WITHIN))
    end = day_of(begin) + DAY
    return (begin, end) if after and end <= covered_until and end + after <= now else None


def corrected_by(
    corrected_until: datetime, begin: datetime, end: datetime, now: datetime, after: timedelta
) -> datetime:
    """`corrected_until` after a collection of [begin, end) of one day.

    It corrects what it is a repetition of; and what is collected for the first time so late needs no repetition.
    """
    late_enough = after and day_of(begin) + DAY + after <= now
    return end if corrected_until >= begin and late_enough else corrected_until
