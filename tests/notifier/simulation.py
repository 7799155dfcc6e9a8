"""A simulation of one notifier worker with random faults from a seed, and the check that all events were handled.

After a storm of faults everything works, and the simulation continues until all events are acknowledged. To run
thousands of seeds:

    python -m tests.notifier.simulation 0 3000
    python -m tests.notifier.simulation 0 3000 --wild-clock
    python -m tests.notifier.simulation 0 3000 --absences
    python -m tests.notifier.simulation 0 3000 --flood
"""

import asyncio
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock
from uuid import UUID

import structlog

from chassis.metrics import Metrics, ServiceIdentity
from domain.alerts import Alert, AlertState
from domain.notices import UnheardNotice
from notifier.agents import Agents, KafkaTopics
from notifier.delivery import (
    batching as batching_module,
    composition as composition_module,
    corrections as corrections_module,
    deferral as deferral_module,
    notices as notices_module,
)
from notifier.delivery.batching import MailQueue
from notifier.delivery.confirmations import ConfirmationDelivery
from notifier.delivery.corrections import CONNECTIONS, AlertLane, CorrectionDelivery
from notifier.delivery.deliver import AlertDelivery
from notifier.delivery.dispatch import MailDispatcher
from notifier.delivery.in_flight import InFlightLimit
from notifier.delivery.notices import NoticeDelivery
from notifier.delivery.overflow import AlertOverflow
from notifier.delivery.policy import MailPolicy
from notifier.delivery.store import CORRECTIONS_PREFIX, DeliveryStore
from notifier.mail import Contact
from notifier.messages import REQUEUED_FROM
from notifier.metrics import NotifierMetrics
from tests.fakes.hurried_loop import BEGIN, run
from tests.notifier.alerts import ALERT, SENDER, build_unheard_notice
from tests.notifier.simulated_services import (
    SimulatedMailServer,
    SimulatedProcess,
    SimulatedStream,
    SimulatedTable,
    SimulatedTopic,
    SimulatedUserManager,
    Simulation,
)
from tests.notifier.simulation_settings import DeliverySettings, FaultRates


def build_fake_mail(alerts: list[Alert], contact: Contact, *_: object) -> Any:
    """Return a substitute for a mail with alerts, because a real one takes long to write."""
    ids = frozenset(each.alert_id for each in alerts)
    return SimpleNamespace(user_id=contact.user_id, alert_ids=ids, statements=tuple(alerts))


def build_fake_catch_up_mail(listed: list[Alert], alerts: list[Alert], contact: Contact, *_: object) -> Any:
    """Return a substitute for a catch-up mail."""
    alert_ids = frozenset(each.alert_id for each in alerts)
    return SimpleNamespace(user_id=contact.user_id, alert_ids=alert_ids, is_catch_up=True, statements=tuple(listed))


def build_fake_corrections_mail(listed: list[Alert], alerts: list[Alert], contact: Contact, *_: object) -> Any:
    """Return a substitute for a mail of corrections."""
    mail = build_fake_mail(alerts, contact)
    mail.listed_ids, mail.statements = frozenset(each.alert_id for each in listed), tuple(listed)
    return mail


def build_fake_notice_mail(notice: UnheardNotice, contact: Contact, *_: object) -> Any:
    """Return a substitute for the mail of a notice."""
    return SimpleNamespace(user_id=contact.user_id, alert_ids=frozenset({notice.notice_id}))


class SimulatedWorker:
    """A worker: the notifier's core, connected like in `notifier.app`."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation, settings = simulation, simulation.settings
        self.process = process = SimulatedProcess(simulation)
        self.tables = {name: SimulatedTable(process, changelog) for name, changelog in simulation.changelogs.items()}
        clock = process.clock
        crashed: list[BaseException] = []
        store = DeliveryStore(self.tables["statuses"], self.tables["users"], crashed.append)
        self.queue = MailQueue(settings.group_wait)
        all_metrics = Metrics(ServiceIdentity("notifier", "story"))
        metrics, self.registry = NotifierMetrics(all_metrics), all_metrics.registry
        topics = KafkaTopics(
            SimulatedTopic(process, simulation.retry_log),  # type: ignore[arg-type]
            SimulatedTopic(process, simulation.waiting_log),  # type: ignore[arg-type]
            SimulatedTopic(process, simulation.dead_letters),  # type: ignore[arg-type]
            lambda event: process.owns_partitions and event.message.generation_id == process.generation,
        )
        policy = MailPolicy(SENDER, mails_per_hour=settings.mails_per_hour, lifetime=settings.lifetime)
        contacts, server, in_flight = (
            SimulatedUserManager(process),
            SimulatedMailServer(process),
            InFlightLimit(settings.max_in_flight),
        )
        delivery = AlertDelivery(
            self.queue,
            store,
            contacts,
            server,
            topics,
            policy,
            in_flight,
            settings.connections,
            clock,
            metrics,
        )
        confirmations = ConfirmationDelivery(store, contacts, server, topics, policy, in_flight, clock, metrics)
        places = settings.max_queued_alerts, settings.smallest_share
        self.dispatcher = MailDispatcher(self.queue, delivery, clock, settings.connections, *places)
        self.notices = NoticeDelivery(store, contacts, server, topics, policy, in_flight, clock, metrics)
        corrections_store = DeliveryStore(
            self.tables["statuses"], self.tables["users"], crashed.append, CORRECTIONS_PREFIX
        )
        self.corrections_queue = MailQueue(settings.group_wait)
        correction_delivery = CorrectionDelivery(
            self.corrections_queue, corrections_store, contacts, server, topics, policy, in_flight, clock, metrics,
            settings.corrections, store, self.queue.has_alerts_of,
        )  # fmt: skip
        self.corrections = MailDispatcher(self.corrections_queue, correction_delivery, clock, CONNECTIONS, *places)
        lanes = AlertLane(self.dispatcher, store), AlertLane(self.corrections, corrections_store)
        self.overflow = AlertOverflow(topics, contacts, clock, metrics)
        self.agents = Agents(*lanes, confirmations, self.notices, self.overflow, topics, metrics)
        self.draining = self.dispatcher, self.corrections, self.notices, self.overflow
        self._reading: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the dispatcher and the agents."""
        self._running = [asyncio.create_task(each.run()) for each in (self.dispatcher, self.corrections)]
        self._start_reading()

    def _start_reading(self) -> None:
        """Start the agents of alerts, retries, notices and what waits."""
        streams = [SimulatedStream(self.process, log) for log in self.simulation.logs]
        agents = self.agents
        consumers = agents.consume_alerts, agents.consume_retries, agents.consume_notices, agents.consume_waiting
        self._reading = [
            asyncio.create_task(consume(stream))  # type: ignore[arg-type]
            for consume, stream in zip(consumers, streams, strict=True)
        ]

    async def rebalance(self) -> None:
        """Revoke all partitions and assign them again."""
        self.process.owns_partitions = False
        await asyncio.gather(*(each.stop_and_drain(8.0) for each in self.draining))
        for task in self._reading:
            task.cancel()
        await asyncio.wait(self._reading)
        if self.process.is_dead:
            return
        self.process.generation += 1
        self.process.owns_partitions = True
        self.simulation.lose_uncommitted_offsets()
        self.dispatcher.resume()
        self.corrections.resume()
        self._start_reading()

    async def stop(self) -> None:
        """Let the mails in progress end, and start no more."""
        await asyncio.gather(*(each.stop_and_drain(8.0) for each in self.draining))

    def crash(self) -> None:
        """Kill the process; some pending writes still reach the broker."""
        self.process.is_dead = True
        for table in self.tables.values():
            table.crash()


def build_alerts(simulation: Simulation, how_many: int) -> list[tuple[float, Alert]]:
    """Return FIRING alerts, most with their RESOLVED, each with the second at which it is raised, in that order."""
    chance, found = simulation.chance, []
    for number in range(how_many):
        user, interest = chance.choice(simulation.users), UUID(int=number << 64 | 7)
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


def build_flood(simulation: Simulation, pairs: int, within_s: float) -> list[tuple[float, Alert]]:
    """Return FIRING and RESOLVED alerts of the first user, raised one after the other within so many seconds."""
    user, found = simulation.users[0], []
    for number in range(1_000_000, 1_000_000 + pairs):
        start = ALERT.window_start + timedelta(hours=2 * number)
        firing = replace(
            ALERT,
            alert_id=UUID(int=number * 10 + 1),
            user_id=user,
            interest_id=UUID(int=number << 64 | 7),
            episode_id=UUID(int=number * 10 + 1),
            window_start=start,
        )
        resolved = replace(
            firing,
            alert_id=UUID(int=number * 10 + 2),
            state=AlertState.RESOLVED,
            window_start=start + timedelta(hours=1),
        )
        at = within_s * (number - 1_000_000) / pairs
        found += [(at, firing), (at, resolved)]
    return found


def build_notices(simulation: Simulation, how_many: int) -> list[tuple[float, UnheardNotice]]:
    """Return notices, each with the second at which it is raised, in that order; some are raised several times."""
    chance = simulation.chance
    notices = [
        build_unheard_notice(chance.choice(simulation.users), f"K{number:03}", ALERT.window_start)
        for number in range(how_many)
    ]
    raised = [(chance.uniform(0, 300), each) for each in notices for _ in range(chance.choice((1, 1, 3)))]
    return sorted(raised, key=lambda each: (each[0], each[1].airport))


async def run_simulation(
    simulation: Simulation,
    alerts: list[tuple[float, Alert]],
    requeues: bool,
    notices: Sequence[tuple[float, UnheardNotice]] = (),
) -> None:
    """Run workers from the first alert until all events are acknowledged, then check the results.

    `requeues`: after the storm an operator requeues all dead letters. Raises AssertionError.
    """
    fault_rates, chance = simulation.fault_rates, simulation.chance
    simulation.crash_at_steps = {chance.randint(1, 60 + 12 * len(alerts)) for _ in range(fault_rates.crashes)}
    rebalance_at = sorted(chance.uniform(0, 120) for _ in range(fault_rates.rebalances))
    worker = SimulatedWorker(simulation)
    worker.start()

    async def publish_alerts() -> None:
        for at, alert in alerts:
            await asyncio.sleep(max(at - asyncio.get_running_loop().time(), 0))
            simulation.publish_alert(alert)
            if chance.random() < 0.05:
                simulation.publish_alert(alert)  # a duplicate by the stream

    async def publish_all() -> None:
        publishing_notices = asyncio.create_task(publish_notices())
        simulation.outer_tasks.add(publishing_notices)
        await publish_alerts()
        await publishing_notices

    async def publish_notices() -> None:
        for at, notice in notices:
            await asyncio.sleep(max(at - asyncio.get_running_loop().time(), 0))
            simulation.publish_notice(notice)

    async def misuse_clock() -> None:
        for at, ahead in simulation.clock_faults:
            await asyncio.sleep(max(at - asyncio.get_running_loop().time(), 0))
            if ahead is None:
                simulation.clock.stop()
            else:
                simulation.clock.set_ahead(ahead)

    simulation.outer_tasks.add(asyncio.create_task(misuse_clock()))
    publishing = asyncio.create_task(publish_all())
    simulation.outer_tasks.add(publishing)
    absences = list(simulation.absences)
    deadline = asyncio.get_running_loop().time() + 80 * 3600 + sum(each.total_seconds() for _, each in absences)
    lost_after_data = 0
    while asyncio.get_running_loop().time() < deadline:
        now = asyncio.get_running_loop().time()
        pause = 1.0 if now < 200 or simulation.is_storm else 60.0
        if simulation.lost_after_data > lost_after_data:
            lost_after_data = simulation.lost_after_data
            if chance.random() < fault_rates.rebalance_after_loss:
                rebalance_at.insert(0, now + chance.uniform(0, 3))
        if rebalance_at:
            pause = min(pause, max(rebalance_at[0] - now, 0))
        if absences:
            pause = min(pause, max(absences[0][0] - now, 0))
        with suppress(TimeoutError):
            await asyncio.wait_for(simulation.killed.wait(), pause)
        if absences and asyncio.get_running_loop().time() >= absences[0][0] and not simulation.killed.is_set():
            worker = await be_away(simulation, worker, absences.pop(0)[1])
        if rebalance_at and asyncio.get_running_loop().time() >= rebalance_at[0] and not simulation.killed.is_set():
            rebalance_at.pop(0)
            simulation.rebalances += 1
            rebalancing = asyncio.create_task(worker.rebalance())
            killing = asyncio.create_task(simulation.killed.wait())
            await asyncio.wait((rebalancing, killing), return_when=asyncio.FIRST_COMPLETED)
            killing.cancel()
            if simulation.killed.is_set():
                rebalancing.cancel()
                with suppress(asyncio.CancelledError):
                    await rebalancing
        if simulation.killed.is_set():
            simulation.killed.clear()
            simulation.crashes += 1
            worker.crash()
            await simulation.cancel_process_tasks()
            simulation.lose_uncommitted_offsets()
            worker = SimulatedWorker(simulation)
            worker.start()
        if requeues and not simulation.is_storm:
            requeues = False
            for alert_id in {each for each, _ in simulation.list_dead_letters()}:
                simulation.requeued_ids.add(alert_id)
                if alert_id in simulation.notices:
                    simulation.publish_notice(simulation.notices[alert_id], {REQUEUED_FROM: b"0:0"})
                else:
                    simulation.publish_alert(simulation.alerts[alert_id], {REQUEUED_FROM: b"0:0"})
        if (
            publishing.done()
            and not absences
            and not simulation.is_storm
            and simulation.is_all_acknowledged
            and not requeues
            and not len(worker.queue)
            and not len(worker.corrections_queue)
        ):
            break
    await publishing
    unacknowledged = {log.name: sorted(set(range(len(log.records))) - log.acknowledged) for log in simulation.logs}
    user_states = dict(simulation.changelogs["users"])
    worker.crash()
    await simulation.cancel_process_tasks()
    assert not any(unacknowledged.values()), f"never acknowledged: {unacknowledged}"
    assert len(worker.queue) == len(worker.corrections_queue) == 0, (
        "every event is acknowledged, and the queue is not empty"
    )
    check_results(simulation, user_states)


async def be_away(simulation: Simulation, worker: SimulatedWorker, duration: timedelta) -> SimulatedWorker:
    """End a worker, by a kill or by a stop, and return the one that starts so much later."""
    if simulation.chance.random() < 0.5:
        stopping = asyncio.create_task(worker.stop())
        simulation.outer_tasks.add(stopping)
        killing = asyncio.create_task(simulation.killed.wait())
        await asyncio.wait((stopping, killing), return_when=asyncio.FIRST_COMPLETED)
        killing.cancel()
        stopping.cancel()
        with suppress(asyncio.CancelledError):
            await stopping
    simulation.killed.clear()
    simulation.crashes += 1
    worker.crash()
    await simulation.cancel_process_tasks()
    simulation.lose_uncommitted_offsets()
    await asyncio.sleep(duration.total_seconds())
    worker = SimulatedWorker(simulation)
    worker.start()
    return worker


def check_results(simulation: Simulation, user_states: dict[bytes, bytes]) -> None:
    """Check that each alert was mailed once, or dead-lettered for the right reason, in the right order.

    Raises AssertionError for a lost alert or notice, for an alert or a notice in two different mails, for too many
    duplicates and for a mail with alerts above the hourly limit. `user_states`: the changelog of user states.
    """
    mails_by_alert: dict[UUID, set[frozenset[UUID]]] = defaultdict(set)
    first_mail: dict[UUID, int] = {}
    copies: dict[frozenset[UUID], int] = defaultdict(int)
    for number, mail in enumerate(simulation.mails):
        copies[mail.alert_ids] += 1
        for each in mail.alert_ids:
            mails_by_alert[each].add(mail.alert_ids)
            first_mail.setdefault(each, number)
    reasons: dict[UUID, list[str]] = defaultdict(list)
    for alert_id, reason in simulation.list_dead_letters():
        reasons[alert_id].append(reason)
    uncertain = simulation.crashes + simulation.rebalances
    withdrawn = find_withdrawn_ids(simulation.alerts.values())
    if simulation.absences and not simulation.fault_rates.storm:
        check_catch_up_mails(simulation, reasons)
    for alert_id, alert in (simulation.alerts | simulation.notices).items():
        if len(mails_by_alert[alert_id]) > 1 and alert_id not in simulation.requeued_ids:
            raise AssertionError(f"{alert_id.int} in different mails: {to_sorted_numbers(mails_by_alert[alert_id])}")
        is_explained = reasons[alert_id] or alert.user_id in simulation.unmailable_users or alert_id in withdrawn
        assert alert_id in first_mail or is_explained, f"{alert_id.int} lost"
        if not uncertain and not simulation.requeued_ids:
            assert not (alert_id in first_mail and reasons[alert_id] and not simulation.lost_after_data), (
                f"{alert_id.int} twice"
            )
        for reason in reasons[alert_id]:
            if reason.startswith(("the server refused the recipient: 550", "the server refused the mail: 554")):
                assert alert_id in simulation.refused_ids, f"{alert_id.int}: {reason}"
            else:
                assert reason.startswith("gave up after"), f"{alert_id.int}: {reason}"
                assert not simulation.clock_faults, f"{alert_id.int} given up by a wrong clock: {reason}"
        if isinstance(alert, UnheardNotice):
            continue
        if alert.state is AlertState.RESOLVED and alert_id in first_mail and alert.episode_id is not None:
            firing = alert.episode_id
            ended = reasons[firing] or alert.user_id in simulation.unmailable_users
            assert ended or first_mail[firing] <= first_mail[alert_id], f"{alert_id.int} before {firing.int}"
    if simulation.clock_faults:
        check_punctuality(simulation)
    duplicates = sum(copies.values()) - len(copies)
    assert duplicates <= uncertain * simulation.settings.max_in_flight + simulation.lost_after_data, (
        f"{duplicates} duplicates"
    )
    for alert_id in simulation.requeued_ids:
        user_id = (simulation.alerts | simulation.notices)[alert_id].user_id
        again = alert_id in first_mail or user_id in simulation.unmailable_users
        assert again or len(reasons[alert_id]) > 1, f"{alert_id.int} requeued, and lost"
    if simulation.settings.mails_per_hour is not None and not uncertain and not simulation.lost_after_data:
        # A user who is paused at one question about a mail, and not at the next, may get it above the limit.
        for user in set(simulation.users) - simulation.unmailable_users:
            mails = [mail for mail in simulation.mails if mail.alert_ids.isdisjoint(simulation.notices)]
            at = [mail.at for mail in mails if mail.user_id == user]
            for one, later in zip(at, at[simulation.settings.mails_per_hour :], strict=False):
                assert later - one >= timedelta(minutes=59, seconds=59), "too many in an hour"


def find_withdrawn_ids(alerts: Iterable[Alert]) -> set[UUID]:
    """Return the ids of the alerts that are withdrawn, of the withdrawals, and of the ends of their breaches.

    If they become too old together, nobody is told of them.
    """
    listed = list(alerts)
    firings = {(each.interest_id, each.window_start): each for each in listed if each.state is AlertState.FIRING}
    found = set()
    for each in listed:
        if each.state is AlertState.WITHDRAWN:
            firing = firings[each.interest_id, each.window_start]
            found |= {each.alert_id, firing.alert_id}
            found |= {other.alert_id for other in listed if other.episode_id == firing.alert_id}
    return found


def check_catch_up_mails(simulation: Simulation, reasons: dict[UUID, list[str]]) -> None:
    """Check that, without faults of others, each absence led to one catch-up mail to each user at most.

    Nothing was dead-lettered. Raises AssertionError.
    """
    assert not any(reasons.values()), "dead letters"
    for user in simulation.users:
        catch_ups = {each.alert_ids for each in simulation.mails if each.is_catch_up and each.user_id == user}
        assert len(catch_ups) <= len(simulation.absences), f"{len(catch_ups)} catch-up mails"


def check_punctuality(simulation: Simulation) -> None:
    """Check that no mail came later than the schedule allows, in elapsed time, whatever the wall clock showed.

    After the last event and the last fault a mail waits at most for a pause, a missing record and its group; with an
    hourly limit also for an hour for each mail before it, and for one more after each crash. Raises AssertionError.
    """
    published = [each.at for each in (*simulation.raised_log.records, *simulation.notices_log.records)]
    last_event = max((timedelta(seconds=600 + 900 + 300), simulation.fault_rates.storm))
    hours = 0
    if simulation.settings.mails_per_hour is not None:
        hours = len(published) + simulation.crashes + simulation.rebalances
    latest = BEGIN + last_event + timedelta(minutes=20, hours=hours)
    for mail in simulation.mails:
        assert mail.at <= latest, f"{to_sorted_numbers([mail.alert_ids])} came {mail.at - latest} late"


def to_sorted_numbers(sets: Iterable[frozenset[UUID]]) -> list[list[int]]:
    """Return sets of alert ids as sorted lists of numbers, for messages."""
    return [sorted(each.int for each in one) for one in sets]


def draw_parameters(seed: int) -> tuple[FaultRates, DeliverySettings, int, int, bool]:
    """Return fault rates, settings, the number of users, the number of episodes, and True if dead letters are
    requeued."""
    chance = random.Random(seed)

    def draw_rate(maximum: float) -> float:
        return chance.choice((0.0, 0.0, chance.uniform(0, maximum)))

    if chance.random() < 0.2:  # the same mails unconfirmed again and again, for ever new readers
        fault_rates = FaultRates(
            storm=timedelta(seconds=300),
            temporary=0.4,
            lost_after_acceptance=0.3,
            late_readers=0.5,
            rebalance_after_loss=0.7,
            rebalances=2,
        )
        settings = DeliverySettings(group_wait=timedelta(seconds=chance.choice((0, 5))), max_in_flight=2)
        return fault_rates, settings, 1, chance.randint(2, 8), False
    fault_rates = FaultRates(
        storm=timedelta(seconds=chance.choice((0, 30, 300, 3000, 6000))),
        temporary=draw_rate(0.7),
        permanent=draw_rate(0.1),
        bounce=draw_rate(0.1),
        server_unavailable=draw_rate(0.4),
        circuit_open=draw_rate(0.5),
        lost_after_acceptance=draw_rate(0.3),
        lost_before_acceptance=draw_rate(0.3),
        slow_replies=draw_rate(0.3),
        user_manager_unavailable=draw_rate(0.5),
        paused=chance.choice((0.0, 0.0, 0.0, 0.1)),
        late_readers=chance.choice((0.0, 0.5)),
        crashes=chance.choice((0, 0, 1, 1, 2, 4)),
        rebalances=chance.choice((0, 0, 1, 2)),
    )
    settings = DeliverySettings(
        group_wait=timedelta(seconds=chance.choice((0, 5, 5, 60))),
        mails_per_hour=chance.choice((None, None, 1, 2, 12)),
        max_in_flight=chance.choice((1, 1, 2)),
        connections=chance.choice((1, 2, 4)),
        max_alerts_per_mail=chance.choice((200, 200, 2)),
        max_queued_alerts=chance.choice((1000, 1000, 40)),
        lifetime=timedelta(seconds=chance.choice((86_400, 86_400, 600))),
    )
    return fault_rates, settings, chance.randint(1, 3), chance.randint(1, 8), chance.random() < 0.2


def draw_clock_faults(seed: int, storm: timedelta) -> tuple[tuple[float, timedelta | None], ...]:
    """Return when the wall clock is set how far ahead of the true time, or stopped (None), in ascending order."""
    chance = random.Random(f"clock {seed}")
    ends = max(storm.total_seconds(), 600.0) * 1.5
    kinds = (None, timedelta(hours=-8), timedelta(days=400), timedelta(0), timedelta(days=chance.uniform(2, 90)))
    return tuple(sorted((chance.uniform(0, ends), chance.choice(kinds)) for _ in range(chance.randint(1, 4))))


def draw_absences(seed: int) -> tuple[tuple[float, timedelta], ...]:
    """Return when the notifier goes away for how long, once or twice."""
    chance, at, found = random.Random(f"absences {seed}"), 0.0, []
    for _ in range(chance.choice((1, 1, 2))):
        at += chance.uniform(0, 400)
        duration = timedelta(days=chance.choice((2, 8, 40)))
        found.append((at, duration))
        at += duration.total_seconds()
    return tuple(found)


def spread_alerts(
    alerts: list[tuple[float, Alert]], absences: Sequence[tuple[float, timedelta]], seed: int
) -> list[tuple[float, Alert]]:
    """Return alerts of which some episodes are raised during the absences, and some are withdrawn; in their order."""
    chance, begins, found = random.Random(f"spread {seed}"), {}, []
    withdrawals: dict[UUID, tuple[float, Alert]] = {}
    for at, alert in alerts:
        absence = chance.choice(absences)
        if alert.state is AlertState.FIRING:
            begin = absence[0] + chance.uniform(0, absence[1].total_seconds())
            begins[alert.alert_id] = chance.choice((0.0, begin))
        assert alert.episode_id is not None
        at += begins[alert.episode_id]
        found.append((at, alert))
        if alert.state is AlertState.FIRING and chance.random() < 0.3:
            withdrawal = replace(alert, alert_id=UUID(int=alert.alert_id.int + 2), state=AlertState.WITHDRAWN)
            withdrawals[alert.alert_id] = at, withdrawal
        elif alert.episode_id in withdrawals:  # the late flight comes after the breach had ended, or it had no end
            withdrawals[alert.episode_id] = at, withdrawals[alert.episode_id][1]
    found += [(at + chance.choice((0, 3, 90_000)), each) for at, each in withdrawals.values()]
    return sorted(found, key=lambda each: (each[0], each[1].alert_id))


def run_seed(
    seed: int, *, has_wild_clock: bool = False, has_absences: bool = False, has_flood: bool = False
) -> Simulation:
    """Run the simulation of a seed and return it. Raises AssertionError if its results are wrong.

    `has_wild_clock`: the notifier's wall clock is set and stopped meanwhile; then no mail may be given up.
    `has_absences`: the notifier is away for days meanwhile. `has_flood`: one user has very many alerts beside.
    """
    fault_rates, settings, users, how_many, requeues = draw_parameters(seed)
    if has_absences:
        settings = replace(settings, lifetime=timedelta(hours=24))
    if has_wild_clock:
        settings = replace(settings, lifetime=timedelta(hours=24))
    if has_flood:
        settings = replace(settings, lifetime=timedelta(hours=24), max_queued_alerts=40, smallest_share=3)
    simulations: list[Simulation] = []

    async def story() -> None:
        """Run the simulation to its end."""
        simulation = Simulation(seed, fault_rates, settings, users)
        simulation.has_flood = has_flood
        if has_wild_clock:
            simulation.clock_faults = draw_clock_faults(seed, fault_rates.storm)
            if seed % 2:
                simulation.publishers_clock = simulation.clock
        simulations.append(simulation)
        alerts = build_alerts(simulation, how_many)
        if has_absences:
            simulation.absences = draw_absences(seed)
            alerts = spread_alerts(alerts, simulation.absences, seed)
        if has_flood:
            alerts = sorted([*alerts, *build_flood(simulation, 15, 300.0)], key=lambda each: each[0])
        notice_count = random.Random(f"notices {seed}").choice((0, 0, 1, 3, 8))
        await run_simulation(simulation, alerts, requeues, build_notices(simulation, notice_count))

    with fake_mails(settings, seed):
        run(story())
    return simulations[0]


@contextmanager
def fake_mails(settings: DeliverySettings, seed: int) -> Iterator[None]:
    """Replace the composition of mails, their size and the pauses' chance for the time of the block."""
    with (
        mock.patch.object(composition_module, "compose_alerts_mail", build_fake_mail),
        mock.patch.object(composition_module, "compose_catch_up_mail", build_fake_catch_up_mail),
        mock.patch.object(corrections_module, "compose_corrections_mail", build_fake_corrections_mail),
        mock.patch.object(corrections_module, "compose_alerts_mail", build_fake_mail),
        mock.patch.object(notices_module, "compose_unheard_mail", build_fake_notice_mail),
        mock.patch.object(deferral_module, "MAX_ALERTS_PER_MAIL", settings.max_alerts_per_mail),
        mock.patch.object(batching_module, "MAX_ALERTS_PER_MAIL", settings.max_alerts_per_mail),
        mock.patch.object(random, "random", random.Random(seed).random),
    ):
        yield


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    for seed in range(int(sys.argv[1]), int(sys.argv[2])):
        try:
            run_seed(
                seed,
                has_wild_clock="--wild-clock" in sys.argv,
                has_absences="--absences" in sys.argv,
                has_flood="--flood" in sys.argv,
            )
        except AssertionError as error:
            print(f"seed {seed}: {error}")
