"""Tests of the source's two buckets of credits, for flights and for positions, in one table."""

from datetime import timedelta
from uuid import UUID

from collector.model import CreditsRow
from collector.people import charge_people, load_payments
from collector.settled.planner import QuotaBalance
from collector.settled.quota import Bucket, QuotaStore
from collector.settled.shares import Bill
from tests.collector.conftest import NOON, Service

FLIGHTS, STATES = QuotaStore(400), QuotaStore(4_000, Bucket.STATES)
LATER = NOON + timedelta(hours=2)


def load_balances(service: Service) -> tuple[QuotaBalance, QuotaBalance]:
    """Return the balances of both buckets."""
    with service.database.reading() as session:
        return FLIGHTS.load_balance(session, NOON), STATES.load_balance(session, NOON)


def test_credits_and_pauses_of_the_buckets_are_apart(service: Service) -> None:
    """What positions cost, what the source reports of them, and its pause for them leave flights as they are."""
    with service.database.transaction() as session:
        STATES.charge(session, 4, NOON)
        STATES.reconcile_with_source(session, 3_990, NOON, NOON)
        STATES.store_pause(session, LATER, NOON)
    assert load_balances(service) == (QuotaBalance(400, 0), QuotaBalance(4_000, 10, LATER))
    with service.database.transaction() as session:
        FLIGHTS.charge(session, 30, NOON)
        STATES.refund(session, 4, NOON, NOON)
    assert load_balances(service) == (QuotaBalance(400, 30), QuotaBalance(4_000, 6, LATER))


def test_shares_by_person_are_of_the_bucket_for_flights_alone(service: Service) -> None:
    """Positions are for all airports at once, and nobody pays for them: the level of the fair queue is one."""
    person = UUID(int=1)
    with service.database.transaction() as session:
        STATES.charge(session, 4, NOON)
        assert load_payments(session).level == 0
        FLIGHTS.charge(session, 30, NOON)
        charge_people(session, Bill((person,), person, 30_000_000), 30)
    with service.database.transaction() as session:
        STATES.charge(session, 4, NOON)
        assert load_payments(session).level == 30_000_000
        assert session.get_one(CreditsRow, Bucket.STATES.value).level == 0
