"""The tasks of a delivery: their places, and their end at a drain."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from notifier.delivery.tasks import DeliveryTasks
from tests.fakes.hurried_loop import run


class Worker:
    """Tasks that pause for some seconds, attempt for some seconds, and record their ends."""

    def __init__(self, capacity: int = 10) -> None:
        self.tasks = DeliveryTasks(capacity)
        self.ended: list[str] = []
        self.saw_drain: list[bool] = []

    async def start(self, name: str, pause_s: float, attempt_s: float) -> None:
        await self.tasks.reserve_place()
        self.tasks.start(self._work(name, pause_s, attempt_s))

    async def _work(self, name: str, pause_s: float, attempt_s: float) -> None:
        await asyncio.sleep(pause_s)
        with self.tasks.attempt():
            await asyncio.sleep(attempt_s)
            self.saw_drain.append(self.tasks.is_draining)
            self.ended.append(name)


def run_check(check: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run(check())


def test_a_task_waits_for_a_free_place() -> None:
    """The event of a task that has no place stays in the broker."""

    async def check() -> None:
        worker = Worker(capacity=2)
        began = asyncio.get_running_loop().time()
        for name in ("one", "two", "three"):
            await worker.start(name, 5, 1)
        assert asyncio.get_running_loop().time() - began == 6
        await asyncio.sleep(10)
        assert worker.ended == ["one", "two", "three"]

    run_check(check)


def test_a_drain_lets_attempts_end_and_cancels_pauses() -> None:
    """A pause may last minutes, and a rebalance must not; a mail that is cancelled might be sent twice."""

    async def check() -> None:
        worker = Worker()
        await worker.start("pauses", 60, 1)
        await worker.start("attempts", 0, 3)
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await worker.tasks.stop_and_drain(8.0)
        assert asyncio.get_running_loop().time() - began == 2
        assert (worker.ended, worker.saw_drain) == (["attempts"], [True])
        await asyncio.sleep(100)
        assert worker.ended == ["attempts"]

    run_check(check)


def test_a_drain_ends_in_its_time_and_frees_all_places() -> None:
    """An attempt that lasts too long is cancelled; afterwards tasks may be started again."""

    async def check() -> None:
        worker = Worker(capacity=1)
        await worker.start("hangs", 0, 3600)
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await worker.tasks.stop_and_drain(8.0)
        assert asyncio.get_running_loop().time() - began <= 9
        await worker.start("next", 0, 1)
        await asyncio.sleep(2)
        assert (worker.ended, worker.saw_drain) == (["next"], [False])

    run_check(check)
