"""A worker of the notifier in a world of its own: logs, tables, a mail server, user_manager, time, and crashes.

All that the core awaits is awaited here, and may take its time, fail, or be where the process is killed. What a broker
has not acknowledged by then, a crash may lose; what is not acknowledged to it comes again. After a stormy time
everything works, and what became of each alert must add up.
"""

import asyncio
import random
import selectors
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock
from uuid import UUID

from chassis.metrics import Identity, Metrics
from domain.alerts import Alert, State
from notifier import mailroom as mailroom_module, waiting as waiting_module
from notifier.agents import REQUEUED, Agents, KafkaTopics
from notifier.confirmations import Confirmations
from notifier.delivery import Manner
from notifier.dispatch import Dispatch
from notifier.doubt import Doubts
from notifier.errors import (
    HardBounce,
    LostAfterData,
    MailServerAway,
    NotSent,
    PermanentlyRefused,
    Reason,
    TemporarilyRefused,
    UserManagerAway,
)
from notifier.ledger import Ledger
from notifier.mail import Contact
from notifier.mailroom import Mailroom
from notifier.messages import decode_raised, decode_retry
from notifier.metrics import NotifierMetrics
from notifier.waiting import Waiting
from streams.messages import encode_alert
from tests.fakes.stream import FakeEvent
from tests.notifier.alerts import ALERT, CONTACT, SENDER
from towerwatch.topics import ALERTS_RAISED, ALERTS_RETRY

BEGIN = datetime(2026, 11, 23, tzinfo=UTC)


class _Hurried(selectors.DefaultSelector):
    """Waits for nothing: time passes instead."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if found:
            return found
        if timeout is None:
            raise AssertionError("everybody waits, and for nothing")
        self.at += max(timeout, 0.0)
        return []


class HurriedLoop(asyncio.SelectorEventLoop):
    """An event loop in which an hour takes no time."""

    def __init__(self) -> None:
        self._hurried = _Hurried()
        super().__init__(self._hurried)

    def time(self) -> float:
        return self._hurried.at


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run in hurried time."""
    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        runner.run(story)


class LoopClock:
    """The time of the loop, as an instant."""

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())

    def real_seconds(self, duration: timedelta) -> float:
        return max(duration.total_seconds(), 0.0)


@dataclass(frozen=True, slots=True)
class Weather:
    """How likely things go wrong while it storms, each from 0 to 1; the rest of the mails are taken."""

    storm: timedelta = timedelta(0)
    temporary: float = 0.0
    permanent: float = 0.0
    bounce: float = 0.0
    server_away: float = 0.0
    left_alone: float = 0.0
    lost_taken: float = 0.0
    lost_not_taken: float = 0.0
    stalls: float = 0.0
    user_manager_away: float = 0.0
    paused: float = 0.0
    crashes: int = 0
    rebalances: int = 0


@dataclass(frozen=True, slots=True)
class Ways:
    """How the notifier is set."""

    group_wait: timedelta = timedelta(seconds=5)
    mails_per_hour: int | None = None
    in_doubt: int = 1
    connections: int = 2
    most_alerts: int = 200
    most_waiting: int = 1000
    lifetime: timedelta = timedelta(hours=24)


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


class _Table:
    """A table with its changelog: what the broker has is in `kept`."""

    def __init__(self, life: Life, kept: dict[bytes, bytes]) -> None:
        self._life = life
        self._kept = kept
        self._entries = dict(kept)
        self._pending: list[tuple[bytes, bytes | None, asyncio.Future[None]]] = []
        self._last: asyncio.Future[None] | None = None
        self._sending: asyncio.Task[None] | None = None

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def write(self, event: Any, key: bytes, entry: bytes | None) -> None:
        if self._life.dead:
            return
        assert event.message.generation == self._life.generation, "a write for a partition that may be another's"
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
        self._keep(self._life.world.chance.randint(0, len(self._pending)))


class _Topic:
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


class _Stream:
    """Reads a log from where it goes on, and acknowledges."""

    def __init__(self, life: Life, log: Log) -> None:
        self._life, self._log = life, log
        self._generation = life.generation

    def noack(self) -> "_Stream":
        return self

    async def events(self) -> AsyncIterator[FakeEvent]:
        offset = self._log.next_offset
        while True:
            while offset >= len(self._log.records):
                self._log.grown.clear()
                await self._log.grown.wait()
            record = self._log.records[offset]
            await self._life.step()
            message = SimpleNamespace(
                topic=self._log.name,
                partition=0,
                offset=offset,
                key=record.key,
                value=record.value,
                headers=record.headers,
                timestamp=record.at.timestamp(),
                generation=self._generation,
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
        self.kept: dict[str, dict[bytes, bytes]] = {"fates": {}, "people": {}}
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
                (decode_raised(letter.value),)
                if letter.from_topic == ALERTS_RAISED.name
                else decode_retry(letter.value).raised
            )
            for each in raised:
                yield each.alert.alert_id, letter.headers["reason"].decode()


class _Server:
    """The mail server; it does what the weather says."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def send(self, mail: Any, envelope_from: str | None, before_content: Callable[[], Awaitable[None]]) -> None:
        world, weather = self._life.world, self._life.world.weather
        await self._life.step()
        if world.happens(weather.left_alone):
            retry_at = world.clock.now() + timedelta(seconds=world.chance.uniform(0, 20))
            raise MailServerAway("left alone", Reason.BREAKER_OPEN, world.chance.choice((None, retry_at)))
        if world.happens(weather.server_away):
            raise MailServerAway("unreachable")
        if world.happens(weather.bounce):
            world.refused |= mail.alert_ids
            raise HardBounce("the recipient: 550")
        if world.happens(weather.temporary):
            raise TemporarilyRefused("the recipient: 450")
        await before_content()
        await self._life.step()
        if world.happens(weather.permanent):
            world.refused |= mail.alert_ids
            raise PermanentlyRefused("the mail: 554")
        if world.happens(weather.lost_not_taken):
            world.silences += 1
            raise LostAfterData("the mail: no answer")
        if self._life.dead:
            await asyncio.Event().wait()
        world.mails.append(Taken(mail.user_id, mail.alert_ids, world.clock.now()))
        await self._life.step()
        if world.happens(weather.stalls):
            await asyncio.sleep(world.chance.uniform(0, 30))
        if world.happens(weather.lost_taken):
            world.silences += 1
            raise LostAfterData("the mail: no answer")


class _Contacts:
    """user_manager."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def of(self, user_id: UUID) -> Contact | None:
        world = self._life.world
        await self._life.step()
        if world.happens(world.weather.user_manager_away):
            raise UserManagerAway("UNAVAILABLE")
        if world.happens(world.weather.paused):
            world.not_mailable.add(user_id)
            none = [None, replace(CONTACT, paused=True), replace(CONTACT, confirmed=False)]
            return world.chance.choice([*none, replace(CONTACT, suppressed=True)])
        return replace(CONTACT, user_id=user_id)

    async def report_bounce(self, user_id: UUID, at: datetime) -> None:
        await self._life.step()
        if self._life.world.happens(0.3):
            raise UserManagerAway("UNAVAILABLE")


def _written(alerts: list[Alert], contact: Contact, *_: object) -> Any:
    """In place of the mail itself, which takes long to write."""
    return SimpleNamespace(user_id=contact.user_id, alert_ids=frozenset(each.alert_id for each in alerts))


class Worker:
    """The core as `notifier.app` wires it."""

    def __init__(self, world: World) -> None:
        self.world, ways = world, world.ways
        self.life = life = Life(world)
        self.tables = {name: _Table(life, kept) for name, kept in world.kept.items()}
        crashed: list[BaseException] = []
        ledger = Ledger(self.tables["fates"], self.tables["people"], crashed.append)
        self.waiting = Waiting(ways.group_wait)
        metrics = NotifierMetrics(Metrics(Identity("notifier", "story")))
        topics = KafkaTopics(
            _Topic(life, world.retry),  # type: ignore[arg-type]
            _Topic(life, world.dead_letters),  # type: ignore[arg-type]
            lambda event: life.ours and event.message.generation == life.generation,
        )
        manner = Manner(SENDER, mails_per_hour=ways.mails_per_hour, lifetime=ways.lifetime)
        contacts, server, doubts = _Contacts(life), _Server(life), Doubts(ways.in_doubt)
        room = Mailroom(
            self.waiting, ledger, contacts, server, topics, manner, doubts, ways.connections, world.clock, metrics
        )
        confirmations = Confirmations(ledger, contacts, server, topics, manner, doubts, world.clock, metrics)
        self.dispatch = Dispatch(self.waiting, room, world.clock, ways.connections, ways.most_waiting)
        self.agents = Agents(self.dispatch, confirmations, ledger, topics, metrics)
        self._reading: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        asyncio.create_task(self.dispatch.run())
        self._read()

    def _read(self) -> None:
        streams = _Stream(self.life, self.world.raised), _Stream(self.life, self.world.retry)
        takes = self.agents.raised, self.agents.retried
        self._reading = [
            asyncio.create_task(take(stream))  # type: ignore[arg-type]
            for take, stream in zip(takes, streams, strict=True)
        ]

    async def rebalance(self) -> None:
        """The partitions go, and come back."""
        self.life.ours = False
        await self.dispatch.let_go(8.0)
        for task in self._reading:
            task.cancel()
        await asyncio.wait(self._reading)
        if self.life.dead:
            return
        self.life.generation += 1
        self.life.ours = True
        self.dispatch.go_on()
        self._read()

    def crash(self) -> None:
        self.life.dead = True
        for table in self.tables.values():
            table.crash()


def episodes(world: World, how_many: int) -> list[tuple[float, Alert]]:
    """FIRINGs, most with their RESOLVED, and seconds after the beginning when they are raised."""
    chance, found = world.chance, []
    for number in range(how_many):
        user, interest = chance.choice(world.users), UUID(int=number << 64 | 7)
        firing = replace(
            ALERT,
            alert_id=UUID(int=number * 10 + 1),
            user_id=user,
            interest_id=interest,
            episode_id=UUID(int=number * 10 + 1),
        )
        at = chance.choice((0.0, 0.0, 1.0, chance.uniform(0, 600)))
        found.append((at, firing))
        if chance.random() < 0.7:
            later = at + chance.choice((0.0, chance.uniform(0, 20), chance.uniform(0, 900)))
            found.append(
                (
                    later,
                    replace(
                        firing,
                        alert_id=UUID(int=number * 10 + 2),
                        state=State.RESOLVED,
                        window_start=ALERT.window_start + timedelta(hours=1),
                    ),
                )
            )
    return sorted(found, key=lambda each: (each[0], each[1].alert_id))


async def tell(world: World, alerts: list[tuple[float, Alert]], requeues: bool) -> None:
    """From the first alert until nothing is left to be done."""
    weather, chance = world.weather, world.chance
    world.crash_at = {chance.randint(1, 60 + 12 * len(alerts)) for _ in range(weather.crashes)}
    rebalance_at = sorted(chance.uniform(0, 120) for _ in range(weather.rebalances))
    worker = Worker(world)
    worker.begin()

    async def raising() -> None:
        for at, alert in alerts:
            await asyncio.sleep(max(at - asyncio.get_running_loop().time(), 0))
            world.raise_alert(alert)
            if chance.random() < 0.05:
                world.raise_alert(alert)  # the stream's own repeat

    bringing = asyncio.create_task(raising())
    world.outlives.add(bringing)
    deadline = asyncio.get_running_loop().time() + 40 * 3600
    while asyncio.get_running_loop().time() < deadline:
        now = asyncio.get_running_loop().time()
        pause = 1.0 if now < 200 or world.storms else 60.0
        if rebalance_at:
            pause = min(pause, max(rebalance_at[0] - now, 0))
        with suppress(TimeoutError):
            await asyncio.wait_for(world.killed.wait(), pause)
        if rebalance_at and asyncio.get_running_loop().time() >= rebalance_at[0] and not world.killed.is_set():
            rebalance_at.pop(0)
            world.rebalances += 1
            going = asyncio.create_task(worker.rebalance())
            killing = asyncio.create_task(world.killed.wait())
            await asyncio.wait((going, killing), return_when=asyncio.FIRST_COMPLETED)
            killing.cancel()
            if world.killed.is_set():
                going.cancel()
                with suppress(asyncio.CancelledError):
                    await going
        if world.killed.is_set():
            world.killed.clear()
            world.crashes += 1
            worker.crash()
            await world.end_tasks()
            worker = Worker(world)
            worker.begin()
        if requeues and not world.storms:
            requeues = False
            for alert_id in {each for each, _ in world.buried()}:
                world.requeued.add(alert_id)
                world.raise_alert(world.alerts[alert_id], {REQUEUED: b"0:0"})
        if bringing.done() and not world.storms and world.all_acknowledged and not requeues:
            break
    await bringing
    left = {log.name: sorted(set(range(len(log.records))) - log.acknowledged) for log in (world.raised, world.retry)}
    people = dict(world.kept["people"])
    worker.crash()
    await world.end_tasks()
    assert not any(left.values()), f"never acknowledged: {left}"
    assert len(worker.waiting) == 0, "all is done, and something waits"
    judge(world, people)


def judge(world: World, people: dict[bytes, bytes]) -> None:
    """Whether it adds up."""
    sets_of: dict[UUID, set[frozenset[UUID]]] = defaultdict(set)
    first_told: dict[UUID, int] = {}
    times: dict[frozenset[UUID], int] = defaultdict(int)
    for number, mail in enumerate(world.mails):
        times[mail.alert_ids] += 1
        for each in mail.alert_ids:
            sets_of[each].add(mail.alert_ids)
            first_told.setdefault(each, number)
    reasons: dict[UUID, list[str]] = defaultdict(list)
    for alert_id, reason in world.buried():
        reasons[alert_id].append(reason)
    uncertain = world.crashes + world.rebalances
    for alert_id, alert in world.alerts.items():
        if len(sets_of[alert_id]) > 1:
            raise AssertionError(f"{alert_id.int} told in different mails: {as_numbers(sets_of[alert_id])}")
        assert alert_id in first_told or reasons[alert_id] or alert.user_id in world.not_mailable, (
            f"{alert_id.int} lost"
        )
        if not uncertain and not world.requeued:
            assert not (alert_id in first_told and reasons[alert_id] and not world.silences), f"{alert_id.int} twice"
        for reason in reasons[alert_id]:
            if reason.startswith(("the recipient: 550", "the mail: 554")):
                assert alert_id in world.refused, f"{alert_id.int}: {reason}"
            else:
                assert reason.startswith("gave up after"), f"{alert_id.int}: {reason}"
        if alert.state is State.RESOLVED and alert_id in first_told and alert.episode_id is not None:
            firing = alert.episode_id
            ended = reasons[firing] or alert.user_id in world.not_mailable
            assert ended or first_told[firing] <= first_told[alert_id], f"{alert_id.int} before {firing.int}"
    repeated = sum(times.values()) - len(times)
    assert repeated <= uncertain * world.ways.in_doubt + world.silences, f"{repeated} repeats"
    for alert_id in world.requeued:
        again = alert_id in first_told or world.alerts[alert_id].user_id in world.not_mailable
        assert again or len(reasons[alert_id]) > 1, f"{alert_id.int} requeued, and lost"
    if world.ways.mails_per_hour is not None and not uncertain and not world.silences:
        for user in world.users:
            at = [mail.at for mail in world.mails if mail.user_id == user]
            for one, later in zip(at, at[world.ways.mails_per_hour :], strict=False):
                assert later - one >= timedelta(minutes=59, seconds=59), "too many in an hour"


def as_numbers(sets: set[frozenset[UUID]]) -> list[list[int]]:
    return [sorted(each.int for each in one) for one in sets]


def drawn(seed: int) -> tuple[Weather, Ways, int, int, bool]:
    """A story's weather, ways, people, episodes, and whether what died is requeued."""
    chance = random.Random(seed)

    def maybe(most: float) -> float:
        return chance.choice((0.0, 0.0, chance.uniform(0, most)))

    weather = Weather(
        storm=timedelta(seconds=chance.choice((0, 30, 300, 3000, 6000))),
        temporary=maybe(0.7),
        permanent=maybe(0.1),
        bounce=maybe(0.1),
        server_away=maybe(0.4),
        left_alone=maybe(0.5),
        lost_taken=maybe(0.3),
        lost_not_taken=maybe(0.3),
        stalls=maybe(0.3),
        user_manager_away=maybe(0.5),
        paused=chance.choice((0.0, 0.0, 0.0, 0.1)),
        crashes=chance.choice((0, 0, 1, 1, 2, 4)),
        rebalances=chance.choice((0, 0, 1, 2)),
    )
    ways = Ways(
        group_wait=timedelta(seconds=chance.choice((0, 5, 5, 60))),
        mails_per_hour=chance.choice((None, None, 1, 2, 12)),
        in_doubt=chance.choice((1, 1, 2)),
        connections=chance.choice((1, 2, 4)),
        most_alerts=chance.choice((200, 200, 2)),
        most_waiting=chance.choice((1000, 1000, 40)),
        lifetime=timedelta(seconds=chance.choice((86_400, 86_400, 600))),
    )
    return weather, ways, chance.randint(1, 3), chance.randint(1, 8), chance.random() < 0.2


def tell_story(seed: int) -> World:
    """Live through what a seed says. Raises AssertionError where it does not add up."""
    weather, ways, users, how_many, requeues = drawn(seed)
    worlds: list[World] = []

    async def story() -> None:
        world = World(seed, weather, ways, users)
        worlds.append(world)
        await tell(world, episodes(world, how_many), requeues)

    with (
        mock.patch.object(mailroom_module, "alerts_mail", _written),
        mock.patch.object(mailroom_module, "MOST_ALERTS", ways.most_alerts),
        mock.patch.object(waiting_module, "MOST_ALERTS", ways.most_alerts),
        mock.patch.object(mailroom_module.random, "random", random.Random(seed).random),
    ):
        run(story())
    return worlds[0]
