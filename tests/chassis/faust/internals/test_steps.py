"""Coroutines that are begun here and now: they end as they would in a task, whenever that is."""

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


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def test_what_need_not_wait_is_done_at_once() -> None:
    """Without an event loop even; and awaiting it then gives the same."""
    begun = EagerCoroutine(at_once())
    assert begun.is_done
    assert begun.result == 7
    with pytest.raises(LookupError):
        EagerCoroutine(failing())

    async def awaited() -> None:
        assert await EagerCoroutine(at_once()) == 7

    run(awaited())


def test_what_waits_goes_on_once_it_is_awaited() -> None:
    """By another task than the one that began it, through each thing that it waits for."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        first, second = loop.create_future(), loop.create_future()
        begun = EagerCoroutine(after(first, second))
        assert not begun.is_done
        rest = asyncio.ensure_future(begun)
        first.set_result(3)
        await asyncio.sleep(0)
        assert not rest.done()
        second.set_result(4)
        assert await rest == 7
        assert begun.is_done

    run(story())


def test_what_goes_wrong_while_it_waits_goes_wrong_in_the_coroutine() -> None:
    """An error of what it waits for, and a cancellation: it may see to either, and ends as it decides."""
    seen: list[type[BaseException]] = []

    async def watching(awaited: "asyncio.Future[int]") -> str:
        try:
            return str(await awaited)
        except (LookupError, asyncio.CancelledError) as error:
            seen.append(type(error))
            if isinstance(error, LookupError):
                return "mended"
            raise

    async def story() -> None:
        loop = asyncio.get_running_loop()
        broken, never = loop.create_future(), loop.create_future()
        mended, cancelled = (asyncio.ensure_future(EagerCoroutine(watching(each))) for each in (broken, never))
        await asyncio.sleep(0)
        broken.set_exception(LookupError())
        cancelled.cancel()
        assert await mended == "mended"
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    run(story())
    assert sorted(each.__name__ for each in seen) == ["CancelledError", "LookupError"]


def test_what_is_closed_cleans_up_and_goes_no_further() -> None:
    """So a record that could not be sent at once is not sent later."""
    done: list[str] = []

    async def working(awaited: "asyncio.Future[int]") -> None:
        try:
            await awaited
            done.append("went on")
        finally:
            done.append("cleaned up")

    async def story() -> None:
        awaited = asyncio.get_running_loop().create_future()
        EagerCoroutine(working(awaited)).close()
        awaited.set_result(1)
        await asyncio.sleep(0)

    run(story())
    assert done == ["cleaned up"]
