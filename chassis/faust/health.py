"""Detection of workers that are stuck: their port still answers, but their consumer makes no progress any more."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import faust
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faust.types import TP
from mode import Service

from chassis.faust.settings import FAUST_LOG, StreamSettings
from chassis.kafka_options import load_client_options

log = structlog.get_logger()

_ANSWER_WITHIN_S: Final = 5.0
"""A broker that does not answer within this time counts as unavailable."""

_LAG_EVERY_S: Final = 1.0
_LAG_SAMPLES: Final = 60
"""The number of samples in one minute."""


@dataclass(frozen=True, slots=True)
class ProgressSample:
    """A sample of a worker's progress, taken while the broker answered.

    It holds either the position of an activity (a recovery or a rebalance) or the backlog of events.
    """

    activity: str = "nothing"
    """What must make progress besides the events, "recovery" or "a rebalance"; it is part of the reason."""
    timeout_s: float = 0.0
    """Seconds that the activity may last without a change of `position`; 0: without limit."""
    position: object = None
    """A value that changes whenever the activity makes progress."""
    backlog: Mapping[TP, int] = field(default_factory=dict)
    """The offset up to which events are acknowledged, of each partition that has unacknowledged events."""


class StallDetector:
    """A detector that compares successive samples of a worker's progress, and reports when the worker is stuck.

    It remembers since when the activity and the offset of each partition with a backlog are unchanged. Pure: the caller
    passes in the time, in seconds of any monotonic clock.
    """

    def __init__(self, stuck_after_s: float) -> None:
        """`stuck_after_s` is how long a partition with a backlog may have no acknowledgement, in seconds."""
        self._stuck_after_s = stuck_after_s
        self._activity: tuple[str, object] | None = None
        self._activity_since = 0.0
        self._backlog_since: dict[TP, tuple[int, float]] = {}

    def observe(self, at: float, sample: ProgressSample | None) -> str | None:
        """Compare a sample with the one before; return the reason why the worker is stuck, or None if it is not stuck.

        A worker is stuck when its activity has kept the same position for the sample's `timeout_s`, or when a partition
        has kept a backlog at the same offset for `stuck_after_s`; the reason names the first such partition and how
        many more there are. `sample` None: the broker is unavailable, and no worker can make progress. All timeouts
        start again after that.
        """
        if sample is None:
            self._activity = None
            self._backlog_since = {}
            return None
        if self._activity != (sample.activity, sample.position):
            self._activity, self._activity_since = (sample.activity, sample.position), at
        before = self._backlog_since
        self._backlog_since = {
            tp: before[tp] if tp in before and before[tp][0] == acknowledged else (acknowledged, at)
            for tp, acknowledged in sample.backlog.items()
        }
        if sample.timeout_s and at - self._activity_since >= sample.timeout_s:
            return f"{sample.activity} has not got on for {at - self._activity_since:.0f} s"
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
    """The service that checks periodically whether its worker is stuck, and measures the lag of the event loop.

    The results are `stuck_reason`, `lag_by_partition`, `loop_lag_s` and `worst_loop_lag_s`. The service queries the
    broker with clients of its own, because Faust's own consumer may be what is stuck.
    """

    logger = FAUST_LOG

    def __init__(self, app: faust.App, settings: StreamSettings) -> None:
        super().__init__()
        self._app = app
        self._broker_clients = _BrokerClients(settings.kafka_bootstrap_servers)
        self._stuck_after_s = settings.stuck_after_s
        # Brokers end a rebalance without the members that do not answer: if it lasts longer, only this worker is stuck.
        self._join_within_s = (
            settings.stuck_after_s + app.conf.broker_rebalance_timeout + app.conf.broker_session_timeout
        )
        self._stall_detector = StallDetector(settings.stuck_after_s)
        self._lags: deque[float] = deque([0.0], maxlen=_LAG_SAMPLES)
        self.are_dependencies_unavailable: Callable[[], bool] = bool
        """A function that the app may set: returns True while a server that the worker depends on is unavailable.

        Then the worker does not count as stuck, because a restart would not help.
        """
        self.outage = "A server that this worker depends on is unavailable."
        """Sentence in /health/ready while `are_dependencies_unavailable` returns True; the worker itself is well."""
        self.delayed_topics: frozenset[str] = frozenset()
        """Topics whose events wait for hours on purpose: their backlog is no sign that the worker is stuck."""
        self.stuck_reason: str | None = None
        """Why the worker is stuck and must be restarted; None: the worker is not stuck."""
        self.lag_by_partition: Mapping[TP, int] = {}
        """Consumer lag of each assigned source partition: how many offsets its commit is behind its end."""

    @property
    def loop_lag_s(self) -> float:
        """The lag of the event loop at the last measurement, in seconds; there is one measurement per second."""
        return self._lags[-1]

    @property
    def worst_loop_lag_s(self) -> float:
        """The greatest lag of the event loop in the last minute, in seconds."""
        return max(self._lags)

    @Service.task
    async def _measure_lag(self) -> None:
        """Measure each second by how much a sleep ends too late: the lag of the event loop.

        The measurements of the last minute are kept. Ends when the worker stops.
        """
        while not self.should_stop:
            due = time.monotonic() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            self._lags.append(max(time.monotonic() - due, 0.0))

    @Service.task
    async def _check_progress_periodically(self) -> None:
        """Check the worker's progress until the worker stops, then close the clients of the broker.

        The pause between checks is a tenth of `stuck_after_s`, but from 0.2 s to 10 s.
        """
        every_s = min(max(self._stuck_after_s / 10, 0.2), 10.0)
        try:
            while not self.should_stop:
                await self._check_progress()
                await self.sleep(every_s)
        finally:
            await self._broker_clients.close()

    async def _check_progress(self) -> None:
        """Take a sample, update `stuck_reason`, and log when the worker becomes stuck or is no longer stuck.

        A worker is not stuck while the app stops, while the broker does not answer within 5 s, or while a dependency is
        unavailable. If the broker does not answer, the clients are closed and `lag_by_partition` is cleared.
        """
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                sample = await self._take_sample()
        except (KafkaError, OSError):  # a TimeoutError is an OSError too
            await self._broker_clients.close()
            self.lag_by_partition = {}
            sample = None
        if self.are_dependencies_unavailable():
            sample = None
        if sample is not None:
            backlog = {tp: offset for tp, offset in sample.backlog.items() if tp.topic not in self.delayed_topics}
            sample = replace(sample, backlog=backlog)
        reason = None if self._app.should_stop else self._stall_detector.observe(time.monotonic(), sample)
        if reason is not None and self.stuck_reason is None:
            log.error("worker.stuck", reason=reason)
        elif reason is None and self.stuck_reason is not None:
            log.info("worker.no_longer_stuck")
        self.stuck_reason = reason

    async def _take_sample(self) -> ProgressSample:
        """Return a sample of the worker's progress: of its recovery, its rebalance, or else the backlog of its events.

        The position of a recovery is the set of applied offsets, that of a rebalance the generation of the group; for
        both the broker only has to answer. Otherwise the broker is queried for the assigned source partitions: the
        sample holds those with unacknowledged events, and `lag_by_partition` is updated for all of them. Raises
        KafkaError or OSError when the broker does not answer.
        """
        app = self._app
        recovery: Any = app.tables.recovery  # type: ignore[attr-defined]  # not in the interface
        if app.in_recovery:
            await self._broker_clients.require_answer()
            return ProgressSample("recovery", self._stuck_after_s, _freeze_offsets(recovery.active_offsets))
        if app.rebalancing or not recovery.completed.is_set():
            await self._broker_clients.require_answer()
            return ProgressSample("a rebalance", self._join_within_s, app.consumer_generation_id)
        sources = [tp for tp in app.assignor.assigned_actives() if tp.topic in app.topics.acking_topics]
        positions = await self._broker_clients.query_positions(app.conf.id, sources)
        self.lag_by_partition = {tp: max(end - acknowledged, 0) for tp, (acknowledged, end) in positions.items()}
        return ProgressSample(
            backlog={tp: acknowledged for tp, (acknowledged, end) in positions.items() if acknowledged < end}
        )


class _BrokerClients:
    """The health check's own Kafka clients, an admin client and a consumer, because Faust's clients may be stuck.

    They query whether the broker answers, and which offsets a group has committed. They connect at the first query, and
    again at the next query after `close`.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._clients: tuple[AIOKafkaAdminClient, AIOKafkaConsumer] | None = None

    async def require_answer(self) -> None:
        """Return once the broker has answered. Raises KafkaError or OSError if the broker does not answer."""
        admin, _ = await self._connect()
        await admin.describe_cluster()

    async def query_positions(self, group: str, partitions: Iterable[TP]) -> dict[TP, tuple[int, int]]:
        """Return, for each partition, the offset of the group's first unacknowledged event, and the end offset.

        The first is the committed offset, or the partition's beginning if nothing is committed or the beginning is
        later. Without partitions return an empty dict once the broker has answered. Raises KafkaError or OSError if the
        broker does not answer.
        """
        wanted = [TopicPartition(*tp) for tp in partitions]
        if not wanted:
            await self.require_answer()
            return {}
        admin, consumer = await self._connect()
        ends = await consumer.end_offsets(wanted)
        # Without a commit the group starts at the beginning; so it does if the events at the committed offset are gone.
        begins = await consumer.beginning_offsets(wanted)
        committed = await admin.list_consumer_group_offsets(group, partitions=wanted)
        return {TP(*tp): (max(committed[tp].offset if tp in committed else 0, begins[tp]), ends[tp]) for tp in wanted}

    async def close(self) -> None:
        """Close the clients if they exist, at most one second each; the next query connects new ones."""
        clients, self._clients = self._clients, None
        for client in clients or ():
            await _close_client(client)

    async def _connect(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        """Return the connected clients; create and connect them first if there are none.

        Raises KafkaError or OSError if they cannot connect; `close` then closes them.
        """
        if self._clients is None:
            timeout_ms = int(_ANSWER_WITHIN_S * 1000)
            admin = AIOKafkaAdminClient(
                bootstrap_servers=self._bootstrap_servers,
                request_timeout_ms=timeout_ms,
                client_id="health",
                **load_client_options(),
            )
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap_servers,
                request_timeout_ms=timeout_ms,
                client_id="health",
                **load_client_options(),
            )
            self._clients = admin, consumer
            await admin.start()
            await consumer.start()
        return self._clients


async def _close_client(client: AIOKafkaAdminClient | AIOKafkaConsumer) -> None:
    """Close a client, waiting at most one second; errors of Kafka and of the network, and the timeout, are ignored."""
    with suppress(KafkaError, OSError):
        async with asyncio.timeout(1.0):
            await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


def _freeze_offsets(offsets: Mapping[TP, int | None]) -> frozenset[tuple[TP, int | None]]:
    """Return an immutable copy of offsets, which can be compared with a later one."""
    return frozenset(offsets.items())
