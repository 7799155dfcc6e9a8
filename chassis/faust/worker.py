"""The process of a Faust worker: its start, which waits for a broker and topics, and its end within a deadline."""

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
from aiohttp.web import BaseSite, SockSite
from aiokafka.errors import KafkaError
from faust.app import base
from faust.types import ServiceT
from mode import Service

from chassis.aiohttp_server import BoundedAppRunner, create_host_check
from chassis.errors import ChassisError
from chassis.faust.health import Health
from chassis.faust.internals.consumer import StreamConsumer
from chassis.faust.internals.recovery import StreamTables
from chassis.faust.internals.starting import start_client
from chassis.faust.log_watch import LogWatch
from chassis.faust.settings import FAUST_LOG, StreamSettings
from chassis.faust.store import DataDir
from chassis.hosts import AllowedHosts, split_host_names
from chassis.kafka import ensure_topics_without_timeout
from chassis.listening import bind_listeners
from chassis.log_identity import LogClients, LogIdentity
from chassis.process import exit_with_error
from chassis.topics import BrokerUnreachableError, TopicLike, wait_for_broker

log = structlog.get_logger()

STOP_WITHIN_S: Final = 20.0
"""The longest duration of a stop; Kubernetes kills after 30 s. Work that is cut off is done again, as after a crash."""

_BROKER_ANSWERS_WITHIN_S: Final = 2.0

_COLLECT_GARBAGE_AFTER: Final = (100_000, 50, 100)
"""Thresholds of the garbage collector, for `gc.set_threshold`.

Python's default, (700, 10, 10), would traverse all tables and indexes whenever some thousand flights were decoded,
which took a fifth of a worker's time. Objects that are in no reference cycle are freed at once, with any thresholds.
"""

_HTTP_DRAINS_WITHIN_S: Final = 2.0
"""Seconds that requests in flight may take once the server stops; pages with open connections would never end."""


class StreamApp(faust.App):
    """A Faust app that serves its pages before it is connected to a broker, and recovers its tables as `StreamTables`.

    Its `health` is set by `create_stream_app`, its `services_before_kafka` by `run_worker`.
    """

    logger = FAUST_LOG
    health: Health
    services_before_kafka: tuple[ServiceT, ...] = ()
    """Services that start once the pages are served, and before any Kafka client connects."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"TableManager": StreamTables} | options)
        self.work_is_done = threading.Event()
        """An event that is set during a stop, when only the broker is still waited for."""

    class BootStrategy(base.BootStrategy):
        """Faust's order of starts, but with the web server first, so that a waiting worker can be examined."""

        def server(self) -> Iterable[ServiceT]:
            """Yield the services of a worker in the order in which they start.

            The order is: sensors, web server, `services_before_kafka`, producer, consumer, agents, conductor, tables.
            """
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
        """Flush the producer as Faust does; during a stop, first set `work_is_done`: all other work is done.

        Faust calls this in a stop after `on_before_shutdown`, when everything that follows waits only for the broker.
        """
        if self.should_stop:
            self.work_is_done.set()
        await super()._producer_flush(logger)


class KafkaPreparation(Service):
    """The service that waits for a broker and creates missing topics before Faust's own clients connect.

    It creates the tables' changelogs too, and deletes tables on disk that are of another log. Faust itself creates them
    while it starts, and a write to a table raises PartitionsMismatch as long as the cluster's metadata does not contain
    its changelog. Faust itself would end the process when it finds no broker.
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

        `refuse` is called with the errors of `ensure_topics_without_timeout` and `DataDir.claim_for`; it has to stop
        the worker.
        """
        super().__init__()
        self.identity: LogIdentity | None = None
        """The identity of the log that the worker began with. None: the log is not prepared yet."""
        self._service = service
        self._settings = settings
        self._topics = tuple(topics)
        self._directory = directory
        self._refuse = refuse

    async def on_start(self) -> None:
        """Wait until Kafka is prepared, or the worker stops; the services after this one start only then."""
        await self.wait(self._prepare())

    async def _prepare(self) -> None:
        """Wait for the broker without timeout, create missing topics, and claim the data directory for this log.

        That deletes tables of another log (`DataDir.claim_for`). The directory is not used if tables are kept in
        memory. On an error that an operator must resolve, call
        `refuse` and wait until the worker has stopped.
        """
        servers = self._settings.kafka_bootstrap_servers
        try:
            names = {topic.name for topic in self._topics}
            identity = None
            while identity is None or identity.topics.keys() != names:  # a broker that ends now is waited for again
                await ensure_topics_without_timeout(servers, self._topics, self._settings.kafka_replication_factor)
                with suppress(KafkaError, OSError, UnicodeError):
                    identity = await _fetch_identity(servers, names)
            if self._settings.store != "memory":
                self._directory.claim_for(self._service, identity)
            self.identity = identity
        except ChassisError as error:
            self._refuse(error)
            await self.wait_until_stopped()


async def _fetch_identity(bootstrap_servers: str, names: Iterable[str]) -> LogIdentity:
    """Connect clients, and return what the log is. Raises KafkaError or OSError when no broker answers."""
    clients = LogClients(bootstrap_servers)
    try:
        return await clients.fetch_identity(names)
    finally:
        await clients.close()


class _Producer(faust.transport.drivers.aiokafka.Producer):
    """Faust's producer, whose start waits for a broker, and made idempotent, for which Faust has no setting.

    A producer that is not idempotent drops a record that the broker has not accepted within half a minute. If the
    record belongs to a changelog, Faust only logs a warning, and the table and its changelog differ for good.
    """

    logger = FAUST_LOG

    async def on_start(self) -> None:
        """Start aiokafka's producer, and wait for a broker if none answers; Faust would end the worker then."""
        await super(faust.transport.drivers.aiokafka.Producer, self).on_start()  # without Faust's own start of it
        self._producer = await start_client(self, self._new_producer)

    def _settings_extra(self) -> Mapping[str, Any]:
        """Return further options of aiokafka's producer; Faust calls this."""
        return {"acks": "all", "enable_idempotence": True}


class _Worker(faust.Worker):
    """Faust's worker, which exits within STOP_WITHIN_S of a stop's begin, and can be stopped because of an error."""

    logger = FAUST_LOG
    refusal: ChassisError | None = None
    """Why the worker cannot run; None: no such error."""

    def __init__(self, app: StreamApp, settings: StreamSettings, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(app, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
        self.spinner = None  # it writes terminal codes between the lines of the log, quiet or not
        self._deadline = threading.Thread(target=self._exit_at_deadline, name="deadline", daemon=True)
        self._kafka = settings.kafka_bootstrap_servers
        self._work_is_done = app.work_is_done

    def refuse(self, error: ChassisError) -> None:
        """Store an error in `refusal`, which `run_worker` prints at the end, and stop the worker as at a SIGTERM."""
        self.refusal = error
        self._schedule_shutdown(signal.SIGTERM)

    async def stop(self) -> None:
        """Start the thread that enforces the deadline, unless the worker has stopped before, and stop as Faust does."""
        if not self._stopped.is_set():
            self._deadline.start()
        await super().stop()

    def _exit_at_deadline(self) -> None:
        """Exit the process 20 s after the stop began; earlier, if only an unavailable broker still delays the stop.

        Once `work_is_done` is set (all other work is done), the broker is probed after pauses of 2 s, and the first
        probe without an answer ends the process. The exit code is 2 after a refusal, 1 after a crash, else 0; the
        reason is logged.

        This runs in a daemon thread, because the stop of Faust's consumer blocks the event loop until the consumer's
        own event loop has ended. Faust flushes its producer and commits, and aiokafka leaves its group: each of these
        waits for an unavailable broker until a request times out, or for ever. Nothing is lost if these do not finish:
        events that are not acknowledged are processed again, and alerts that the broker does not have are published
        again.
        """
        at_latest = time.monotonic() + STOP_WITHIN_S
        reason = f"not ended after {STOP_WITHIN_S:g} s"
        if self._work_is_done.wait(STOP_WITHIN_S):
            while (remaining := at_latest - time.monotonic()) > 0:
                time.sleep(min(remaining, _BROKER_ANSWERS_WITHIN_S))
                try:
                    asyncio.run(wait_for_broker(self._kafka, _BROKER_ANSWERS_WITHIN_S))
                except BrokerUnreachableError:
                    reason = "the broker is away"
                    break
        log.warning("worker.stop_cut_short", reason=reason)
        os._exit(2 if self.refusal else 1 if self.crashed else 0)


def run_worker(app: faust.App, settings: StreamSettings, topics: Iterable[TopicLike]) -> NoReturn:
    """Run a worker of an app from `create_stream_app` until SIGTERM or SIGINT, then exit the process.

    The worker locks its data directory, serves its pages, waits for the broker, creates missing topics (`topics` and
    the tables' changelogs), and then processes events. The exit code is 0 after a stop, 2 (with one sentence on
    standard error) if the settings, the data directory or the broker's topics do not allow it to run, and 1 after a
    crash, after which the supervisor should restart it.
    """
    stream_app = cast(StreamApp, app)
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
        exit_with_error(app.conf.id, error)
    worker = _Worker(stream_app, settings, loop)
    wanted = (*topics, *iter_changelog_topics(app))
    preparation = KafkaPreparation(app.conf.id, settings, wanted, directory, worker.refuse)
    log_watch = LogWatch(app, settings, lambda: preparation.identity)
    stream_app.services_before_kafka = (preparation, stream_app.health, log_watch)
    try:
        worker.execute_from_commandline()
    except SystemExit:
        if worker.refusal is not None:
            exit_with_error(app.conf.id, worker.refusal)
        raise


def _bind_web_server(app: faust.App, settings: StreamSettings) -> None:
    """Bind the web port at once, and make Faust's web server use that socket, without an access log.

    The server bounds its connections, and refuses requests for foreign hosts (`chassis.aiohttp_server`). At the end the
    server waits 2 s for requests in flight. Raises CannotListenError if the port cannot be bound.
    """
    listeners = bind_listeners(settings.listen_host, settings.web_port, "HTTP")
    web: Any = app.web
    web._runner = BoundedAppRunner(web.web_app, access_log=None, shutdown_timeout=_HTTP_DRAINS_WITHIN_S)

    names = (socket.gethostname(), settings.advertised_url, *split_host_names(settings.allowed_hosts), app.conf.id)
    web.web_app.middlewares.append(create_host_check(AllowedHosts(names)))
    web._transport_handlers["tcp"] = lambda: _Sites(SockSite(web._runner, each) for each in listeners)


class _Sites:
    """The sites of a web server that listens on several sockets; Faust knows of one, and only starts it."""

    def __init__(self, sites: Iterable[BaseSite]) -> None:
        self._sites = tuple(sites)

    async def start(self) -> None:
        """Start all sites; Faust calls this."""
        for site in self._sites:
            await site.start()


@dataclass(frozen=True, slots=True)
class _ChangelogTopic:
    """The changelog topic of a table, from which the table is recovered."""

    name: str
    partitions: int
    config: Mapping[str, str]


def iter_changelog_topics(app: faust.App) -> Iterator[TopicLike]:
    """Yield the changelog topic of each table of a finalized app, with the settings that Faust would give it.

    A changelog is compacted unless the table's own settings say otherwise.
    """
    for table in app.tables.values():
        topic = table.changelog_topic
        config = {name: str(value) for name, value in (topic.config or {}).items()}
        yield _ChangelogTopic(topic.get_topic_name(), table.partitions, {"cleanup.policy": "compact"} | config)
