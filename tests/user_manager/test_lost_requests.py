"""Requests for confirmation mails that Kafka has lost are published again, and no others."""

import asyncio
from datetime import timedelta

from aiokafka import AIOKafkaProducer
from sqlalchemy import select

from local.kafka import Broker
from tests.user_manager.conftest import Service
from towerwatch.topics import USERS_CHANGED
from user_manager.addresses import Address
from user_manager.lost_requests import LostRequests
from user_manager.model import OUTBOX, ConfirmationState, User


def publish_outbox(service: Service, kafka: Broker | None) -> list[bytes]:
    """Publish and delete the events of the outbox, to a broker or to one that is lost (None); return their keys."""
    with service.database.transaction() as session:
        rows = session.execute(select(OUTBOX.rows)).all()
        session.execute(OUTBOX.rows.delete())

    async def send() -> None:
        assert kafka is not None
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
            for row in rows:
                await producer.send_and_wait(row.topic, row.value, row.key, row.partition)

    if kafka is not None:
        asyncio.run(send())
    assert {row.topic for row in rows} <= {USERS_CHANGED.name}
    return [row.key for row in rows]


def compare(service: Service, kafka: Broker) -> int:
    """Compare once, and return how many requests were lost."""
    return asyncio.run(LostRequests(service.database, kafka.bootstrap_servers, service.clock).publish_lost())


def test_a_request_that_kafka_lost_is_published_again(service: Service, kafka: Broker) -> None:
    """The request of a person who waits comes once more, with its id; sent, published and young ones do not."""
    lost, waiting, sent, kept = (
        service.register(f"{name}@example.org") for name in ("lost", "waiting", "sent", "kept")
    )
    publish_outbox(service, None)
    with service.database.transaction() as session:
        for registration, state in ((waiting, ConfirmationState.WAITING), (sent, ConfirmationState.SENT)):
            user = session.get(User, registration.account.user_id)
            assert user is not None
            user.confirmation_state = state.value
    assert compare(service, kafka) == 0, "too young"
    service.clock.advance(timedelta(minutes=5))
    assert compare(service, kafka) == 3
    assert compare(service, kafka) == 0, "they wait in the outbox"
    keys = publish_outbox(service, kafka)
    assert sorted(keys) == sorted(str(each.account.user_id).encode() for each in (lost, waiting, kept))
    assert compare(service, kafka) == 0, "they are in the topic"
    service.clock.advance(timedelta(days=8))
    service.register("ann@example.org")
    publish_outbox(service, None)
    service.clock.advance(timedelta(minutes=5))
    assert compare(service, kafka) == 1, "the links of the others are too old"


def test_a_lost_request_for_a_token_is_published_again(service: Service, kafka: Broker) -> None:
    """So is the request of an account that was replaced: its mail is the one that used up the mailbox's pause. What the
    topic has, and what was sent, does not come again."""
    for name in ("lost", "sent", "kept"):
        service.register_confirmed(f"{name}@example.org")
    service.clock.advance(timedelta(days=8))
    publish_outbox(service, None)
    for name in ("lost", "sent"):
        service.account_mails.request_token_mail(Address(f"{name}@example.org"))
    sent = service.load_outbox_events()[1]
    service.accounts.record_confirmation_state(sent.user_id, sent.registered.confirmation_id, ConfirmationState.SENT)
    replaced = service.register("ann@example.org", "Stranger")
    service.register("ann@example.org", "Ann")
    publish_outbox(service, None)
    service.account_mails.request_token_mail(Address("kept@example.org"))
    kept = service.register("bob@example.org", "Stranger")
    service.register("bob@example.org", "Bob")
    publish_outbox(service, kafka)
    service.clock.advance(timedelta(minutes=5))
    assert compare(service, kafka) == 2
    assert str(kept.account.user_id).encode() not in (keys := publish_outbox(service, kafka))
    assert str(replaced.account.user_id).encode() in keys
    assert compare(service, kafka) == 0, "they are in the topic"


def test_a_registration_during_a_pause_causes_no_mail_by_itself_later(service: Service, kafka: Broker) -> None:
    """While a mail waits for the mail server, each new registration shows that it waits, too; but it has no request,
    so nothing of it was lost: else a stranger could have a mail sent by each, whatever the pauses are."""
    first = service.register("victim@example.org", "0")
    (event,) = service.load_outbox_events()
    service.accounts.record_confirmation_state(
        event.user_id, event.registered.confirmation_id, ConfirmationState.WAITING
    )
    publish_outbox(service, kafka)
    for number in range(1, 4):
        again = service.register("victim@example.org", str(number))
        assert again.token is not None
        shown = service.accounts.get_confirmation(again.token, "victim@example.org").state
        assert shown is ConfirmationState.WAITING
        assert [each for each in service.load_outbox_events() if each.WhichOneof("change") == "registered"] == []
        publish_outbox(service, kafka)
    assert first.account.user_id != again.account.user_id
    service.clock.advance(timedelta(minutes=5))
    assert compare(service, kafka) == 0
    assert service.load_outbox_events() == []
