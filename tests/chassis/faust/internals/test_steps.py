"""Eager coroutines: they return, raise and end as they would in a task."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from chassis.faust.internals.steps import EagerCoroutine


async def at_once() -> int:
    return 7


async def failing() -> int:
    raise LookupError("at once")


async def after(*awaited: "asyncio.Future[int]") -> int:
    return sum([await each for each in awaited])


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_a_coroutine_that_does_not_wait_is_done_at_once() -> None:
    """Such a coroutine needs no event loop; awaiting it afterwards returns the same result."""
    eager = EagerCoroutine(at_once())
    assert eager.is_done
    assert eager.result == 7
    with pytest.raises(LookupError):
        EagerCoroutine(failing())

    async def awaited() -> None:
        assert await EagerCoroutine(at_once()) == 7

    run(awaited())


def test_a_coroutine_that_waits_continues_when_it_is_awaited() -> None:
    """Another task than the one that started it may await it, through several waits."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        first, second = loop.create_future(), loop.create_future()
        eager = EagerCoroutine(after(first, second))
        assert not eager.is_done
        rest = asyncio.ensure_future(eager)
        first.set_result(3)
        await asyncio.sleep(0)
        assert not rest.done()
        second.set_result(4)
        assert await rest == 7
        assert eager.is_done

    run(scenario())


def test_errors_and_cancellations_are_raised_inside_the_waiting_coroutine() -> None:
    """The coroutine may handle an error of the awaited future and a cancellation, as in a task."""
    seen: list[type[BaseException]] = []

    async def watching(awaited: "asyncio.Future[int]") -> str:
        try:
            return str(await awaited)
        except (LookupError, asyncio.CancelledError) as error:
            seen.append(type(error))
            if isinstance(error, LookupError):
                return "handled"
            raise

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        broken, never = loop.create_future(), loop.create_future()
        handled, cancelled = (asyncio.ensure_future(EagerCoroutine(watching(each))) for each in (broken, never))
        await asyncio.sleep(0)
        broken.set_exception(LookupError())
        cancelled.cancel()
        assert await handled == "handled"
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    run(scenario())
    assert sorted(each.__name__ for each in seen) == ["CancelledError", "LookupError"]


def test_a_closed_coroutine_runs_its_cleanup_and_does_not_continue() -> None:
    """A record that could not be sent at once must not be sent later."""
    done: list[str] = []

    async def working(awaited: "asyncio.Future[int]") -> None:
        try:
            await awaited
            done.append("went on")
        finally:
            done.append("cleaned up")

    async def scenario() -> None:
        awaited = asyncio.get_running_loop().create_future()
        EagerCoroutine(working(awaited)).close()
        awaited.set_result(1)
        await asyncio.sleep(0)

    run(scenario())
    assert done == ["cleaned up"]
