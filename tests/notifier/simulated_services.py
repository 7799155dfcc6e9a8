"""Simulated services around the notifier's core: topics, tables, a mail server, user_manager, time and process crashes.

Every await of the core ends here, and may take time, fail, or be the point at which the process is killed. A crash may
lose whatever the broker had not acknowledged; events that were not acknowledged to the broker are read again.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from chassis.clock import SteadyClock
from collector.messages import encode_airport_unheard
from domain.alerts import Alert
from domain.notices import UnheardNotice
from notifier.delivery.interfaces import ConfirmationState
from notifier.errors import (
    FailureReason,
    HardBounce,
    LostAfterData,
    MailServerUnavailable,
    NotSent,
    PermanentlyRefused,
    SendingSideRefused,
    TemporarilyRefused,
    UnprovenBounce,
    UserManagerUnavailable,
)
from notifier.mail import Contact
from notifier.messages import ScheduledNotice, decode_raised_alert, decode_raised_notice, decode_retry
from streams.messages import encode_alert
from tests.fakes.hurried_loop import LoopClock, WildWallClock
from tests.fakes.stream import FakeEvent
from tests.notifier.alerts import CONTACT
from tests.notifier.simulation_settings import DeliverySettings, FaultRates
from towerwatch.topics import ALERTS_RAISED, ALERTS_RETRY, ALERTS_WAITING, NOTICES_RAISED


@dataclass(slots=True)
class LogRecord:
    """A record of a simulated log."""

    key: bytes
    value: bytes
    at: datetime
    headers: dict[str, bytes]
    from_topic: str = ""
    from_offset: int = -1


@dataclass(slots=True)
class SimulatedLog:
    """A topic with one partition, and the offsets that its reader has acknowledged and committed."""

    name: str
    records: list[LogRecord] = field(default_factory=list)
    acknowledged: set[int] = field(default_factory=set)
    committed: int = 0
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def next_offset(self) -> int:
        """Return the offset from which a new reader continues."""
        offset = 0
        while offset in self.acknowledged:
            offset += 1
        return offset

    def add(self, record: LogRecord) -> None:
        self.records.append(record)
        self.grown.set()

    def lose(self, chance: random.Random) -> None:
        """Drop some acknowledgements that were not committed, so that their records are read again."""
        self.committed = chance.choice((self.next_offset, chance.randint(self.committed, self.next_offset)))
        self.acknowledged = set(range(self.committed))


class SimulatedProcess:
    """One worker process. After it is dead it changes nothing."""

    def __init__(self, simulation: "Simulation") -> None:
        self.simulation = simulation
        self.clock = SteadyClock(simulation.clock)
        self.is_dead = False
        self.owns_partitions = True
        self.generation = 0

    async def step(self) -> None:
        """Let some time pass, during which the process may be killed; a dead process never returns from here."""
        self.simulation.steps += 1
        if self.simulation.steps in self.simulation.crash_at_steps and not self.is_dead:
            self.simulation.crash_at_steps.discard(self.simulation.steps)
            self.is_dead = True
            self.simulation.killed.set()
        if self.is_dead:
            await asyncio.Event().wait()
        await asyncio.sleep(self.simulation.chance.choice((0, 0, 0.001, 0.02)))
        if self.is_dead:
            await asyncio.Event().wait()


class SimulatedTable:
    """A table with its changelog: entries that the broker has are in the `changelog`."""

    def __init__(self, process: SimulatedProcess, changelog: dict[bytes, bytes]) -> None:
        self._process = process
        self._changelog = changelog
        self._entries = dict(changelog)
        self._pending: list[tuple[bytes, bytes | None, asyncio.Future[None]]] = []
        self._last: asyncio.Future[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self.is_blocked = False
        """True: the changelog acknowledges nothing."""

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def write(self, event: Any, key: bytes, entry: bytes | None) -> None:
        """Change an entry and start to send it to the changelog; a dead process writes nothing."""
        if self._process.is_dead:
            return
        assert event.message.generation_id == self._process.generation, "a write for a partition that may be revoked"
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
        """Send pending writes to the changelog until none is left."""
        try:
            while self._pending:
                await self._process.step()
                while self.is_blocked:
                    await asyncio.sleep(0.1)
                self._acknowledge(len(self._pending) if self._process.simulation.chance.random() < 0.5 else 1)
        finally:
            self._sending = None

    def _acknowledge(self, how_many: int) -> None:
        """Store the first pending writes in the changelog and complete their futures."""
        for key, entry, write in self._pending[:how_many]:
            if entry is None:
                self._changelog.pop(key, None)
            else:
                self._changelog[key] = entry
            if not write.done():
                write.set_result(None)
        del self._pending[:how_many]

    def crash(self) -> None:
        """Let a random number of pending writes, in order, still arrive in the changelog."""
        if not self.is_blocked:
            self._acknowledge(self._process.simulation.chance.randint(0, len(self._pending)))


class SimulatedTopic:
    """A topic that publishes to a log, slowly."""

    def __init__(self, process: SimulatedProcess, log: SimulatedLog) -> None:
        self._process = process
        self._log = log

    async def send(self, *, key: Any, value: Any, partition: Any = None, headers: Any = None) -> Awaitable[None]:
        """Publish a record; return an awaitable that ends once the log has it."""
        simulation, headers = self._process.simulation, headers or {}
        record = LogRecord(key or b"", value or b"", simulation.clock.now(), {})
        if headers:
            record.headers = dict(headers)
            record.from_topic = headers["source-topic"].decode()
            record.from_offset = int(headers["source-offset"])

        async def sent() -> None:
            if simulation.chance.random() < 0.5:
                await self._process.step()
            if self._process.is_dead:
                return
            self._log.add(record)
            await self._process.step()

        await self._process.step()
        return sent()


class SimulatedStream:
    """A stream that reads a log from its next offset, and acknowledges events."""

    def __init__(self, process: SimulatedProcess, log: SimulatedLog) -> None:
        self._process, self._log = process, log
        self._generation = process.generation

    def noack(self) -> "SimulatedStream":
        return self

    async def events(self) -> AsyncIterator[FakeEvent]:
        """Yield the events of the log, sometimes late, and wait for new ones without end."""
        offset, chance = self._log.next_offset, self._process.simulation.chance
        is_late = chance.random() < self._process.simulation.fault_rates.late_readers
        late_at = offset + chance.choice((0, chance.randint(0, 30))) if is_late else None
        while True:
            while offset >= len(self._log.records):
                self._log.grown.clear()
                await self._log.grown.wait()
            record = self._log.records[offset]
            await self._process.step()
            if offset == late_at:
                await asyncio.sleep(
                    chance.uniform(0, self._process.simulation.fault_rates.longest_lateness.total_seconds())
                )
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
        if not self._process.is_dead:
            self._log.acknowledged.add(event.message.offset)


@dataclass(frozen=True, slots=True)
class AcceptedMail:
    """A mail that the server has accepted."""

    user_id: UUID
    alert_ids: frozenset[UUID]
    """The ids of its alerts, or of its notice."""
    at: datetime
    is_catch_up: bool = False
    listed_ids: frozenset[UUID] | None = None
    """Of a mail of corrections: the ids of those that it lists. None: another mail."""
    statements: tuple[Alert, ...] = ()
    """The alerts that a reader finds in it, in the order of the mail."""


class Simulation:
    """The state that outlives a process: logs, changelogs, clock, users, and the faults to inject."""

    def __init__(self, seed: int, fault_rates: FaultRates, settings: DeliverySettings, users: int) -> None:
        self.chance = random.Random(seed)
        self.fault_rates, self.settings = fault_rates, settings
        self.clock = WildWallClock()
        """The wall clock of the notifier's machine."""
        self.true_clock = LoopClock()
        self.publishers_clock: LoopClock = self.true_clock
        """The clock by which alerts are dated: the true one, or the notifier's own."""
        self.users = [UUID(int=1000 + each) for each in range(users)]
        self.raised_log, self.retry_log = SimulatedLog(ALERTS_RAISED.name), SimulatedLog(ALERTS_RETRY.name)
        self.notices_log = SimulatedLog(NOTICES_RAISED.name)
        self.waiting_log = SimulatedLog(ALERTS_WAITING.name)
        self.logs = (self.raised_log, self.retry_log, self.notices_log, self.waiting_log)
        self.dead_letters = SimulatedLog("dead letters")
        self.changelogs: dict[str, dict[bytes, bytes]] = {"statuses": {}, "users": {}}
        self.alerts: dict[UUID, Alert] = {}
        self.notices: dict[UUID, UnheardNotice] = {}
        self.mails: list[AcceptedMail] = []
        self.refused_ids: set[UUID] = set()
        """Alerts and notices in mails that the server rejected permanently."""
        self.unmailable_users: set[UUID] = set()
        """Users who were not mailable at least once."""
        self.has_flood = False
        """True if one user has more alerts than the queue has places."""
        self.lost_after_data = 0
        self.crashes = 0
        self.rebalances = 0
        self.requeued_ids: set[UUID] = set()
        self.clock_faults: tuple[tuple[float, timedelta | None], ...] = ()
        """When the wall clock is set how far ahead, or stopped (None)."""
        self.absences: tuple[tuple[float, timedelta], ...] = ()
        """When the notifier goes away for how long, in ascending order."""
        self.script: deque[NotSent | str] = deque()
        """The actions of the mail server for the next mails, instead of random faults: an error to raise, "take" or
        "never answers". Before it raises LostAfterData it accepts the mail."""
        self.contact: Contact | None = CONTACT
        """The contact of every user; None: no user exists."""
        self.bounces: list[UUID] = []
        """The users whose bounces were reported to user_manager."""
        self.steps = 0
        self.crash_at_steps: set[int] = set()
        self.killed = asyncio.Event()
        self.outer_tasks: set[asyncio.Task[None]] = set()
        """The tasks that do not belong to a process."""

    @property
    def is_storm(self) -> bool:
        """Return True while faults are injected."""
        return self.clock.elapsed() < self.fault_rates.storm

    def draw_fault(self, rate: float) -> bool:
        """Return True if a fault with this rate (0 to 1) happens now: never after the storm."""
        return self.is_storm and self.chance.random() < rate

    def publish_alert(self, alert: Alert, headers: dict[str, bytes] | None = None) -> None:
        """Publish an alert to the log of raised alerts."""
        self.alerts[alert.alert_id] = alert
        now = self.publishers_clock.now()
        value = encode_alert(alert, now)
        self.raised_log.add(LogRecord(str(alert.user_id).encode(), value, now, headers or {}))

    def publish_notice(self, notice: UnheardNotice, headers: dict[str, bytes] | None = None) -> None:
        """Publish a notice to the log of raised notices."""
        self.notices[notice.notice_id] = notice
        message = encode_airport_unheard(notice.user_id, notice.airport, notice.since)
        self.notices_log.add(LogRecord(message.key, message.value or b"", self.publishers_clock.now(), headers or {}))

    def accept(self, mail: Any) -> None:
        """Record that the mail server has accepted a mail."""
        is_catch_up = getattr(mail, "is_catch_up", False)
        listed = getattr(mail, "listed_ids", None)
        statements = getattr(mail, "statements", ())
        self.mails.append(
            AcceptedMail(mail.user_id, mail.alert_ids, self.true_clock.now(), is_catch_up, listed, statements)
        )

    def lose_uncommitted_offsets(self) -> None:
        """Drop some uncommitted acknowledgements of all logs, as at the start of a new reader."""
        for log in self.logs:
            log.lose(self.chance)

    async def cancel_process_tasks(self) -> None:
        """Cancel all tasks of the process and wait for their ends."""
        while tasks := asyncio.all_tasks() - self.outer_tasks - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    @property
    def is_all_acknowledged(self) -> bool:
        """Return True if every record of all logs is acknowledged."""
        return all(log.next_offset == len(log.records) for log in self.logs)

    def list_dead_letters(self) -> Iterator[tuple[UUID, str]]:
        """Yield the id and the reason of each dead-lettered alert and notice."""
        for record in self.dead_letters.records:
            for event_id in _find_event_ids(record):
                yield event_id, record.headers["reason"].decode()


def _find_event_ids(dead_letter: LogRecord) -> list[UUID]:
    """Return the ids of the alerts in a dead letter, or of its notice."""
    if dead_letter.from_topic == ALERTS_RAISED.name:
        return [decode_raised_alert(dead_letter.value).event_id]
    if dead_letter.from_topic == NOTICES_RAISED.name:
        return [decode_raised_notice(dead_letter.value).event_id]
    retry = decode_retry(dead_letter.value)
    return [each.event_id for each in ([retry.raised] if isinstance(retry, ScheduledNotice) else retry.alerts)]


class SimulatedMailServer:
    """A mail server that fails with the rates of the simulation, or as its script prescribes."""

    def __init__(self, process: SimulatedProcess) -> None:
        self._process = process

    async def send(self, mail: Any, envelope_from: str | None = None, before_content: Any = None) -> None:
        """Accept a mail, or raise NotSent."""
        simulation, fault_rates = self._process.simulation, self._process.simulation.fault_rates
        await self._process.step()
        if simulation.script:
            await self._play_script(mail, before_content, simulation.script.popleft())
            return
        if simulation.draw_fault(fault_rates.circuit_open):
            retry_at = self._process.clock.now() + timedelta(seconds=simulation.chance.uniform(0, 20))
            raise MailServerUnavailable(
                "circuit open", FailureReason.BREAKER_OPEN, simulation.chance.choice((None, retry_at))
            )
        if simulation.draw_fault(fault_rates.server_unavailable):
            raise MailServerUnavailable("unreachable")
        if simulation.draw_fault(fault_rates.bounce):
            simulation.refused_ids |= mail.alert_ids
            raise HardBounce("the server refused the recipient: 550")
        if simulation.draw_fault(fault_rates.temporary):
            kind = simulation.chance.choice((TemporarilyRefused, SendingSideRefused, UnprovenBounce))
            raise kind("the server refused the recipient: 450")
        await before_content()
        await self._process.step()
        if simulation.draw_fault(fault_rates.permanent):
            simulation.refused_ids |= mail.alert_ids
            raise PermanentlyRefused("the server refused the mail: 554")
        if simulation.draw_fault(fault_rates.lost_before_acceptance):
            simulation.lost_after_data += 1
            raise LostAfterData("no answer from the server to the mail")
        if self._process.is_dead:
            await asyncio.Event().wait()
        simulation.accept(mail)
        await self._process.step()
        if simulation.draw_fault(fault_rates.slow_replies):
            await asyncio.sleep(simulation.chance.uniform(0, 30))
        if simulation.draw_fault(fault_rates.lost_after_acceptance):
            simulation.lost_after_data += 1
            raise LostAfterData("no answer from the server to the mail")

    async def _play_script(
        self, mail: Any, before_content: Callable[[], Awaitable[None]], action: "NotSent | str"
    ) -> None:
        """Do what the script prescribes for this mail."""
        if isinstance(action, NotSent) and not isinstance(action, LostAfterData):
            raise action
        await before_content()
        self._process.simulation.accept(mail)
        if action == "never answers":
            await asyncio.Event().wait()
        if isinstance(action, NotSent):
            raise action


class SimulatedUserManager:
    """A user_manager that is sometimes unavailable, and whose users sometimes may not be mailed."""

    def __init__(self, process: SimulatedProcess) -> None:
        self._process = process

    async def find_contact(self, user_id: UUID, interest_ids: Collection[UUID] = ()) -> Contact | None:
        """Return the contact of a user. Raises UserManagerUnavailable."""
        simulation = self._process.simulation
        await self._process.step()
        if simulation.draw_fault(simulation.fault_rates.user_manager_unavailable):
            raise UserManagerUnavailable("UNAVAILABLE")
        if simulation.draw_fault(simulation.fault_rates.paused):
            simulation.unmailable_users.add(user_id)
            none = [None, replace(CONTACT, paused=True), replace(CONTACT, confirmed=False)]
            return simulation.chance.choice([*none, replace(CONTACT, suppressed=True)])
        return replace(simulation.contact, user_id=user_id) if simulation.contact is not None else None

    async def report_confirmation(self, user_id: UUID, confirmation_id: str, state: ConfirmationState) -> None:
        """Accept a report."""

    async def report_bounce(self, user_id: UUID, at: datetime) -> None:
        """Record that a bounce was reported. Raises UserManagerUnavailable."""
        await self._process.step()
        if self._process.simulation.draw_fault(0.3):
            raise UserManagerUnavailable("UNAVAILABLE")
        self._process.simulation.bounces.append(user_id)
