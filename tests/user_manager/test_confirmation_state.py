"""How far an account's confirmation mail is: what the notifier reports, and what the owner sees."""

from uuid import UUID, uuid4

import pytest

from tests.user_manager.apps import build_app
from tests.user_manager.bounces import ANN, DAY, report_bounce
from tests.user_manager.conftest import Service
from user_manager.model import ConfirmationState, User
from user_manager.registration import Registration

WAITING, SENT, FAILED = ConfirmationState.WAITING, ConfirmationState.SENT, ConfirmationState.FAILED


def load_confirmation_id(service: Service, registration: Registration) -> UUID:
    """Return the id of the account's last request for a confirmation mail."""
    with service.database.reading() as session:
        user = session.get_one(User, registration.account.user_id)
        assert user.confirmation_id is not None
        return user.confirmation_id


def report(service: Service, registration: Registration, state: ConfirmationState) -> None:
    """Report how far the account's last confirmation mail is."""
    confirmation_id = str(load_confirmation_id(service, registration))
    service.accounts.record_confirmation_state(str(registration.account.user_id), confirmation_id, state)


def read_state(service: Service, registration: Registration) -> str:
    """Return the state that the owner may see."""
    return service.accounts.get_confirmation(registration.token, ANN).state


def test_the_route_shows_the_state(service: Service) -> None:
    """The answer holds the state, and when the mail was asked for; nobody may cache it."""
    ann = service.register(ANN)
    report(service, ann, WAITING)
    client = build_app(service).test_client()
    answer = client.get(f"/users/{ANN}/confirmation", headers={"Authorization": f"Bearer {ann.token}"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert set(answer.json) == {"state", "requested_at"}
    assert answer.json["state"] == "waiting"


@pytest.mark.parametrize(
    ("reports", "seen"),
    [
        ((), "requested"),
        ((WAITING,), "waiting"),
        ((WAITING, WAITING), "waiting"),
        ((SENT,), "sent"),
        ((WAITING, SENT), "sent"),
        ((SENT, WAITING), "sent"),
        ((FAILED,), "failed"),
        ((WAITING, FAILED), "failed"),
        ((FAILED, SENT), "sent"),
        ((SENT, FAILED), "sent"),
        ((FAILED, WAITING), "waiting"),
        ((SENT, SENT), "sent"),
        ((WAITING, SENT, WAITING, FAILED), "sent"),
    ],
)
def test_the_owner_sees_how_far_the_mail_is(
    service: Service, reports: tuple[ConfirmationState, ...], seen: str
) -> None:
    """Reports come late, twice and in any order; a mail that was sent stays so. The account's version stays, too."""
    ann = service.register(ANN)
    for each in reports:
        report(service, ann, each)
    assert read_state(service, ann) == seen
    assert service.accounts.get(ann.token, ANN) == ann.account


def test_a_report_about_another_mail_changes_nothing(service: Service) -> None:
    """The mail that was asked for last is the one that the owner waits for."""
    ann = service.register(ANN)
    first = str(load_confirmation_id(service, ann))
    service.clock.advance(DAY)
    service.registrations.request_confirmation_mail(ann.token, ANN)
    user_id = str(ann.account.user_id)
    for user, confirmation in ((user_id, first), (user_id, str(uuid4())), (str(uuid4()), first), ("x", "y"), ("", "")):
        service.accounts.record_confirmation_state(user, confirmation, SENT)
    assert read_state(service, ann) == "requested"
    report(service, ann, WAITING)
    assert read_state(service, ann) == "waiting"


def test_a_new_request_begins_anew(service: Service) -> None:
    """The state of the mail before says nothing about the next one."""
    ann = service.register(ANN)
    report(service, ann, FAILED)
    service.clock.advance(DAY)
    service.registrations.request_confirmation_mail(ann.token, ANN)
    assert read_state(service, ann) == "requested"


def test_a_confirmed_address_is_confirmed_until_mail_comes_back(service: Service) -> None:
    """Then the owner has to ask for another mail."""
    ann = service.register(ANN)
    report(service, ann, WAITING)
    service.confirm(ann)
    assert read_state(service, ann) == "confirmed"
    service.clock.advance(DAY)
    report_bounce(service, ann)
    assert read_state(service, ann) == "failed"
    service.clock.advance(DAY)
    service.registrations.request_confirmation_mail(ann.token, ANN)
    assert read_state(service, ann) == "requested"


def test_who_asks_again_while_the_mail_waits_is_told_that_it_waits(service: Service) -> None:
    """To look for a mail that the mail server has not taken would be in vain."""
    ann = service.register(ANN)
    report(service, ann, WAITING)
    answer = (
        build_app(service)
        .test_client()
        .post(f"/users/{ANN}/confirmation", headers={"Authorization": f"Bearer {ann.token}"})
    )
    assert answer.status_code == 429
    assert "waits for the mail server" in answer.json["detail"]


def test_only_the_owner_and_the_operator_see_it(service: Service) -> None:
    """Nobody else learns whether the address has an account."""
    service.register(ANN)
    bob = service.register("bob@example.org")
    client = build_app(service).test_client()
    answer = client.get(f"/users/{ANN}/confirmation", headers={"Authorization": f"Bearer {bob.token}"})
    assert answer.status_code == 403
    assert client.get(f"/users/{ANN}/confirmation").status_code == 401
