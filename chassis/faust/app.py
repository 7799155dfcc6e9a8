"""Faust as this house runs it. Each setting that differs from Faust's own has its reason beside it."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, Final, cast

import faust
import structlog
from aiohttp.web import Response
from faust.types import TP, EventT, TopicT

from chassis.faust.health import Health
from chassis.faust.internals.metrics import register_faust_metrics
from chassis.faust.settings import StreamSettings
from chassis.faust.store import STORE_URL
from chassis.faust.worker import StreamApp, iter_changelog_topics, run_worker
from chassis.metrics import Metrics
from chassis.topics import TopicLike

__all__ = [
    "StreamSettings",
    "crash_worker",
    "create_stream_app",
    "is_from_current_assignment",
    "is_partition_assigned",
    "is_ready",
    "iter_changelog_topics",
    "publish_dead_letter",
    "run_worker",
    "send_record",
    "serve_health_and_metrics",
]

log = structlog.get_logger()


def create_stream_app(service: str, settings: StreamSettings, partitions: int) -> faust.App:
    """A Faust app whose tables have `partitions` changelog partitions, as the topics that it joins."""
    brokers = ";".join(f"kafka://{each}" for each in settings.kafka_bootstrap_servers.split(","))
    app = StreamApp(
        service,
        broker=brokers,
        datadir=str(settings.data_dir),
        store="memory://" if settings.store == "memory" else STORE_URL,  # whose memory is bounded, for all tables
        key_serializer="raw",  # the contract's bytes are decoded once, by us
        value_serializer="raw",
        processing_guarantee="at_least_once",  # exactly-once leaves out topics that are only written
        topic_partitions=partitions,  # changelogs must match the source topics, or the first write fails
        topic_disable_leader=True,  # nothing here is done by one worker for all, and its topic need not be
        topic_replication_factor=settings.kafka_replication_factor,
        # A standby is paused and resumed around each rebalance. With tables on disk and one of two workers killed, 1 of
        # 16 runs missed 21 of 999 alerts, without standbys none of 10; and the other took over no sooner.
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",  # recovery hangs with any other
        broker_session_timeout=settings.session_timeout_s,  # 60 s would leave partitions of a dead worker idle
        broker_heartbeat_interval=settings.session_timeout_s / 5,  # a few may be lost
        broker_rebalance_timeout=30.0,  # 60 s would be waited for a worker that died during a rebalance
        broker_request_timeout=30.0,  # must exceed the session timeout
        producer_threaded=False,  # commits would not wait for it
        producer_request_timeout=30.0,  # 20 minutes would hide an outage
        producer_linger=0.02,  # one request for many changelog records
        producer_max_batch_size=128 * 1024,
        stream_wait_empty=False,  # state is idempotent: what is in flight at a stop or a rebalance is done again
        web_host=settings.listen_host,
        web_bind=settings.listen_host,
        web_port=settings.web_port,
        canonical_url=settings.build_canonical_url(),  # with another's, pages send people to the wrong worker
        web_in_thread=False,  # who asks for /health/live learns, too, whether the event loop still turns
        web_tables_enabled=False,  # they show table data to anybody
        web_stats_enabled=True,  # else / says nothing but OK
        worker_redirect_stdouts=False,  # the log is ours
    )
    app.health = Health(app, settings)
    _hold_events_until_the_seek(app)
    return app


def _hold_events_until_the_seek(app: faust.App) -> None:
    """Let no event come between the recovery of the tables and the seek to where the events go on.

    At the end of a rebalance Faust opens the source partitions first, seeks then, and last of all throws away what
    came in between. Where nothing was committed yet there is nothing to seek to, and that is lost; elsewhere what is
    in flight arrives before what it seeks back to. So the flow is held here, until Faust itself resumes it. A fetch
    that goes on meanwhile takes nothing: see `chassis.faust.internals.consumer`.
    """

    async def hold(*_args: object, **_kwargs: object) -> None:
        app.consumer.stop_flow()
        app.flow_control.suspend()

    app.on_rebalance_complete.connect(hold, weak=False)


def serve_health_and_metrics(app: faust.App, metrics: Metrics) -> None:
    """Adds /health/live, /health/ready (partitions assigned and tables recovered) and /metrics to Faust's pages.

    Live is who need not be ended: see `chassis.faust.health`. `app` must be of `create_stream_app`.
    """
    health = cast(StreamApp, app).health
    register_faust_metrics(app, health, metrics)

    @app.page("/health/live")
    async def live(_view, _request):  # type: ignore[no-untyped-def]
        if health.stuck_reason is not None:
            body = json.dumps({"status": "stuck", "reason": health.stuck_reason})
            return Response(status=503, text=body, content_type="application/json")
        return Response(text='{"status": "alive"}', content_type="application/json")

    @app.page("/health/ready")
    async def ready(_view, _request):  # type: ignore[no-untyped-def]
        if not is_ready(app):
            return Response(status=503, text='{"status": "recovering"}', content_type="application/json")
        return Response(text='{"status": "ready"}', content_type="application/json")

    @app.page("/metrics")
    async def exposition(_view, _request):  # type: ignore[no-untyped-def]
        body, content_type = metrics.format_exposition()
        return Response(body=body, headers={"Content-Type": content_type})


def is_ready(app: faust.App) -> bool:
    """Whether the worker is in its group, and its tables are recovered."""
    if not app.started or app.should_stop or app.rebalancing or app.in_recovery:
        return False
    return bool(app.tables.recovery.completed.is_set())  # type: ignore[attr-defined]  # not in the interface


def is_partition_assigned(app: faust.App, topic: TopicLike, partition: int) -> bool:
    """Whether a partition is among those that the worker was assigned last."""
    return TP(topic.name, partition) in app.assignor.assigned_actives()


def is_from_current_assignment(app: faust.App, event: EventT[Any]) -> bool:
    """Whether no rebalance has begun since the worker was given an event.

    Faust asks this of events that wait; one that an agent has in its hands must be asked by the agent, each time
    that it has awaited something, before it writes to a table or acknowledges.
    """
    return app.flow_control.is_active() and event.message.generation_id == app.consumer_generation_id


def crash_worker(app: faust.App, error: BaseException) -> None:
    """End the process with an error, from code that cannot await; whatever supervises it starts it again."""
    app.loop.create_task(app.crash(error))


async def send_record(app: faust.App, topic: str, key: bytes, value: bytes, partition: int) -> asyncio.Future[Any]:
    """Hand a record to the producer, past Faust's topics, which wrap each in two more objects and a callback.

    What it gives is done once the broker has the record. It is counted as Faust would count it. Raises KafkaError, or
    FaustError, where the producer does not take it.
    """
    sent: asyncio.Future[Any] = await app.producer.send(topic, key, value, partition, timestamp=None, headers=None)  # type: ignore[assignment]
    sensors: Any = app.sensors  # none of which looks at the message, which there is not here
    state = sensors.on_send_initiated(app.producer, topic, None, len(key), len(value))

    def counted(done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            sensors.on_send_error(app.producer, error, state)
        else:
            sensors.on_send_completed(app.producer, state, done.result())

    sent.add_done_callback(counted)
    return sent


_MAX_DEAD_LETTER_BYTES: Final = 900_000
"""Brokers and producers take records of about a million bytes, headers included."""


async def publish_dead_letter(topic: TopicT, event: EventT[Any], reason: str) -> None:
    """Put an event that can never be handled aside: its bytes as they are, and where from, why and when.

    Returns once the broker has it, so that the event may be acknowledged. Of a record that would be too large with
    its headers, only they are put aside ("left-out" says how many bytes are not); the source's topic still has it.
    """
    message = event.message
    headers = {
        "source-topic": message.topic.encode(),
        "source-partition": str(message.partition).encode(),
        "source-offset": str(message.offset).encode(),
        "reason": reason.encode(),
        "dead-lettered-at": datetime.now(UTC).isoformat(timespec="seconds").encode(),
    }
    key, value = message.key, message.value
    size = len(key or b"") + len(value or b"")
    if size > _MAX_DEAD_LETTER_BYTES:
        key, value = None, b""  # the client refuses a record of neither
        headers["left-out"] = str(size).encode()
    log.error("dead_letter", topic=message.topic, partition=message.partition, offset=message.offset, reason=reason)
    await (await topic.send(key=key, value=value, headers=headers))
