"""The periodic tasks: expired answers are deleted, and the gauge shows the number of accounts in the database."""

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
    return Housekeeping(
        service.database, service.accounts, service.answers, service.limits, service.clock, service.metrics
    )


def count_records(service: Service) -> int:
    with service.database.transaction() as session:
        return session.scalar(select(func.count()).select_from(IdempotencyRecord)) or 0


def get_metric(service: Service, name: str) -> float | None:
    return service.metrics.registry.get_sample_value(name, {"service": "user_manager", "node": "local"})


def test_expired_answers_are_deleted_and_no_others(service: Service, housekeeping: Housekeeping) -> None:
    """An answer is deleted from the instant of its expiry; number and duration go to the original system's metrics."""
    service.register("ann@example.org", key=uuid4())
    service.register("bob@example.org")
    service.clock.advance(timedelta(seconds=1))
    service.register("cyn@example.org", key=uuid4())
    service.clock.advance(ANSWER_LIFETIME - timedelta(seconds=1) - timedelta(microseconds=1))
    housekeeping.delete_expired_answers()
    assert count_records(service) == 3
    assert get_metric(service, "cache_cleaned_entries_total") == 0
    service.clock.advance(timedelta(microseconds=1))
    housekeeping.delete_expired_answers()
    assert count_records(service) == 1
    assert get_metric(service, "cache_cleaned_entries_total") == 2
    assert get_metric(service, "cache_cleanup_duration_seconds_count") == 2


def test_the_gauge_counts_the_accounts_of_all_replicas(service: Service, housekeeping: Housekeeping) -> None:
    """The gauge is set from the database, so another replica's registrations and deletions count."""
    other = Service(service.database)
    other.register("ann@example.org")
    service.register("bob@example.org")
    housekeeping.update_user_gauge()
    assert get_metric(service, "active_users_total") == 2
    other.deletions.delete(OPERATOR_TOKEN, "bob@example.org")
    housekeeping.update_user_gauge()
    assert get_metric(service, "active_users_total") == 1
