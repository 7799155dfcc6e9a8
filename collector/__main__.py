"""`python -m collector`: reads the settings, wires everything, serves until SIGTERM."""

import asyncio
from functools import partial

from chassis import logs
from chassis.db.migrations import SchemaUpgrade
from chassis.db.outbox import OutboxRelay
from chassis.errors import ChassisError
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
from collector.flights import Flights
from collector.gauges import SchedulerGauges
from collector.interests import Interests
from collector.intervals import Lags
from collector.leadership.election import Leadership
from collector.model import OUTBOX
from collector.rest import routes as rest
from collector.rest.users import Users
from collector.retention import Sweep
from collector.settings import CollectorSettings
from collector.settled.collection import Collection
from collector.settled.quota import Ledger
from collector.settled.schedule import Timing
from collector.settled.status import SchedulerStatus
from collector.sources.opensky.client import OpenSkyClient, Timeouts
from towerwatch.interests.v1.interest_service_pb2_grpc import add_InterestServiceServicer_to_server
from towerwatch.topics import CATALOGUE

SERVICE = "collector"

_MEASURE_EVERY_S = 5.0
_SWEEP_EVERY_S = 600.0


def main() -> None:
    """Serve until SIGTERM or SIGINT. Exits with code 2 when the settings or the ports are not usable."""
    settings = load_settings_or_exit(SERVICE, CollectorSettings)
    logs.configure(SERVICE, settings.log_level, settings.log_format)
    try:
        asyncio.run(_run(settings))
    except ChassisError as error:
        exit_with_error(SERVICE, error)


async def _run(settings: CollectorSettings) -> None:
    metrics = Metrics(ServiceIdentity(SERVICE, settings.k8s_node_name))
    clock = settings.build_clock()
    database = settings.build_database()
    schema = SchemaUpgrade(database, "collector:migrations")
    interests = Interests(database, clock)
    users = Users(settings.user_manager_grpc_target, settings.authentication_cache_s)
    source = OpenSkyClient(
        settings.opensky_url,
        settings.opensky_token_url,
        settings.opensky_credentials(),
        clock,
        metrics,
        Timeouts(settings.opensky_connect_timeout, settings.opensky_timeout),
    )
    timing = Timing(
        Lags(settings.departures_lag, settings.arrivals_lag), settings.poll_interval, settings.corrections_after
    )
    ledger = Ledger(settings.budget())
    status = SchedulerStatus(database, clock, timing, ledger)
    gauges = SchedulerGauges(status, metrics)
    sweep = Sweep(database, clock, settings.flights_retention)
    leadership = Leadership(
        Collection(database, source, clock, timing, ledger, metrics),
        settings.kafka_bootstrap_servers,
        clock.real_seconds(settings.poll_interval),
        metrics,
    )
    relay = OutboxRelay(database, OUTBOX, settings.kafka_bootstrap_servers, metrics)

    app = create_app(SERVICE, metrics, rest.PROBLEMS, schema.is_ready)
    operator_token = settings.operator_token.get_secret_value()
    app.register_blueprint(
        rest.blueprint(
            interests, CollectionRequests(database), users, operator_token, Flights(database, clock), status.show
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
    )

    async def surroundings() -> None:
        await schema.wait_until_upgraded()
        # Created here and not by the first write: a topic that the broker makes by itself has other partitions.
        await ensure_topics_without_timeout(
            settings.kafka_bootstrap_servers, CATALOGUE, settings.kafka_replication_factor
        )

    async def relay_outbox() -> None:
        await surroundings()
        await relay.run()

    async def lead() -> None:
        await surroundings()
        await leadership.run()

    async def measure() -> None:
        await schema.wait_until_upgraded()
        await run_periodically(_MEASURE_EVERY_S, gauges.measure, "gauges")

    async def sweep_away() -> None:
        await schema.wait_until_upgraded()
        await run_periodically(_SWEEP_EVERY_S, sweep.run, "sweep")

    background = {
        "schema": schema.run_upgrade,
        "outbox": relay_outbox,
        "leadership": lead,
        "gauges": measure,
        "sweep": sweep_away,
    }
    try:
        await serve([http_server, grpc_server], background)
    finally:
        await source.close()
        users.close()
        database.close()


if __name__ == "__main__":
    main()
