"""What surrounds the notifier's core, for tests: logs, tables, a mail server, user_manager, time, and crashes.

All that the core awaits is awaited here, and may take its time, fail, or be where the process is killed. What a broker
has not acknowledged by then, a crash may lose; what is not acknowledged to it comes again.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from domain.alerts import Alert
from notifier.errors import (
    FailureReason,
    HardBounce,
    LostAfterData,
    MailServerUnavailable,
    NotSent,
    PermanentlyRefused,
    TemporarilyRefused,
    UserManagerUnavailable,
)
from notifier.mail import Contact
from notifier.messages import decode_raised_alert, decode_retry
from streams.messages import encode_alert
from tests.fakes.hurried_loop import BEGIN, LoopClock
from tests.fakes.stream import FakeEvent
from tests.notifier.alerts import CONTACT
from tests.notifier.simulation_settings import Ways, Weather
from towerwatch.topics import ALERTS_RAISED, ALERTS_RETRY


@dataclass(slots=True)
class Record:
    key: bytes
    value: bytes
    at: datetime
    headers: dict[str, bytes]
    from_topic: str = ""
    from_offset: int = -1


@dataclass(slots=True)
class Log:
    """A topic of one partition."""

    name: str
    records: list[Record] = field(default_factory=list)
    acknowledged: set[int] = field(default_factory=set)
    committed: int = 0
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def next_offset(self) -> int:
        """Where a new reader goes on."""
        offset = 0
        while offset in self.acknowledged:
            offset += 1
        return offset

    def add(self, record: Record) -> None:
        self.records.append(record)
        self.grown.set()

    def lose(self, chance: random.Random) -> None:
        """Of what was acknowledged some is not committed when its reader goes: it comes again."""
        self.committed = chance.choice((self.next_offset, chance.randint(self.committed, self.next_offset)))
        self.acknowledged = set(range(self.committed))


class Life:
    """One process. Dead, it changes nothing any more."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.dead = False
        self.ours = True
        self.generation = 0

    async def step(self) -> None:
        """A moment of the event loop, and of time; the process may be killed in it."""
        self.world.steps += 1
        if self.world.steps in self.world.crash_at and not self.dead:
            self.world.crash_at.discard(self.world.steps)
            self.dead = True
            self.world.killed.set()
        if self.dead:
            await asyncio.Event().wait()
        await asyncio.sleep(self.world.chance.choice((0, 0, 0.001, 0.02)))
        if self.dead:
            await asyncio.Event().wait()


class Table:
    """A table with its changelog: what the broker has is in `kept`."""

    def __init__(self, life: Life, kept: dict[bytes, bytes]) -> None:
        self._life = life
        self._kept = kept
        self._entries = dict(kept)
        self._pending: list[tuple[bytes, bytes | None, asyncio.Future[None]]] = []
        self._last: asyncio.Future[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self.held = False
        """Its changelog takes nothing."""

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def write(self, event: Any, key: bytes, entry: bytes | None) -> None:
        if self._life.dead:
            return
        assert event.message.generation_id == self._life.generation, "a write for a partition that may be another's"
        if entry is None:
            del self._entries[key]
        else:
            self._entries[key] = entry
        self._last = asyncio.get_running_loop().create_future()
        self._pending.append((key, entry, self._last))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    def last_write(self, partition: int) -> Any:
        return self._last

    async def purge(self, is_over: Callable[[bytes], bool]) -> int:
        raise NotImplementedError

    async def _send(self) -> None:
        try:
            while self._pending:
                await self._life.step()
                while self.held:
                    await asyncio.sleep(0.1)
                self._keep(len(self._pending) if self._life.world.chance.random() < 0.5 else 1)
        finally:
            self._sending = None

    def _keep(self, how_many: int) -> None:
        for key, entry, write in self._pending[:how_many]:
            if entry is None:
                self._kept.pop(key, None)
            else:
                self._kept[key] = entry
            if not write.done():
                write.set_result(None)
        del self._pending[:how_many]

    def crash(self) -> None:
        """Some of what was handed over arrives nevertheless, in its order."""
        if not self.held:
            self._keep(self._life.world.chance.randint(0, len(self._pending)))


class PublishedTo:
    """Publishes to a log; slow, and sometimes refusing."""

    def __init__(self, life: Life, log: Log) -> None:
        self._life = life
        self._log = log

    async def send(self, *, key: Any, value: Any, partition: Any = None, headers: Any = None) -> Awaitable[None]:
        world, headers = self._life.world, headers or {}
        record = Record(key or b"", value or b"", world.clock.now(), {})
        if headers:
            record.headers = dict(headers)
            record.from_topic = headers["source-topic"].decode()
            record.from_offset = int(headers["source-offset"])

        async def sent() -> None:
            if world.chance.random() < 0.5:
                await self._life.step()
            if self._life.dead:
                return
            self._log.add(record)
            await self._life.step()

        await self._life.step()
        return sent()


class ReadFrom:
    """Reads a log from where it goes on, and acknowledges."""

    def __init__(self, life: Life, log: Log) -> None:
        self._life, self._log = life, log
        self._generation = life.generation

    def noack(self) -> "ReadFrom":
        return self

    async def events(self) -> AsyncIterator[FakeEvent]:
        offset, chance = self._log.next_offset, self._life.world.chance
        is_late = chance.random() < self._life.world.weather.lags
        late_at = offset + chance.choice((0, chance.randint(0, 30))) if is_late else None
        while True:
            while offset >= len(self._log.records):
                self._log.grown.clear()
                await self._log.grown.wait()
            record = self._log.records[offset]
            await self._life.step()
            if offset == late_at:
                await asyncio.sleep(chance.uniform(0, 40))
            message = SimpleNamespace(
                topic=self._log.name,
                partition=0,
                offset=offset,
                key=record.key,
                value=record.value,
                headers=record.headers,
                timestamp=record.at.timestamp(),
                generation_id=self._generation,
            )
            yield FakeEvent(message)
            offset += 1

    async def ack(self, event: Any) -> None:
        if not self._life.dead:
            self._log.acknowledged.add(event.message.offset)


@dataclass(frozen=True, slots=True)
class Taken:
    """A mail that the server has."""

    user_id: UUID
    alert_ids: frozenset[UUID]
    at: datetime


class World:
    """All that outlives a process."""

    def __init__(self, seed: int, weather: Weather, ways: Ways, users: int) -> None:
        self.chance = random.Random(seed)
        self.weather, self.ways = weather, ways
        self.clock = LoopClock()
        self.users = [UUID(int=1000 + each) for each in range(users)]
        self.raised, self.retry = Log(ALERTS_RAISED.name), Log(ALERTS_RETRY.name)
        self.dead_letters = Log("dead letters")
        self.kept: dict[str, dict[bytes, bytes]] = {"statuses": {}, "users": {}}
        self.alerts: dict[UUID, Alert] = {}
        self.mails: list[Taken] = []
        self.refused: set[UUID] = set()
        """Alerts in mails that the server refused for good."""
        self.not_mailable: set[UUID] = set()
        """Whoever was once."""
        self.silences = 0
        self.crashes = 0
        self.rebalances = 0
        self.requeued: set[UUID] = set()
        self.script: deque[NotSent | str] = deque()
        """What the mail server does with the next mails, whatever the weather: fail, "take" or "never answers". It has
        the mail when it fails with LostAfterData."""
        self.contact: Contact | None = CONTACT
        """Everybody's, while it does not storm."""
        self.bounces: list[UUID] = []
        """Of whom user_manager was told that the address does not exist."""
        self.steps = 0
        self.crash_at: set[int] = set()
        self.killed = asyncio.Event()
        self.outlives: set[asyncio.Task[None]] = set()
        """The tasks that are of no process."""

    @property
    def storms(self) -> bool:
        return self.clock.now() - BEGIN < self.weather.storm

    def happens(self, likely: float) -> bool:
        return self.storms and self.chance.random() < likely

    def raise_alert(self, alert: Alert, headers: dict[str, bytes] | None = None) -> None:
        self.alerts[alert.alert_id] = alert
        value = encode_alert(alert, self.clock.now())
        self.raised.add(Record(str(alert.user_id).encode(), value, self.clock.now(), headers or {}))

    def lose_uncommitted(self) -> None:
        """What whoever reads next begins with."""
        for log in (self.raised, self.retry):
            log.lose(self.chance)

    async def end_tasks(self) -> None:
        """All that a process was doing."""
        while tasks := asyncio.all_tasks() - self.outlives - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    @property
    def all_acknowledged(self) -> bool:
        return all(log.next_offset == len(log.records) for log in (self.raised, self.retry))

    def buried(self) -> Iterator[tuple[UUID, str]]:
        """Alerts that are dead letters, and why."""
        for letter in self.dead_letters.records:
            raised = (
                (decode_raised_alert(letter.value),)
                if letter.from_topic == ALERTS_RAISED.name
                else decode_retry(letter.value).alerts
            )
            for each in raised:
                yield each.alert.alert_id, letter.headers["reason"].decode()


class Server:
    """The mail server; it does what the weather says."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def send(self, mail: Any, envelope_from: str | None = None, before_content: Any = None) -> None:
        world, weather = self._life.world, self._life.world.weather
        await self._life.step()
        if world.script:
            await self._scripted(mail, before_content, world.script.popleft())
            return
        if world.happens(weather.left_alone):
            retry_at = world.clock.now() + timedelta(seconds=world.chance.uniform(0, 20))
            raise MailServerUnavailable("left alone", FailureReason.BREAKER_OPEN, world.chance.choice((None, retry_at)))
        if world.happens(weather.server_away):
            raise MailServerUnavailable("unreachable")
        if world.happens(weather.bounce):
            world.refused |= mail.alert_ids
            raise HardBounce("the server refused the recipient: 550")
        if world.happens(weather.temporary):
            raise TemporarilyRefused("the server refused the recipient: 450")
        await before_content()
        await self._life.step()
        if world.happens(weather.permanent):
            world.refused |= mail.alert_ids
            raise PermanentlyRefused("the server refused the mail: 554")
        if world.happens(weather.lost_not_taken):
            world.silences += 1
            raise LostAfterData("no answer from the server to the mail")
        if self._life.dead:
            await asyncio.Event().wait()
        world.mails.append(Taken(mail.user_id, mail.alert_ids, world.clock.now()))
        await self._life.step()
        if world.happens(weather.stalls):
            await asyncio.sleep(world.chance.uniform(0, 30))
        if world.happens(weather.lost_taken):
            world.silences += 1
            raise LostAfterData("no answer from the server to the mail")

    async def _scripted(self, mail: Any, before_content: Callable[[], Awaitable[None]], does: "NotSent | str") -> None:
        if isinstance(does, NotSent) and not isinstance(does, LostAfterData):
            raise does
        await before_content()
        self._life.world.mails.append(Taken(mail.user_id, mail.alert_ids, self._life.world.clock.now()))
        if does == "never answers":
            await asyncio.Event().wait()
        if isinstance(does, NotSent):
            raise does


class People:
    """user_manager."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def find_contact(self, user_id: UUID) -> Contact | None:
        world = self._life.world
        await self._life.step()
        if world.happens(world.weather.user_manager_away):
            raise UserManagerUnavailable("UNAVAILABLE")
        if world.happens(world.weather.paused):
            world.not_mailable.add(user_id)
            none = [None, replace(CONTACT, paused=True), replace(CONTACT, confirmed=False)]
            return world.chance.choice([*none, replace(CONTACT, suppressed=True)])
        return replace(world.contact, user_id=user_id) if world.contact is not None else None

    async def report_bounce(self, user_id: UUID, at: datetime) -> None:
        await self._life.step()
        if self._life.world.happens(0.3):
            raise UserManagerUnavailable("UNAVAILABLE")
        self._life.world.bounces.append(user_id)
