"""The state that the notifier keeps of each user between mails, and its encoding. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from uuid import UUID, uuid5

from google.protobuf.message import DecodeError

from towerwatch.notifier.v1 import state_pb2

HOUR: Final = timedelta(hours=1)

LONGEST_CORRECTIONS_PAUSE: Final = timedelta(days=1)
"""The longest time that a setting may keep between two mails of corrections to one user."""

_FLIGHT_TIME: Final = timedelta(seconds=10)
"""How long a mail that is in flight is given, before somebody looks again whether it is sent."""

_OVERDUE: Final = timedelta(minutes=2)
"""How long after its time a batch of the retry topic counts as waiting: its record may be lost."""

_NAMESPACE: Final = UUID("0f0d2b7e-6b0c-5d55-8a38-2f9f6b1d7c40")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def compute_batch_id(alert_ids: Iterable[UUID]) -> UUID:
    """Return the id of a batch of alerts: a UUIDv5 of the set of its alert ids, independent of their order."""
    return uuid5(_NAMESPACE, " ".join(sorted(str(each) for each in alert_ids)))


@dataclass(frozen=True, slots=True)
class UserState:
    """The mails of one user: sent within the last hour, in flight, and deferred to the retry topic.

    The value of an entry in the store's table of users; `with…` and `without…` return changed copies.
    """

    mailed_at: tuple[datetime, ...] = ()
    """Times (UTC, ascending) at which the mail server accepted mails with alerts. Holds no more than the hourly limit
    needs."""
    in_flight_ids: frozenset[UUID] = frozenset()
    """Ids of the alerts in the mail that is being sent, or in a mail of the retry topic that the server may already
    have. A worker that finds ids here sends exactly the same mail again, even if more alerts, or duplicates, arrive."""
    deferred_batches: tuple[tuple[UUID, datetime], ...] = ()
    """The batches in the retry topic: each batch's id and the time before which it must not be tried."""
    corrections_mailed_at: datetime | None = None
    """The time (UTC) at which the mail server accepted the last mail of corrections; None: none of late, or the state
    is not that of corrections."""

    def with_bounded_mail_times(self, now: datetime) -> Self:
        """Return a copy in which no mail was sent after `now`.

        Such times were stored by a process whose clock was ahead; they count as `now`. Else the hourly limit would hold
        until an hour after them.
        """
        shown = _truncate_to_milliseconds(now)
        corrected_at = self.corrections_mailed_at
        return replace(
            self,
            mailed_at=tuple(min(each, shown) for each in self.mailed_at),
            corrections_mailed_at=None if corrected_at is None else min(corrected_at, shown),
        )

    def compute_next_mail_time(self, now: datetime, per_hour: int | None) -> datetime:
        """Return the time from which another mail is allowed by a limit of `per_hour` mails in any hour.

        Returns `now` when a mail is allowed immediately, otherwise the time at which the oldest of the last
        `per_hour` mails is an hour old. `per_hour` None: no limit.
        """
        recent = self._find_recent_mail_times(now)
        if per_hour is None or len(recent) < per_hour:
            return now
        return recent[-per_hour] + HOUR

    def with_mail_in_flight(self, alert_ids: Iterable[UUID]) -> Self:
        """Return a copy in which a mail with exactly these alerts is in flight, in place of any other."""
        return replace(self, in_flight_ids=frozenset(alert_ids))

    def has_in_flight(self, alert_ids: frozenset[UUID]) -> bool:
        """Return True if one of these alerts is in the mail that is in flight; False: none is, or no mail is."""
        return not alert_ids.isdisjoint(self.in_flight_ids)

    def with_mail_sent(self, now: datetime, batch_ids: Collection[UUID], per_hour: int | None) -> Self:
        """Return a copy in which a mail was sent at `now` that contained all alerts of these deferred batches.

        The copy is without these batches and without a mail in flight. `per_hour` is the limit of
        `compute_next_mail_time`: the copy holds no more times of sent mails than this limit needs, none if it is None.
        """
        recent = (
            (*self._find_recent_mail_times(now), _truncate_to_milliseconds(now))[-per_hour:]
            if per_hour is not None
            else ()
        )
        return replace(self.without_batches(batch_ids), mailed_at=recent)

    def with_corrections_sent(self, now: datetime, batch_ids: Collection[UUID]) -> Self:
        """Return a copy in which a mail of corrections was sent at `now`, without these batches and without a mail in
        flight."""
        return replace(self.without_batches(batch_ids), corrections_mailed_at=_truncate_to_milliseconds(now))

    def compute_quiet_time(self, now: datetime) -> datetime:
        """Return the time at which mails of this state will have been tried: `now` if none is in flight or waits.

        Of those in the retry topic their own time, but none that is overdue for two minutes: its record may be lost.
        Ten seconds from now at least, while there are such mails.
        """
        waiting = [until for _, until in self.deferred_batches if now - until < _OVERDUE]
        if not waiting and not self.in_flight_ids:
            return now
        return max((now + _FLIGHT_TIME, *waiting))

    def without_batches(self, batch_ids: Collection[UUID]) -> Self:
        """Return a copy without these deferred batches, if it has them, and also without a mail in flight."""
        others = tuple(each for each in self.deferred_batches if each[0] not in batch_ids)
        return replace(self, in_flight_ids=frozenset(), deferred_batches=others)

    def with_deferred_batches(self, batch_ids: Collection[UUID], until: datetime, now: datetime) -> Self:
        """Return a copy in which these batches are deferred until `until` and no mail is in flight.

        Replaces the times of batches that were deferred before. The copy drops other batches whose time passed an hour
        or longer before `now`.
        """
        others = tuple(each for each in self.deferred_batches if each[0] not in batch_ids and now - each[1] < HOUR)
        added = ((each, _truncate_to_milliseconds(until)) for each in batch_ids)
        return replace(self, in_flight_ids=frozenset(), deferred_batches=(*others, *added))

    def has_newer_retry(self, batch_id: UUID, until: datetime) -> bool:
        """Return True if a later record of the retry topic replaced the one that deferred this batch until `until`.

        The replacement is stored in the state with a later time, compared in milliseconds. False if the batch is stored
        with the same or an earlier time, or not at all.
        """
        return any(
            each == batch_id and _truncate_to_milliseconds(until) < later for each, later in self.deferred_batches
        )

    def compute_delay_beyond(self, retries: Iterable[tuple[UUID, datetime]]) -> timedelta:
        """Return by how much these retry records, by batch id and time, must be later than they are; zero for most.

        `has_newer_retry` needs the later time in the newer record. It is not later by itself if the clock was set back
        since the older record, stands, or was ahead in the process that wrote it.
        """
        stored = dict(self.deferred_batches)
        delays = (
            stored[batch_id] + _MILLISECOND - _truncate_to_milliseconds(until)
            for batch_id, until in retries
            if batch_id in stored
        )
        return max((timedelta(0), *delays))

    def is_expired(self, now: datetime) -> bool:
        """Return True if the state no longer affects any mail, so that it can be deleted.

        False while a mail is in flight, for an hour after the last mail, for a day after the last one of corrections,
        and until an hour after the time of the last deferred batch.
        """
        return not (
            self.in_flight_ids
            or (self.corrections_mailed_at is not None and now - self.corrections_mailed_at < LONGEST_CORRECTIONS_PAUSE)
            or self._find_recent_mail_times(now)
            or any(now - until < HOUR for _, until in self.deferred_batches)
        )

    def _find_recent_mail_times(self, now: datetime) -> tuple[datetime, ...]:
        """Return the times of the mails that were sent less than an hour before `now`, ascending."""
        return tuple(each for each in self.mailed_at if now - each < HOUR)

    def encode(self) -> bytes:
        """Return the table entry: a `PersonState` message with times in milliseconds since 1970.

        The entry of an empty state is empty.
        """
        return state_pb2.PersonState(
            mailed_at=[_to_milliseconds(each) for each in self.mailed_at],
            on_its_way=sorted(each.bytes for each in self.in_flight_ids),
            put_off=[
                state_pb2.PutOff(name=batch_id.bytes, until=_to_milliseconds(until))
                for batch_id, until in self.deferred_batches
            ],
            corrections_mailed_at=_to_milliseconds(self.corrections_mailed_at) if self.corrections_mailed_at else 0,
        ).SerializeToString()

    @classmethod
    def decode(cls, entry: bytes | None) -> Self:
        """Return the state in a table entry; an empty state if the entry is None or cannot be decoded."""
        if entry is None:
            return cls()
        try:
            state = state_pb2.PersonState.FromString(entry)
            return cls(
                mailed_at=tuple(_from_milliseconds(each) for each in state.mailed_at),
                in_flight_ids=frozenset(UUID(bytes=each) for each in state.on_its_way),
                deferred_batches=tuple(
                    (UUID(bytes=each.name), _from_milliseconds(each.until)) for each in state.put_off
                ),
                corrections_mailed_at=(
                    _from_milliseconds(state.corrections_mailed_at) if state.corrections_mailed_at else None
                ),
            )
        except (DecodeError, ValueError, OverflowError):
            return cls()


def _truncate_to_milliseconds(moment: datetime) -> datetime:
    """Return a time with the precision of the table entry, so that a decoded state equals the encoded one."""
    return _from_milliseconds(_to_milliseconds(moment))


def _to_milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _from_milliseconds(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND
