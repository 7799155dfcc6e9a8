"""The dispatcher: concurrency, pauses, draining; and the simulations of the whole core with random faults."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from chassis.clock import SteadyClock
from notifier.delivery.alert_batch import AlertBatch, PlannedMail
from notifier.delivery.batching import MailQueue
from notifier.delivery.dispatch import MailDispatcher
from notifier.delivery.user_state import UserState
from tests.fakes.hurried_loop import LoopClock, run
from tests.notifier.alerts import new_alert
from tests.notifier.delivery.test_batching import to_raised_alert
from tests.notifier.simulation import run_seed

SEEDS = range(120)


@pytest.mark.parametrize("seeds", [SEEDS[at : at + 10] for at in range(0, len(SEEDS), 10)], ids=str)
def test_each_alert_is_mailed_once_or_dead_lettered_under_random_faults(seeds: range) -> None:
    """Alerts of some users, while the mail server rejects, hangs up and is unavailable, user_manager is unavailable,
    users are deleted or paused, partitions are revoked, and the process is killed at any await.

    At the end every event is acknowledged; no alert is lost, or in two different mails; a mail is sent twice at most
    once for each kill and each lost connection; no RESOLVED is mailed before its FIRING.
    """
    for seed in seeds:
        try:
            run_seed(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("seeds", [range(at, at + 10) for at in range(0, 60, 10)], ids=str)
def test_each_alert_is_mailed_in_time_while_the_wall_clock_is_set_and_stopped(seeds: range) -> None:
    """As above, and at any moment the notifier's wall clock stops, is set back by 8 h, or ahead by 400 days.

    No alert is lost, given up, mailed twice or before an earlier one, and each comes within the schedule, measured in
    elapsed time. Of each two seeds, one has alerts that are dated by the same wrong clock.
    """
    for seed in seeds:
        try:
            run_seed(seed, has_wild_clock=True)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("seeds", [range(at, at + 10) for at in range(0, 60, 10)], ids=str)
def test_each_alert_is_mailed_once_also_if_all_are_away_for_weeks(seeds: range) -> None:
    """As in the first test, and once or twice the notifier is away for 2, 8 or 40 days, killed or stopped, while alerts
    are raised as usual, or not.

    Without faults of others each absence leads to one catch-up mail to each user at most, and to no dead letter.
    """
    for seed in seeds:
        try:
            run_seed(seed, has_absences=True)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("seed", [329, 425])
def test_a_resolved_that_is_dated_before_its_firing_is_mailed_after_it(seed: int) -> None:
    """The clock that dates alerts is set back between the two: their windows tell their order, not their dates."""
    run_seed(seed, has_wild_clock=True)


def test_an_older_record_of_a_later_part_is_not_mailed_before_the_earlier_part() -> None:
    """Four crashes leave several records of the same deferred alerts; their times are mixed, their order is not."""
    run_seed(933)


class FakeDelivery:
    """A delivery that records its mails, and finishes them when the test allows it."""

    def __init__(self, queue: MailQueue) -> None:
        self._queue = queue
        self.started: list[PlannedMail] = []
        self.may_finish = asyncio.Event()
        self.pause_until: Any = None
        self.cancelled = 0

    def prepare(self, batch: AlertBatch) -> AlertBatch:
        """Return the batch: none is too old."""
        return batch

    async def deliver(self, mail: PlannedMail) -> Any:
        """Record a mail and finish it once `may_finish` is set."""
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


def run_with_dispatcher(
    check: Callable[[MailDispatcher, FakeDelivery, MailQueue], Coroutine[Any, Any, None]],
    connections: int = 2,
    max_queued_alerts: int = 100,
) -> None:
    """Run a check with a running dispatcher in accelerated time."""

    async def run_check() -> None:
        queue = MailQueue(timedelta(0))
        delivery = FakeDelivery(queue)
        dispatcher = MailDispatcher(queue, delivery, SteadyClock(LoopClock()), connections, max_queued_alerts)  # type: ignore[arg-type]
        running = asyncio.create_task(dispatcher.run())
        await check(dispatcher, delivery, queue)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run(run_check())


def build_batch(is_retry: bool = False) -> AlertBatch:
    now = LoopClock().now()
    return AlertBatch((to_raised_alert(new_alert()),), None, now, not_before=now if is_retry else None)


async def wait_a_moment() -> None:
    await asyncio.sleep(0.01)


def test_the_number_of_concurrent_mails_is_limited() -> None:
    """The limit is the number that the server takes, and twelve more."""

    async def check(dispatcher: MailDispatcher, delivery: FakeDelivery, queue: MailQueue) -> None:
        for _ in range(30):
            dispatcher.enqueue(build_batch(), UserState())
        await wait_a_moment()
        assert len(delivery.started) == 2 + 12
        delivery.may_finish.set()
        await wait_a_moment()
        assert (len(delivery.started), len(queue)) == (30, 0)

    run_with_dispatcher(check)


def test_a_full_queue_accepts_only_retries() -> None:
    """New alerts may wait for a retry of the same user; if they used all capacity, they would wait for ever."""

    async def check(dispatcher: MailDispatcher, delivery: FakeDelivery, queue: MailQueue) -> None:
        for _ in range(10):
            await dispatcher.wait_for_capacity()
            dispatcher.enqueue(build_batch(), UserState())
        fresh, retry = (
            asyncio.create_task(dispatcher.wait_for_capacity()),
            asyncio.create_task(dispatcher.wait_for_capacity(is_retry=True)),
        )
        await wait_a_moment()
        assert (fresh.done(), retry.done()) == (False, True)
        delivery.may_finish.set()
        await fresh

    run_with_dispatcher(check, max_queued_alerts=20)


def test_no_mail_is_started_during_a_pause() -> None:
    """After the pause the queued mails are started without a further event."""

    async def check(dispatcher: MailDispatcher, delivery: FakeDelivery, queue: MailQueue) -> None:
        delivery.may_finish.set()
        delivery.pause_until = LoopClock().now() + timedelta(seconds=30)
        dispatcher.enqueue(build_batch(), UserState())
        await wait_a_moment()
        assert dispatcher.is_paused
        dispatcher.enqueue(build_batch(), UserState())
        await asyncio.sleep(29)
        assert len(delivery.started) == 1
        delivery.pause_until = None
        await asyncio.sleep(1.1)
        assert (len(delivery.started), len(queue), dispatcher.is_paused) == (3, 0, False)

    run_with_dispatcher(check)


def test_a_shorter_pause_does_not_shorten_a_longer_one() -> None:
    """Two mails may find two different reasons to pause."""

    async def check(dispatcher: MailDispatcher, delivery: FakeDelivery, queue: MailQueue) -> None:
        long = LoopClock().now() + timedelta(seconds=30)
        for _ in range(2):
            dispatcher.enqueue(build_batch(), UserState())
        await wait_a_moment()
        for until in (long, long - timedelta(seconds=20)):
            delivery.pause_until = until
            delivery.may_finish.set()
            await wait_a_moment()
        await asyncio.sleep(15)
        assert dispatcher.is_paused

    run_with_dispatcher(check)


def test_draining_starts_no_mail_and_waits_for_those_in_progress() -> None:
    """The queue is cleared: the partitions' next owner reads its alerts again."""

    async def check(dispatcher: MailDispatcher, delivery: FakeDelivery, queue: MailQueue) -> None:
        dispatcher.enqueue(build_batch(), UserState())
        await wait_a_moment()
        draining = asyncio.create_task(dispatcher.stop_and_drain(8.0))
        await wait_a_moment()
        dispatcher.enqueue(build_batch(), UserState())
        await asyncio.sleep(5)
        assert not draining.done()
        delivery.may_finish.set()
        await draining
        assert (len(delivery.started), delivery.cancelled, len(queue)) == (1, 0, 0)
        dispatcher.enqueue(build_batch(), UserState())
        await asyncio.sleep(60)
        assert len(delivery.started) == 1, "not before it goes on"
        dispatcher.resume()
        await wait_a_moment()
        assert len(delivery.started) == 2

    run_with_dispatcher(check)


def test_draining_cancels_mails_after_its_timeout() -> None:
    """A rebalance may take 30 seconds, and a stop 20."""

    async def check(dispatcher: MailDispatcher, delivery: FakeDelivery, queue: MailQueue) -> None:
        dispatcher.enqueue(build_batch(), UserState())
        await wait_a_moment()
        began = LoopClock().now()
        await dispatcher.stop_and_drain(8.0)
        assert delivery.cancelled == 1
        assert LoopClock().now() - began < timedelta(seconds=10)

    run_with_dispatcher(check)


def test_cancellation_ends_the_dispatcher_also_at_the_moment_of_a_change() -> None:
    """`asyncio.wait_for` would swallow the cancellation, and the worker would never end."""

    async def check() -> None:
        queue = MailQueue(timedelta(0))
        dispatcher = MailDispatcher(queue, FakeDelivery(queue), SteadyClock(LoopClock()), 1)  # type: ignore[arg-type]
        running = asyncio.create_task(dispatcher.run())
        await wait_a_moment()
        dispatcher.resume()
        running.cancel()
        await asyncio.sleep(0.1)
        assert running.cancelled()

    run(check())
