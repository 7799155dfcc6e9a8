"""`python -m user_manager`: reads the settings, wires everything, serves until SIGTERM."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from chassis import logs
from chassis.clock import SystemClock
from chassis.db.migrations import SchemaUpgrade
from chassis.db.outbox import OutboxRelay
from chassis.errors import ChassisError
from chassis.metrics import Metrics, ServiceIdentity
from chassis.periodic import run_periodically
from chassis.process import exit_with_error, load_settings_or_exit, serve
from chassis.rpc import GrpcServer
from chassis.topics import ensure_topics
from chassis.web import openapi
from chassis.web.http import create_app
from chassis.web.wsgi import HttpServer
from towerwatch.topics import CATALOGUE
from towerwatch.users.v1.user_service_pb2_grpc import add_UserServiceServicer_to_server
from user_manager import rpc
from user_manager.access import Access
from user_manager.accounts import Accounts
from user_manager.bounces import Bounces
from user_manager.collector_client import CollectorClient
from user_manager.deletion.saga import CARRY_ON_EVERY_S, Deletions
from user_manager.housekeeping import COUNT_EVERY_S, SWEEP_EVERY_S, Housekeeping
from user_manager.idempotency import IdempotentAnswers
from user_manager.links import Links
from user_manager.model import OUTBOX
from user_manager.registration import Registrations
from user_manager.rest import pages, routes as rest
from user_manager.settings import UserManagerSettings

SERVICE = "user_manager"


def main() -> None:
    """Serve until SIGTERM or SIGINT. Exits with code 2 when the settings or the ports are not usable."""
    settings = load_settings_or_exit(SERVICE, UserManagerSettings)
    logs.configure(SERVICE, settings.log_level, settings.log_format)
    try:
        asyncio.run(_run(settings))
    except ChassisError as error:
        exit_with_error(SERVICE, error)


async def _run(settings: UserManagerSettings) -> None:
    # The machine's clock, also in a story that is told faster: accounts are people's business, who live in real time.
    clock = SystemClock()
    metrics = Metrics(ServiceIdentity(SERVICE, settings.k8s_node_name))
    database = settings.build_database()
    schema = SchemaUpgrade(database, "user_manager:migrations")
    links = Links(settings.signing_key.get_secret_value(), settings.public_url)
    access = Access(settings.operator_token.get_secret_value())
    answers = IdempotentAnswers(settings.signing_key.get_secret_value(), settings.idempotency_life)
    collector = CollectorClient(settings.collector_grpc_target)
    accounts = Accounts(database, links, access)
    registrations = Registrations(database, links, access, answers, clock)
    deletions = Deletions(database, collector, access, clock, metrics)
    bounces = Bounces(database, clock, metrics)
    housekeeping = Housekeeping(database, accounts, answers, clock, metrics)

    app = create_app(SERVICE, metrics, rest.PROBLEMS, schema.is_ready)
    app.register_blueprint(
        rest.users(
            accounts,
            registrations,
            deletions,
            allow_test_addresses=settings.allow_test_addresses,
            registration_limit=settings.registration_limit,
        )
    )
    app.register_blueprint(pages.pages(registrations, accounts))
    app.register_blueprint(openapi.create_blueprint("Towerwatch accounts", "1", rest.DESCRIPTION))
    http_server = HttpServer(app, settings.listen_host, settings.http_port, trusted_proxy=settings.trusted_proxy)
    grpc_server = GrpcServer(
        settings.listen_host,
        settings.grpc_port,
        {rpc.SERVICE_NAME: partial(add_UserServiceServicer_to_server, rpc.UserService(accounts, bounces))},
        rpc.STATUSES,
        metrics,
    )

    async def relay_outbox() -> None:
        # Created here and not by the first write: a topic that the broker makes by itself has other partitions.
        await ensure_topics(settings.kafka_bootstrap_servers, CATALOGUE, settings.kafka_replication_factor)
        await schema.wait_until_upgraded()
        await OutboxRelay(database, OUTBOX, settings.kafka_bootstrap_servers, metrics).run()

    async def repeated(seconds: float, work: Callable[[], object], name: str) -> None:
        await schema.wait_until_upgraded()
        await run_periodically(seconds, work, name)

    background: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "schema": schema.run_upgrade,
        "outbox": relay_outbox,
        "deletions": partial(repeated, CARRY_ON_EVERY_S, deletions.carry_on, "deletions"),
        "sweep": partial(repeated, SWEEP_EVERY_S, housekeeping.sweep_answers, "sweep"),
        "count": partial(repeated, COUNT_EVERY_S, housekeeping.count_users, "count"),
        "pending": partial(repeated, COUNT_EVERY_S, deletions.count_pending, "pending"),
    }
    try:
        await serve([http_server, grpc_server], background)
    finally:
        collector.close()
        database.close()


if __name__ == "__main__":
    main()
