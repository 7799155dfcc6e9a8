"""Helper functions for tests of bounces: register Ann, report a bounce, load the effects."""

from datetime import datetime, timedelta
from typing import Final

from tests.user_manager.conftest import Service
from user_manager.accounts import Account, Contact
from user_manager.registration import Registration

ANN: Final = "ann@example.org"
DAY: Final = timedelta(days=1)
SECOND: Final = timedelta(seconds=1)


def load_contact(service: Service, registration: Registration) -> Contact:
    """Return the account's contact as the notifier gets it."""
    (contact,) = service.accounts.load_contacts([str(registration.account.user_id)])
    return contact


def load_confirmation_token(service: Service, registration: Registration) -> str:
    """Return the last path segment of the contact's confirmation link; empty if the contact has no link."""
    return load_contact(service, registration).confirm_url.rpartition("/")[2]


def register_confirmed_ann(service: Service) -> Registration:
    """Register Ann, confirm her address, and advance the clock by a day."""
    registration = service.register(ANN)
    service.confirm(registration)
    service.clock.advance(DAY)
    return registration


def report_bounce(service: Service, registration: Registration, at: datetime | None = None) -> None:
    """Report a bounce of the account's address at time `at` (None: now)."""
    service.bounces.report(str(registration.account.user_id), at or service.clock.now())


def load_account(service: Service, registration: Registration) -> Account:
    return service.accounts.get(registration.token, registration.account.email)


def get_report_count(service: Service, outcome: str) -> float | None:
    """Return the number of bounce reports with this outcome, from the metric."""
    labels = {"outcome": outcome, "service": "user_manager", "node": "local"}
    return service.metrics.registry.get_sample_value("bounces_reported_total", labels)
