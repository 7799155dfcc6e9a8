"""`python -m collector`: reads the settings, wires everything, serves until SIGTERM."""

import asyncio
from functools import partial

from chassis import logs
from chassis.errors import ChassisError
from chassis.http import create_app
from chassis.kafka import topics_made
from chassis.metrics import Identity, Metrics
from chassis.migrations import Schema
from chassis.outbox import OutboxRelay
from chassis.process import refuse_to_start, serve, settings_or_exit
from chassis.rpc import GrpcServer
from chassis.wsgi import HttpServer
from collector import rest, rpc
from collector.collection import Collection
from collector.collection_requests import CollectionRequests
from collector.interests import Interests
from collector.intervals import Lags
from collector.leadership import Leadership
from collector.model import OUTBOX
from collector.opensky import OpenSkyClient
from collector.settings import CollectorSettings
from collector.users import Users
from towerwatch.interests.v1.interest_service_pb2_grpc import add_InterestServiceServicer_to_server
from towerwatch.topics import CATALOGUE

SERVICE = "collector"


def main() -> None:
    """Serve until SIGTERM or SIGINT. Exits with code 2 when the settings or the ports are not usable."""
    settings = settings_or_exit(SERVICE, CollectorSettings)
    logs.configure(SERVICE, settings.log_level, settings.log_format)
    try:
        asyncio.run(_run(settings))
    except ChassisError as error:
        refuse_to_start(SERVICE, error)


async def _run(settings: CollectorSettings) -> None:
    metrics = Metrics(Identity(SERVICE, settings.k8s_node_name))
    clock = settings.clock()
    database = settings.database()
    schema = Schema(database, "collector:migrations")
    interests = Interests(database, clock)
    users = Users(settings.user_manager_grpc_target, settings.authentication_cache_s)
    source = OpenSkyClient(settings.opensky_url, settings.opensky_token_url, _credentials(settings), clock, metrics)
    lags = Lags(settings.departures_lag, settings.arrivals_lag)
    leadership = Leadership(
        Collection(database, source, clock, lags, metrics),
        settings.kafka_bootstrap_servers,
        clock.real_seconds(settings.poll_interval),
        metrics,
    )
    relay = OutboxRelay(database, OUTBOX, settings.kafka_bootstrap_servers, metrics)

    app = create_app(SERVICE, metrics, rest.PROBLEMS, schema.ready)
    operator_token = settings.operator_token.get_secret_value()
    app.register_blueprint(rest.blueprint(interests, CollectionRequests(database), users, operator_token))
    http_server = HttpServer(app, settings.listen_host, settings.http_port)
    grpc_server = GrpcServer(
        settings.listen_host,
        settings.grpc_port,
        {rpc.SERVICE_NAME: partial(add_InterestServiceServicer_to_server, rpc.InterestService(interests))},
        rpc.STATUSES,
        metrics,
    )

    async def surroundings() -> None:
        await schema.made()
        # Created here and not by the first write: a topic that the broker makes by itself has other partitions.
        await topics_made(settings.kafka_bootstrap_servers, CATALOGUE, settings.kafka_replication_factor)

    async def relay_outbox() -> None:
        await surroundings()
        await relay.run()

    async def lead() -> None:
        await surroundings()
        await leadership.run()

    try:
        await serve([http_server, grpc_server], {"schema": schema.make, "outbox": relay_outbox, "leadership": lead})
    finally:
        await source.close()
        users.close()
        database.close()


def _credentials(settings: CollectorSettings) -> tuple[str, str] | None:
    if settings.opensky_client_id is None or settings.opensky_client_secret is None:
        return None
    return settings.opensky_client_id, settings.opensky_client_secret.get_secret_value()


if __name__ == "__main__":
    main()
