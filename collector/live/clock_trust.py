"""Whether positions may be believed to be of now: they are dated by clocks, and the machine's own may be wrong.

A receiver on the same machine is wrong together with it. Only what the source of flights answers, or OpenSky with its
positions, tells the time by another clock (the `Date` header); both comparisons are stored in one row.
"""

from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from chassis.clock import Clock
from collector.model import SourceClockRow
from collector.settled.source_state import LARGEST_CLOCK_ERROR, may_trust_clock

log = structlog.get_logger()

PROBE_EVERY: Final = timedelta(minutes=10)
"""How often a source that compares clocks is asked while the clock is not trusted: its answer may end that."""

NOT_TRUSTED: Final = (
    "this machine's clock differs from the source's, was set, or was not compared with it for two days: set it right; "
    "nothing is covered live until both agree"
)
"""Why a feed does not poll."""


class ClockTrust:
    """Decides during one term whether the machine's clock may be trusted, so that positions count as of now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.is_trusted = True
        """False: no feed covers anything."""
        self._offset: timedelta | None = None
        """What the wall clock shows beyond the elapsed time, when it was last trusted."""
        self._compared_at: datetime | None = None
        """The stored comparison when the clock was found to have been set; None: it was not set."""
        self._probed_at: timedelta | None = None

    def read(self, session: Session) -> None:
        """Read the stored comparison, set `is_trusted` to whether the clock may be trusted now, and log a change.

        A clock that was set by more than an hour is trusted again after the next comparison, or once it is set back. If
        nothing was ever compared, there is nothing to doubt it by.
        """
        now = self._clock.now()
        offset = _measure_offset(now, self._clock.elapsed())
        compared_at = session.scalar(select(SourceClockRow.compared_at))
        if self._offset is None or abs(offset - self._offset) <= LARGEST_CLOCK_ERROR:
            self._compared_at = None
        elif self._compared_at is None:
            self._compared_at = compared_at
        is_set = self._compared_at is not None and self._compared_at == compared_at
        is_trusted = may_trust_clock(session, now) and not is_set
        if is_trusted:
            self._offset, self._compared_at = offset, None
        if is_trusted is not self.is_trusted:
            log.warning("live.clock_trusted_again" if is_trusted else "live.clock_not_trusted")
        self.is_trusted = is_trusted

    def may_poll(self, compares_clock: bool) -> bool:
        """Return True if a feed may poll now, False if it must wait until the clock is trusted or a probe is due.

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


def _measure_offset(now: datetime, elapsed: timedelta) -> timedelta:
    """Return what the wall clock shows beyond the elapsed time; it changes only when the clock is set."""
    return now - datetime.fromtimestamp(0, now.tzinfo) - elapsed
