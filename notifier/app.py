"""The Faust app of the notifier: its tables, its agents and its pages, put together."""

import asyncio
from datetime import timedelta
from functools import partial
from typing import Final, cast

import faust
import structlog

from chassis.breaker import BreakerState
from chassis.clock import Clock, SystemClock
from chassis.faust.app import crash_worker, create_stream_app, is_from_current_assignment, serve_health_and_metrics
from chassis.faust.table import DirectTable, add_table
from chassis.faust.worker import StreamApp
from chassis.metrics import Metrics, ServiceIdentity
from notifier.agents import Agents, KafkaTopics
from notifier.contacts import Contacts
from notifier.delivery.batching import Waiting
from notifier.delivery.confirmations import Confirmations
from notifier.delivery.deliver import Mailroom
from notifier.delivery.dispatch import Dispatch
from notifier.delivery.in_flight import Doubts
from notifier.delivery.interfaces import Manner
from notifier.delivery.store import REMEMBERED, Ledger
from notifier.mail import signed
from notifier.metrics import NotifierMetrics
from notifier.settings import NotifierSettings
from notifier.smtp import MailServer
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RAISED, ALERTS_RETRY, USERS_CHANGED

log = structlog.get_logger()

SERVICE = "notifier"

_FOR_AS_LONG: Final = {
    "cleanup.policy": "compact,delete",
    "retention.ms": str(REMEMBERED // timedelta(milliseconds=1)),
}

_LETS_GO_WITHIN_S: Final = 8.0
"""Of a stop or a rebalance, for the mails under way; a rebalance waits for 30 s at most, a stop for 20 s."""

_PURGES_EVERY_S: Final = 3600.0


def create_app(settings: NotifierSettings) -> faust.App:
    """The app, ready to be run by a worker; nothing connects before."""
    metrics = Metrics(ServiceIdentity(SERVICE, settings.k8s_node_name))
    clock = SystemClock()  # mail and retries live in real time, whatever time the flights are from
    app = create_stream_app(SERVICE, settings, ALERTS_RAISED.partitions)
    app.conf.producer_linger = 0.0  # each mail waits for its record; there is nothing to gather
    ledger = Ledger(
        _table(app, "sent", "What became of an alert or a confirmation, by its id"),
        _table(app, "people", "The mails of one person, by user id"),
        partial(crash_worker, app),
    )
    contacts = Contacts(settings.user_manager_grpc_target, settings.contact_cache_s)
    server = _mail_server(settings)
    topics = KafkaTopics(
        app.topic(ALERTS_RETRY.name, value_serializer="raw"),
        app.topic(ALERTS_DEAD_LETTER.name, value_serializer="raw"),
        partial(is_from_current_assignment, app),
    )
    counted = NotifierMetrics(metrics)
    doubts = Doubts(settings.smtp_mails_in_doubt)
    manner = _manner(settings)
    waiting = Waiting(timedelta(seconds=settings.group_wait_s))
    mailroom = Mailroom(
        waiting, ledger, contacts, server, topics, manner, doubts, settings.smtp_connections, clock, counted
    )
    confirmations = Confirmations(ledger, contacts, server, topics, manner, doubts, clock, counted)
    dispatch = Dispatch(waiting, mailroom, clock, settings.smtp_connections)
    agents = Agents(dispatch, confirmations, ledger, topics, counted)
    app.agent(app.topic(ALERTS_RAISED.name, value_serializer="raw"), name="alerts_raised")(agents.raised)
    app.agent(app.topic(ALERTS_RETRY.name, value_serializer="raw"), name="alerts_retried")(agents.retried)
    app.agent(app.topic(USERS_CHANGED.name, value_serializer="raw"), name="users_changed")(agents.users_changed)
    _run(app, dispatch, ledger, clock)
    _let_go(app, dispatch, confirmations, server, contacts)

    def oldest_s() -> float:
        oldest = waiting.oldest
        return 0.0 if oldest is None else (clock.now() - oldest).total_seconds()

    counted.watch(lambda: float(len(waiting)), oldest_s, lambda: server.state is not BreakerState.CLOSED)
    serve_health_and_metrics(app, metrics)
    cast(StreamApp, app).health.are_dependencies_unavailable = lambda: (
        server.state is not BreakerState.CLOSED or dispatch.is_resting or confirmations.are_waiting_for_others
    )
    return app


def _table(app: faust.App, name: str, says: str) -> DirectTable:
    return add_table(app, DirectTable, name, ALERTS_RAISED.partitions, says, extra_topic_configs=_FOR_AS_LONG)


def _mail_server(settings: NotifierSettings) -> MailServer:
    password = settings.smtp_password.get_secret_value() if settings.smtp_password else None
    key = settings.signing_key()
    return MailServer(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_security,
        settings.smtp_username,
        password,
        ca_file=settings.smtp_ca_file,
        connections=settings.smtp_connections,
        mails_per_connection=settings.smtp_mails_per_connection,
        mails_per_minute=settings.smtp_mails_per_minute,
        sign=partial(signed, key=key) if key is not None else None,
    )


def _manner(settings: NotifierSettings) -> Manner:
    return Manner(
        sender=settings.sender(),
        bounces_to=settings.bounce_address(),
        mails_per_hour=settings.person_mails_per_hour or None,
        retry_base=timedelta(seconds=settings.retry_base_s),
        lifetime=timedelta(seconds=settings.retry_lifetime_s),
    )


def _run(app: faust.App, dispatch: Dispatch, ledger: Ledger, clock: Clock) -> None:
    """What goes on beside the agents, for as long as the worker lives."""

    async def purge() -> None:
        purged = await ledger.purge(clock.now())
        if purged:
            log.info("ledger.purged", entries=purged)

    app.task(dispatch.run)
    app.timer(_PURGES_EVERY_S)(purge)


def _let_go(
    app: faust.App, dispatch: Dispatch, confirmations: Confirmations, server: MailServer, contacts: Contacts
) -> None:
    """Before partitions go elsewhere, and before the end, mails under way are finished and recorded; to break one off
    could mean to send it twice. What waits is read again, by whoever has it then."""

    async def let_go(*_args: object, **_kwargs: object) -> None:
        await asyncio.gather(dispatch.let_go(_LETS_GO_WITHIN_S), confirmations.let_go(_LETS_GO_WITHIN_S))

    async def go_on(*_args: object, **_kwargs: object) -> None:
        dispatch.go_on()

    async def finish(*_args: object, **_kwargs: object) -> None:
        await let_go()
        await server.close()
        await contacts.close()

    app.on_partitions_revoked.connect(let_go, weak=False)
    app.on_partitions_assigned.connect(go_on, weak=False)
    app.on_before_shutdown.connect(finish, weak=False)
