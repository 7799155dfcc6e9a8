"""The background's housekeeping: what expired is swept, and the gauge of accounts is the database's count."""

from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import func, select

from tests.user_manager.conftest import OPERATOR_TOKEN, Service
from user_manager.housekeeping import Housekeeping
from user_manager.idempotency import ANSWER_LIFETIME
from user_manager.model import IdempotencyRecord


@pytest.fixture
def housekeeping(service: Service) -> Housekeeping:
    return Housekeeping(service.database, service.accounts, service.answers, service.clock, service.metrics)


def records(service: Service) -> int:
    with service.database.transaction() as session:
        return session.scalar(select(func.count()).select_from(IdempotencyRecord)) or 0


def exposed(service: Service, name: str) -> float | None:
    return service.metrics.registry.get_sample_value(name, {"service": "user_manager", "node": "local"})


def test_the_sweep_deletes_what_has_expired_and_no_more(service: Service, housekeeping: Housekeeping) -> None:
    """To the instant; and says how many there were and how long it took, by the original system's names."""
    service.register("ann@example.org", key=uuid4())
    service.register("bob@example.org")
    service.clock.advance(timedelta(seconds=1))
    service.register("cyn@example.org", key=uuid4())
    service.clock.advance(ANSWER_LIFETIME - timedelta(seconds=1) - timedelta(microseconds=1))
    housekeeping.delete_expired_answers()
    assert records(service) == 3
    assert exposed(service, "cache_cleaned_entries_total") == 0
    service.clock.advance(timedelta(microseconds=1))
    housekeeping.delete_expired_answers()
    assert records(service) == 1
    assert exposed(service, "cache_cleaned_entries_total") == 2
    assert exposed(service, "cache_cleanup_duration_seconds_count") == 2


def test_the_gauge_of_accounts_is_right_whichever_replica_did_what(
    service: Service, housekeeping: Housekeeping
) -> None:
    """It is counted, not kept: another replica's registrations and deletions are in it."""
    other = Service(service.database)
    other.register("ann@example.org")
    service.register("bob@example.org")
    housekeeping.update_user_gauge()
    assert exposed(service, "active_users_total") == 2
    other.deletions.delete(OPERATOR_TOKEN, "bob@example.org")
    housekeeping.update_user_gauge()
    assert exposed(service, "active_users_total") == 1
