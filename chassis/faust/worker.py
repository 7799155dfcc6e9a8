"""The process of a worker: its start, which waits for nothing but what it needs, and its end, which comes in time."""

import asyncio
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

import faust
import faust.transport.drivers.aiokafka
import structlog
import uvloop
from aiohttp.web import AppRunner, BaseSite, SockSite
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faust.app import base
from faust.types import ServiceT
from mode import Service

from chassis.errors import CannotListenError, ChassisError
from chassis.faust.health import Health
from chassis.faust.internals.consumer import StreamConsumer
from chassis.faust.internals.recovery import StreamTables
from chassis.faust.settings import FAUST_LOG, StreamSettings
from chassis.faust.store import DataDir
from chassis.kafka import ensure_topics_without_timeout
from chassis.process import refuse_to_start
from chassis.topics import BrokerUnreachableError, TopicLike, wait_for_broker

log = structlog.get_logger()

STOP_WITHIN_S: Final = 20.0
"""A stop takes no longer; Kubernetes kills after 30 s. What it cuts off is as after a crash: done again."""

_BROKER_ANSWERS_WITHIN_S: Final = 2.0

_COLLECT_GARBAGE_AFTER: Final = (100_000, 50, 100)
"""Python's own is (700, 10, 10): it would walk through all tables and indexes whenever some thousand flights were
decoded, which took a fifth of a worker's time. What is in no cycle is freed at once, as ever."""

_HTTP_DRAINS_WITHIN_S: Final = 2.0
"""How long requests in flight may take once the server stops; pages that keep a connection open would take for ever."""


class StreamApp(faust.App):
    """A Faust app that answers on its port before it has a broker."""

    logger = FAUST_LOG
    health: Health
    services_before_kafka: tuple[ServiceT, ...] = ()
    """Started once the pages are served, and before anything connects."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"TableManager": StreamTables} | options)
        self.work_is_done = threading.Event()
        """At a stop: nothing is waited for any more but the broker."""

    class BootStrategy(base.BootStrategy):
        """Faust's own, with the web server first: while a worker waits, somebody will want to know for what."""

        def server(self) -> Iterable[ServiceT]:
            app = cast(StreamApp, self.app)
            yield from self.sensors()
            yield from self.web_server()
            yield from app.services_before_kafka
            yield from self.kafka_producer()
            yield from self.kafka_consumer()
            yield from self.agents()
            yield from self.kafka_conductor()
            yield from self.tables()

    async def _producer_flush(self, logger: Any) -> None:
        """The last step of Faust's stop that is ours, after all that `on_before_shutdown` asks for."""
        if self.should_stop:
            self.work_is_done.set()
        await super()._producer_flush(logger)


class KafkaPreparation(Service):
    """Waits for a broker, and makes the topics that are missing, before anything of Faust's connects.

    The tables' changelogs are made here too: Faust makes them while it starts, and a table that is written before the
    cluster's metadata knows its changelog raises PartitionsMismatch. Faust's own clients end the process when they
    find no broker.
    """

    logger = FAUST_LOG

    def __init__(
        self,
        service: str,
        settings: StreamSettings,
        topics: Iterable[TopicLike],
        directory: DataDir,
        refuse: Callable[[ChassisError], None],
    ) -> None:
        """Create the service, not yet started.

        `refuse` is called with the errors of `ensure_topics_without_timeout` and `DataDir.require_origin`; it has to
        stop the worker.
        """
        super().__init__()
        self._service = service
        self._settings = settings
        self._topics = tuple(topics)
        self._directory = directory
        self._refuse = refuse

    async def on_start(self) -> None:
        await self.wait(self._prepare())  # no longer than until the worker is told to stop

    async def _prepare(self) -> None:
        servers = self._settings.kafka_bootstrap_servers
        try:
            cluster = None
            while cluster is None:  # whatever ends right after it has answered is waited for again
                await ensure_topics_without_timeout(servers, self._topics, self._settings.kafka_replication_factor)
                with suppress(KafkaError, OSError):
                    cluster = await fetch_cluster_id(servers)
            if self._settings.store != "memory":
                self._directory.require_origin(self._service, cluster)
        except ChassisError as error:
            self._refuse(error)
            await self.wait_until_stopped()


async def fetch_cluster_id(bootstrap_servers: str) -> str:
    """What the cluster calls itself. Raises KafkaError or OSError when it does not answer."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        await admin.start()
        return str((await admin.describe_cluster())["cluster_id"])
    finally:
        await admin.close()


class _Producer(faust.transport.drivers.aiokafka.Producer):
    """Faust's producer, made idempotent, for which Faust has no setting.

    Without it a record that the broker did not take for half a minute is given up: one of a changelog with no more
    than a warning, so that a table and what it is recovered from differ for good.
    """

    logger = FAUST_LOG

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class _Worker(faust.Worker):
    """Faust's worker, that ends in time and can be refused."""

    logger = FAUST_LOG
    refusal: ChassisError | None = None

    def __init__(self, app: StreamApp, settings: StreamSettings, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(app, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
        self.spinner = None  # it writes terminal codes between the lines of the log, quiet or not
        self._deadline = threading.Thread(target=self._exit_at_deadline, name="deadline", daemon=True)
        self._kafka = settings.kafka_bootstrap_servers
        self._work_is_done = app.work_is_done

    def refuse(self, error: ChassisError) -> None:
        """Stop as at a SIGTERM; `run_worker` then says why."""
        self.refusal = error
        self._schedule_shutdown(signal.SIGTERM)

    async def stop(self) -> None:
        if not self._stopped.is_set():
            self._deadline.start()
        await super().stop()

    def _exit_at_deadline(self) -> None:
        """In a thread, because the stop of Faust's consumer blocks the event loop until the consumer's has ended.

        Faust flushes its producer and commits, and aiokafka leaves its group: each waits for a broker that is away as
        long as a request may take, or without end. Nothing is lost without them: events that are not acknowledged,
        and alerts that the broker does not have, are done again.
        """
        at_latest = time.monotonic() + STOP_WITHIN_S
        reason = f"not ended after {STOP_WITHIN_S:g} s"
        if self._work_is_done.wait(STOP_WITHIN_S):
            while (left := at_latest - time.monotonic()) > 0:
                time.sleep(min(left, _BROKER_ANSWERS_WITHIN_S))
                try:
                    asyncio.run(wait_for_broker(self._kafka, _BROKER_ANSWERS_WITHIN_S))
                except BrokerUnreachableError:
                    reason = "the broker is away"
                    break
        log.warning("worker.stop_cut_short", reason=reason)
        os._exit(2 if self.refusal else 1 if self.crashed else 0)


def run_worker(app: faust.App, settings: StreamSettings, topics: Iterable[TopicLike]) -> NoReturn:
    """Run a worker of an app that `create_stream_app` made, until SIGTERM or SIGINT.

    It serves its pages, waits for the broker, makes the topics that are missing, and goes to work. Exits with 0, with
    2 and one sentence when it cannot be run as it was told to, or with 1 after a crash, to be started again.
    """
    ours = cast(StreamApp, app)
    gc.set_threshold(*_COLLECT_GARBAGE_AFTER)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app.finalize()
    app.transport.Producer = _Producer  # type: ignore[misc]  # of this app's transport only
    app.transport.Consumer = StreamConsumer  # type: ignore[misc]
    try:
        directory = DataDir.claim(settings.data_dir, shared=settings.store == "memory")
        _bind_web_server(app, settings)
    except ChassisError as error:
        refuse_to_start(app.conf.id, error)
    worker = _Worker(ours, settings, loop)
    wanted = (*topics, *iter_changelog_topics(app))
    first_broker = KafkaPreparation(app.conf.id, settings, wanted, directory, worker.refuse)
    ours.services_before_kafka = (first_broker, ours.health)
    try:
        worker.execute_from_commandline()
    except SystemExit:
        if worker.refusal is not None:
            refuse_to_start(app.conf.id, worker.refusal)
        raise


def _bind_web_server(app: faust.App, settings: StreamSettings) -> None:
    """Have Faust's web server take a port that is taken here and now. Raises CannotListenError."""
    host, port = settings.listen_host, settings.web_port
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:  # a name that is not known, too
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise CannotListenError(f"HTTP cannot listen on {host}:{port}: {reason}.") from None
    web: Any = app.web
    web._runner = AppRunner(web.web_app, access_log=None, shutdown_timeout=_HTTP_DRAINS_WITHIN_S)

    def site() -> BaseSite:
        return SockSite(web._runner, listener)

    web._transport_handlers["tcp"] = site


@dataclass(frozen=True, slots=True)
class _ChangelogTopic:
    """The topic that a table is recovered from."""

    name: str
    partitions: int
    config: Mapping[str, str]


def iter_changelog_topics(app: faust.App) -> Iterator[TopicLike]:
    """The topics that the tables of a finalized app are recovered from, as Faust would make them."""
    for table in app.tables.values():
        topic = table.changelog_topic
        config = {name: str(value) for name, value in (topic.config or {}).items()}
        yield _ChangelogTopic(topic.get_topic_name(), table.partitions, {"cleanup.policy": "compact"} | config)
