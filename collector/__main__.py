"""The entry point `python -m collector`: read the settings, wire everything, serve until SIGTERM.

`python -m collector movements` is a command of its own, without settings: `collector/live/command.py`.
"""

import asyncio
import sys
from functools import partial
from urllib.parse import urlsplit

from chassis import logs
from chassis.db.begin_anew import run_begin_anew
from chassis.db.log_check import BEGIN_ANEW, LogComparison
from chassis.db.migrations import SchemaUpgrade
from chassis.db.outbox_relay import OutboxRelay
from chassis.errors import ChassisError
from chassis.grpc_secret import split_secrets
from chassis.hosts import AllowedHosts, split_host_names
from chassis.kafka import ensure_topics_without_timeout
from chassis.metrics import Metrics, ServiceIdentity
from chassis.periodic import run_periodically
from chassis.process import exit_with_error, load_settings_or_exit, serve
from chassis.rpc import GrpcServer
from chassis.web import openapi
from chassis.web.dates import send_dates
from chassis.web.http import create_app
from chassis.web.session_cookie import SessionCookie
from chassis.web.wsgi import HttpServer
from collector import rpc
from collector.begin_anew import begin_anew
from collector.collection_requests import CollectionRequests
from collector.event_log.watch import EventLogWatch
from collector.flights import FlightQueries
from collector.gauges import AgreementGauges, SchedulerGauges
from collector.interests import InterestStore
from collector.leadership.election import LeaderElection
from collector.live import command as movements_command
from collector.live.agreement import load_distrusted
from collector.live.status import LiveStatus
from collector.live.wiring import build_live_collection
from collector.model import OUTBOX
from collector.person_export import PersonExports
from collector.read_limits import ReadLimit
from collector.rest import routes as rest
from collector.rest.scheduler_answers import Scheduler
from collector.rest.users import Authenticator
from collector.rest.window_routes import window_blueprint
from collector.retention import FlightRetention
from collector.retired_codes import RetirementNotices
from collector.settings import CollectorSettings
from collector.settled.collection import FlightCollector
from collector.settled.coverage_report import CoverageReports, LiveReports
from collector.settled.evidence import RecordTiming
from collector.settled.learning_reports import LearningReports
from collector.settled.quota import QuotaStore
from collector.settled.schedule import CollectionTiming
from collector.settled.status import SchedulerStatus
from collector.sources.opensky.client import OpenSkyClient
from collector.sources.opensky.connection import OpenSkyConnection, OpenSkyTimeouts
from collector.windows import WindowQueries
from collector.write_limits import WriteLimit
from towerwatch.collection.v1.source_service_pb2_grpc import add_SourceServiceServicer_to_server
from towerwatch.interests.v1.interest_service_pb2_grpc import add_InterestServiceServicer_to_server
from towerwatch.topics import (
    CATALOGUE,
    COLLECTIONS_REQUESTED,
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    NOTICES_RAISED,
)

SERVICE = "collector"
MIGRATIONS = "collector:migrations"

MOVEMENTS = "movements"

_MOVEMENTS_USAGE = "print the take-offs and landings in polls of positions, and end (movements --help)"
_BEGIN_ANEW_USAGE = "remove from Kafka the interests that this database does not have, and end"

_PUBLISHED = (FLIGHTS_OBSERVED, INTERESTS_CHANGED, NOTICES_RAISED, COLLECTIONS_REQUESTED)
_UPDATE_GAUGES_EVERY_S = 5.0
_UPDATE_AGREEMENT_EVERY_S = 60.0
"""Less often than the others: it changes once a night, and reads the agreement of all airports."""
_DELETE_EXPIRED_EVERY_S = 600.0
_NOTIFY_RETIRED_EVERY_S = 600.0
"""More often than the table changes, which is only with a new image: a replica of before may still set interests."""


def main() -> None:
    """Serve until SIGTERM or SIGINT; with `--begin-anew`, run `begin_anew` instead, and print what differed.

    With the argument `movements` run that command, which needs no settings, and exit with its status. Exits with code 2
    if the settings or the ports are not usable, or the log or the database stop the service.
    """
    if sys.argv[1:2] == [MOVEMENTS]:
        sys.exit(movements_command.main(sys.argv[2:]))
    usages = {MOVEMENTS: _MOVEMENTS_USAGE, BEGIN_ANEW: _BEGIN_ANEW_USAGE}
    settings = load_settings_or_exit(SERVICE, CollectorSettings, usages)
    logs.configure(SERVICE, settings.log_level, settings.log_format)
    try:
        if BEGIN_ANEW in sys.argv[1:]:
            servers = settings.kafka_bootstrap_servers
            done = run_begin_anew(settings, MIGRATIONS, CATALOGUE, lambda database: begin_anew(database, servers))
            print(
                f"{SERVICE}: {len(done.removals)} interests will be removed from Kafka's log, {len(done.sets)} added."
            )
        else:
            asyncio.run(_run(settings))
    except ChassisError as error:
        exit_with_error(SERVICE, error)


async def _run(settings: CollectorSettings) -> None:
    """Wire the service, serve REST and gRPC until SIGTERM, and close the clients and the database at the end.

    In the background it upgrades the schema; after that it publishes the outbox, watches the log, takes part in the
    leader election, updates the gauges, deletes expired flights, and notifies users of retired codes. Raises
    ChassisError if a port is not usable.
    """
    grpc_secrets = split_secrets(settings.grpc_secret)
    metrics = Metrics(ServiceIdentity(SERVICE, settings.k8s_node_name))
    clock = settings.build_clock()
    database = settings.build_database()
    schema = SchemaUpgrade(database, MIGRATIONS)
    comparison = LogComparison(database, OUTBOX, settings.kafka_bootstrap_servers, _PUBLISHED, SERVICE)
    interests = InterestStore(database, clock, settings.build_person_limits())
    users = Authenticator(settings.user_manager_grpc_target, settings.authentication_cache_s, secrets=grpc_secrets)
    connection = OpenSkyConnection(
        [settings.opensky_url],
        settings.opensky_token_url,
        settings.opensky_credentials(),
        clock,
        metrics,
        OpenSkyTimeouts(settings.opensky_connect_timeout, settings.opensky_timeout),
        settings.opensky_proxy.get_secret_value() if settings.opensky_proxy else None,
    )
    source = OpenSkyClient(settings.opensky_url, connection, clock, metrics)
    timing = CollectionTiming(
        RecordTiming(settings.record_asked_after, settings.settle_time),
        settings.poll_interval,
        settings.corrections_after,
    )
    quota = QuotaStore(settings.daily_budget())
    live = build_live_collection(settings, database, connection, clock, metrics, load_distrusted)
    status = SchedulerStatus(database, clock, timing, quota)
    live_status = LiveStatus(database, clock, live.feeds, live.quota, metrics)
    gauges = SchedulerGauges(status, metrics)
    agreement_gauges = AgreementGauges(database, metrics)
    retention = FlightRetention(database, clock, settings.flights_retention)
    retirement = RetirementNotices(database)
    election = LeaderElection(
        FlightCollector(
            database,
            source,
            clock,
            timing,
            quota,
            metrics,
            settings.beacon_airports,
            settings.live_departures_credits,
        ),
        settings.kafka_bootstrap_servers,
        clock.real_seconds(settings.poll_interval),
        metrics,
        live.collector,
    )
    log_watch = EventLogWatch(
        database,
        settings.kafka_bootstrap_servers,
        settings.kafka_replication_factor,
        settings.log_checked_every.total_seconds(),
        metrics,
    )
    relay = OutboxRelay(database, OUTBOX, settings.kafka_bootstrap_servers, metrics, log_watch.is_known)

    app = create_app(
        SERVICE,
        metrics,
        rest.PROBLEMS,
        lambda: schema.explain_unready() or comparison.explain_unready(),
        AllowedHosts((SERVICE, settings.public_url, *split_host_names(settings.allowed_hosts))),
    )
    send_dates(app, clock)
    cookie = SessionCookie(settings.public_url)
    read_limit = ReadLimit(database, settings.build_person_limits(), metrics)
    learning = LearningReports(database, clock, timing, quota, settings.live_departures_credits)
    operator_token = settings.operator_token.get_secret_value()
    app.register_blueprint(
        rest.blueprint(
            interests,
            CollectionRequests(database),
            users,
            operator_token,
            FlightQueries(database, clock),
            CoverageReports(database, clock, timing, live_status.explain_airport).load_report,
            lambda: Scheduler.build(status.load_state(), live_status.load_state()),
            WriteLimit(database, settings.build_person_limits(), metrics),
            read_limit,
            learning.find_learning_ends,
            cookie.read_credential,
        )
    )
    app.register_blueprint(
        window_blueprint(
            WindowQueries(database, clock, timing.corrections_after),
            interests,
            users,
            read_limit,
            learning.find_learning_ends,
            cookie.read_credential,
        )
    )
    app.register_blueprint(
        openapi.create_blueprint("Towerwatch interests and flights", "1", rest.DESCRIPTION, cookie.name)
    )
    http_server = HttpServer(
        app,
        settings.listen_host,
        settings.http_port,
        trusted_proxy=settings.trusted_proxy,
        path_prefix=urlsplit(str(settings.public_url or "")).path.rstrip("/"),
        socket_path=settings.http_socket,
    )
    grpc_server = GrpcServer(
        settings.listen_host,
        settings.grpc_port,
        {
            rpc.SERVICE_NAME: partial(
                add_InterestServiceServicer_to_server, rpc.InterestService(interests, PersonExports(database))
            ),
            rpc.SOURCES_NAME: partial(
                add_SourceServiceServicer_to_server,
                rpc.SourceService(
                    status.load_record_state, live_status.load_state, LiveReports(database, clock).load_live
                ),
            ),
        },
        rpc.STATUSES,
        metrics,
        grpc_secrets,
        settings.grpc_socket,
    )

    async def prepare_schema_and_topics() -> None:
        await schema.wait_until_upgraded()
        # Created here and not by the first write: a topic that the broker makes by itself has other partitions.
        await ensure_topics_without_timeout(
            settings.kafka_bootstrap_servers, CATALOGUE, settings.kafka_replication_factor
        )
        await comparison.run()

    async def relay_outbox() -> None:
        await prepare_schema_and_topics()
        await relay.run()

    async def watch_log() -> None:
        await prepare_schema_and_topics()
        await log_watch.run()

    async def run_election() -> None:
        await prepare_schema_and_topics()
        await election.run()

    def update_all_gauges() -> None:
        gauges.update()
        live_status.update_gauge()

    async def update_gauges() -> None:
        await schema.wait_until_upgraded()
        await run_periodically(_UPDATE_GAUGES_EVERY_S, update_all_gauges, "gauges")

    async def update_agreement_gauges() -> None:
        await schema.wait_until_upgraded()
        await run_periodically(_UPDATE_AGREEMENT_EVERY_S, agreement_gauges.update, "agreement_gauges")

    async def delete_expired_flights() -> None:
        await schema.wait_until_upgraded()
        await run_periodically(_DELETE_EXPIRED_EVERY_S, retention.delete_expired, "sweep")

    async def notify_of_retired_codes() -> None:
        await schema.wait_until_upgraded()
        await run_periodically(_NOTIFY_RETIRED_EVERY_S, retirement.notify_users, "retired_codes")

    background = {
        "schema": schema.run_upgrade,
        "outbox": relay_outbox,
        "comparison": comparison.await_broker,
        "event_log": watch_log,
        "leadership": run_election,
        "gauges": update_gauges,
        "agreement_gauges": update_agreement_gauges,
        "sweep": delete_expired_flights,
        "retired_codes": notify_of_retired_codes,
    }
    try:
        await serve([http_server, grpc_server], background)
    finally:
        await live.close()
        await connection.close()
        users.close()
        database.close()


if __name__ == "__main__":
    main()
