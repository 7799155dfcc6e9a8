"""Whether positions may be believed to be of now: they are dated by clocks, and the machine's own may be wrong.

A receiver on the same machine is wrong together with it. Only what the source of flights answers, or OpenSky with its
positions, tells the time by another clock (the `Date` header); both comparisons are stored in one row.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import update
from sqlalchemy.orm import Session

from chassis.clock import Clock, HeldClock, ScaledClock
from collector.intervals import DAY
from collector.model import SourceClockRow
from collector.settled.source_state import (
    LARGEST_CLOCK_ERROR,
    ClockComparison,
    load_clock_checked,
    load_clock_comparison,
    may_trust_clock,
    store_clock_kept,
)

log = structlog.get_logger()

PROBE_EVERY: Final = timedelta(minutes=10)
"""How often a source that compares clocks is asked while the clock is not trusted: its answer may end that."""

NOT_TRUSTED: Final = (
    "this machine's clock differs from the source's, was set, or nothing has shown for two days before this start that "
    "it was not: set it right; nothing is covered live until both agree"
)
"""Why a feed does not poll."""

_LONGEST_PROOF: Final = 2 * DAY
"""Age up to which a comparison of before this process shows that the clock is right."""
_KEPT_EVERY: Final = timedelta(hours=1)
"""How often it is stored that the clock was not set since the last comparison."""
_LARGEST_UNNOTICED: Final = timedelta(seconds=10)
"""Change of the offset up to which the clock counts as not set: its two readings are not of one instant."""
_STORED_WITHIN: Final = timedelta(minutes=10)
"""Time within which a comparison is stored, and so found by the next reading."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """A reading of one moment: the clock's offset, and the stored comparison with the source's clock."""

    elapsed: timedelta
    offset: timedelta
    """The wall clock's time less the elapsed time; it changes only when the clock is set."""
    comparison: ClockComparison | None


class ClockTrust:
    """Decides while the process runs whether the machine's clock may be trusted, so that positions count as of now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.is_trusted = True
        """False: no feed covers anything."""
        self._last: _Reading | None = None
        self._compared_offset: timedelta | None = None
        """The offset when the stored comparison was made. None: that was before this process, or never."""
        self._probed_at: timedelta | None = None
        self._kept_at: timedelta | None = None

    def read(self, session: Session) -> None:
        """Read the stored comparison, set `is_trusted` to whether the clock may be trusted now, and log a change.

        The error of the clock is that of the last comparison, plus what the clock was set by since; it must be at most
        an hour. However old a comparison of this process is, it holds: the elapsed time shows whether the clock was
        set. One of before this process holds for two days, counted from when a process that had made it, or believed
        it, ran last (`keep`). If nothing was ever compared, there is nothing to doubt the clock by.
        """
        now, comparison = self._clock.now(), load_clock_comparison(session)
        reading = self._read_clock(now, comparison)
        if comparison is None:
            self._compared_offset = None
            is_trusted = True
        else:
            if self._last is not None and comparison != self._last.comparison:
                self._compared_offset = _find_compared_offset(comparison.at, self._last, reading)
            is_trusted = self._is_right(session, now, comparison, reading.offset)
        if is_trusted is not self.is_trusted:
            log.warning("live.clock_trusted_again" if is_trusted else "live.clock_not_trusted")
        self.is_trusted, self._last = is_trusted, reading

    def _read_clock(self, now: datetime, comparison: ClockComparison | None) -> _Reading:
        """Return the reading of the clock, which shows `now`, together with the stored comparison.

        A demo's clock that has halted at its stop was not set: its offset stays what it was before.
        """
        if self._last is not None and isinstance(self._clock, ScaledClock | HeldClock) and self._clock.is_halted():
            offset = self._last.offset
            return _Reading(_measure_offset(now, offset), offset, comparison)
        elapsed = self._clock.elapsed()
        return _Reading(elapsed, _measure_offset(now, elapsed), comparison)

    def _is_right(self, session: Session, now: datetime, comparison: ClockComparison, offset: timedelta) -> bool:
        """Return True if the clock is at most an hour off now, as far as known; False if it may be off by more.

        A comparison of before this process is believed, if it is not old nor of the future, to be of the same offset.
        """
        if self._compared_offset is None:
            if comparison.at - now > LARGEST_CLOCK_ERROR or not may_trust_clock(session, now):
                return False
            if now - load_clock_checked(session, comparison) <= _LONGEST_PROOF:
                self._compared_offset = offset
            return True
        error = timedelta(seconds=comparison.error_s) + offset - self._compared_offset
        return abs(error) <= LARGEST_CLOCK_ERROR

    def must_keep(self) -> bool:
        """Return True if `keep` is due: an hour after the last time, while the clock was not set since it was compared.

        False also if nothing was compared, or the clock is not trusted.
        """
        if self._last is None or self._last.comparison is None or self._compared_offset is None:
            return False
        if abs(self._last.offset - self._compared_offset) > _LARGEST_UNNOTICED:
            return False
        return self.is_trusted and (self._kept_at is None or self._clock.elapsed() - self._kept_at >= _KEPT_EVERY)

    def keep(self, session: Session) -> None:
        """Store that the clock was not set since the last comparison, for the next process; after `must_keep`."""
        if self._last is not None and self._last.comparison is not None:
            store_clock_kept(session, self._last.comparison, self._clock.now())
        self._kept_at = self._clock.elapsed()

    def begin_poll(self, compares_clock: bool) -> bool:
        """Begin a poll of a feed if it may be made now, and return True.

        False: it must wait until the clock is trusted, or a probe is due.

        While the clock is not trusted, only a feed that compares clocks may poll, once every PROBE_EVERY: returning
        True then counts as that poll. Its answer counts only if its own time agrees with the machine's.
        """
        if self.is_trusted:
            return True
        elapsed = self._clock.elapsed()
        if not compares_clock or (self._probed_at is not None and elapsed - self._probed_at < PROBE_EVERY):
            return False
        self._probed_at = elapsed
        return True


def update_comparison(session: Session, error: timedelta, now: datetime) -> None:
    """Store a comparison of the clocks in place of the last one; do nothing if the source of flights has made none yet.

    Only that one inserts the row: two at once would fail.
    """
    session.execute(update(SourceClockRow).values(compared_at=now, error_s=error.total_seconds()))


def _find_compared_offset(at: datetime, last: _Reading, reading: _Reading) -> timedelta:
    """Return the clock's offset when it showed `at`, at a moment between the last reading and this one.

    That the clock was set in between is told by `at` itself: with the offset of before, or else with that of now, it
    must fall between the two readings. If both fit, as after a long pause, the one of before is returned: then the
    clock is not trusted too early.
    """
    lowest = _measure_offset(at, reading.elapsed) - _STORED_WITHIN
    highest = _measure_offset(at, last.elapsed) + _STORED_WITHIN
    if lowest <= last.offset <= highest:
        return last.offset
    return min(max(reading.offset, lowest), highest)


def _measure_offset(now: datetime, elapsed: timedelta) -> timedelta:
    """Return what the wall clock shows beyond the elapsed time; it changes only when the clock is set."""
    return now - datetime.fromtimestamp(0, now.tzinfo) - elapsed
