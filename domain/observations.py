"""Observations: the batches of flights that the collector tells about an airport, each of one direction and interval.

Times are whole seconds since 1970 (UTC), because this is the hot path.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import compress
from typing import Final

from domain.interests import Direction
from domain.live_record import Provenance
from domain.windows import HOUR_S

LONGEST_INTERVAL_S: Final = 7 * 24 * HOUR_S
"""The longest interval that one batch of flights covers; the source itself gives two days at a time."""

RETAINED_HOURS: Final = 40 * 24
"""Hours before the watermark for which hourly counts are retained: all windows before are closed and judged.
It exceeds the age that an interest's `effective_from` may have, and the time that the rule looks back from a new
window: the longest interval, and before it MAX_FOR_WINDOWS of the longest windows and one more."""


class Coverage(StrEnum):
    """The coverage that an observation states for its interval."""

    PARTIAL = "partial"
    """More observations of the interval follow."""
    COMPLETE = "complete"
    """All flights of the interval that the source will give have been published. This fills earlier gaps in it."""
    GAP = "gap"
    """The source does not give all flights of the interval, unless a later COMPLETE interval fills it."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A batch of new flights of one direction, with the interval [begin, end) that was collected and its coverage."""

    direction: Direction
    begin: int
    """Seconds since 1970."""
    end: int
    event_times: tuple[int, ...]
    """Seconds since 1970, one for each distinct flight. Times outside `valid_times` are not counted."""
    coverage: Coverage
    fingerprints: tuple[int, ...] = ()
    """One for each event time, by which a flight is recognised when it is retracted. Empty: none can be retracted."""
    retracted: tuple[tuple[int, int], ...] = ()
    """Event time and fingerprint of flights that were published before and are taken back now. They are taken away
    before the new flights are counted. A flight that is not known, or no more, has no effect."""
    provenance: Provenance = Provenance.SETTLED
    """The source of its flights and its coverage."""
    is_record_part: bool = False
    """True if it is PARTIAL and one of the parts in which the settled record of its interval comes; the last one is
    COMPLETE. False: it is whole, or it is not the record."""
    is_history: bool = False
    """True if its flights count only for what is usual: a window that overlaps its interval is not judged, unless the
    overlap was covered before. False: its windows are judged."""
    span: tuple[int, int] | None = field(init=False, compare=False, repr=False)
    """The earliest and the latest of its event times; None: it has no flights. Computed once, because a fold reads it
    several times."""

    def __post_init__(self) -> None:
        """Compute `span`."""
        span = (min(self.event_times), max(self.event_times)) if self.event_times else None
        object.__setattr__(self, "span", span)

    @property
    def cause(self) -> Provenance:
        """The provenance of the alerts that it causes: RECENT if its flights came before the record of their day.

        Only a COMPLETE message, or a part of one, is the settled record; only the record retracts flights.
        """
        is_partial = self.coverage is Coverage.PARTIAL and not self.is_record_part and not self.retracted
        return Provenance.RECENT if is_partial and self.provenance is Provenance.SETTLED else self.provenance

    @property
    def valid_times(self) -> range:
        """The seconds in which its flights may lie: in the interval, or late, but still within the retained hours.

        The collector publishes no other times. A time outside is an error, and one flight of the year 9999 must neither
        change a window of the far future nor take the memory of all the hours until then.
        """
        return range(self.begin - RETAINED_HOURS * HOUR_S, min(self.end, self.begin + LONGEST_INTERVAL_S))

    def list_valid_times(self) -> tuple[int, ...]:
        """Return the event times that lie within `valid_times`, in their order; only these flights are counted."""
        return self.list_valid_flights()[0]

    def list_valid_flights(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the event times that lie within `valid_times`, in their order, and the fingerprints of these flights.

        Without fingerprints the second tuple is empty.
        """
        times, fingerprints, valid = self.event_times, self.fingerprints, self.valid_times
        if self.span is None or (self.span[0] >= valid.start and self.span[1] < valid.stop):
            return times, fingerprints
        within = [at in valid for at in times]
        return tuple(compress(times, within)), tuple(compress(fingerprints, within))

    def may_correct(self, watermark: int | None) -> bool:
        """Return True if it may change known counts: it has flights before `watermark`, or retracts flights.

        False if it does neither, or if nothing was covered (`watermark` None). Known counts may end within the
        watermark's hour: with a quarter of it, where windows are cut by quarters.
        """
        if watermark is None:
            return False
        return bool(self.retracted) or (self.span is not None and self.span[0] < watermark)
