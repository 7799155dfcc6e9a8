"""Periodic work: done again and again, with growing pauses while its surroundings are away."""

import asyncio

import pytest

from chassis.errors import DatabaseUnavailableError
from chassis.periodic import MAX_PAUSE_S, run_periodically


class Ended(Exception):
    """The test has seen enough."""


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it rested each time; a rest takes no time."""
    taken: list[float] = []

    async def rest(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr("chassis.periodic.asyncio.sleep", rest)
    return taken


def run(seconds: float, outcomes: list[Exception | None]) -> None:
    """Do work whose calls end as `outcomes` has it."""
    left = iter([*outcomes, Ended()])

    def work() -> None:
        outcome = next(left)
        if outcome is not None:
            raise outcome

    with pytest.raises(Ended):
        asyncio.run(run_periodically(seconds, work, "work"))


def test_work_is_done_again_after_each_rest(rests: list[float]) -> None:
    """A bug in it is not hidden: it leaves, and the process begins the task anew."""
    run(10.0, [None, None, None])
    assert rests == [10.0, 10.0, 10.0]


def test_what_fails_for_now_is_done_again_later(rests: list[float]) -> None:
    """Each pause is twice as long, up to a bound; a success ends that."""
    run(5.0, [DatabaseUnavailableError("away")] * 5 + [None, DatabaseUnavailableError("away")])
    assert rests == [10.0, 20.0, MAX_PAUSE_S, MAX_PAUSE_S, MAX_PAUSE_S, 5.0, 10.0]


def test_slow_work_is_not_hurried_by_failing(rests: list[float]) -> None:
    """The bound never shortens the pause that was asked for."""
    run(60.0, [DatabaseUnavailableError("away"), None])
    assert rests == [60.0, 60.0]


def test_the_event_loop_is_free_meanwhile() -> None:
    """Work that blocks runs in a thread, and being cancelled ends the task at once."""

    async def scenario() -> bool:
        loop = asyncio.get_running_loop()
        begun, release = asyncio.Event(), asyncio.Event()

        def work() -> None:
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(timeout=30)

        task = asyncio.create_task(run_periodically(1.0, work, "work"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        return True

    assert asyncio.run(asyncio.wait_for(scenario(), timeout=60))
