"""Between which times alerts of a user wait in alerts.waiting.v1, as the notifier stores it. Pure."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Self

OVERFLOW_PAUSE: Final = timedelta(hours=1)
"""How long an alert waits before it is looked at again: in an hour a user gets some thousand alerts at most."""

READING_TIME: Final = timedelta(minutes=5)
"""How long a user's new alerts go on to wait behind older ones whose time has come, and which may not be read yet."""


@dataclass(frozen=True, slots=True)
class WaitingTimes:
    """The times of the alerts of one user and lane that wait; stored, so that the next owner of a partition knows them.

    They stay stored after the last of these alerts has left the topic: `keeps_waiting` says whether they still matter.
    """

    first_due: datetime
    """The time of the first of the alerts that were looked at and wait again: no later one is queued before it."""
    last_due: datetime
    """The time of the last of them: newer alerts wait behind it."""
    since_offset: int
    """The offset in alerts.raised.v1 of the first of them. Earlier events that are read again after a crash were never
    behind it."""
    again_offset: int = 0
    """The offset in alerts.waiting.v1 of the record that `first_due` is about. Earlier ones were queued."""

    def with_bounded_times(self, now: datetime) -> Self:
        """Return a copy with no time that is more than OVERFLOW_PAUSE from now: only a wrong clock wrote such times."""
        latest = now + OVERFLOW_PAUSE
        return replace(self, first_due=min(self.first_due, latest), last_due=min(self.last_due, latest))

    def keeps_waiting(self, now: datetime) -> bool:
        """Return True while newer alerts must wait behind these; False: these have been read."""
        return now < self.last_due + READING_TIME

    def encode(self) -> bytes:
        """Return the times and the offset as text, without losing precision."""
        parts = (_encode(self.first_due), _encode(self.last_due), str(self.since_offset), str(self.again_offset))
        return " ".join(parts).encode()

    @classmethod
    def decode(cls, entry: bytes) -> Self | None:
        """Return what `encode` wrote; None if the entry cannot be decoded."""
        try:
            first, last, since, again = entry.decode().split(" ")
            return cls(datetime.fromisoformat(first), datetime.fromisoformat(last), int(since), int(again))
        except ValueError:
            return None


def add_waiting_alert(times: WaitingTimes | None, now: datetime, offset: int, *, is_new: bool) -> WaitingTimes:
    """Return the times after another alert was made to wait for OVERFLOW_PAUSE from now.

    `times`: the stored ones, None if there are none. `offset`: that of the alert's event. `is_new`: True for an event
    of alerts.raised.v1, False for a record of alerts.waiting.v1, which waits again.
    """
    due = now + OVERFLOW_PAUSE
    if times is None:
        return WaitingTimes(due, due, offset if is_new else 0, 0 if is_new else offset)
    bounded = times.with_bounded_times(now)
    if not is_new:
        if bounded.first_due <= now:
            return replace(bounded, first_due=due, last_due=due, again_offset=offset)
        return replace(bounded, last_due=due)
    # A new alert is the last: it must not make older ones wait that are due and not read yet.
    return replace(bounded, last_due=due, since_offset=times.since_offset if bounded.keeps_waiting(now) else offset)


def _encode(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
