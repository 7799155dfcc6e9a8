"""The Faust app of the notifier: its table, its agents and its pages, put together."""

from datetime import timedelta
from typing import Final

import faust

from chassis.clock import SystemClock
from chassis.metrics import Identity, Metrics
from chassis.stream_app import create_stream_app, serve_health_and_metrics
from notifier.agents import Agents
from notifier.contacts import Contacts
from notifier.mailroom import Mailroom
from notifier.sent import SentMails
from notifier.settings import NotifierSettings
from notifier.smtp import MailServer
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RAISED, ALERTS_RETRY, DAY_MS, USERS_CHANGED

SERVICE = "notifier"

_REMEMBERED: Final = {"cleanup.policy": "compact,delete", "retention.ms": str(8 * DAY_MS)}
"""What went out is remembered a day longer than the topics keep the alerts, so that no replay mails twice."""


def create_app(settings: NotifierSettings) -> faust.App:
    """The app, ready to be run by a worker; nothing connects before."""
    metrics = Metrics(Identity(SERVICE, settings.k8s_node_name))
    clock = SystemClock()  # mail and retries live in real time, whatever time the flights are from
    app = create_stream_app(SERVICE, settings, ALERTS_RAISED.partitions)
    app.conf.producer_linger = 0.0  # each mail waits for its record; there is nothing to gather
    sent = app.Table(
        "sent",
        partitions=ALERTS_RAISED.partitions,
        key_type=bytes,
        value_type=bytes,
        help="When a mail went out, by alert id or confirmation id",
        extra_topic_configs=_REMEMBERED,
    )
    contacts = Contacts(settings.user_manager_grpc_target, settings.contact_cache_s)
    password = settings.smtp_password.get_secret_value() if settings.smtp_password else None
    server = MailServer(
        settings.smtp_host, settings.smtp_port, settings.smtp_security, settings.smtp_username, password
    )
    mailroom = Mailroom(SentMails(app, sent), contacts, server, settings.sender(), clock, metrics)
    retries = app.topic(ALERTS_RETRY.name, value_serializer="raw")
    dead_letters = app.topic(ALERTS_DEAD_LETTER.name, value_serializer="raw")
    agents = Agents(mailroom, retries, dead_letters, clock, timedelta(seconds=settings.retry_base_s), metrics)
    app.agent(app.topic(ALERTS_RAISED.name, value_serializer="raw"), name="alerts_raised")(agents.raised)
    app.agent(retries, name="alerts_retried")(agents.retried)
    app.agent(app.topic(USERS_CHANGED.name, value_serializer="raw"), name="users_changed")(agents.users_changed)
    _finish_before_the_end(app, mailroom, server, contacts)
    serve_health_and_metrics(app, metrics)
    return app


def _finish_before_the_end(app: faust.App, mailroom: Mailroom, server: MailServer, contacts: Contacts) -> None:
    """At a stop the mail at hand is finished and recorded; to break it off could mean to send it twice."""

    async def finish(*_args: object, **_kwargs: object) -> None:
        await mailroom.close()
        await server.close()
        await contacts.close()

    app.on_before_shutdown.connect(finish, weak=False)
