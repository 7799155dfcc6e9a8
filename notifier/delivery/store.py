"""The store of delivery statuses and user states: two Faust tables that are written through to the broker."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID

import structlog
from faust.types import EventT

from chassis.faust.table import Write, set_current_event
from notifier.delivery.user_state import UserState
from notifier.delivery.waiting_times import WaitingTimes
from towerwatch.topics import LONGEST_ABSENCE_DAYS

log = structlog.get_logger()

STATUS_RETENTION: Final = timedelta(days=LONGEST_ABSENCE_DAYS + 1)
"""How long a delivery status is kept: a day longer than the topics keep alerts and notices, so that no replay mails one
twice."""

CORRECTIONS_PREFIX: Final = b"corrections/"
"""The beginning of the keys under which the states of users are stored as far as corrections are concerned."""

_DEAD_LETTER_PREFIX: Final = b"dead "
_UNTOLD_PREFIX: Final = b"untold "


class DeliveryStatus(StrEnum):
    """The final status of an alert, a notice or a confirmation mail."""

    MAILED = "mailed"
    DEAD_LETTERED = "dead"
    """Published to the dead-letter topic."""
    UNTOLD = "untold"
    """Dropped, because the user must not get it: no mail told of it."""


class Table(Protocol):
    """The operations of a table that the store needs, implemented by `chassis.faust.table.DirectTable`."""

    def get(self, key: bytes, /) -> bytes | None: ...
    def write(self, event: EventT[bytes], key: bytes, entry: bytes | None) -> None: ...
    def last_write(self, partition: int) -> Write | None: ...
    async def purge(self, is_over: Callable[[bytes], bool]) -> int: ...


class DeliveryStore:
    """The delivery statuses of alerts, notices and confirmation mails, unproven bounces, and the states of users.

    Kept in two tables. The id of a notice is used like that of an alert: both are UUIDv5, each of a namespace of its
    own. Deliveries read the tables so that nothing is mailed twice, and write to them before and after each mail. Each
    read and write names an event, because Faust's tables are partitioned like the events. A write is durable once
    `wait_until_persisted` has returned.
    """

    def __init__(
        self, statuses: Table, users: Table, crash: Callable[[BaseException], None], user_key_prefix: bytes = b""
    ) -> None:
        """`crash` ends the worker, which is then restarted: called when a changelog will never contain a write.

        Stores with the same tables share the statuses; with another `user_key_prefix` they have other user states and
        other times of waiting alerts.
        """
        self._user_key_prefix = user_key_prefix
        self._statuses = statuses
        self._users = users
        self._crash = crash

    def find_status(self, event: EventT[bytes], alert_id: UUID) -> DeliveryStatus | None:
        """Return the delivery status of an alert; None: it is neither mailed, dropped nor dead-lettered yet."""
        return self._find_status_by_key(event, _encode_id(alert_id))

    def find_confirmation_status(self, event: EventT[bytes], confirmation_id: str) -> DeliveryStatus | None:
        """Return the status of a confirmation mail; None: it is neither mailed nor dead-lettered yet."""
        return self._find_status_by_key(event, _confirmation_key(confirmation_id))

    def find_unproven_bounce(self, event: EventT[bytes], user_id: UUID) -> datetime | None:
        """Return when a server first rejected the user's address without saying why; None: not since its last mail."""
        set_current_event(event)
        entry = self._statuses.get(_unproven_bounce_key(user_id))
        return datetime.fromisoformat(entry.decode()) if entry is not None else None

    def load_user_state(self, event: EventT[bytes], user_id: UUID) -> UserState:
        """Return the stored state of a user; an empty state if none is stored or the entry cannot be decoded."""
        set_current_event(event)
        return UserState.decode(self._users.get(self._user_key_prefix + _encode_id(user_id)))

    def save_user_state(self, event: EventT[bytes], user_id: UUID, user: UserState) -> None:
        """Write the state of a user; delete the entry if the state is empty."""
        entry = user.encode()
        self._users.write(event, self._user_key_prefix + _encode_id(user_id), entry or None)

    def mark_mailed(self, event: EventT[bytes], alert_ids: Iterable[UUID], at: datetime) -> None:
        """Write that these alerts were mailed at `at`, in place of any status that they had."""
        for each in alert_ids:
            self._statuses.write(event, _encode_id(each), _encode_time(at))

    def mark_untold(self, event: EventT[bytes], alert_ids: Iterable[UUID], at: datetime) -> None:
        """Write that these alerts were dropped at `at`, except those that are recorded as mailed."""
        for each in alert_ids:
            if self.find_status(event, each) is not DeliveryStatus.MAILED:
                self._statuses.write(event, _encode_id(each), _UNTOLD_PREFIX + _encode_time(at))

    def find_waiting(self, event: EventT[bytes], name: str) -> UUID | None:
        """Return the id of the alert that `mark_waiting` wrote last under a name; None: none, or long ago."""
        set_current_event(event)
        entry = self._statuses.get(_waiting_key(name))
        return None if entry is None else UUID(entry.split(b" ")[1].decode())

    def mark_waiting(self, event: EventT[bytes], name: str, alert_id: UUID, at: datetime) -> None:
        """Write that an alert waits under a name, in place of any other."""
        self._statuses.write(event, _waiting_key(name), _encode_time(at) + b" " + _encode_id(alert_id))

    def is_pending(self, event: EventT[bytes], alert_id: UUID) -> bool:
        """Return True if an alert is still to be mailed: `mark_pending` wrote so, and it has no delivery status."""
        return self.has_pending_mark(event, alert_id) and self.find_status(event, alert_id) is None

    def has_pending_mark(self, event: EventT[bytes], alert_id: UUID) -> bool:
        """Return True if `mark_pending` has stored a mark of an alert, also if it was mailed since; else False."""
        set_current_event(event)
        return self._statuses.get(_pending_key(alert_id)) is not None

    def mark_pending(self, event: EventT[bytes], alert_id: UUID, at: datetime) -> None:
        """Write that an alert is still to be mailed, until it has a delivery status. `at`: the time of the entry."""
        self._statuses.write(event, _pending_key(alert_id), _encode_time(at))

    def load_waiting_times(self, event: EventT[bytes], user_id: UUID) -> WaitingTimes | None:
        """Return the times of a user's alerts in alerts.waiting.v1; None: none were written, or long ago."""
        set_current_event(event)
        entry = self._statuses.get(self._user_key_prefix + _waiting_times_key(user_id))
        return None if entry is None else WaitingTimes.decode(entry.partition(b" ")[2])

    def save_waiting_times(self, event: EventT[bytes], user_id: UUID, times: WaitingTimes, at: datetime) -> None:
        """Write the times of a user's alerts in alerts.waiting.v1. `at`: the time of the entry."""
        entry = _encode_time(at) + b" " + times.encode()
        self._statuses.write(event, self._user_key_prefix + _waiting_times_key(user_id), entry)

    def find_told_breach(self, event: EventT[bytes], threshold: str) -> datetime | None:
        """Return the start of the last window of which the user was told a breach of a threshold that goes on.

        None: `save_told_breach` wrote none, or long ago.
        """
        set_current_event(event)
        entry = self._statuses.get(_told_breach_key(threshold))
        return None if entry is None else datetime.fromisoformat(entry.split(b" ")[1].decode())

    def save_told_breach(
        self, event: EventT[bytes], threshold: str, window_start: datetime | None, at: datetime
    ) -> None:
        """Write the start of the last window of which the user was told a breach of a threshold that goes on.

        `window_start` None: no breach goes on. `at`: the time of the entry, after which it is kept for a while.
        """
        entry = None if window_start is None else _encode_time(at) + b" " + _encode_time(window_start)
        self._statuses.write(event, _told_breach_key(threshold), entry)

    def mark_confirmation_mailed(self, event: EventT[bytes], confirmation_id: str, at: datetime) -> None:
        """Write that the mail for this confirmation id was sent at `at`."""
        self._statuses.write(event, _confirmation_key(confirmation_id), _encode_time(at))

    def mark_confirmation_dead_lettered(self, event: EventT[bytes], confirmation_id: str, at: datetime) -> None:
        """Write that the request with this confirmation id was dead-lettered at `at`."""
        self._statuses.write(event, _confirmation_key(confirmation_id), _DEAD_LETTER_PREFIX + _encode_time(at))

    def mark_unproven_bounce(self, event: EventT[bytes], user_id: UUID, at: datetime) -> None:
        """Write that at `at` a server rejected the user's address without saying why."""
        entry = at.astimezone(UTC).isoformat(timespec="microseconds").encode()
        self._statuses.write(event, _unproven_bounce_key(user_id), entry)

    def clear_unproven_bounce(self, event: EventT[bytes], user_id: UUID) -> None:
        """Delete what `mark_unproven_bounce` wrote, if it did."""
        if self.find_unproven_bounce(event, user_id) is not None:
            self._statuses.write(event, _unproven_bounce_key(user_id), None)

    def mark_dead_lettered(self, event: EventT[bytes], alert_ids: Iterable[UUID], at: datetime) -> None:
        """Write that these alerts were dead-lettered at `at`, except those that are recorded as mailed."""
        for each in alert_ids:
            if self.find_status(event, each) is not DeliveryStatus.MAILED:
                self._statuses.write(event, _encode_id(each), _DEAD_LETTER_PREFIX + _encode_time(at))

    def clear_dead_lettered(self, event: EventT[bytes], alert_ids: Iterable[UUID]) -> None:
        """Delete the status of those of these alerts that are dead-lettered, so that they can be mailed.

        Alerts that are mailed, or have no status, are not changed.
        """
        for each in alert_ids:
            if self.find_status(event, each) is DeliveryStatus.DEAD_LETTERED:
                self._statuses.write(event, _encode_id(each), None)

    async def wait_until_persisted(self, event: EventT[bytes]) -> None:
        """Wait until the broker has acknowledged the writes made so far for the event's partition, in both tables.

        Returns at once if nothing was written. If the last write of a table failed, logs this, crashes the worker and
        never returns, so that no event is acknowledged after it.
        """
        partition = event.message.partition
        last = (self._statuses.last_write(partition), self._users.last_write(partition))
        writes = {write for write in last if write is not None}
        if not writes:
            return
        await asyncio.wait(writes)
        error = next((error for write in writes if (error := write.exception()) is not None), None)
        if error is not None:
            log.error("ledger.not_kept", error=type(error).__name__)
            self._crash(error)
            await asyncio.Event().wait()  # the worker is ended from outside; nothing may be done before

    async def purge_expired(self, now: datetime) -> int:
        """Delete statuses older than STATUS_RETENTION and user states that no longer affect any mail.

        Deletes from this worker's own copies of the tables only, not from the changelogs. Returns the number of deleted
        entries of both tables.
        """
        oldest = _encode_time(now - STATUS_RETENTION)
        statuses = await self._statuses.purge(
            lambda entry: entry.removeprefix(_DEAD_LETTER_PREFIX).removeprefix(_UNTOLD_PREFIX) < oldest
        )
        return statuses + await self._users.purge(lambda entry: UserState.decode(entry).is_expired(now))

    def _find_status_by_key(self, event: EventT[bytes], key: bytes) -> DeliveryStatus | None:
        """Return the status that is stored under a key, in the partition of `event`; None: no entry."""
        set_current_event(event)
        entry = self._statuses.get(key)
        if entry is None:
            return None
        if entry.startswith(_UNTOLD_PREFIX):
            return DeliveryStatus.UNTOLD
        return DeliveryStatus.DEAD_LETTERED if entry.startswith(_DEAD_LETTER_PREFIX) else DeliveryStatus.MAILED


def _encode_id(alert_or_user_id: UUID) -> bytes:
    return str(alert_or_user_id).encode()


def _confirmation_key(confirmation_id: str) -> bytes:
    return b"confirmation/" + confirmation_id.encode()


def _waiting_key(name: str) -> bytes:
    return b"waiting/" + name.encode()


def _pending_key(alert_id: UUID) -> bytes:
    """Return the key under which the pending mark of an alert is stored."""
    return b"pending/" + _encode_id(alert_id)


def _waiting_times_key(user_id: UUID) -> bytes:
    return b"waiting-times/" + _encode_id(user_id)


def _told_breach_key(threshold: str) -> bytes:
    return b"told-breach/" + threshold.encode()


def _unproven_bounce_key(user_id: UUID) -> bytes:
    return b"unproven-bounce/" + _encode_id(user_id)


def _encode_time(at: datetime) -> bytes:
    """Return a time as UTC text in ISO 8601 with seconds, which sorts like the time."""
    return at.astimezone(UTC).isoformat(timespec="seconds").encode()
