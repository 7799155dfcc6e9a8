"""Registration by the form that signs in: an account for whoever has none, and no difference that a stranger sees."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, PUBLIC_URL, Service
from user_manager.accounts import Account
from user_manager.addresses import Address
from user_manager.errors import TooManyMailsError
from user_manager.mailbox_limits import MailRates
from user_manager.model import User
from user_manager.newcomers import Newcomer

ANN = "ann@example.org"
ROME = Newcomer("Europe/Rome", "it")


def load_accounts(service: Service) -> list[Account]:
    """Return all accounts, confirmed or not."""
    with service.database.reading() as session:
        return [Account.from_user(user) for user in session.scalars(select(User))]


def test_a_newcomer_gets_an_account_that_the_mails_link_confirms(service: Service) -> None:
    """The mail that was asked for has the link that confirms; its owner chooses the name then, and nobody else."""
    service.sign_ins.request_link(Address("Ann.Lee@example.org"), newcomer=ROME)
    (account,) = load_accounts(service)
    assert (account.name, account.time_zone, account.language) == ("Ann.Lee", "Europe/Rome", "it")
    assert not account.confirmed
    contact = service.load_contact("Ann.Lee@example.org")
    assert contact.sign_in_url == ""
    assert contact.language == "it", "the mail is in the language of the page that asked for it"
    confirmed = service.registrations.confirm(contact.confirm_url.rpartition("/")[2], name="Ann", device="Firefox")
    assert (confirmed.account.user_id, confirmed.account.name) == (account.user_id, "Ann")
    assert confirmed.secret is not None
    assert service.sessions.load_current(confirmed.secret)[0].email == "Ann.Lee@example.org"


def test_whoever_has_just_confirmed_can_sign_in_elsewhere_at_once(service: Service) -> None:
    """The first mail has begun a pause, which would keep the owner from a second browser for a minute."""
    service.sign_ins.request_link(Address(ANN), newcomer=ROME)
    link = service.load_contact(ANN).confirm_url.rpartition("/")[2]
    service.sign_ins.request_link(Address(ANN), newcomer=ROME)
    assert service.load_event_kinds() == ["registered"], "a pause"
    service.registrations.confirm(link, device="Firefox")
    service.sign_ins.request_link(Address(ANN), newcomer=ROME)
    assert service.load_event_kinds() == ["registered", "confirmed", "registered"]
    service.registrations.confirm(link, device="Firefox")
    service.sign_ins.request_link(Address(ANN), newcomer=ROME)
    assert len(service.load_event_kinds()) == 3, "who uses the link again proves nothing new"


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_whoever_has_an_account_keeps_it_as_it_is(service: Service, is_confirmed: bool) -> None:
    """Whatever a stranger's browser says of itself; and there is no second account."""
    registration = service.register_confirmed(ANN) if is_confirmed else service.register(ANN)
    before = load_accounts(service)
    service.sign_ins.request_link(Address("ANN@example.org"), newcomer=ROME)
    assert load_accounts(service) == before
    assert registration.token is not None
    assert service.accounts.get(registration.token, ANN).confirmed is is_confirmed


@ON_SQLITE
def test_a_newcomer_of_whom_no_mail_goes_out_for_the_limit_has_no_account(service: Service) -> None:
    """The account and the mail's request are one transaction."""
    service.rates = MailRates(per_client=1)
    service.__post_init__()
    service.sign_ins.request_link(Address("a@example.org"), "192.0.2.1", ROME)
    with pytest.raises(TooManyMailsError):
        service.sign_ins.request_link(Address("b@example.org"), "192.0.2.1", ROME)
    assert [each.email for each in load_accounts(service)] == ["a@example.org"]


@ON_SQLITE
def test_the_form_answers_the_same_for_every_address(service: Service) -> None:
    """With an account that is confirmed, with one that is not, and with none: byte for byte, also the headers."""
    service.register_confirmed(ANN)
    service.register("bob@example.org")
    client: FlaskClient = build_app(service).test_client()
    answers = [
        client.post("/sign-in/mail", data={"email": email, "time_zone": "Europe/Rome"}, headers={"Origin": PUBLIC_URL})
        for email in (ANN, "bob@example.org", "carl@example.org", "carl@example.org")
    ]
    assert {(each.status_code, each.data, str(each.headers)) for each in answers} == {
        (202, answers[0].data, str(answers[0].headers))
    }
    assert len(load_accounts(service)) == 3


@ON_SQLITE
@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "<b>", "a" * 10_000])
def test_a_time_zone_that_is_none_counts_as_utc(service: Service, zone: str) -> None:
    """A browser without scripts sends none; a hostile one anything."""
    client = build_app(service).test_client()
    client.post("/sign-in/mail", data={"email": ANN, "time_zone": zone}, headers={"Origin": PUBLIC_URL})
    assert [each.time_zone for each in load_accounts(service)] == ["UTC"]
