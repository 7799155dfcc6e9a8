"""What user_manager publishes again after Kafka has lost its log, and what only the log has."""

import asyncio
from uuid import uuid4

from sqlalchemy import delete

from chassis.db.log_check import LogContent, LoggedValue
from local.kafka import Broker
from tests.user_manager.conftest import Service
from tests.user_manager.test_lost_requests import publish_outbox
from user_manager.addresses import Address
from user_manager.begin_anew import (
    add_confirmations,
    begin_anew,
    find_logged_users,
    load_confirmed_ids,
    publish_lost_confirmations,
)
from user_manager.events import build_confirmed_event, build_deleted_event, build_registered_event
from user_manager.model import MailRequest, User


def test_confirmations_are_published_again(service: Service) -> None:
    """So that a database that is lost after a restore is noticed: an empty log would not tell of it."""
    ann, bob, dora = (service.register_confirmed(f"{name}@example.org") for name in ("ann", "bob", "dora"))
    service.register("carl@example.org")
    before = load_confirmed_ids(service.database)
    service.register_confirmed("late@example.org")
    service.deletions.delete(dora.token, "dora@example.org")
    publish_outbox(service, None)
    add_confirmations(service.database, before)
    events = service.load_outbox_events()
    assert {(each.user_id, each.WhichOneof("change")) for each in events} == {
        (str(registration.account.user_id), "confirmed") for registration in (ann, bob)
    }, "neither the deleted account's nor that of one which publishes its own"


def test_only_an_empty_log_gets_them(service: Service, kafka: Broker) -> None:
    """One that has any event was not lost, or has them already."""
    service.register_confirmed()
    assert publish_outbox(service, kafka)
    asyncio.run(publish_lost_confirmations(service.database, kafka.bootstrap_servers))
    assert service.load_outbox_events() == []


def test_the_log_is_read_for_accounts_that_are_not_deleted() -> None:
    """The last event of an account counts, and a request for a mail alone is none."""
    registered, confirmed, deleted, request = uuid4(), uuid4(), uuid4(), uuid4()
    messages = (
        build_registered_event(registered, uuid4()),
        build_registered_event(confirmed, uuid4()),
        build_confirmed_event(confirmed),
        build_confirmed_event(deleted),
        build_deleted_event(deleted),
        build_registered_event(request, uuid4(), has_account=False),
    )
    content = LogContent({each.key: LoggedValue(each.partition, each.value) for each in messages}, 5)
    assert find_logged_users(content) == {registered: False, confirmed: True}


def test_requests_for_a_token_are_no_accounts(service: Service, kafka: Broker) -> None:
    """Neither old ones, whose mail was sent, nor those that wait are deleted; an account that the database lacks is."""
    lost = service.register("lost@example.org").account.user_id
    for name in ("sent", "waits"):
        service.account_mails.request_token_mail(Address(f"{name}@example.org"))
    service.register("here@example.org")
    replaced = service.register("replaced@example.org").account.user_id
    published = {key.decode() for key in publish_outbox(service, kafka)}
    with service.database.transaction() as session:
        session.execute(delete(User).where(User.user_id.in_([lost, replaced])))
        session.execute(delete(MailRequest).where(MailRequest.email.in_(["lost@example.org", "sent@example.org"])))
    asyncio.run(begin_anew(service.database, kafka.bootstrap_servers, service.clock))
    deleted = {each.user_id for each in service.load_outbox_events()}
    assert deleted & published == {str(lost)}, "besides what other tests have left in this Kafka"
    assert asyncio.run(begin_anew(service.database, kafka.bootstrap_servers, service.clock)) == 0
