"""The delivery of confirmation mails: each request is mailed once, and no request waits for another user's."""

import asyncio
import random
import time
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Final
from uuid import UUID

import structlog
from faust.types import EventT

from chassis.clock import Clock
from notifier.delivery.bounces import report_bounce_once
from notifier.delivery.in_flight import InFlightLimit
from notifier.delivery.interfaces import ContactsLike, EventTopics, PendingEvent, SmtpClientLike
from notifier.delivery.policy import MailPolicy
from notifier.delivery.retries import MAX_CONFIRMATION_ATTEMPTS, compute_backoff
from notifier.delivery.store import DeliveryStore
from notifier.delivery.tasks import DeliveryTasks
from notifier.errors import FailureReason, HardBounce, NotSent
from notifier.mail import compose_confirmation_mail
from notifier.messages import ConfirmationRequest
from notifier.metrics import NotifierMetrics

log = structlog.get_logger()

_MAX_CONCURRENT_REQUESTS: Final = 500
"""The maximal number of requests in progress, waiting for another attempt included. Further requests wait for a free
place."""


class ConfirmationDelivery:
    """The use case that mails confirmation links: each request is a task, which also acknowledges its event.

    A request that is retried does not delay other users' requests; one user's requests are handled in order. At most
    _MAX_CONCURRENT_REQUESTS are in progress.
    """

    def __init__(
        self,
        store: DeliveryStore,
        contacts: ContactsLike,
        smtp: SmtpClientLike,
        topics: EventTopics,
        policy: MailPolicy,
        in_flight: InFlightLimit,
        clock: Clock,
        metrics: NotifierMetrics,
    ) -> None:
        """`clock` must show real time."""
        self._store = store
        self._contacts = contacts
        self._smtp = smtp
        self._topics = topics
        self._policy = policy
        self._in_flight = in_flight
        self._clock = clock
        self._metrics = metrics
        self._tasks = DeliveryTasks(_MAX_CONCURRENT_REQUESTS)
        self._last_task_by_user: dict[UUID, asyncio.Task[None]] = {}
        """Each request waits for the user's request before it, which may be a duplicate of the same event."""
        self._blocked: set[asyncio.Task[None]] = set()
        """The tasks whose last attempt failed because of an outage that affects all mails."""

    @property
    def is_blocked_by_outage(self) -> bool:
        """True while a request pauses before another attempt because the mail server or user_manager is unavailable."""
        return bool(self._blocked)

    async def start(self, pending_event: PendingEvent, request: ConfirmationRequest) -> None:
        """Start a task that handles a confirmation request, after the same user's previous request.

        Waits first while _MAX_CONCURRENT_REQUESTS are in progress. Returns before the request is complete; the task
        acknowledges the event.
        """
        await self._tasks.reserve_place()
        previous = self._last_task_by_user.get(request.user_id)
        task = self._tasks.start(self._handle_request(pending_event, request, previous))
        self._last_task_by_user[request.user_id] = task
        task.add_done_callback(partial(self._on_task_done, request.user_id))

    async def stop_and_drain(self, within_s: float) -> None:
        """Cancel the requests that pause before an attempt, and wait until the attempts in progress have ended.

        Cancels attempts that last longer than `within_s` seconds, and waits one more second for what is cancelled.
        Requests that were not completed are not acknowledged: the partition's next owner reads them again. Requests may
        be started again afterwards.
        """
        await self._tasks.stop_and_drain(within_s)

    def _on_task_done(self, user_id: UUID, task: asyncio.Task[None]) -> None:
        """Remove a finished or cancelled task from `_blocked` and `_last_task_by_user`."""
        self._blocked.discard(task)
        if self._last_task_by_user.get(user_id) is task:
            del self._last_task_by_user[user_id]

    async def _handle_request(
        self, pending_event: PendingEvent, request: ConfirmationRequest, previous: asyncio.Task[None] | None
    ) -> None:
        """Wait for the user's previous request, complete this one and acknowledge its event.

        Does not acknowledge the event if a drain stopped its attempts or the partition is revoked before. A bug in the
        handling is logged, dead-letters the event and raises nothing.
        """
        event = pending_event.event
        if previous is not None:
            await asyncio.wait((previous,))
        is_completed = True
        try:
            is_completed = await self._deliver_with_retries(event, request)
        except Exception as error:  # a bug must cost one mail, kept as evidence, and not the worker
            log.error("notifier.failed", error=type(error).__name__, exc_info=error)
            await self._dead_letter(event, "bug", f"{type(error).__name__} in the notifier")
        if is_completed and self._topics.is_still_ours(event):
            await pending_event.acknowledge()

    async def _deliver_with_retries(self, event: EventT[bytes], request: ConfirmationRequest) -> bool:
        """Attempt the mail, with a backoff between attempts, until the request is mailed, dropped or dead-lettered.

        Returns True then; False if the attempts stopped because the worker drains or the partition is revoked: the
        partition's next owner handles the event. Each attempt requests the contact anew, so that the request is dropped
        once the user is deleted or confirmed.

        A permanent failure dead-letters the event at once; if the address does not exist, user_manager is notified.
        During an outage that affects all mails the attempts continue for the lifetime of the request, since no other
        mail could be sent meanwhile. A request whose own recipient is refused gets MAX_CONFIRMATION_ATTEMPTS; its user
        can request another mail. A pause lasts at least until the failure's `retry_at`.
        """
        task = _get_current_task()
        requested_at = datetime.fromtimestamp(event.message.timestamp, UTC)
        for attempt in count(1):
            if self._should_stop(event):
                return False
            try:
                return await self._run_attempt(event, request)
            except NotSent as error:
                failed_at = self._clock.now()
                if error.permanent:
                    await self._dead_letter(event, "refused", str(error))
                    # After the dead letter: a crash between the two loses only the report.
                    if isinstance(error, HardBounce):
                        await report_bounce_once(self._contacts, self._metrics, request.user_id, failed_at)
                    return True
                is_too_old = failed_at - requested_at >= self._policy.lifetime
                if is_too_old or (attempt >= MAX_CONFIRMATION_ATTEMPTS and not error.affects_all_mails):
                    await self._dead_letter(event, "gave_up", f"gave up after {attempt} tries: {error}")
                    return True
                if self._should_stop(event):
                    return False
                self._metrics.count_deferred_mail("confirmation", error.reason)
                log.warning("confirmation.put_off", user_id=str(request.user_id), attempt=attempt, reason=str(error))
                pause = compute_backoff(attempt, self._policy.retry_base, random.random())
                if error.retry_at is not None:
                    pause = max(pause, error.retry_at - self._clock.now())
                is_blocked = error.affects_all_mails
            if is_blocked:
                self._blocked.add(task)
            await asyncio.sleep(self._clock.real_seconds(pause))
            self._blocked.discard(task)
        raise AssertionError("unreachable: it counts without end")

    def _should_stop(self, event: EventT[bytes]) -> bool:
        """Return True while the worker drains, or if it no longer owns the event's partition."""
        return self._tasks.is_draining or not self._topics.is_still_ours(event)

    async def _run_attempt(self, event: EventT[bytes], request: ConfirmationRequest) -> bool:
        """Make one attempt, registered so that `stop_and_drain` waits for its end instead of cancelling it at once.

        Returns True if the request is mailed or dropped, False if it is left to the partition's next owner. Raises
        NotSent.
        """
        with self._tasks.register_attempt():
            return await self._send_if_needed(event, request)

    async def _send_if_needed(self, event: EventT[bytes], request: ConfirmationRequest) -> bool:
        """Send the confirmation mail and record durably that it was sent, or drop the request if it is not needed.

        Drops the request if its mail was sent before, the user does not exist, or there is no link to confirm (such as
        after the confirmation). Returns True if the request is mailed or dropped; False if the worker drains or the
        partition is revoked before the mail is begun. Counts the result. Raises NotSent.
        """
        if self._store.was_confirmation_mailed(event, request.confirmation_id):
            self._metrics.count_dropped_confirmation("already_sent")
            return True
        contact = await self._contacts.find_contact(request.user_id)
        if contact is None or not contact.confirm_url:
            self._metrics.count_dropped_confirmation("user_gone" if contact is None else "nothing_to_confirm")
            return True
        message = compose_confirmation_mail(contact, request.confirmation_id, self._policy.sender, self._clock.now())
        began = time.perf_counter()
        if self._should_stop(event):  # a rebalance must not wait for a mail that is not begun
            return False
        async with self._in_flight.create_slot() as slot:
            try:
                await self._smtp.send(message, self._policy.envelope_from(contact), slot.acquire)
            except NotSent as error:
                if error.reason is not FailureReason.BREAKER_OPEN:
                    self._metrics.count_failed_mail("confirmation")
                raise
            self._store.mark_confirmation_mailed(event, request.confirmation_id, self._clock.now())
            await self._store.wait_until_persisted(event)
        self._metrics.count_sent_mail("confirmation", time.perf_counter() - began)
        return True

    async def _dead_letter(self, event: EventT[bytes], label: str, reason: str) -> None:
        """Publish an event to the dead-letter topic, and count it.

        `label`: the metric label; `reason`: the text in the header.
        """
        await self._topics.publish_dead_letter(event, reason)
        self._metrics.count_dead_letter(label)


def _get_current_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for mypy: a coroutine runs in a task
    return task
