"""The Faust app of the notifier: creates its parts and connects them."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final, cast

import faust
import structlog

from chassis.breaker import BreakerState
from chassis.clock import Clock, SteadyClock, SystemClock
from chassis.faust.app import crash_worker, create_stream_app, is_from_current_assignment, serve_health_and_metrics
from chassis.faust.table import DirectTable, add_table
from chassis.faust.worker import StreamApp
from chassis.grpc_secret import split_secrets
from chassis.metrics import Metrics, ServiceIdentity
from notifier.agents import Agents, KafkaTopics
from notifier.contacts import ContactsClient
from notifier.delivery.batching import MailQueue
from notifier.delivery.confirmations import ConfirmationDelivery
from notifier.delivery.corrections import CONNECTIONS, AlertLane, CorrectionDelivery
from notifier.delivery.deliver import AlertDelivery
from notifier.delivery.dispatch import MailDispatcher
from notifier.delivery.in_flight import InFlightLimit
from notifier.delivery.notices import NoticeDelivery
from notifier.delivery.overflow import AlertOverflow
from notifier.delivery.policy import MailPolicy
from notifier.delivery.store import CORRECTIONS_PREFIX, STATUS_RETENTION, DeliveryStore
from notifier.mail import sign_mail
from notifier.metrics import NotifierMetrics
from notifier.settings import NotifierSettings
from notifier.smtp import SmtpClient
from towerwatch.topics import (
    ALERTS_DEAD_LETTER,
    ALERTS_RAISED,
    ALERTS_RETRY,
    ALERTS_WAITING,
    NOTICES_RAISED,
    USERS_CHANGED,
)

log = structlog.get_logger()

SERVICE = "notifier"

_CHANGELOG_TOPIC_CONFIG: Final = {
    "cleanup.policy": "compact,delete",
    "retention.ms": str(STATUS_RETENTION // timedelta(milliseconds=1)),
}

_DRAIN_TIMEOUT_S: Final = 8.0
"""Seconds that a stop or a rebalance waits for mails in progress. A rebalance may take 30 s, a stop 20 s."""

_PURGE_INTERVAL_S: Final = 3600.0


def create_app(settings: NotifierSettings) -> faust.App:
    """Create the app with all its parts, ready to be run by a worker; connects to nothing.

    Adds the two tables, the five agents, the background tasks, the drain handlers, the metrics and the health server.
    While the mail server or user_manager is unavailable, `health.are_dependencies_unavailable` returns True.
    """
    metrics = Metrics(ServiceIdentity(SERVICE, settings.k8s_node_name))
    clock = SteadyClock(SystemClock())  # real time, whatever time the flights are from
    app = create_stream_app(SERVICE, settings, ALERTS_RAISED.partitions)
    app.conf.producer_linger = 0.0  # each mail waits for its record; there is nothing to gather
    tables = (
        _add_table(app, "sent", "What became of an alert, a notice or a confirmation, by its id"),
        _add_table(app, "people", "The mails of one person, by user id; those of corrections apart"),
    )
    store = DeliveryStore(*tables, partial(crash_worker, app))
    corrections_store = DeliveryStore(*tables, partial(crash_worker, app), CORRECTIONS_PREFIX)
    contacts = ContactsClient(
        settings.user_manager_grpc_target, settings.contact_cache_s, split_secrets(settings.grpc_secret)
    )
    smtp = _create_smtp_client(settings, clock)
    topics = KafkaTopics(
        app.topic(ALERTS_RETRY.name, value_serializer="raw"),
        app.topic(ALERTS_WAITING.name, value_serializer="raw"),
        app.topic(ALERTS_DEAD_LETTER.name, value_serializer="raw"),
        partial(is_from_current_assignment, app),
    )
    notifier_metrics = NotifierMetrics(metrics)
    in_flight = InFlightLimit(settings.smtp_mails_in_doubt)
    policy = _create_mail_policy(settings)
    queue = MailQueue(timedelta(seconds=settings.group_wait_s))
    delivery = AlertDelivery(
        queue, store, contacts, smtp, topics, policy, in_flight, settings.smtp_connections, clock, notifier_metrics
    )
    confirmations = ConfirmationDelivery(store, contacts, smtp, topics, policy, in_flight, clock, notifier_metrics)
    notices = NoticeDelivery(store, contacts, smtp, topics, policy, in_flight, clock, notifier_metrics)
    dispatcher = MailDispatcher(queue, delivery, clock, settings.smtp_connections)
    corrections_queue = MailQueue(timedelta(seconds=settings.group_wait_s))
    correction_delivery = CorrectionDelivery(
        corrections_queue, corrections_store, contacts, smtp, topics, policy, in_flight, clock, notifier_metrics,
        settings.build_correction_policy(), store, queue.has_alerts_of,
    )  # fmt: skip
    corrections_dispatcher = MailDispatcher(corrections_queue, correction_delivery, clock, CONNECTIONS)
    alerts, corrections = AlertLane(dispatcher, store), AlertLane(corrections_dispatcher, corrections_store)
    overflow = AlertOverflow(topics, contacts, clock, notifier_metrics)
    agents = Agents(alerts, corrections, confirmations, notices, overflow, topics, notifier_metrics)
    app.agent(app.topic(ALERTS_RAISED.name, value_serializer="raw"), name="alerts_raised")(agents.consume_alerts)
    app.agent(app.topic(ALERTS_RETRY.name, value_serializer="raw"), name="alerts_retried")(agents.consume_retries)
    app.agent(app.topic(ALERTS_WAITING.name, value_serializer="raw"), name="alerts_waiting")(agents.consume_waiting)
    app.agent(app.topic(NOTICES_RAISED.name, value_serializer="raw"), name="notices_raised")(agents.consume_notices)
    app.agent(app.topic(USERS_CHANGED.name, value_serializer="raw"), name="users_changed")(agents.consume_user_changes)
    dispatchers = (dispatcher, corrections_dispatcher)
    _register_background_tasks(app, dispatchers, store, clock)
    _register_drain_handlers(app, (*dispatchers, confirmations, notices, overflow), dispatchers, smtp, contacts)

    queues = (queue, corrections_queue)

    def oldest_age_s() -> float:
        oldest = min((at for each in queues if (at := each.oldest_queued_at) is not None), default=None)
        return 0.0 if oldest is None else (clock.now() - oldest).total_seconds()

    notifier_metrics.register_gauges(
        lambda: float(sum(map(len, queues))), oldest_age_s, lambda: smtp.state is not BreakerState.CLOSED
    )
    serve_health_and_metrics(app, metrics)
    cast(StreamApp, app).health.delayed_topics = frozenset({ALERTS_WAITING.name})
    cast(StreamApp, app).health.outage = "The mail server or user_manager is unavailable; mails wait for it."
    cast(StreamApp, app).health.are_dependencies_unavailable = lambda: (
        smtp.state is not BreakerState.CLOSED or any(each.is_paused for each in dispatchers)
    )
    return app


def _add_table(app: faust.App, name: str, description: str) -> DirectTable:
    """Add a table to the app, with the partitions of alerts.raised.v1.

    Its changelog is compacted, and its records are deleted after STATUS_RETENTION.
    """
    return add_table(
        app, DirectTable, name, ALERTS_RAISED.partitions, description, extra_topic_configs=_CHANGELOG_TOPIC_CONFIG
    )


def _create_smtp_client(settings: NotifierSettings, clock: Clock) -> SmtpClient:
    """Create the client of the mail server from the SMTP and DKIM settings; without a DKIM key it signs no mails."""
    password = settings.smtp_password.get_secret_value() if settings.smtp_password else None
    key = settings.build_signing_key()
    return SmtpClient(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_security,
        settings.smtp_username,
        password,
        ca_file=settings.smtp_ca_file,
        connections=settings.smtp_connections,
        mails_per_connection=settings.smtp_mails_per_connection,
        mails_per_minute=settings.smtp_mails_per_minute,
        clock=clock,
        sign=partial(sign_mail, key=key) if key is not None else None,
    )


def _create_mail_policy(settings: NotifierSettings) -> MailPolicy:
    """Create the mail policy from the settings; the hourly limit 0 becomes None: no limit."""
    return MailPolicy(
        sender=settings.parse_sender(),
        bounces_to=settings.parse_bounce_address(),
        mails_per_hour=settings.person_mails_per_hour or None,
        retry_base=timedelta(seconds=settings.retry_base_s),
        lifetime=timedelta(seconds=settings.retry_lifetime_s),
    )


def _register_background_tasks(
    app: faust.App, dispatchers: Sequence[MailDispatcher], store: DeliveryStore, clock: Clock
) -> None:
    """Register the dispatchers' loops and the hourly purge of the tables, which run for the lifetime of the worker."""

    async def purge() -> None:
        purged = await store.purge_expired(clock.now())
        if purged:
            log.info("ledger.purged", entries=purged)

    for dispatcher in dispatchers:
        app.task(dispatcher.run)
    app.timer(_PURGE_INTERVAL_S)(purge)


def _register_drain_handlers(
    app: faust.App,
    deliveries: Sequence[MailDispatcher | ConfirmationDelivery | NoticeDelivery | AlertOverflow],
    dispatchers: Sequence[MailDispatcher],
    smtp: SmtpClient,
    contacts: ContactsClient,
) -> None:
    """Register handlers that finish and record the mails in progress before a rebalance and before the worker stops.

    A mail that is cancelled might be sent twice. The queue is cleared: the partitions' next owner reads the queued
    alerts again. After a rebalance the dispatchers resume; before a stop the two clients are closed after the drain.
    """

    async def drain(*_args: object, **_kwargs: object) -> None:
        await asyncio.gather(*(each.stop_and_drain(_DRAIN_TIMEOUT_S) for each in deliveries))

    async def resume(*_args: object, **_kwargs: object) -> None:
        for dispatcher in dispatchers:
            dispatcher.resume()

    async def drain_and_close(*_args: object, **_kwargs: object) -> None:
        await drain()
        await smtp.close()
        await contacts.close()

    app.on_partitions_revoked.connect(drain, weak=False)
    app.on_partitions_assigned.connect(resume, weak=False)
    app.on_before_shutdown.connect(drain_and_close, weak=False)
