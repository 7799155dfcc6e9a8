"""`python -m user_manager`: read the settings, build all parts of the service, serve until SIGTERM."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from chassis import logs
from chassis.clock import SystemClock
from chassis.db.begin_anew import run_begin_anew
from chassis.db.log_check import BEGIN_ANEW, LogComparison
from chassis.db.migrations import SchemaUpgrade
from chassis.db.outbox_relay import OutboxRelay
from chassis.errors import ChassisError
from chassis.grpc_secret import split_secrets
from chassis.hosts import AllowedHosts, split_host_names
from chassis.metrics import Metrics, ServiceIdentity
from chassis.periodic import run_periodically
from chassis.process import exit_with_error, load_settings_or_exit, serve
from chassis.rpc import GrpcServer
from chassis.topics import ensure_topics
from chassis.web import openapi
from chassis.web.http import create_app
from chassis.web.limits import ClientRateLimit
from chassis.web.session_cookie import SessionCookie
from chassis.web.wsgi import HttpServer
from towerwatch.topics import CATALOGUE, USERS_CHANGED
from towerwatch.users.v1.user_service_pb2_grpc import add_UserServiceServicer_to_server
from user_manager import rpc
from user_manager.access import AccountAuthorizer
from user_manager.account_mails import AccountMails
from user_manager.accounts import Accounts
from user_manager.alert_stops import AlertStops
from user_manager.begin_anew import begin_anew, publish_lost_confirmations
from user_manager.bounces import Bounces
from user_manager.collector_client import CollectorClient
from user_manager.deletion.purge import start_due_purges
from user_manager.deletion.saga import RESUME_INTERVAL_S, Deletions
from user_manager.housekeeping import COUNT_INTERVAL_S, EXPIRY_INTERVAL_S, FORGET_INTERVAL_S, Housekeeping
from user_manager.idempotency import IdempotencyStore
from user_manager.links import LinkSigner
from user_manager.lost_requests import LostRequests
from user_manager.mailbox_limits import MailboxLimits
from user_manager.model import OUTBOX
from user_manager.person_export import PersonExports
from user_manager.registration import Registrations
from user_manager.rest import pages, routes as rest
from user_manager.rest.account_pages import build_account_pages_blueprint
from user_manager.rest.export_routes import build_export_blueprint
from user_manager.rest.reading import CredentialReader
from user_manager.rest.sessions import build_sessions_blueprint
from user_manager.rest.sign_in_pages import build_sign_in_pages_blueprint
from user_manager.rest.stop_pages import build_stop_pages_blueprint
from user_manager.rest.web_files import WebFiles
from user_manager.rest.web_pages import build_web_blueprint
from user_manager.sessions import Sessions
from user_manager.settings import UserManagerSettings
from user_manager.sign_in import SignIns

SERVICE = "user_manager"
MIGRATIONS = "user_manager:migrations"

_BEGIN_ANEW_USAGE = "delete, in Kafka and at the collector, the accounts that this database does not have, and end"


def main() -> None:
    """Read the settings, configure the log, and serve until SIGTERM or SIGINT.

    With `--begin-anew`, runs `begin_anew` instead and prints how many accounts it found. Exits with code 2 when the
    settings or the ports are not usable, or the log or the database stop the service.
    """
    settings = load_settings_or_exit(SERVICE, UserManagerSettings, {BEGIN_ANEW: _BEGIN_ANEW_USAGE})
    logs.configure(SERVICE, settings.log_level, settings.log_format)
    try:
        if BEGIN_ANEW in sys.argv[1:]:
            servers, clock = settings.kafka_bootstrap_servers, SystemClock()
            deleted = run_begin_anew(
                settings, MIGRATIONS, CATALOGUE, lambda database: begin_anew(database, servers, clock)
            )
            print(f"{SERVICE}: {deleted} accounts of Kafka's log are not here; what belongs to them will be deleted.")
        else:
            asyncio.run(_run(settings))
    except ChassisError as error:
        exit_with_error(SERVICE, error)


async def _run(settings: UserManagerSettings) -> None:
    """Build all parts of the service and run its servers and background tasks until a signal stops the process.

    Tasks that use the database wait until its schema is upgraded. At the end the connections to the collector and the
    database are closed.
    """
    # The machine's clock, also where other services run on a faster one: the people who own accounts live in real time.
    clock = SystemClock()
    grpc_secrets = split_secrets(settings.grpc_secret)
    metrics = Metrics(ServiceIdentity(SERVICE, settings.k8s_node_name))
    database = settings.build_database()
    schema = SchemaUpgrade(database, MIGRATIONS)
    comparison = LogComparison(database, OUTBOX, settings.kafka_bootstrap_servers, [USERS_CHANGED], SERVICE)
    links = LinkSigner(settings.signing_key.get_secret_value(), settings.public_url)
    lifetimes = settings.build_session_lifetimes()
    authorizer = AccountAuthorizer(settings.operator_token.get_secret_value(), clock, lifetimes)
    answers = IdempotencyStore(settings.signing_key.get_secret_value(), settings.idempotency_life)
    collector = CollectorClient(settings.collector_grpc_target, secrets=grpc_secrets)
    limits = MailboxLimits(settings.signing_key.get_secret_value(), settings.build_mail_rates(), metrics)
    accounts = Accounts(database, links, authorizer, limits)
    registrations = Registrations(database, links, authorizer, answers, limits, clock, lifetimes)
    account_mails = AccountMails(database, links, limits, clock)
    sign_ins = SignIns(database, links, limits, clock, lifetimes, metrics)
    sessions = Sessions(database, authorizer, clock, lifetimes)
    reader = CredentialReader(SessionCookie(settings.public_url), sessions)
    client_limit = ClientRateLimit(settings.registration_limit)
    deletions = Deletions(database, collector, authorizer, clock, metrics)
    exports = PersonExports(database, authorizer, sessions, limits, collector, clock)
    bounces = Bounces(database, clock, metrics)
    housekeeping = Housekeeping(database, accounts, answers, limits, clock, metrics)

    app = create_app(
        SERVICE,
        metrics,
        rest.PROBLEMS,
        lambda: schema.explain_unready() or comparison.explain_unready(),
        AllowedHosts(("user-manager", settings.public_url, *split_host_names(settings.allowed_hosts))),
    )
    app.register_blueprint(
        rest.build_users_blueprint(
            accounts,
            registrations,
            account_mails,
            deletions,
            allow_test_addresses=settings.allow_test_addresses,
            limit=client_limit,
            read_credential=reader.read,
            forget_session=reader.cookie.delete_on,
        )
    )
    app.register_blueprint(
        build_sessions_blueprint(
            sign_ins, sessions, reader, allow_test_addresses=settings.allow_test_addresses, limit=client_limit
        )
    )
    app.register_blueprint(build_export_blueprint(exports, limit=client_limit, read_credential=reader.read))
    app.register_blueprint(
        pages.build_pages_blueprint(registrations, accounts, account_mails, reader.cookie, lifetimes)
    )
    app.register_blueprint(build_stop_pages_blueprint(AlertStops(links, collector)))
    app.register_blueprint(
        build_sign_in_pages_blueprint(
            sign_ins,
            reader.cookie,
            lifetimes,
            allow_test_addresses=settings.allow_test_addresses,
            limit=client_limit,
        )
    )
    files = WebFiles(urlsplit(settings.public_url).path)
    app.register_blueprint(build_web_blueprint(files, reader.cookie))
    app.register_blueprint(build_account_pages_blueprint(files, deletions, sessions, reader))
    app.register_blueprint(
        openapi.create_blueprint("Towerwatch accounts", "1", rest.DESCRIPTION, reader.cookie.name, has_start=False)
    )
    http_server = HttpServer(
        app,
        settings.listen_host,
        settings.http_port,
        trusted_proxy=settings.trusted_proxy,
        path_prefix=urlsplit(settings.public_url).path,
        socket_path=settings.http_socket,
    )
    grpc_server = GrpcServer(
        settings.listen_host,
        settings.grpc_port,
        {rpc.SERVICE_NAME: partial(add_UserServiceServicer_to_server, rpc.UserService(accounts, bounces, sessions))},
        rpc.STATUSES,
        metrics,
        grpc_secrets,
        settings.grpc_socket,
    )

    async def relay_outbox() -> None:
        """Create missing topics, wait for the schema, then relay the outbox until cancelled."""
        # Create the topics before the first write: a topic that the broker creates has another number of partitions.
        await ensure_topics(settings.kafka_bootstrap_servers, CATALOGUE, settings.kafka_replication_factor)
        await schema.wait_until_upgraded()
        await comparison.run()
        await publish_lost_confirmations(database, settings.kafka_bootstrap_servers)
        await OutboxRelay(database, OUTBOX, settings.kafka_bootstrap_servers, metrics).run()

    async def publish_lost_requests() -> None:
        """Wait for the schema, then publish requests for confirmation mails again that Kafka has lost."""
        await schema.wait_until_upgraded()
        await LostRequests(database, settings.kafka_bootstrap_servers, clock).run()

    async def repeat(seconds: float, work: Callable[[], object], name: str) -> None:
        """Wait for the schema, then run `work` every `seconds` until cancelled."""
        await schema.wait_until_upgraded()
        await run_periodically(seconds, work, name)

    background: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "schema": schema.run_upgrade,
        "outbox": relay_outbox,
        "comparison": comparison.await_broker,
        "lost_requests": publish_lost_requests,
        "deletions": partial(repeat, RESUME_INTERVAL_S, deletions.resume_due_deletions, "deletions"),
        "sweep": partial(repeat, EXPIRY_INTERVAL_S, housekeeping.delete_expired_answers, "sweep"),
        "forget": partial(repeat, FORGET_INTERVAL_S, housekeeping.delete_expired_mail_records, "forget"),
        "sessions": partial(repeat, FORGET_INTERVAL_S, sessions.delete_expired, "sessions"),
        "purge": partial(repeat, FORGET_INTERVAL_S, partial(start_due_purges, database, clock), "purge"),
        "count": partial(repeat, COUNT_INTERVAL_S, housekeeping.update_user_gauge, "count"),
        "pending": partial(repeat, COUNT_INTERVAL_S, deletions.update_pending_gauge, "pending"),
    }
    try:
        await serve([http_server, grpc_server], background)
    finally:
        collector.close()
        database.close()


if __name__ == "__main__":
    main()
