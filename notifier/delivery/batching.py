"""The queue of alerts per user: whose mail is due next, and which alerts it contains. Pure: the time is a parameter.

A user's new alerts wait a short time for each other, and for earlier alerts of the user that were deferred: one mail
then contains all of them in their order. A mail that the server may already have is sent alone and unchanged.
"""

import heapq
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final
from uuid import UUID

from notifier.delivery.alert_batch import AlertBatch, PlannedMail
from notifier.delivery.catch_up import CATCH_UP_WAIT, select_catch_up_batches
from notifier.delivery.retries import MAX_PAUSE
from notifier.delivery.user_state import UserState

MAX_ALERTS_PER_MAIL: Final = 200
"""The maximal number of alerts in one mail; further alerts go into the next mail."""

MISSING_RETRY_TIMEOUT: Final = timedelta(minutes=2)
"""How long a user's mails wait for a record of the retry topic that has not been read yet, which may never come.
Counted from the record's time, or from the first alert that waits for it."""

_DISTANT_PAST: Final = datetime.min.replace(tzinfo=UTC)
_DISTANT_FUTURE: Final = datetime.max.replace(tzinfo=UTC)

IN_FLIGHT_RECOVERY_TIMEOUT: Final = timedelta(seconds=60)
"""How long, after a crash, a mail that was in flight waits until all of its alerts are read again. Counted from the
first of them. All are read again at once, unless some were dead-lettered."""


@dataclass(frozen=True, slots=True)
class _QueuedBatch:
    """A batch in the queue, and the time at which it was added."""

    queued_at: datetime
    batch: AlertBatch


@dataclass(slots=True)
class _UserQueue:
    """The queued batches of one user, with the values from which the due time of the next mail is computed.

    Some users have thousands of alerts at once, so an added batch updates these values; they are only computed anew
    when batches are removed or the user state changes. `MailQueue` sets `mail_in_flight` and `due_at`.
    """

    user: UserState
    """The stored state of the user."""
    entries: list[_QueuedBatch] = field(default_factory=list)
    """Sorted by `sort_key`; batches with equal keys in the order in which they were added."""
    mail_in_flight: PlannedMail | None = None
    """The mail that is being delivered; None: no mail is."""
    due_at: datetime | None = None
    """The time of the user's valid entry in the heap; None: no mail is scheduled."""
    first_queued_at: datetime = _DISTANT_FUTURE
    """The time at which the oldest queued batch was added."""
    group_complete_at: datetime = _DISTANT_FUTURE
    """The time at which the first new alerts have waited long enough for others."""
    catch_up_complete_at: datetime = _DISTANT_FUTURE
    """The time at which the alerts that became too old have waited long enough for others. _DISTANT_FUTURE: there are
    none."""
    held_until: datetime = _DISTANT_PAST
    """The latest `not_before` of the deferred batches."""
    deferred_ids: set[UUID | None] = field(default_factory=set)
    """The batch ids of the deferred batches."""
    sealed_batches: list[AlertBatch] = field(default_factory=list)
    """The batches that are mailed alone, in the order in which they were included."""
    in_flight_entries: list[_QueuedBatch] = field(default_factory=list)
    """The batches with alerts of the mail that was in flight before a crash."""

    def insert(self, entry: _QueuedBatch, group_wait: timedelta) -> None:
        """Add a batch at its position by `sort_key`, after equal keys, and include it in the due-time values."""
        insort(self.entries, entry, key=lambda each: each.batch.sort_key)
        self._update_due_values(entry, group_wait)

    def remove_batches(self, removed: Iterable[AlertBatch], user: UserState, group_wait: timedelta) -> None:
        """Remove these very batches (by identity), replace the user state and compute all due-time values anew."""
        removed_ids = set(map(id, removed))
        self.entries = [each for each in self.entries if id(each.batch) not in removed_ids]
        self.recompute(user, group_wait)

    def recompute(self, user: UserState, group_wait: timedelta) -> None:
        """Replace the user state and compute all due-time values anew from the queued batches."""
        self.user = user
        self.first_queued_at = self.group_complete_at = self.catch_up_complete_at = _DISTANT_FUTURE
        self.held_until = _DISTANT_PAST
        self.deferred_ids, self.sealed_batches, self.in_flight_entries = set(), [], []
        for entry in self.entries:
            self._update_due_values(entry, group_wait)

    @property
    def gathered_at(self) -> datetime:
        """The time at which the alerts of the next mail have waited long enough for others.

        Alerts that became too old are mailed first, so that the others wait for theirs.
        """
        return self.group_complete_at if self.catch_up_complete_at == _DISTANT_FUTURE else self.catch_up_complete_at

    def iter_missing_retry_deadlines(self) -> Iterator[datetime]:
        """Yield, for each deferred batch that was not read again yet, when the user's mails stop waiting for it.

        This is MISSING_RETRY_TIMEOUT after the batch's own time. That time counts as no earlier than when the user's
        oldest queued batch was added (it may have passed while no worker was running), and as no later than MAX_PAUSE
        after that.
        """
        for batch_id, until in self.user.deferred_batches:
            if batch_id not in self.deferred_ids:
                yield min(max(until, self.first_queued_at), self.first_queued_at + MAX_PAUSE) + MISSING_RETRY_TIMEOUT

    def _update_due_values(self, entry: _QueuedBatch, group_wait: timedelta) -> None:
        """Include one batch in the due-time values, and in the lists of sealed and in-flight batches it belongs to."""
        queued_at, batch = entry.queued_at, entry.batch
        self.first_queued_at = min(self.first_queued_at, queued_at)
        if batch.not_before is None:
            self.group_complete_at = min(self.group_complete_at, queued_at + group_wait)
        else:
            self.group_complete_at = min(self.group_complete_at, batch.not_before)
            self.held_until = max(self.held_until, batch.not_before)
            self.deferred_ids.add(batch.batch_id)
        if batch.sealed:
            self.sealed_batches.append(batch)
        elif batch.catch_up:
            begin = max(queued_at, batch.not_before or queued_at)
            complete_at = begin + CATCH_UP_WAIT
            if batch.gather_until is not None and queued_at < batch.gather_until:
                complete_at = min(complete_at, max(begin, batch.gather_until))  # corrections that have waited
            self.catch_up_complete_at = min(self.catch_up_complete_at, complete_at)
        if self.user.in_flight_ids and not self.user.in_flight_ids.isdisjoint(batch.alert_ids):
            self.in_flight_entries.append(entry)


class MailQueue:
    """A queue of alerts per user, ordered by the time at which the user's next mail is due.

    `MailDispatcher` adds batches and takes due mails; `AlertDelivery` calls `finish` or `put_back` for each mail. At
    most one mail of a user is in flight; its batches stay in the queue until `finish`.
    """

    def __init__(self, group_wait: timedelta) -> None:
        """`group_wait`: how long a user's first alert waits for others. Zero: each batch is a mail of its own."""
        self._group_wait = group_wait
        self._user_queues: dict[UUID, _UserQueue] = {}
        self._due_heap: list[tuple[datetime, int, UUID]] = []
        self._tie_breaker = count()
        self._alert_count = 0
        self._count_by_user: Counter[UUID] = Counter()
        self._deferred_counts: dict[UUID, dict[UUID, int]] = {}
        """By user, then by batch id: the estimated number of alerts in each batch that this queue saw deferred."""

    def __len__(self) -> int:
        """Return the number of alerts that are queued or in flight."""
        return self._alert_count

    def count_alerts_of(self, user_id: UUID, user: UserState) -> int:
        """Return about how many alerts a user has in the queue and in the retry topic.

        `user`: the stored state of the user. A batch that another worker deferred, and that is not read again, counts
        as one alert: no more is known of it.
        """
        user_queue, counts = self._user_queues.get(user_id), self._deferred_counts.get(user_id, {})
        read = user_queue.deferred_ids if user_queue is not None else ()
        unread = sum(counts.get(batch_id, 1) for batch_id, _ in user.deferred_batches if batch_id not in read)
        return self._count_by_user[user_id] + unread

    @property
    def oldest_queued_at(self) -> datetime | None:
        """The time at which the oldest queued alert was added; None: the queue is empty. Takes time linear in users."""
        return min((each.first_queued_at for each in self._user_queues.values()), default=None)

    def has_alerts_of(self, user_id: UUID) -> bool:
        """Return True if alerts of a user are queued or in flight, False if none is."""
        return user_id in self._user_queues

    def has_alert(self, user_id: UUID, alert_id: UUID) -> bool:
        """Return True if an alert of a user is queued or in flight, False if it is not."""
        user_queue = self._user_queues.get(user_id)
        return user_queue is not None and any(alert_id in each.batch.alert_ids for each in user_queue.entries)

    def add(self, batch: AlertBatch, now: datetime, user: UserState) -> AlertBatch:
        """Add a batch to its user's queue and schedule the user's next mail; return the batch as queued.

        Its `not_before` is limited to MAX_PAUSE from now. `user`: the stored state of the user; ignored if the user has
        other batches in the queue.
        """
        if batch.not_before is not None:  # limits what a wrong clock wrote
            batch = replace(batch, not_before=min(batch.not_before, now + MAX_PAUSE))
        user_queue = self._user_queues.setdefault(batch.user_id, _UserQueue(user))
        user_queue.insert(_QueuedBatch(now, batch), self._group_wait)
        self._alert_count += len(batch.alerts)
        self._count_by_user[batch.user_id] += len(batch.alerts)
        self._schedule_user(batch.user_id, user_queue)
        return batch

    def pop_due_mail(self, now: datetime) -> PlannedMail | None:
        """Compose and return the mail that has been due longest; None if no mail is due.

        The mail is in flight until `finish` or `put_back` is called with it: until then no other mail of its user is
        due. Its batches stay in the queue.
        """
        while self._due_heap and self._due_heap[0][0] <= now:
            due_at, _, user_id = heapq.heappop(self._due_heap)
            user_queue = self._user_queues.get(user_id)
            if user_queue is None or user_queue.due_at != due_at:
                continue
            user_queue.due_at = None
            mail = self._compose_mail(user_id, user_queue, now)
            if mail is not None:
                user_queue.mail_in_flight = mail
                return mail
        return None

    @property
    def next_due_at(self) -> datetime | None:
        """The earliest time at which a mail may be due if no alert is added; None: no mail is scheduled.

        May be too early: entries of the heap that are out of date count, too.
        """
        return self._due_heap[0][0] if self._due_heap else None

    def list_other_batches(self, mail: PlannedMail) -> tuple[tuple[AlertBatch, ...], ...]:
        """Return the user's queued batches that this mail in flight does not contain, in groups that may be combined.

        First each sealed batch alone, then all others as one group; with a group wait of zero each batch is alone, but
        for those that became too old.
        Empty if the mail is no longer in flight.
        """
        user_queue = self._user_queues.get(mail.user_id)
        if user_queue is None or user_queue.mail_in_flight is not mail:
            return ()
        in_mail = set(map(id, mail.batches))
        others = [each.batch for each in user_queue.entries if id(each.batch) not in in_mail]
        alone = [batch for batch in others if batch.sealed or not (self._group_wait or batch.catch_up)]
        grouped = tuple(batch for batch in others if batch not in alone)
        return (*((batch,) for batch in alone), *((grouped,) if grouped else ()))

    def finish(self, mail: PlannedMail, removed: Iterable[AlertBatch], user: UserState) -> None:
        """End the flight of a mail and remove the batches that are `removed`; the user's other batches stay queued.

        Schedules the user's next mail if batches are left. `removed` may name batches that the mail does not contain.
        `user`: the user state as stored after the mail. Does nothing if the queue was cleared since.
        """
        user_queue = self._user_queues.get(mail.user_id)
        if user_queue is None or user_queue.mail_in_flight is not mail:  # the queue was cleared meanwhile
            return
        before = sum(len(each.batch.alerts) for each in user_queue.entries)
        user_queue.remove_batches(removed, user, self._group_wait)
        left = sum(len(each.batch.alerts) for each in user_queue.entries)
        self._alert_count -= before - left
        self._count_by_user[mail.user_id] = left
        self._estimate_deferred_counts(user, mail.user_id, before - left)
        user_queue.mail_in_flight = None
        if user_queue.entries:
            self._schedule_user(mail.user_id, user_queue)
        else:
            del self._user_queues[mail.user_id], self._count_by_user[mail.user_id]

    def _estimate_deferred_counts(self, user: UserState, user_id: UUID, alerts: int) -> None:
        """Estimate how many alerts each deferred batch of a user has, for `count_alerts_of`.

        The `alerts` that have just left the queue are divided equally among the batches that are new in `user`, rounded
        up; the others keep their estimate.
        """
        before, ids = self._deferred_counts.pop(user_id, {}), [batch_id for batch_id, _ in user.deferred_batches]
        each = -(-alerts // max(len([batch_id for batch_id in ids if batch_id not in before]), 1))
        if ids:
            self._deferred_counts[user_id] = {batch_id: before.get(batch_id, each) for batch_id in ids}

    def put_back(self, mail: PlannedMail) -> None:
        """End the flight of a mail that was not tried: its batches stay queued, and the user's next mail is scheduled.

        Does nothing if the queue was cleared since.
        """
        user_queue = self._user_queues.get(mail.user_id)
        if user_queue is not None and user_queue.mail_in_flight is mail:
            user_queue.mail_in_flight = None
            self._schedule_user(mail.user_id, user_queue)

    def exchange(self, mail: PlannedMail, exchanged: Mapping[AlertBatch, AlertBatch]) -> None:
        """End the flight of a mail that was not tried, and replace some of its user's queued batches by others.

        `exchanged`: the new batch by the very batch that it replaces, with the same alerts and event. Does nothing if
        the queue was cleared since.
        """
        user_queue = self._user_queues.get(mail.user_id)
        if user_queue is not None and user_queue.mail_in_flight is mail:
            entries = [
                _QueuedBatch(each.queued_at, exchanged.get(each.batch, each.batch)) for each in user_queue.entries
            ]
            user_queue.entries = sorted(entries, key=lambda each: each.batch.sort_key)
            user_queue.recompute(user_queue.user, self._group_wait)
            self.put_back(mail)

    def clear(self) -> None:
        """Remove all alerts, also those of mails in flight, whose `finish` or `put_back` then does nothing.

        Called when the partitions are revoked: their next owner reads the events again.
        """
        self._user_queues.clear()
        self._due_heap.clear()
        self._alert_count = 0
        self._count_by_user.clear()
        self._deferred_counts.clear()

    def _schedule_user(self, user_id: UUID, user_queue: _UserQueue) -> None:
        """Put the user into the heap with the due time of the next mail, if this time has changed.

        While a mail of the user is in flight, no mail is scheduled. Older entries of the user stay in the heap;
        `pop_due_mail` skips them.
        """
        due_at = None if user_queue.mail_in_flight is not None else self._compute_due_time(user_queue)
        if due_at != user_queue.due_at:
            user_queue.due_at = due_at
            if due_at is not None:
                heapq.heappush(self._due_heap, (due_at, next(self._tie_breaker), user_id))

    def _compute_due_time(self, user_queue: _UserQueue) -> datetime:
        """Return the time at which the user's next mail is due.

        For a mail that was in flight before a crash: once its batches are complete and may be tried, or the timeout
        after which the rest is no longer awaited. Else for sealed batches: the earliest time of one. Otherwise once the
        group wait is over, all deferred batches may be tried, and no missing retry record is awaited.
        """
        in_flight_ids = user_queue.user.in_flight_ids
        if in_flight_ids:
            first = min((each.queued_at for each in user_queue.in_flight_entries), default=user_queue.first_queued_at)
            batches = _find_batches_of_mail([each.batch for each in user_queue.in_flight_entries], in_flight_ids)
            if batches:
                return max(first, *(each.not_before or first for each in batches))
            return max((first + IN_FLIGHT_RECOVERY_TIMEOUT, *user_queue.iter_missing_retry_deadlines()))
        if user_queue.sealed_batches:
            return min(each.earliest_attempt_time for each in user_queue.sealed_batches)
        # No alert of a user is mailed before an earlier one that was deferred, so that they arrive in order; and a
        # server that refused the user's last mail would refuse this one, too.
        return max(
            user_queue.gathered_at,
            user_queue.first_queued_at,
            user_queue.held_until,
            *user_queue.iter_missing_retry_deadlines(),
        )

    def _compose_mail(self, user_id: UUID, user_queue: _UserQueue, now: datetime) -> PlannedMail | None:
        """Return the user's next mail, which is due.

        This is the mail that was in flight before a crash; else the sealed batch with the earliest time, alone; else
        the batches that became too old (`select_catch_up_batches`); else the user's first batches, up to
        MAX_ALERTS_PER_MAIL alerts (one batch if the group wait is zero).

        None: a mail was in flight before a crash and some of its alerts did not come again in time. The user is then
        scheduled anew, without that mail.
        """
        in_flight_ids = user_queue.user.in_flight_ids
        if in_flight_ids:
            batches = _find_batches_of_mail([each.batch for each in user_queue.in_flight_entries], in_flight_ids)
            if batches:
                return PlannedMail(user_id, batches, may_be_duplicate=True, in_flight_ids=in_flight_ids)
            # Some of its alerts were dead-lettered, or have expired.
            user_queue.recompute(replace(user_queue.user, in_flight_ids=frozenset()), self._group_wait)
            self._schedule_user(user_id, user_queue)
            return None
        sealed = [batch for batch in user_queue.sealed_batches if batch.earliest_attempt_time <= now]
        if sealed:
            return PlannedMail(
                user_id, (min(sealed, key=lambda each: each.earliest_attempt_time),), may_be_duplicate=True
            )
        late = select_catch_up_batches([each.batch for each in user_queue.entries])
        if late:
            return PlannedMail(user_id, late, may_be_duplicate=False)
        if not self._group_wait:
            return PlannedMail(user_id, (user_queue.entries[0].batch,), may_be_duplicate=False)
        batches = tuple(_take_batches_for_one_mail(each.batch for each in user_queue.entries))
        return PlannedMail(user_id, batches, may_be_duplicate=False)


def _find_batches_of_mail(batches: Iterable[AlertBatch], alert_ids: frozenset[UUID]) -> tuple[AlertBatch, ...]:
    """Return the batches that together contain all alerts of a mail, in their order; empty if some are missing.

    Returns batches with further alerts only if the batches without them do not contain all alerts of the mail.
    """
    overlapping = tuple(batch for batch in batches if batch.alert_ids & alert_ids)
    contained = tuple(batch for batch in overlapping if batch.alert_ids <= alert_ids)
    for candidates in (contained, overlapping):
        if alert_ids <= frozenset[UUID]().union(*(each.alert_ids for each in candidates)):
            return candidates
    return ()


def _take_batches_for_one_mail(batches: Iterable[AlertBatch]) -> Iterator[AlertBatch]:
    """Yield the first batches, at least one, until the next would make more than MAX_ALERTS_PER_MAIL alerts."""
    alert_count = 0
    for batch in batches:
        alert_count += len(batch.alerts)
        if alert_count > MAX_ALERTS_PER_MAIL and alert_count > len(batch.alerts):
            return
        yield batch
