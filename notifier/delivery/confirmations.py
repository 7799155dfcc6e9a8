"""The use case: ask a person to confirm an address, once. Such a mail waits for no other."""

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
from notifier.delivery.in_flight import Doubts
from notifier.delivery.interfaces import Arrival, ContactsLike, MailServerLike, Manner, Topics
from notifier.delivery.retries import CONFIRMATION_TRIES, pause_after
from notifier.delivery.store import Ledger
from notifier.errors import HardBounce, NotSent, Reason, UserManagerAway
from notifier.mail import compose_confirmation_mail
from notifier.messages import ConfirmationWish
from notifier.metrics import NotifierMetrics

log = structlog.get_logger()

_MOST_AT_ONCE: Final = 500
"""So many may be tried again and again at a time; who comes later waits for one of them to be done."""


class Confirmations:
    """Mails confirmation links. Those that are tried again hold up nobody else."""

    def __init__(
        self,
        ledger: Ledger,
        contacts: ContactsLike,
        server: MailServerLike,
        topics: Topics,
        manner: Manner,
        doubts: Doubts,
        clock: Clock,
        metrics: NotifierMetrics,
    ) -> None:
        """`clock` must show real time."""
        self._ledger = ledger
        self._contacts = contacts
        self._server = server
        self._topics = topics
        self._manner = manner
        self._doubts = doubts
        self._clock = clock
        self._metrics = metrics
        self._places = asyncio.Semaphore(_MOST_AT_ONCE)
        self._at_work: set[asyncio.Task[None]] = set()
        self._last_of: dict[UUID, asyncio.Task[None]] = {}
        """By user: each waits for the one before, which may be for the same wish."""
        self._trying: set[asyncio.Task[None]] = set()
        """Those that do not just wait for another try."""
        self._outlasting: set[asyncio.Task[None]] = set()
        """Those that could not mail anybody when they tried last."""
        self._lets_go = False

    @property
    def are_waiting_for_others(self) -> bool:
        """Whether some could not be mailed because nobody could be."""
        return bool(self._outlasting)

    async def take(self, arrival: Arrival, wish: ConfirmationWish) -> None:
        """See to a wish, in a task of its own; returns once there is room for it."""
        await self._places.acquire()
        before = self._last_of.get(wish.user_id)
        task = self._last_of[wish.user_id] = asyncio.create_task(self._see_to(arrival, wish, before))
        self._at_work.add(task)
        task.add_done_callback(partial(self._ended, wish.user_id))

    async def let_go(self, within_s: float) -> None:
        """Break off what only waits for another try, and after `within_s` seconds also what is under way; whoever has
        the events now sees to them."""
        self._lets_go = True
        for task in self._at_work - self._trying:
            task.cancel()
        if self._trying:
            await asyncio.wait(tuple(self._trying), timeout=within_s)
        for task in self._at_work:
            task.cancel()
        if self._at_work:
            await asyncio.wait(tuple(self._at_work), timeout=1.0)
        self._lets_go = False

    def _ended(self, user_id: UUID, task: asyncio.Task[None]) -> None:
        self._at_work.discard(task)
        self._outlasting.discard(task)
        if self._last_of.get(user_id) is task:
            del self._last_of[user_id]
        self._places.release()

    async def _see_to(self, arrival: Arrival, wish: ConfirmationWish, before: asyncio.Task[None] | None) -> None:
        event = arrival.event
        if before is not None:
            await asyncio.wait((before,))
        is_done = True
        try:
            is_done = await self._ask(event, wish)
        except Exception as error:  # a bug must cost one mail, kept as evidence, and not the worker
            log.error("notifier.failed", error=type(error).__name__, exc_info=error)
            await self._bury(event, "bug", f"{type(error).__name__} in the notifier")
        if is_done and self._topics.are_ours(event):
            await arrival.acknowledge()

    async def _ask(self, event: EventT[bytes], wish: ConfirmationWish) -> bool:
        """Try in place, until the wish is done with; False: it is not, and whoever has the event then sees to it. The
        contact is asked for again each time, so who is gone or has confirmed ends it.

        While nobody could be mailed, others lose nothing by waiting, so it goes on for as long as the wish is news. A
        recipient who alone is refused gets CONFIRMATION_TRIES, and may ask for another mail.
        """
        task = _this_task()
        wished_at = datetime.fromtimestamp(event.message.timestamp, UTC)
        for attempt in count(1):
            if self._is_others(event):
                return False
            try:
                return await self._trying_once(event, wish)
            except NotSent as error:
                failed_at = self._clock.now()
                if error.permanent:
                    await self._bury(event, "refused", str(error))
                    if isinstance(error, HardBounce):  # after it: a crash in between costs a report, and no letter
                        await self._report_bounce(wish.user_id, failed_at)
                    return True
                too_old = failed_at - wished_at >= self._manner.lifetime
                if too_old or (attempt >= CONFIRMATION_TRIES and not error.concerns_all):
                    await self._bury(event, "gave_up", f"gave up after {attempt} tries: {error}")
                    return True
                if self._is_others(event):
                    return False
                self._metrics.put_off("confirmation", error.reason)
                log.warning("confirmation.put_off", user_id=str(wish.user_id), attempt=attempt, reason=str(error))
                pause = pause_after(attempt, self._manner.retry_base, random.random())
                if error.retry_at is not None:
                    pause = max(pause, error.retry_at - self._clock.now())
                outlasts = error.concerns_all
            if outlasts:
                self._outlasting.add(task)
            await asyncio.sleep(self._clock.real_seconds(pause))
            self._outlasting.discard(task)
        raise AssertionError("unreachable: it counts without end")

    def _is_others(self, event: EventT[bytes]) -> bool:
        return self._lets_go or not self._topics.are_ours(event)

    async def _trying_once(self, event: EventT[bytes], wish: ConfirmationWish) -> bool:
        task = _this_task()
        self._trying.add(task)
        try:
            return await self._try(event, wish)
        finally:
            self._trying.discard(task)

    async def _try(self, event: EventT[bytes], wish: ConfirmationWish) -> bool:
        """Whether the wish is done with. Raises NotSent."""
        if self._ledger.confirmation_was_mailed(event, wish.confirmation_id):
            self._metrics.confirmation_dropped("already_sent")
            return True
        contact = await self._contacts.of(wish.user_id)
        if contact is None or not contact.confirm_url:
            self._metrics.confirmation_dropped("user_gone" if contact is None else "nothing_to_confirm")
            return True
        letter = compose_confirmation_mail(contact, wish.confirmation_id, self._manner.sender, self._clock.now())
        began = time.perf_counter()
        if self._is_others(event):  # nobody is kept waiting for a mail that is not begun
            return False
        async with self._doubts.of_one_mail() as doubt:
            try:
                await self._server.send(letter, self._manner.envelope_from(contact), doubt.begin)
            except NotSent as error:
                if error.reason is not Reason.BREAKER_OPEN:
                    self._metrics.not_sent("confirmation")
                raise
            self._ledger.confirmation_mailed(event, wish.confirmation_id, self._clock.now())
            await self._ledger.kept(event)
        self._metrics.sent("confirmation", time.perf_counter() - began)
        return True

    async def _report_bounce(self, user_id: UUID, at: datetime) -> None:
        try:
            await self._contacts.report_bounce(user_id, at)
            self._metrics.suppressed("told")
        except UserManagerAway:
            self._metrics.suppressed("not_told")

    async def _bury(self, event: EventT[bytes], label: str, reason: str) -> None:
        await self._topics.bury(event, reason)
        self._metrics.dead(label)


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for mypy: a coroutine runs in a task
    return task
