"""The entry point `python -m collector`: read the settings, wire everything, serve until SIGTERM."""

import asyncio
from functools import partial

from chassis import logs
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
from chassis.web.http import create_app
from chassis.web.wsgi import HttpServer
from collector import rpc
from collector.collection_requests import CollectionRequests
from collector.flights import FlightQueries
from collector.gauges import SchedulerGauges
from collector.interests import InterestStore
from collector.leadership.election import LeaderElection
from collector.model import OUTBOX
from collector.rest import routes as rest
from collector.rest.users import Authenticator
from collector.retention import FlightRetention
from collector.settings import CollectorSettings
from collector.settled.collection import FlightCollector
from collector.settled.coverage_report import CoverageReports
from collector.settled.evidence import RecordTiming
from collector.settled.quota import QuotaStore
from collector.settled.schedule import CollectionTiming
from collector.settled.status import SchedulerStatus
from collector.sources.opensky.client import OpenSkyClient, OpenSkyTimeouts
from towerwatch.interests.v1.interest_service_pb2_grpc import add_InterestServiceServicer_to_server
from towerwatch.topics import CATALOGUE

SERVICE = "collector"

_UPDATE_GAUGES_EVERY_S = 5.0
_DELETE_EXPIRED_EVERY_S = 600.0


def main() -> None:
    """Serve until SIGTERM or SIGINT. Exit with code 2 if the settings or the ports are not usable."""
    settings = load_settings_or_exit(SERVICE, CollectorSettings)
    logs.configure(SERVICE, settings.log_level, settings.log_format)
    try:
        asyncio.run(_run(settings))
    except ChassisError as error:
        exit_with_error(SERVICE, error)


async def _run(settings: CollectorSettings) -> None:
    """Wire the service, serve REST and gRPC until SIGTERM, and close the clients and the database at the end.

    In the background it upgrades the schema; after that it publishes the outbox, takes part in the leader election,
    updates the gauges and deletes expired flights. Raises ChassisError if a port is not usable.
    """
    grpc_secrets = split_secrets(settings.grpc_secret)
    metrics = Metrics(ServiceIdentity(SERVICE, settings.k8s_node_name))
    clock = settings.build_clock()
    database = settings.build_database()
    schema = SchemaUpgrade(database, "collector:migrations")
    interests = InterestStore(database, clock)
    users = Authenticator(settings.user_manager_grpc_target, settings.authentication_cache_s, secrets=grpc_secrets)
    source = OpenSkyClient(
        settings.opensky_url,
        settings.opensky_token_url,
        settings.opensky_credentials(),
        clock,
        metrics,
        OpenSkyTimeouts(settings.opensky_connect_timeout, settings.opensky_timeout),
        settings.opensky_proxy.get_secret_value() if settings.opensky_proxy else None,
    )
    timing = CollectionTiming(
        RecordTiming(settings.record_asked_after, settings.settle_time),
        settings.poll_interval,
        settings.corrections_after,
    )
    quota = QuotaStore(settings.daily_budget())
    status = SchedulerStatus(database, clock, timing, quota)
    gauges = SchedulerGauges(status, metrics)
    retention = FlightRetention(database, clock, settings.flights_retention)
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
    )
    relay = OutboxRelay(database, OUTBOX, settings.kafka_bootstrap_servers, metrics)

    app = create_app(
        SERVICE,
        metrics,
        rest.PROBLEMS,
        schema.is_ready,
        AllowedHosts((SERVICE, settings.public_url, *split_host_names(settings.allowed_hosts))),
    )
    operator_token = settings.operator_token.get_secret_value()
    app.register_blueprint(
        rest.blueprint(
            interests,
            CollectionRequests(database),
            users,
            operator_token,
            FlightQueries(database, clock),
            CoverageReports(database, clock, timing).load_report,
            status.load_state,
        )
    )
    app.register_blueprint(openapi.create_blueprint("Towerwatch interests and flights", "1", rest.DESCRIPTION))
    http_server = HttpServer(app, settings.listen_host, settings.http_port)
    grpc_server = GrpcServer(
        settings.listen_host,
        settings.grpc_port,
        {rpc.SERVICE_NAME: partial(add_InterestServiceServicer_to_server, rpc.InterestService(interests))},
        rpc.STATUSES,
        metrics,
        grpc_secrets,
    )

    async def prepare_schema_and_topics() -> None:
        await schema.wait_until_upgraded()
        # Created here and not by the first write: a topic that the broker makes by itself has other partitions.
        await ensure_topics_without_timeout(
            settings.kafka_bootstrap_servers, CATALOGUE, settings.kafka_replication_factor
        )

    async def relay_outbox() -> None:
        await prepare_schema_and_topics()
        await relay.run()

    async def run_election() -> None:
        await prepare_schema_and_topics()
        await election.run()

    async def update_gauges() -> None:
        await schema.wait_until_upgraded()
        await run_periodically(_UPDATE_GAUGES_EVERY_S, gauges.update, "gauges")

    async def delete_expired_flights() -> None:
        await schema.wait_until_upgraded()
        await run_periodically(_DELETE_EXPIRED_EVERY_S, retention.delete_expired, "sweep")

    background = {
        "schema": schema.run_upgrade,
        "outbox": relay_outbox,
        "leadership": run_election,
        "gauges": update_gauges,
        "sweep": delete_expired_flights,
    }
    try:
        await serve([http_server, grpc_server], background)
    finally:
        await source.close()
        users.close()
        database.close()


if __name__ == "__main__":
    main()
