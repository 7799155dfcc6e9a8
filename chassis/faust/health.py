"""Whether a worker gets on with its work: a port that answers says nothing about it, and consumers stall silently."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import faust
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faust.types import TP
from mode import Service

from chassis.faust.settings import FAUST_LOG, StreamSettings

log = structlog.get_logger()

_ANSWER_WITHIN_S: Final = 5.0
"""A broker that needs longer is away."""

_LAG_EVERY_S: Final = 0.5
_LAG_SAMPLES: Final = 120
"""A minute of them."""


@dataclass(frozen=True, slots=True)
class ProgressSample:
    """What one look at a worker found, while the broker answered."""

    activity: str = "nothing"
    """What has to get on, beside events: "recovering", "joining"; the next look finds another, or it did."""
    timeout_s: float = 0.0
    """How long that may stand still."""
    position: object = None
    """What of it changes as it gets on."""
    backlog: Mapping[TP, int] = field(default_factory=dict)
    """The offset up to which events are acknowledged, of each partition that has events after it."""


class StallDetector:
    """Compares looks. Pure: time, in seconds of any clock that only grows, is handed in."""

    def __init__(self, stuck_after_s: float) -> None:
        self._stuck_after_s = stuck_after_s
        self._activity: tuple[str, object] | None = None
        self._activity_since = 0.0
        self._backlog_since: dict[TP, tuple[int, float]] = {}

    def observe(self, at: float, look: ProgressSample | None) -> str | None:
        """Why the worker is stuck, or None. `look` None: the broker does not answer, and nothing can get on.

        Nothing is held against a worker from before the broker was away, or before it did something else.
        """
        if look is None:
            self._activity = None
            self._backlog_since = {}
            return None
        if self._activity != (look.activity, look.position):
            self._activity, self._activity_since = (look.activity, look.position), at
        was = self._backlog_since
        self._backlog_since = {
            tp: was[tp] if tp in was and was[tp][0] == acknowledged else (acknowledged, at)
            for tp, acknowledged in look.backlog.items()
        }
        if look.timeout_s and at - self._activity_since >= look.timeout_s:
            return f"{look.activity} has not got on for {at - self._activity_since:.0f} s"
        stuck = sorted(tp for tp, (_, since) in self._backlog_since.items() if at - since >= self._stuck_after_s)
        if not stuck:
            return None
        tp, (acknowledged, since) = stuck[0], self._backlog_since[stuck[0]]
        others = f", and {len(stuck) - 1} more" if len(stuck) > 1 else ""
        return (
            f"events of {tp.topic} partition {tp.partition} wait at offset {acknowledged}{others}: "
            f"none was acknowledged for {at - since:.0f} s"
        )


class Health(Service):
    """Looks at a worker now and then, and asks the broker itself: Faust's own consumer may be what is stuck."""

    logger = FAUST_LOG

    def __init__(self, app: faust.App, settings: StreamSettings) -> None:
        super().__init__()
        self._app = app
        self._broker_clients = _BrokerClients(settings.kafka_bootstrap_servers)
        self._stuck_after_s = settings.stuck_after_s
        # Brokers end a rebalance, without those who do not answer; one that lasts for much longer is only ours.
        self._join_within_s = (
            settings.stuck_after_s + app.conf.broker_rebalance_timeout + app.conf.broker_session_timeout
        )
        self._stall_detector = StallDetector(settings.stuck_after_s)
        self._lags: deque[float] = deque([0.0], maxlen=_LAG_SAMPLES)
        self.are_dependencies_unavailable: Callable[[], bool] = bool
        """Whether nothing can get on for a reason that no new worker would mend: what it works for is away."""
        self.stuck_reason: str | None = None
        """Why the worker must be ended and begun anew; None while it need not."""
        self.lag_by_partition: Mapping[TP, int] = {}
        """How many offsets each source partition of this worker is behind its end, as of the last look."""

    @property
    def loop_lag_s(self) -> float:
        """By how much the event loop was late at the last look, twice a second."""
        return self._lags[-1]

    @property
    def worst_loop_lag_s(self) -> float:
        """The greatest lag of the last minute."""
        return max(self._lags)

    @Service.task
    async def _measure_lag(self) -> None:
        while not self.should_stop:
            due = time.monotonic() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            self._lags.append(max(time.monotonic() - due, 0.0))

    @Service.task
    async def _check_progress_periodically(self) -> None:
        every_s = min(max(self._stuck_after_s / 10, 0.2), 10.0)
        try:
            while not self.should_stop:
                await self._check_progress()
                await self.sleep(every_s)
        finally:
            await self._broker_clients.close()

    async def _check_progress(self) -> None:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                look = await self._take_sample()
        except (KafkaError, OSError):  # a TimeoutError is one too
            await self._broker_clients.close()
            self.lag_by_partition = {}
            look = None
        if self.are_dependencies_unavailable():
            look = None
        stuck = None if self._app.should_stop else self._stall_detector.observe(time.monotonic(), look)
        if stuck is not None and self.stuck_reason is None:
            log.error("worker.stuck", reason=stuck)
        elif stuck is None and self.stuck_reason is not None:
            log.info("worker.no_longer_stuck")
        self.stuck_reason = stuck

    async def _take_sample(self) -> ProgressSample:
        app = self._app
        recovery: Any = app.tables.recovery  # type: ignore[attr-defined]  # not in the interface
        if app.in_recovery:
            await self._broker_clients.require_answer()
            return ProgressSample("recovery", self._stuck_after_s, _freeze_offsets(recovery.active_offsets))
        if app.rebalancing or not recovery.completed.is_set():
            await self._broker_clients.require_answer()
            return ProgressSample("a rebalance", self._join_within_s, app.consumer_generation_id)
        sources = [tp for tp in app.assignor.assigned_actives() if tp.topic in app.topics.acking_topics]
        behind = await self._broker_clients.query_positions(app.conf.id, sources)
        self.lag_by_partition = {tp: max(end - acknowledged, 0) for tp, (acknowledged, end) in behind.items()}
        return ProgressSample(
            backlog={tp: acknowledged for tp, (acknowledged, end) in behind.items() if acknowledged < end}
        )


class _BrokerClients:
    """Clients of our own, so that what is stuck is not asked about itself. Connected at the first question."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._clients: tuple[AIOKafkaAdminClient, AIOKafkaConsumer] | None = None

    async def require_answer(self) -> None:
        """Returns when it does. Raises KafkaError or OSError, as `query_positions` does."""
        admin, _ = await self._connect()
        await admin.describe_cluster()

    async def query_positions(self, group: str, partitions: Iterable[TP]) -> dict[TP, tuple[int, int]]:
        """Where the group goes on in each partition, and the partition's end."""
        wanted = [TopicPartition(*each) for each in partitions]
        if not wanted:
            await self.require_answer()
            return {}
        admin, consumer = await self._connect()
        ends = await consumer.end_offsets(wanted)
        # What nobody has acknowledged yet goes on at the beginning; so does what was acknowledged and is deleted.
        begins = await consumer.beginning_offsets(wanted)
        committed = await admin.list_consumer_group_offsets(group, partitions=wanted)
        return {
            TP(*each): (max(committed[each].offset if each in committed else 0, begins[each]), ends[each])
            for each in wanted
        }

    async def close(self) -> None:
        clients, self._clients = self._clients, None
        for client in clients or ():
            await _close_client(client)

    async def _connect(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        if self._clients is None:
            timeout_ms = int(_ANSWER_WITHIN_S * 1000)
            admin = AIOKafkaAdminClient(
                bootstrap_servers=self._bootstrap_servers, request_timeout_ms=timeout_ms, client_id="health"
            )
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap_servers, request_timeout_ms=timeout_ms, client_id="health"
            )
            self._clients = admin, consumer
            await admin.start()
            await consumer.start()
        return self._clients


async def _close_client(client: AIOKafkaAdminClient | AIOKafkaConsumer) -> None:
    """Closed without waiting for a broker that is away."""
    with suppress(KafkaError, OSError):
        async with asyncio.timeout(1.0):
            await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


def _freeze_offsets(offsets: Mapping[TP, int | None]) -> frozenset[tuple[TP, int | None]]:
    return frozenset(offsets.items())
