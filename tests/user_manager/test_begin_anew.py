"""What user_manager publishes again after Kafka has lost its log, and what only the log has."""

import asyncio
from uuid import uuid4

from chassis.db.log_check import LogContent, LoggedValue
from local.kafka import Broker
from tests.user_manager.conftest import Service
from tests.user_manager.test_lost_requests import publish_outbox
from user_manager.begin_anew import add_confirmations, find_logged_users, load_confirmed_ids, publish_lost_confirmations
from user_manager.events import build_confirmed_event, build_deleted_event, build_registered_event


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
    """The last event of an account counts."""
    registered, confirmed, deleted = uuid4(), uuid4(), uuid4()
    messages = (
        build_registered_event(registered, uuid4()),
        build_registered_event(confirmed, uuid4()),
        build_confirmed_event(confirmed),
        build_confirmed_event(deleted),
        build_deleted_event(deleted),
    )
    content = LogContent({each.key: LoggedValue(each.partition, each.value) for each in messages}, 5)
    assert find_logged_users(content) == {registered: False, confirmed: True}
