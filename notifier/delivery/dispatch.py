"""Who is delivered to next, and how many at a time."""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Final

from chassis.clock import Clock
from notifier.delivery.batching import Bundle, Mail, Waiting
from notifier.delivery.deliver import Mailroom
from notifier.delivery.user_state import Person

MOST_WAITING: Final = 40_000
"""Alerts in hand, of some kilobytes each; the rest waits in the broker."""

_READY_BESIDES: Final = 12
"""Mails beyond those that the server takes at a time: they are asked about and written meanwhile."""


class Dispatch:
    """Takes what is due from `Waiting`, and has it delivered."""

    def __init__(
        self,
        waiting: Waiting,
        mailroom: Mailroom,
        clock: Clock,
        connections: int,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """`connections`: how many mails the server takes at a time."""
        self._waiting = waiting
        self._mailroom = mailroom
        self._clock = clock
        self._most_at_once = connections + _READY_BESIDES
        self._most_waiting = most_waiting
        self._at_work: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._held = False
        self._rests_until: datetime | None = None

    @property
    def is_resting(self) -> bool:
        """Whether nothing is delivered because nothing could be."""
        return self._rests_until is not None and self._rests_until > self._clock.now()

    async def room(self, is_retry: bool = False) -> None:
        """Return once another alert may be taken in hand. Fresh ones leave half of the room to retries: all of them may
        be waiting for some."""
        most = self._most_waiting if is_retry else (self._most_waiting + 1) // 2
        while len(self._waiting) >= most:
            self._has_room.clear()
            await self._has_room.wait()

    def take(self, bundle: Bundle, person: Person) -> None:
        """Have alerts delivered when their time comes. `person`: as remembered."""
        self._waiting.add(bundle, self._clock.now(), person)
        self._changed.set()

    async def run(self) -> None:
        """Deliver, without end."""
        while True:
            self._changed.clear()
            mail = self._next()
            if mail is not None:
                task = asyncio.create_task(self._deliver(mail))
                self._at_work.add(task)
                task.add_done_callback(self._ended)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s()):  # `wait_for` may swallow the end of this task
                        await self._changed.wait()

    async def let_go(self, within_s: float) -> None:
        """Begin nothing more, and return once what is under way has ended; what has not after `within_s` seconds is
        broken off. Then nothing is waited for any more, until `go_on`."""
        self._held = True
        if self._at_work:
            await asyncio.wait(tuple(self._at_work), timeout=within_s)
        for task in tuple(self._at_work):
            task.cancel()
        if self._at_work:
            await asyncio.wait(tuple(self._at_work), timeout=1.0)
        self._waiting.forget()
        self._has_room.set()

    def go_on(self) -> None:
        """After `let_go`."""
        self._held = False
        self._changed.set()

    def _next(self) -> Mail | None:
        if self._held or self.is_resting or len(self._at_work) >= self._most_at_once:
            return None
        return self._waiting.next(self._clock.now())

    def _pause_s(self) -> float | None:
        """Until something may be due, if nothing changes before; None: for as long as nothing changes."""
        due = self._waiting.next_at
        if due is None or self._held or len(self._at_work) >= self._most_at_once:
            return None
        if self._rests_until is not None:
            due = max(due, self._rests_until)
        return self._clock.real_seconds(due - self._clock.now()) + 0.001  # a timer may end a little early

    async def _deliver(self, mail: Mail) -> None:
        until = await self._mailroom.deliver(mail)
        if until is not None:
            self._rests_until = max(until, self._rests_until or until)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._at_work.discard(task)
        self._changed.set()
        self._has_room.set()
