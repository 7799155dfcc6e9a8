"""`python -m user_manager`: reads the settings, wires everything, serves until SIGTERM."""

import asyncio
import threading
from functools import partial

from chassis import logs
from chassis.database import Database
from chassis.errors import ChassisError
from chassis.http import create_app
from chassis.metrics import Identity, Metrics
from chassis.outbox import OutboxRelay
from chassis.process import refuse_to_start, serve, settings_or_exit
from chassis.rpc import GrpcServer
from chassis.topics import ensure_topics
from chassis.wsgi import HttpServer
from towerwatch.topics import CATALOGUE
from towerwatch.users.v1.user_service_pb2_grpc import add_UserServiceServicer_to_server
from user_manager import confirmation, rest, rpc
from user_manager.accounts import Accounts
from user_manager.collector_client import CollectorClient
from user_manager.links import Links
from user_manager.model import OUTBOX, SCHEMA
from user_manager.settings import UserManagerSettings

SERVICE = "user_manager"


class Schema:
    """The tables, made in the background: the servers do not wait for the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._made = asyncio.Event()
        self._stopping = threading.Event()

    async def make(self) -> None:
        """Wait for the database, then make the tables that are missing."""
        try:
            await asyncio.to_thread(self._database.prepare, SCHEMA, self._stopping)
        except asyncio.CancelledError:
            self._stopping.set()  # a thread cannot be cancelled, and the process waits for it
            raise
        self._made.set()

    async def made(self) -> None:
        """Wait until the tables are there."""
        await self._made.wait()

    def ready(self) -> bool:
        """Whether the tables are there and the database answers now."""
        return self._made.is_set() and self._database.ready()


def main() -> None:
    """Serve until SIGTERM or SIGINT. Exits with code 2 when the settings or the ports are not usable."""
    settings = settings_or_exit(SERVICE, UserManagerSettings)
    logs.configure(SERVICE, settings.log_level, settings.log_format)
    try:
        asyncio.run(_run(settings))
    except ChassisError as error:
        refuse_to_start(SERVICE, error)


async def _run(settings: UserManagerSettings) -> None:
    metrics = Metrics(Identity(SERVICE, settings.k8s_node_name))
    database = Database(settings.database_url.get_secret_value())
    schema = Schema(database)
    collector = CollectorClient(settings.collector_grpc_target)
    accounts = Accounts(
        database,
        collector,
        Links(settings.signing_key.get_secret_value(), settings.public_url),
        settings.clock(),
        settings.operator_token.get_secret_value(),
    )

    app = create_app(SERVICE, metrics, rest.PROBLEMS, schema.ready)
    app.register_blueprint(rest.users(accounts, allow_test_addresses=settings.allow_test_addresses))
    app.register_blueprint(confirmation.pages(accounts))
    http_server = HttpServer(app, settings.listen_host, settings.http_port)
    grpc_server = GrpcServer(
        settings.listen_host,
        settings.grpc_port,
        {rpc.SERVICE_NAME: partial(add_UserServiceServicer_to_server, rpc.UserService(accounts))},
        rpc.STATUSES,
        metrics,
    )

    async def relay_outbox() -> None:
        # Created here and not by the first write: a topic that the broker makes by itself has other partitions.
        await ensure_topics(settings.kafka_bootstrap_servers, CATALOGUE, settings.kafka_replication_factor)
        await schema.made()
        await OutboxRelay(database, OUTBOX, settings.kafka_bootstrap_servers, metrics).run()

    try:
        await serve([http_server, grpc_server], {"schema": schema.make, "outbox": relay_outbox})
    finally:
        collector.close()
        database.close()


if __name__ == "__main__":
    main()
