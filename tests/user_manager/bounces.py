"""Ann, whose mail comes back, and what is seen of it."""

from datetime import datetime, timedelta
from typing import Final

from tests.user_manager.conftest import Service
from user_manager.accounts import Account, Contact
from user_manager.registration import Registration

ANN: Final = "ann@example.org"
DAY: Final = timedelta(days=1)
SECOND: Final = timedelta(seconds=1)


def contact_of(service: Service, registration: Registration) -> Contact:
    (contact,) = service.accounts.contacts([str(registration.account.user_id)])
    return contact


def link_of(service: Service, registration: Registration) -> str:
    """What ends the confirmation link that a mail would have now; empty when there is to be none."""
    return contact_of(service, registration).confirm_url.rpartition("/")[2]


def confirmed_ann(service: Service) -> Registration:
    """Who registered and confirmed, both a day ago."""
    registration = service.register(ANN)
    service.registrations.confirm(service.confirmation_token(registration))
    service.clock.advance(DAY)
    return registration


def bounce(service: Service, registration: Registration, at: datetime | None = None) -> None:
    service.bounces.report(str(registration.account.user_id), at or service.clock.now())


def account_of(service: Service, registration: Registration) -> Account:
    return service.accounts.get(registration.token, registration.account.email)


def reports(service: Service, outcome: str) -> float | None:
    labels = {"outcome": outcome, "service": "user_manager", "node": "local"}
    return service.metrics.registry.get_sample_value("bounces_reported_total", labels)
