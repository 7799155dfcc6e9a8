"""`python -m collector`: one replica of the collector."""

import asyncio
import threading

from towerwatch.interests.v1.interest_service_pb2 import DESCRIPTOR
from towerwatch.interests.v1.interest_service_pb2_grpc import add_InterestServiceServicer_to_server
from towerwatch.topics import CATALOGUE

from chassis import logs
from chassis.database import Database
from chassis.errors import ChassisError
from chassis.http import create_app
from chassis.kafka import topics_made
from chassis.metrics import Identity, Metrics
from chassis.outbox import OutboxRelay
from chassis.process import refuse_to_start, serve, settings_or_exit
from chassis.rpc import GrpcServer, channel
from chassis.wsgi import HttpServer
from collector.collection import Collection, Lags
from collector.collection_requests import CollectionRequests
from collector.errors import PROBLEMS, STATUSES
from collector.interests import Interests
from collector.leadership import Leadership
from collector.model import OUTBOX, SCHEMA
from collector.opensky import OpenSkyClient
from collector.rest import blueprint
from collector.rpc import InterestServicer
from collector.settings import CollectorSettings
from collector.users import Users

SERVICE = "collector"


def main() -> None:
    settings = settings_or_exit(SERVICE, CollectorSettings)
    logs.configure(SERVICE, settings.log_level, settings.log_format)
    try:
        asyncio.run(run(settings))
    except ChassisError as error:
        refuse_to_start(SERVICE, error)


async def run(settings: CollectorSettings) -> None:
    """Wire the parts, and serve until a signal comes."""
    metrics = Metrics(Identity(SERVICE, settings.k8s_node_name))
    clock = settings.clock()
    database = Database(settings.database_url)
    prepared = threading.Event()
    stopping = threading.Event()
    interests = Interests(database, clock)
    users = Users(channel(settings.user_manager_grpc_target), settings.authentication_cache_s)
    app = create_app(SERVICE, metrics, PROBLEMS, ready=lambda: prepared.is_set() and database.ready())
    operator_token = settings.operator_token.get_secret_value()
    app.register_blueprint(blueprint(interests, CollectionRequests(database), users, operator_token))
    http = HttpServer(app, settings.listen_host, settings.http_port)
    service_name = DESCRIPTOR.services_by_name["InterestService"].full_name
    grpc_server = GrpcServer(
        settings.listen_host,
        settings.grpc_port,
        {service_name: lambda server: add_InterestServiceServicer_to_server(InterestServicer(interests), server)},
        STATUSES,
        metrics,
    )
    source = OpenSkyClient(
        settings.opensky_url, settings.opensky_token_url, _credentials(settings), clock, metrics
    )
    collection = Collection(
        database, source, clock, Lags(settings.departures_lag, settings.arrivals_lag), metrics
    )
    leadership = Leadership(
        collection,
        settings.kafka_bootstrap_servers,
        settings.kafka_replication_factor,
        clock.real_seconds(settings.poll_interval),
        metrics,
    )
    relay = OutboxRelay(database, OUTBOX, settings.kafka_bootstrap_servers, metrics)

    async def when_prepared_relay() -> None:
        await asyncio.to_thread(database.prepare, SCHEMA, stopping)
        prepared.set()
        await topics_made(settings.kafka_bootstrap_servers, CATALOGUE, settings.kafka_replication_factor)
        await relay.run()

    async def when_prepared_lead() -> None:
        await asyncio.to_thread(database.prepare, SCHEMA, stopping)
        await leadership.run()

    try:
        await serve([http, grpc_server], {"relay": when_prepared_relay, "leadership": when_prepared_lead})
    finally:
        stopping.set()
        await source.close()
        database.close()


def _credentials(settings: CollectorSettings) -> tuple[str, str] | None:
    if settings.opensky_client_id is None or settings.opensky_client_secret is None:
        return None
    return settings.opensky_client_id, settings.opensky_client_secret.get_secret_value()


if __name__ == "__main__":
    main()
