"""The Faust app of a service: its settings, health pages, dead letters and the checks that agents need.

Each setting that differs from Faust's default has its reason beside it.
"""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, Final, cast

import faust
import structlog
from aiohttp.web import Response
from faust.types import TP, EventT, TopicT
from faust.types.auth import CredentialsT

from chassis.faust.health import Health
from chassis.faust.internals.metrics import register_faust_metrics
from chassis.faust.settings import StreamSettings
from chassis.faust.store import STORE_URL
from chassis.faust.worker import StreamApp, iter_changelog_topics, run_worker
from chassis.kafka_options import load_client_options
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


def build_broker_credentials() -> CredentialsT | None:
    """Return the credentials of this process for Faust's clients of Kafka; None if they connect plainly."""
    options = load_client_options()
    trust = options.get("ssl_context")
    if "sasl_mechanism" in options:
        return faust.SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=trust,
            mechanism=options["sasl_mechanism"],
        )
    return None if trust is None else faust.SSLCredentials(trust)


def create_stream_app(service: str, settings: StreamSettings, partitions: int) -> faust.App:
    """Create a service's Faust app with its health check, not yet started; `service` is its consumer group too.

    `partitions` is the partition count of the topics that it joins, and the default of its tables' changelogs. The
    caller adds agents, tables and pages, and passes the app to `run_worker`.
    """
    brokers = ";".join(f"kafka://{server}" for server in settings.kafka_bootstrap_servers.split(","))
    app = StreamApp(
        service,
        broker=brokers,
        broker_credentials=build_broker_credentials(),
        datadir=str(settings.data_dir),
        store="memory://" if settings.store == "memory" else STORE_URL,  # its memory is bounded, for all tables
        key_serializer="raw",  # agents decode the contract's bytes once
        value_serializer="raw",
        processing_guarantee="at_least_once",  # exactly-once leaves out topics that are only written
        topic_partitions=partitions,  # changelogs must match the source topics, or the first write fails
        topic_disable_leader=True,  # no worker does anything for all others, so the leader's topic is not needed
        topic_allow_declare=False,  # `KafkaPreparation` makes all; Faust ends the worker if no broker answers just then
        topic_replication_factor=settings.kafka_replication_factor,
        # A standby is paused and resumed around each rebalance. With tables on disk and one of two workers killed, 1 of
        # 16 runs missed 21 of 999 alerts; without standbys 0 of 10 runs did, and the takeover was as fast.
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",  # recovery hangs with any other
        broker_session_timeout=settings.session_timeout_s,  # with 60 s a dead worker's partitions would be idle
        broker_heartbeat_interval=settings.session_timeout_s / 5,  # a few heartbeats may be lost
        broker_rebalance_timeout=30.0,  # the group would wait 60 s for a worker that died during a rebalance
        broker_request_timeout=30.0,  # must exceed the session timeout
        producer_threaded=False,  # commits would not wait for it
        producer_request_timeout=30.0,  # 20 minutes would hide an outage
        producer_linger=0.02,  # one request for many changelog records
        producer_max_batch_size=128 * 1024,
        stream_wait_empty=False,  # state is idempotent: events in flight at a stop or a rebalance are processed again
        web_host=settings.listen_host,
        web_bind=settings.listen_host,
        web_port=settings.web_port,
        canonical_url=settings.build_canonical_url(),  # a wrong URL would make pages link to another worker
        web_in_thread=False,  # so /health/live answers only while the event loop runs
        web_tables_enabled=False,  # these pages show table data to anybody
        web_stats_enabled=True,  # else / shows nothing but OK
        worker_redirect_stdouts=False,  # `chassis.logs` configures the log
    )
    app.health = Health(app, settings)
    _hold_events_until_the_seek(app)
    return app


def _hold_events_until_the_seek(app: faust.App) -> None:
    """Make the app deliver no events from the end of each rebalance until Faust's seek to committed offsets is done.

    At the end of a rebalance Faust first resumes the source partitions, then seeks, and last discards the events that
    were fetched in between. In a partition where nothing is committed yet Faust does not seek, and these events are
    lost; in the others an event in flight arrives before the earlier events that Faust seeks back to. Therefore the
    flow is stopped here, until Faust itself resumes it. A fetch that is still running meanwhile returns nothing: see
    `chassis.faust.internals.consumer`.
    """

    async def hold(*_args: object, **_kwargs: object) -> None:
        app.consumer.stop_flow()
        app.flow_control.suspend()

    app.on_rebalance_complete.connect(hold, weak=False)


def serve_health_and_metrics(app: faust.App, metrics: Metrics) -> None:
    """Add /health/live, /health/ready and /metrics to Faust's pages, and Faust's own metrics to `metrics`.

    /health/ready answers 503 unless partitions are assigned and tables recovered. /health/live answers 503 when the
    worker is stuck and must be restarted: see `chassis.faust.health`. `app` must come from `create_stream_app`.
    """
    health = cast(StreamApp, app).health
    register_faust_metrics(app, health, metrics)

    @app.page("/health/live")
    async def live(_view, _request):  # type: ignore[no-untyped-def]
        """Answer 503 with the reason if the worker is stuck, else 200."""
        if health.stuck_reason is not None:
            body = json.dumps({"status": "stuck", "reason": health.stuck_reason})
            return Response(status=503, text=body, content_type="application/json")
        return Response(text='{"status": "alive"}', content_type="application/json")

    @app.page("/health/ready")
    async def ready(_view, _request):  # type: ignore[no-untyped-def]
        """Answer 200 if the worker is ready, else 503; `outage` says that another server is unavailable."""
        if not is_ready(app):
            return Response(status=503, text='{"status": "recovering"}', content_type="application/json")
        outage = {"outage": health.outage} if health.are_dependencies_unavailable() else {}
        return Response(text=json.dumps({"status": "ready"} | outage), content_type="application/json")

    @app.page("/metrics")
    async def exposition(_view, _request):  # type: ignore[no-untyped-def]
        body, content_type = metrics.format_exposition()
        return Response(body=body, headers={"Content-Type": content_type})


def is_ready(app: faust.App) -> bool:
    """Return True while the worker is a member of its group and all its tables are recovered.

    Return False while the worker starts, rebalances, recovers tables or stops.
    """
    if not app.started or app.should_stop or app.rebalancing or app.in_recovery:
        return False
    return bool(app.tables.recovery.completed.is_set())  # type: ignore[attr-defined]  # not in the interface


def is_partition_assigned(app: faust.App, topic: TopicLike, partition: int) -> bool:
    """Return True if the worker's last assignment contains a partition of `topic`, False if not.

    During a rebalance the last assignment is the old one.
    """
    return TP(topic.name, partition) in app.assignor.assigned_actives()


def is_from_current_assignment(app: faust.App, event: EventT[Any]) -> bool:
    """Return True as long as no rebalance has begun since the worker received an event, False afterwards.

    Return False, too, while Faust's flow control is suspended.

    Faust checks this for events in its queues. An agent must check the event that it processes: after each `await`,
    before it writes to a table or acknowledges the event.
    """
    return app.flow_control.is_active() and event.message.generation_id == app.consumer_generation_id


def crash_worker(app: faust.App, error: BaseException) -> None:
    """Schedule a crash of the worker because of an error, and return at once, for code that cannot await.

    The process then ends with exit code 1, and its supervisor restarts it.
    """
    app.loop.create_task(app.crash(error))


async def send_record(app: faust.App, topic: str, key: bytes, value: bytes, partition: int) -> asyncio.Future[Any]:
    """Pass a record to the producer, and return a future that is done once the broker has acknowledged the record.

    Wait while the producer's batch for the partition is full. The future raises the broker's error. This avoids Faust's
    topics, which wrap each record in two more objects and a callback. Faust's sensors count the record, its
    acknowledgement or its error as usual. Raises KafkaError or FaustError if the producer does not accept the record.
    """
    sent: asyncio.Future[Any] = await app.producer.send(topic, key, value, partition, timestamp=None, headers=None)  # type: ignore[assignment]
    sensors: Any = app.sensors  # the third argument, Faust's message, does not exist here, and no sensor uses it
    state = sensors.on_send_initiated(app.producer, topic, None, len(key), len(value))

    def notify_sensors(done: asyncio.Future[Any]) -> None:
        """Notify Faust's sensors that the record was acknowledged or not; do nothing if the future was cancelled."""
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            sensors.on_send_error(app.producer, error, state)
        else:
            sensors.on_send_completed(app.producer, state, done.result())

    sent.add_done_callback(notify_sensors)
    return sent


_MAX_DEAD_LETTER_BYTES: Final = 900_000
"""The largest key and value of a dead letter; brokers accept records of about a million bytes, headers included."""


async def publish_dead_letter(topic: TopicT, event: EventT[Any], reason: str) -> None:
    """Publish an event that can never be handled to the dead-letter `topic`: its bytes, and headers about its origin.

    The headers hold the event's topic, partition and offset, the reason, and the present time; the same is logged as an
    error. Return once the broker has acknowledged the dead letter, so that the caller may acknowledge the event. If key
    and value together exceed 900,000 bytes, only the headers are published, and the header "left-out" holds the number
    of bytes left out; the source topic still has them.
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
        key, value = None, b""  # the client rejects a record with neither key nor value
        headers["left-out"] = str(size).encode()
    log.error("dead_letter", topic=message.topic, partition=message.partition, offset=message.offset, reason=reason)
    await (await topic.send(key=key, value=value, headers=headers))
