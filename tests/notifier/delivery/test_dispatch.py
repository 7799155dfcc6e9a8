"""The core as a whole: what it lives through by chance, and how it takes turns, stops and goes on."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from notifier.delivery.batching import Bundle, Mail, Waiting
from notifier.delivery.dispatch import Dispatch
from notifier.delivery.user_state import Person
from tests.fakes.hurried_loop import LoopClock, run
from tests.notifier.alerts import new_alert
from tests.notifier.delivery.test_batching import raised
from tests.notifier.story import tell_story

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
            tell_story(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


class Room:
    """Delivers when it is told to, and writes down what it was given."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self.begun: list[Mail] = []
        self.answers = asyncio.Event()
        self.rests_until: Any = None
        self.broken_off = 0

    async def deliver(self, mail: Mail) -> Any:
        self.begun.append(mail)
        try:
            await self.answers.wait()
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        if self.rests_until is not None:
            self._waiting.back(mail)
            return self.rests_until
        self._waiting.done(mail, mail.bundles, Person())
        return None


def scene(
    doing: Callable[[Dispatch, Room, Waiting], Coroutine[Any, Any, None]], connections: int = 2, most_waiting: int = 100
) -> None:
    async def with_it() -> None:
        waiting = Waiting(timedelta(0))
        room = Room(waiting)
        dispatch = Dispatch(waiting, room, LoopClock(), connections, most_waiting)  # type: ignore[arg-type]
        running = asyncio.create_task(dispatch.run())
        await doing(dispatch, room, waiting)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run(with_it())


def a_bundle(is_retry: bool = False) -> Bundle:
    now = LoopClock().now()
    return Bundle((raised(new_alert()),), None, now, not_before=now if is_retry else None)


async def a_moment() -> None:
    await asyncio.sleep(0.01)


def test_so_many_at_a_time_and_the_next_when_one_is_done() -> None:
    """As many as the server takes, and some more that are written meanwhile."""

    async def doing(dispatch: Dispatch, room: Room, waiting: Waiting) -> None:
        for _ in range(30):
            dispatch.take(a_bundle(), Person())
        await a_moment()
        assert len(room.begun) == 2 + 12
        room.answers.set()
        await a_moment()
        assert (len(room.begun), len(waiting)) == (30, 0)

    scene(doing)


def test_who_has_all_hands_full_takes_no_more_but_retries() -> None:
    """Fresh alerts may wait for a retry of the same person: if they took all of the room, they would wait in vain."""

    async def doing(dispatch: Dispatch, room: Room, waiting: Waiting) -> None:
        for _ in range(10):
            await dispatch.room()
            dispatch.take(a_bundle(), Person())
        fresh, retry = asyncio.create_task(dispatch.room()), asyncio.create_task(dispatch.room(is_retry=True))
        await a_moment()
        assert (fresh.done(), retry.done()) == (False, True)
        room.answers.set()
        await fresh

    scene(doing, most_waiting=20)


def test_while_nobody_could_be_mailed_nobody_is_tried() -> None:
    """And what waited for it goes out when the rest is over, by itself."""

    async def doing(dispatch: Dispatch, room: Room, waiting: Waiting) -> None:
        room.answers.set()
        room.rests_until = LoopClock().now() + timedelta(seconds=30)
        dispatch.take(a_bundle(), Person())
        await a_moment()
        assert dispatch.is_resting
        dispatch.take(a_bundle(), Person())
        await asyncio.sleep(29)
        assert len(room.begun) == 1
        room.rests_until = None
        await asyncio.sleep(1.1)
        assert (len(room.begun), len(waiting), dispatch.is_resting) == (3, 0, False)

    scene(doing)


def test_a_longer_rest_is_not_cut_short_by_another() -> None:
    """Two mails may find two different reasons to wait."""

    async def doing(dispatch: Dispatch, room: Room, waiting: Waiting) -> None:
        long = LoopClock().now() + timedelta(seconds=30)
        for _ in range(2):
            dispatch.take(a_bundle(), Person())
        await a_moment()
        for until in (long, long - timedelta(seconds=20)):
            room.rests_until = until
            room.answers.set()
            await a_moment()
        await asyncio.sleep(15)
        assert dispatch.is_resting

    scene(doing)


def test_letting_go_begins_nothing_and_lets_end_what_is_under_way() -> None:
    """What waits is forgotten: it is read again, here or by whoever has it then."""

    async def doing(dispatch: Dispatch, room: Room, waiting: Waiting) -> None:
        dispatch.take(a_bundle(), Person())
        await a_moment()
        letting_go = asyncio.create_task(dispatch.let_go(8.0))
        await a_moment()
        dispatch.take(a_bundle(), Person())
        await asyncio.sleep(5)
        assert not letting_go.done()
        room.answers.set()
        await letting_go
        assert (len(room.begun), room.broken_off, len(waiting)) == (1, 0, 0)
        dispatch.take(a_bundle(), Person())
        await asyncio.sleep(60)
        assert len(room.begun) == 1, "not before it goes on"
        dispatch.go_on()
        await a_moment()
        assert len(room.begun) == 2

    scene(doing)


def test_what_does_not_end_in_time_is_broken_off() -> None:
    """A rebalance waits for 30 seconds at most, and a stop for 20."""

    async def doing(dispatch: Dispatch, room: Room, waiting: Waiting) -> None:
        dispatch.take(a_bundle(), Person())
        await a_moment()
        began = LoopClock().now()
        await dispatch.let_go(8.0)
        assert room.broken_off == 1
        assert LoopClock().now() - began < timedelta(seconds=10)

    scene(doing)


def test_a_stop_ends_it_even_when_something_changes_at_that_moment() -> None:
    """`asyncio.wait_for` would swallow the cancellation then, and the worker would never end."""

    async def doing() -> None:
        waiting = Waiting(timedelta(0))
        dispatch = Dispatch(waiting, Room(waiting), LoopClock(), 1)  # type: ignore[arg-type]
        running = asyncio.create_task(dispatch.run())
        await a_moment()
        dispatch.go_on()
        running.cancel()
        await asyncio.sleep(0.1)
        assert running.cancelled()

    run(doing())
