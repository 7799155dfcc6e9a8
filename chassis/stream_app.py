"""Faust as this house runs it. Each setting that differs from Faust's own has its reason beside it."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import faust
import structlog
import uvloop
from aiohttp.web import Response
from faust.types import EventT, TopicT
from pydantic import Field

from chassis.kafka import topics_made
from chassis.metrics import Metrics
from chassis.settings import Port, Settings
from chassis.topics import TopicLike

log = structlog.get_logger()


class StreamSettings(Settings):
    """What a service built on Faust needs beside the rest."""

    data_dir: Path = Path("data")
    """Where a worker keeps its tables; one worker per directory."""
    store: str = Field(default="memory", pattern="^(memory|rocksdb)$")
    web_port: Port
    session_timeout_s: float = Field(default=15.0, ge=6.0, description="a dead worker's partitions move after this")


def create_stream_app(service: str, settings: StreamSettings, partitions: int) -> faust.App:
    """A Faust app whose tables have `partitions` changelog partitions, as the topics that it joins."""
    brokers = ";".join(f"kafka://{each}" for each in settings.kafka_bootstrap_servers.split(","))
    return faust.App(
        service,
        broker=brokers,
        datadir=str(settings.data_dir),
        store="memory://" if settings.store == "memory" else "rocksdb://?driver=rocksdict",
        key_serializer="raw",  # the contract's bytes are decoded once, by us
        value_serializer="raw",
        topic_partitions=partitions,  # changelogs must match the source topics, or the first write fails
        topic_disable_leader=True,  # nothing here is done by one worker for all
        topic_replication_factor=settings.kafka_replication_factor,
        table_standby_replicas=1 if settings.store == "rocksdb" else 0,  # they help only with a store on disk
        broker_session_timeout=settings.session_timeout_s,  # 60 s would leave partitions of a dead worker idle
        broker_rebalance_timeout=30.0,
        broker_request_timeout=30.0,  # must exceed the session timeout
        producer_request_timeout=30.0,  # 20 minutes would hide an outage
        producer_linger=0.02,  # one request for many changelog records
        producer_max_batch_size=128 * 1024,
        stream_wait_empty=False,  # state is idempotent: what is in flight at a stop is done again
        stream_processing_timeout=300.0,
        web_host=settings.listen_host,
        web_bind=settings.listen_host,
        web_port=settings.web_port,
        web_tables_enabled=False,  # they show table data to anybody
        web_stats_enabled=True,
        worker_redirect_stdouts=False,
    )


def serve_health_and_metrics(app: faust.App, metrics: Metrics) -> None:
    """Adds /health/live, /health/ready (partitions assigned and tables recovered) and /metrics to Faust's pages."""

    @app.page("/health/live")
    async def live(_view, _request):  # type: ignore[no-untyped-def]
        return Response(text='{"status": "alive"}', content_type="application/json")

    @app.page("/health/ready")
    async def ready(_view, _request):  # type: ignore[no-untyped-def]
        if not is_ready(app):
            return Response(status=503, text='{"status": "recovering"}', content_type="application/json")
        return Response(text='{"status": "ready"}', content_type="application/json")

    @app.page("/metrics")
    async def exposition(_view, _request):  # type: ignore[no-untyped-def]
        body, content_type = metrics.exposition()
        return Response(body=body, headers={"Content-Type": content_type})


def is_ready(app: faust.App) -> bool:
    """Whether the worker is in its group, and its tables are recovered."""
    if not app.started or app.should_stop or app.rebalancing or app.in_recovery:
        return False
    return bool(app.tables.recovery.completed.is_set())


@dataclass(frozen=True, slots=True)
class _Changelog:
    """The topic that a table is recovered from."""

    name: str
    partitions: int
    config: Mapping[str, str]


def run_worker(app: faust.App, settings: StreamSettings, topics: Iterable[TopicLike]) -> NoReturn:
    """Wait for the broker, make the topics that are missing, and run the worker until SIGTERM or SIGINT.

    The tables' changelogs are made here too: Faust makes them while it starts, and a table that is written before
    the cluster's metadata knows its changelog raises PartitionsMismatch.
    """
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app.finalize()
    changelogs = (
        _Changelog(
            table.changelog_topic.get_topic_name(),
            table.partitions,
            {"cleanup.policy": "compact", **table.extra_topic_configs},
        )
        for table in app.tables.values()
    )
    loop.run_until_complete(
        topics_made(settings.kafka_bootstrap_servers, (*topics, *changelogs), settings.kafka_replication_factor)
    )
    worker = faust.Worker(app, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
    worker.spinner = None  # it writes terminal codes between the lines of the log, quiet or not
    worker.execute_from_commandline()


async def dead_letter(topic: TopicT, event: EventT, reason: str) -> None:
    """Put an event that can never be handled aside: its bytes as they are, and where from, why and when.

    Returns once the broker has it, so that the event may be acknowledged.
    """
    message = event.message
    headers = {
        "source-topic": message.topic.encode(),
        "source-partition": str(message.partition).encode(),
        "source-offset": str(message.offset).encode(),
        "reason": reason.encode(),
        "dead-lettered-at": datetime.now(UTC).isoformat(timespec="seconds").encode(),
    }
    log.error("dead_letter", topic=message.topic, partition=message.partition, offset=message.offset, reason=reason)
    await (await topic.send(key=message.key, value=message.value, headers=headers))
