"""The core as a whole: what it lives through by chance, and how it takes turns, stops and goes on."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from notifier.delivery.batching import AlertBatch, MailQueue, PlannedMail
from notifier.delivery.dispatch import MailDispatcher
from notifier.delivery.user_state import UserState
from tests.fakes.hurried_loop import LoopClock, run
from tests.notifier.alerts import new_alert
from tests.notifier.delivery.test_batching import to_raised_alert
from tests.notifier.simulation import run_seed

SEEDS = range(120)


@pytest.mark.parametrize("seeds", [SEEDS[at : at + 10] for at in range(0, len(SEEDS), 10)], ids=str)
def test_whatever_happens_each_alert_is_told_once_or_dead_with_its_reason(seeds: range) -> None:
    """Alerts of some people, while the mail server refuses, falls silent and is away, user_manager is away, people are
    gone or paused, partitions come and go, and the process is killed at any await.

    In the end nothing is left unacknowledged; no alert is lost, or told in two different mails; a mail is repeated once
    at most for each kill and each silence of the server; no RESOLVED came before its FIRING.
    """
    for seed in seeds:
        try:
            run_seed(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


class FakeDelivery:
    """Delivers when it is told to, and writes down what it was given."""

    def __init__(self, queue: MailQueue) -> None:
        self._queue = queue
        self.started: list[PlannedMail] = []
        self.may_finish = asyncio.Event()
        self.pause_until: Any = None
        self.cancelled = 0

    async def deliver(self, mail: PlannedMail) -> Any:
        self.started.append(mail)
        try:
            await self.may_finish.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.pause_until is not None:
            self._queue.put_back(mail)
            return self.pause_until
        self._queue.finish(mail, mail.batches, UserState())
        return None


def scene(
    doing: Callable[[MailDispatcher, FakeDelivery, MailQueue], Coroutine[Any, Any, None]],
    connections: int = 2,
    max_queued_alerts: int = 100,
) -> None:
    async def with_it() -> None:
        queue = MailQueue(timedelta(0))
        delivery = FakeDelivery(queue)
        dispatcher = MailDispatcher(queue, delivery, LoopClock(), connections, max_queued_alerts)  # type: ignore[arg-type]
        running = asyncio.create_task(dispatcher.run())
        await doing(dispatcher, delivery, queue)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run(with_it())


def a_batch(is_retry: bool = False) -> AlertBatch:
    now = LoopClock().now()
    return AlertBatch((to_raised_alert(new_alert()),), None, now, not_before=now if is_retry else None)


async def a_moment() -> None:
    await asyncio.sleep(0.01)


def test_so_many_at_a_time_and_the_next_when_one_is_done() -> None:
    """As many as the server takes, and some more that are written meanwhile."""

    async def doing(dispatcher: MailDispatcher, delivery: FakeDelivery, queue: MailQueue) -> None:
        for _ in range(30):
            dispatcher.enqueue(a_batch(), UserState())
        await a_moment()
        assert len(delivery.started) == 2 + 12
        delivery.may_finish.set()
        await a_moment()
        assert (len(delivery.started), len(queue)) == (30, 0)

    scene(doing)


def test_who_has_all_hands_full_takes_no_more_but_retries() -> None:
    """New alerts may wait for a retry of the same user; if they used all capacity, they would wait for ever."""

    async def doing(dispatcher: MailDispatcher, delivery: FakeDelivery, queue: MailQueue) -> None:
        for _ in range(10):
            await dispatcher.wait_for_capacity()
            dispatcher.enqueue(a_batch(), UserState())
        fresh, retry = (
            asyncio.create_task(dispatcher.wait_for_capacity()),
            asyncio.create_task(dispatcher.wait_for_capacity(is_retry=True)),
        )
        await a_moment()
        assert (fresh.done(), retry.done()) == (False, True)
        delivery.may_finish.set()
        await fresh

    scene(doing, max_queued_alerts=20)


def test_while_nobody_could_be_mailed_nobody_is_tried() -> None:
    """And what waited for it goes out when the rest is over, by itself."""

    async def doing(dispatcher: MailDispatcher, delivery: FakeDelivery, queue: MailQueue) -> None:
        delivery.may_finish.set()
        delivery.pause_until = LoopClock().now() + timedelta(seconds=30)
        dispatcher.enqueue(a_batch(), UserState())
        await a_moment()
        assert dispatcher.is_paused
        dispatcher.enqueue(a_batch(), UserState())
        await asyncio.sleep(29)
        assert len(delivery.started) == 1
        delivery.pause_until = None
        await asyncio.sleep(1.1)
        assert (len(delivery.started), len(queue), dispatcher.is_paused) == (3, 0, False)

    scene(doing)


def test_a_longer_rest_is_not_cut_short_by_another() -> None:
    """Two mails may find two different reasons to wait."""

    async def doing(dispatcher: MailDispatcher, delivery: FakeDelivery, queue: MailQueue) -> None:
        long = LoopClock().now() + timedelta(seconds=30)
        for _ in range(2):
            dispatcher.enqueue(a_batch(), UserState())
        await a_moment()
        for until in (long, long - timedelta(seconds=20)):
            delivery.pause_until = until
            delivery.may_finish.set()
            await a_moment()
        await asyncio.sleep(15)
        assert dispatcher.is_paused

    scene(doing)


def test_letting_go_begins_nothing_and_lets_end_what_is_under_way() -> None:
    """What waits is forgotten: it is read again, here or by whoever has it then."""

    async def doing(dispatcher: MailDispatcher, delivery: FakeDelivery, queue: MailQueue) -> None:
        dispatcher.enqueue(a_batch(), UserState())
        await a_moment()
        draining = asyncio.create_task(dispatcher.stop_and_drain(8.0))
        await a_moment()
        dispatcher.enqueue(a_batch(), UserState())
        await asyncio.sleep(5)
        assert not draining.done()
        delivery.may_finish.set()
        await draining
        assert (len(delivery.started), delivery.cancelled, len(queue)) == (1, 0, 0)
        dispatcher.enqueue(a_batch(), UserState())
        await asyncio.sleep(60)
        assert len(delivery.started) == 1, "not before it goes on"
        dispatcher.resume()
        await a_moment()
        assert len(delivery.started) == 2

    scene(doing)


def test_what_does_not_end_in_time_is_broken_off() -> None:
    """A rebalance waits for 30 seconds at most, and a stop for 20."""

    async def doing(dispatcher: MailDispatcher, delivery: FakeDelivery, queue: MailQueue) -> None:
        dispatcher.enqueue(a_batch(), UserState())
        await a_moment()
        began = LoopClock().now()
        await dispatcher.stop_and_drain(8.0)
        assert delivery.cancelled == 1
        assert LoopClock().now() - began < timedelta(seconds=10)

    scene(doing)


def test_a_stop_ends_it_even_when_something_changes_at_that_moment() -> None:
    """`asyncio.wait_for` would swallow the cancellation then, and the worker would never end."""

    async def doing() -> None:
        queue = MailQueue(timedelta(0))
        dispatcher = MailDispatcher(queue, FakeDelivery(queue), LoopClock(), 1)  # type: ignore[arg-type]
        running = asyncio.create_task(dispatcher.run())
        await a_moment()
        dispatcher.resume()
        running.cancel()
        await asyncio.sleep(0.1)
        assert running.cancelled()

    run(doing())
