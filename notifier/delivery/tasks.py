"""The tasks of a delivery that handles each event in its own task; they are drained at a stop or a rebalance."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any


class DeliveryTasks:
    """The running tasks of one delivery, at most `capacity`. Each task waits, attempts its mail, and may do so again.

    `stop_and_drain` cancels the tasks that wait, and lets running attempts end.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = asyncio.Semaphore(capacity)
        self._tasks: set[asyncio.Task[None]] = set()
        self._attempting: set[asyncio.Task[None]] = set()
        """The tasks that attempt a mail now; the other ones wait."""
        self.is_draining = False
        """True while `stop_and_drain` runs: no attempt should begin."""

    async def reserve_place(self) -> None:
        """Wait until fewer than `capacity` tasks run, and reserve a place for a task; the caller then calls `start`."""
        await self._capacity.acquire()

    def start(self, handling: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task in the place that `reserve_place` reserved; the place is freed when the task ends."""
        task = asyncio.create_task(handling)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    @contextmanager
    def register_attempt(self) -> Iterator[None]:
        """Register the current task as attempting a mail during the block, for whose end `stop_and_drain` waits."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for mypy: a coroutine runs in a task
        self._attempting.add(task)
        try:
            yield
        finally:
            self._attempting.discard(task)

    async def stop_and_drain(self, within_s: float) -> None:
        """Cancel the tasks that pause before an attempt, and wait until the attempts in progress have ended.

        Cancels attempts that last longer than `within_s` seconds, and waits one more second for what is cancelled.
        Tasks may be started again afterwards.
        """
        self.is_draining = True
        for task in self._tasks - self._attempting:
            task.cancel()
        if self._attempting:
            await asyncio.wait(tuple(self._attempting), timeout=within_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=1.0)
        self.is_draining = False

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """Remove a finished or cancelled task, and free its place."""
        self._tasks.discard(task)
        self._capacity.release()
