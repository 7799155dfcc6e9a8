"""The measures of thresholds: flights, or percent of what is usual; and the thresholds of an interest by measure."""

from enum import StrEnum
from typing import NamedTuple, Protocol, assert_never

from domain.alerts import Bound, HasThresholds


class Measure(StrEnum):
    """The unit of a threshold. An interest has at most one threshold of each bound, in one of these."""

    FLIGHTS = "flights"
    """The count of a window is compared with the threshold itself."""
    PERCENT = "percent"
    """The count is compared with this part of what is usual in the window."""


class MeasuredThreshold(NamedTuple):
    """One threshold of an interest: its measure, its bound, and its value in that measure."""

    measure: Measure
    bound: Bound
    value: int
    """Flights or percent."""


class HasMeasuredThresholds(HasThresholds, Protocol):
    """An interest, or a description of one, with at most one threshold of each bound; None: not in this measure."""

    @property
    def high_percent(self) -> int | None:
        """The high threshold in percent of what is usual; None: it has none."""
        ...

    @property
    def low_percent(self) -> int | None:
        """The low threshold in percent of what is usual; None: it has none."""
        ...


def find_measure(interest: HasMeasuredThresholds, bound: Bound) -> Measure:
    """Return the measure of an interest's threshold of one bound; FLIGHTS also if it has no such threshold."""
    return Measure.FLIGHTS if _find_percent(interest, bound) is None else Measure.PERCENT


def list_measured_thresholds(interest: HasMeasuredThresholds) -> list[MeasuredThreshold]:
    """Return all thresholds of an interest: HIGH first, then LOW."""
    found: list[MeasuredThreshold] = []
    for bound in Bound:
        flights, percent = bound.threshold_of(interest), _find_percent(interest, bound)
        if flights is not None:
            found.append(MeasuredThreshold(Measure.FLIGHTS, bound, flights))
        elif percent is not None:
            found.append(MeasuredThreshold(Measure.PERCENT, bound, percent))
    return found


def _find_percent(interest: HasMeasuredThresholds, bound: Bound) -> int | None:
    """Return the interest's threshold of a bound in percent, or None if it has none."""
    match bound:
        case Bound.HIGH:
            return interest.high_percent
        case Bound.LOW:
            return interest.low_percent
        case _:
            assert_never(bound)


def compute_percent_level(bound: Bound, flights: int, doubled_usual: int) -> int:
    """Return the level of a count: a threshold in percent is breached as if the level were a count of flights.

    HIGH p is breached by c flights of a usual u if 100 c > p u, that is if p is below 100 c / u, rounded up. LOW p is
    breached if 100 c < p u, that is if p is above 100 c / u, rounded down. `doubled_usual`: 2 u, which is above 0.
    """
    match bound:
        case Bound.HIGH:
            return -(-200 * flights // doubled_usual)
        case Bound.LOW:
            return 200 * flights // doubled_usual
        case _:
            assert_never(bound)


def convert_to_flights(bound: Bound, percent: int, doubled_usual: int) -> int:
    """Return the number of flights that a percent makes of a usual: more (HIGH), or fewer (LOW), breach the threshold.

    `doubled_usual`: twice the usual count.
    """
    match bound:
        case Bound.HIGH:
            return percent * doubled_usual // 200
        case Bound.LOW:
            return -(-percent * doubled_usual // 200)
        case _:
            assert_never(bound)
