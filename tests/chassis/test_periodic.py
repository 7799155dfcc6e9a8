"""Periodic work: it is repeated, with growing pauses while it fails."""

import asyncio

import pytest

from chassis.errors import DatabaseUnavailableError
from chassis.periodic import MAX_PAUSE_S, run_periodically


class BugError(Exception):
    """An error that is no ChassisError; it ends the periodic work."""


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the list of pauses, in seconds; a pause takes no time."""
    taken: list[float] = []

    async def pause(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr("chassis.periodic.asyncio.sleep", pause)
    return taken


def run(seconds: float, outcomes: list[Exception | None]) -> None:
    """Run work whose calls return (None) or raise as `outcomes` lists, and then raise BugError."""
    remaining = iter([*outcomes, BugError()])

    def work() -> None:
        outcome = next(remaining)
        if outcome is not None:
            raise outcome

    with pytest.raises(BugError):
        asyncio.run(run_periodically(seconds, work, "work"))


def test_work_is_repeated_after_each_pause(pauses: list[float]) -> None:
    """A bug is raised, and the process starts the task again."""
    run(10.0, [None, None, None])
    assert pauses == [10.0, 10.0, 10.0]


def test_pauses_double_while_work_fails(pauses: list[float]) -> None:
    """The pauses have a maximum, and a success resets them."""
    run(5.0, [DatabaseUnavailableError("away")] * 5 + [None, DatabaseUnavailableError("away")])
    assert pauses == [10.0, 20.0, MAX_PAUSE_S, MAX_PAUSE_S, MAX_PAUSE_S, 5.0, 10.0]


def test_the_maximum_never_shortens_the_configured_pause(pauses: list[float]) -> None:
    """Work with long pauses is not repeated earlier because it fails."""
    run(60.0, [DatabaseUnavailableError("away"), None])
    assert pauses == [60.0, 60.0]


def test_work_does_not_block_the_event_loop() -> None:
    """Work runs in a thread, and a cancellation ends the task at once."""

    async def scenario() -> bool:
        loop = asyncio.get_running_loop()
        begun, release = asyncio.Event(), asyncio.Event()

        def work() -> None:
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(timeout=120)

        task = asyncio.create_task(run_periodically(1.0, work, "work"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        return True

    assert asyncio.run(asyncio.wait_for(scenario(), timeout=120))
