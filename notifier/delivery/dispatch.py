"""The dispatcher: takes due mails from the queue and delivers a limited number of them concurrently."""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Final
from uuid import UUID

from chassis.clock import SteadyClock
from notifier.delivery.alert_batch import AlertBatch, PlannedMail
from notifier.delivery.batching import MailQueue
from notifier.delivery.deliver import AlertDelivery
from notifier.delivery.retries import MAX_PAUSE
from notifier.delivery.user_state import UserState

MAX_QUEUED_ALERTS: Final = 40_000
"""The maximal number of alerts in memory, of some kilobytes each; further alerts stay in the broker."""

SMALLEST_SHARE: Final = 500
"""The number of alerts that a user may have in memory in any case: those of one catch-up mail."""

_SHARE_OF_FREE: Final = 8
"""A user may have an eighth as many alerts in memory as there are free places for new ones."""

_EXTRA_CONCURRENT_MAILS: Final = 12
"""How many mails are processed beyond those that the server takes at a time: their contacts are requested and their
texts written meanwhile."""


class MailDispatcher:
    """A loop that takes due mails from a `MailQueue` and starts a delivery task for each, a limited number at a time.

    The agents add batches to the queue through `enqueue`. All deliveries pause while a delivery reports an outage.
    """

    def __init__(
        self,
        queue: MailQueue,
        delivery: AlertDelivery,
        clock: SteadyClock,
        connections: int,
        max_queued_alerts: int = MAX_QUEUED_ALERTS,
        smallest_share: int = SMALLEST_SHARE,
    ) -> None:
        """`connections`: how many mails the server takes at a time; some more are in progress, to be ready for it.

        `clock`: that of `delivery`: all due times and pauses are of it, so that setting the wall clock changes none.
        `max_queued_alerts`: the capacity of the queue, which `wait_for_capacity` enforces. `smallest_share`: how many
        alerts of a user `has_room` always accepts.
        """
        self._queue = queue
        self._delivery = delivery
        self._clock = clock
        self._max_concurrent_mails = connections + _EXTRA_CONCURRENT_MAILS
        self._max_queued_alerts = max_queued_alerts
        self._smallest_share = smallest_share
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._has_capacity = asyncio.Event()
        self._is_stopped = False
        self._paused_until: datetime | None = None

    @property
    def is_paused(self) -> bool:
        """True while no mail is delivered because the mail server or user_manager is unavailable for all mails."""
        return self._paused_until is not None and self._paused_until > self._clock.now()

    @property
    def _max_new_alerts(self) -> int:
        """The number of queued alerts above which no new ones are accepted."""
        return (self._max_queued_alerts + 1) // 2

    def has_room(self, user_id: UUID, user: UserState) -> bool:
        """Return True if a new alert of a user may be queued, False if the user's share of the queue is used up.

        The share is an eighth of the places that are free for new alerts (a dynamic threshold: A. K. Choudhury and
        E. L. Hahne, IEEE/ACM Transactions on Networking 6(2), 1998), so one user never has more than a ninth of them,
        and many users together leave some. `user`: the stored state of the user.
        """
        free = self._max_new_alerts - len(self._queue)
        return self._queue.count_alerts_of(user_id, user) < max(free // _SHARE_OF_FREE, self._smallest_share)

    def has_alert(self, user_id: UUID, alert_id: UUID) -> bool:
        """Return True if an alert of a user is queued or in flight, False if it is not."""
        return self._queue.has_alert(user_id, alert_id)

    async def wait_for_capacity(self, is_retry: bool = False) -> None:
        """Wait until another batch may be queued; `enqueue` itself has no limit.

        New alerts may use half of the capacity only; the other half is for retries, because all new alerts may be
        waiting for some retry.
        """
        limit = self._max_queued_alerts if is_retry else self._max_new_alerts
        while len(self._queue) >= limit:
            self._has_capacity.clear()
            await self._has_capacity.wait()

    def enqueue(self, batch: AlertBatch, user: UserState) -> None:
        """Queue a batch and wake the loop; the batch is delivered when its mail is due, in a catch-up mail if too old.

        Does not wait and has no limit. `user`: the stored state of the user.
        """
        self._queue.add(self._delivery.prepare(batch), self._clock.now(), user)
        self._changed.set()

    async def run(self) -> None:
        """Start a delivery task for each due mail, until cancelled.

        Waits while no mail may be started, until a mail is due, an alert is queued, a task ends or `resume` is called.
        """
        while True:
            self._changed.clear()
            mail = self._pop_next_mail()
            if mail is not None:
                task = asyncio.create_task(self._deliver(mail))
                self._tasks.add(task)
                task.add_done_callback(self._on_task_done)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._compute_wait_s()):  # `wait_for` may swallow a cancellation
                        await self._changed.wait()

    async def stop_and_drain(self, within_s: float) -> None:
        """Start no more mails, wait until those in progress have ended, and clear the queue.

        Cancels what is still in progress after `within_s` seconds, and waits one more second for that. Calls of
        `wait_for_capacity` return. No mail is started before `resume` is called.
        """
        self._is_stopped = True
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=within_s)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=1.0)
        self._queue.clear()
        self._has_capacity.set()

    def resume(self) -> None:
        """Let the loop start mails again after `stop_and_drain`, and wake it."""
        self._is_stopped = False
        self._changed.set()

    def _pop_next_mail(self) -> PlannedMail | None:
        """Take a due mail from the queue if one may be started now; otherwise return None.

        None while the dispatcher is stopped or paused, while enough mails are in progress, or if no mail is due.
        """
        if self._is_stopped or self.is_paused or len(self._tasks) >= self._max_concurrent_mails:
            return None
        return self._queue.pop_due_mail(self._clock.now())

    def _compute_wait_s(self) -> float | None:
        """Return the real seconds until a mail may be started: once it is due and a pause is over.

        None: only an event can make it possible (an alert is queued, a task ends, `resume`).
        """
        due_at = self._queue.next_due_at
        if due_at is None or self._is_stopped or len(self._tasks) >= self._max_concurrent_mails:
            return None
        if self._paused_until is not None:
            due_at = max(due_at, self._paused_until)
        return self._clock.real_seconds(due_at - self._clock.now()) + 0.001  # a timer may end a little early

    async def _deliver(self, mail: PlannedMail) -> None:
        """Deliver a mail; if its delivery returns a time because of an outage, pause all deliveries until then.

        A running pause is only extended, never shortened. No pause is longer than MAX_PAUSE.
        """
        until = await self._delivery.deliver(mail)
        if until is not None:
            until = min(until, self._clock.now() + MAX_PAUSE)
            self._paused_until = max(until, self._paused_until or until)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()
        self._has_capacity.set()
