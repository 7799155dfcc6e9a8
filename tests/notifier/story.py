"""What one worker of the notifier lives through, drawn from a seed; and whether all that became of the alerts adds up.

After a stormy time everything works, and goes on until nothing is left to be done. Thousands of them:

    python -m tests.notifier.story 0 3000
"""

import asyncio
import random
import sys
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock
from uuid import UUID

import structlog

from chassis.metrics import Metrics, ServiceIdentity
from domain.alerts import Alert, AlertState
from notifier.agents import Agents, KafkaTopics
from notifier.delivery import batching as waiting_module, deliver as mailroom_module
from notifier.delivery.batching import Waiting
from notifier.delivery.confirmations import Confirmations
from notifier.delivery.deliver import Mailroom
from notifier.delivery.dispatch import Dispatch
from notifier.delivery.in_flight import Doubts
from notifier.delivery.interfaces import Manner
from notifier.delivery.store import Ledger
from notifier.mail import Contact
from notifier.messages import REQUEUED_FROM
from notifier.metrics import NotifierMetrics
from tests.fakes.hurried_loop import run
from tests.notifier.alerts import ALERT, SENDER
from tests.notifier.weather import Ways, Weather
from tests.notifier.world import Life, People, PublishedTo, ReadFrom, Server, Table, World


def written(alerts: list[Alert], contact: Contact, *_: object) -> Any:
    """In place of the mail itself, which takes long to write."""
    return SimpleNamespace(user_id=contact.user_id, alert_ids=frozenset(each.alert_id for each in alerts))


class Worker:
    """The core as `notifier.app` wires it."""

    def __init__(self, world: World) -> None:
        self.world, ways = world, world.ways
        self.life = life = Life(world)
        self.tables = {name: Table(life, kept) for name, kept in world.kept.items()}
        crashed: list[BaseException] = []
        ledger = Ledger(self.tables["fates"], self.tables["people"], crashed.append)
        self.waiting = Waiting(ways.group_wait)
        every = Metrics(ServiceIdentity("notifier", "story"))
        metrics, self.registry = NotifierMetrics(every), every.registry
        topics = KafkaTopics(
            PublishedTo(life, world.retry),  # type: ignore[arg-type]
            PublishedTo(life, world.dead_letters),  # type: ignore[arg-type]
            lambda event: life.ours and event.message.generation_id == life.generation,
        )
        manner = Manner(SENDER, mails_per_hour=ways.mails_per_hour, lifetime=ways.lifetime)
        contacts, server, doubts = People(life), Server(life), Doubts(ways.in_doubt)
        room = Mailroom(
            self.waiting, ledger, contacts, server, topics, manner, doubts, ways.connections, world.clock, metrics
        )
        confirmations = Confirmations(ledger, contacts, server, topics, manner, doubts, world.clock, metrics)
        self.dispatch = Dispatch(self.waiting, room, world.clock, ways.connections, ways.most_waiting)
        self.agents = Agents(self.dispatch, confirmations, ledger, topics, metrics)
        self._reading: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        self._running = asyncio.create_task(self.dispatch.run())
        self._read()

    def _read(self) -> None:
        streams = ReadFrom(self.life, self.world.raised), ReadFrom(self.life, self.world.retry)
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
        self.world.lose_uncommitted()
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
                        state=AlertState.RESOLVED,
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
    silences = 0
    while asyncio.get_running_loop().time() < deadline:
        now = asyncio.get_running_loop().time()
        pause = 1.0 if now < 200 or world.storms else 60.0
        if world.silences > silences:
            silences = world.silences
            if chance.random() < weather.restless:
                rebalance_at.insert(0, now + chance.uniform(0, 3))
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
            world.lose_uncommitted()
            worker = Worker(world)
            worker.begin()
        if requeues and not world.storms:
            requeues = False
            for alert_id in {each for each, _ in world.buried()}:
                world.requeued.add(alert_id)
                world.raise_alert(world.alerts[alert_id], {REQUEUED_FROM: b"0:0"})
        if bringing.done() and not world.storms and world.all_acknowledged and not requeues and not len(worker.waiting):
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
        if len(sets_of[alert_id]) > 1 and alert_id not in world.requeued:
            raise AssertionError(f"{alert_id.int} told in different mails: {as_numbers(sets_of[alert_id])}")
        assert alert_id in first_told or reasons[alert_id] or alert.user_id in world.not_mailable, (
            f"{alert_id.int} lost"
        )
        if not uncertain and not world.requeued:
            assert not (alert_id in first_told and reasons[alert_id] and not world.silences), f"{alert_id.int} twice"
        for reason in reasons[alert_id]:
            if reason.startswith(("the server refused the recipient: 550", "the server refused the mail: 554")):
                assert alert_id in world.refused, f"{alert_id.int}: {reason}"
            else:
                assert reason.startswith("gave up after"), f"{alert_id.int}: {reason}"
        if alert.state is AlertState.RESOLVED and alert_id in first_told and alert.episode_id is not None:
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

    if chance.random() < 0.2:  # the same mails in doubt again and again, for ever other readers
        weather = Weather(
            storm=timedelta(seconds=300), temporary=0.4, lost_taken=0.3, lags=0.5, restless=0.7, rebalances=2
        )
        ways = Ways(group_wait=timedelta(seconds=chance.choice((0, 5))), in_doubt=2)
        return weather, ways, 1, chance.randint(2, 8), False
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
        lags=chance.choice((0.0, 0.5)),
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
        mock.patch.object(mailroom_module, "compose_alerts_mail", written),
        mock.patch.object(mailroom_module, "MOST_ALERTS", ways.most_alerts),
        mock.patch.object(waiting_module, "MOST_ALERTS", ways.most_alerts),
        mock.patch.object(random, "random", random.Random(seed).random),
    ):
        run(story())
    return worlds[0]


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    for told in range(int(sys.argv[1]), int(sys.argv[2])):
        try:
            tell_story(told)
        except AssertionError as error:
            print(f"seed {told}: {error}")
