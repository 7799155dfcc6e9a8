"""What is kept about a person is exported: each column of each table that names them, no secret, nothing of others."""

from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import pytest
from sqlalchemy import inspect, update

from notifier.delivery.store import STATUS_RETENTION
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service
from towerwatch.topics import ALERTS_DEAD_LETTER, CATALOGUE, DAY_MS
from user_manager.addresses import Address
from user_manager.deletion.records import build_due_deletion
from user_manager.deletion.steps import DeletionStep
from user_manager.errors import (
    AccountUnknownError,
    CollectorUnavailableError,
    NotYoursError,
    SessionUnknownError,
    TokenUnknownError,
)
from user_manager.kept_elsewhere import DEAD_LETTER_DAYS, KEPT_ELSEWHERE, NOTIFIER_STATUS_DAYS
from user_manager.mailbox_limits import PauseScope
from user_manager.model import (
    OUTBOX,
    SCHEMA,
    Base,
    Deletion,
    IdempotencyRecord,
    Mailbox,
    MailQuota,
    MailRequest,
    SignInLink,
    User,
    WebSession,
)
from user_manager.rest.export_models import Export

ANN, BOB = "ann@example.org", "bob@example.org"

WITHHELD: Final[dict[type[Base], dict[str, str]]] = {
    User: {
        "token_sha256": "secret",
        "address_key": "the address",
        "address_digest": "names the address in links",
        "confirmation_id": "names the mail in links",
        "confirmation_state": "in confirmation.state, as its owner may see it",
    },
    WebSession: {"secret_sha256": "secret", "user_id": "the account's"},
    Mailbox: {"mailbox_hash": "the address", "touched_at": "kept_until, later"},
    MailRequest: {
        "request_id": "the account's, or no account's",
        "mail_id": "names the mail in links",
        "address_digest": "names the address in links",
    },
    SignInLink: {"address_hash": "the address", "mail_id": "names the mail in links"},
    IdempotencyRecord: {
        "key_sha256": "secret",
        "body_sha256": "secret",
        "user_id": "the account's",
        "sealed_answer": "secret: it holds the token",
    },
    Deletion: {"user_id": "the account's", "step": "it has not begun", "request": "names no more than an attempt"},
}
"""The columns that are not in the export, with the reason."""
NOBODYS: Final = {MailQuota.__tablename__, *(each for each in SCHEMA.tables if each.startswith(OUTBOX.rows.name))}
"""The tables that are about nobody whom an account names: counts of networks, and events on their way to Kafka."""


def store_everything(service: Service) -> tuple[str, dict[type[Base], Any]]:
    """Let an account have a row in each table; return its token, and the rows by table."""
    registration = service.register_confirmed(ANN)
    service.clock.advance(timedelta(minutes=3))
    service.sign_in(ANN)
    service.sign_ins.request_link(Address(ANN))
    user_id, now = registration.account.user_id, service.clock.now()
    with service.database.transaction() as session:
        row = session.get(User, user_id)
        assert row is not None
        row.bounced_at = now - timedelta(days=400)
        row.confirmation_state = "sent"
        row.corrections, row.version, row.confirmations_asked, row.language = False, 7_001, 7_002, "it"
        deletion = build_due_deletion(user_id, now + timedelta(hours=3))
        deletion.attempts = 7_003
        session.add(deletion)
        for mailbox in session.query(Mailbox):
            mailbox.mails = 7_004
            mailbox.stopped_at = now - timedelta(minutes=1)
            mailbox.proved_at = now - timedelta(minutes=2)
    with service.database.transaction() as session:
        rows = {kind: session.query(kind).first() for kind in WITHHELD}
        session.expunge_all()
    return registration.token or "", rows


def test_every_table_is_exported_or_nobodys() -> None:
    """Whoever adds one adds it to the export, too."""
    assert {kind.__tablename__ for kind in WITHHELD} | NOBODYS == set(SCHEMA.tables)


@ON_SQLITE
def test_every_column_is_exported_or_withheld_for_a_reason(service: Service) -> None:
    """As it is stored; and no secret is, nor what a link is made of."""
    token, rows = store_everything(service)
    file = Export.from_export(service.exports.export(token, ANN)).model_dump_json()
    for kind, row in rows.items():
        assert row is not None, kind
        for column in inspect(kind).columns:
            value = getattr(row, column.name)
            is_shown = _is_shown(column.name, value, file)
            withheld = WITHHELD[kind].get(column.name)
            assert is_shown or withheld, f"{kind.__tablename__}.{column.name} is not exported"
            if withheld and withheld.startswith(("secret", "names the")):
                assert not is_shown, f"{kind.__tablename__}.{column.name} is exported"
    assert token not in file


def _is_shown(name: str, value: object, file: str) -> bool:
    """Return True if the value of a column stands in the file."""
    if isinstance(value, bytes):
        return value.decode() in file
    if isinstance(value, bool):
        return f'"{name}":{str(value).lower()}' in file
    if hasattr(value, "isoformat"):
        return value.isoformat().replace("+00:00", "Z") in file
    return f'"{value}"' in file or f":{value}," in file


def test_an_export_changes_nothing_and_is_the_same_again(service: Service) -> None:
    """But for its time; on every database."""
    token, _ = store_everything(service)
    assert service.exports.export(token, ANN) == service.exports.export(token, ANN)


@ON_SQLITE
def test_only_the_owner_and_the_operator_export(service: Service) -> None:
    """By token or session; nobody else's, whether the other address has an account."""
    ann = service.register_confirmed(ANN)
    bob = service.register_confirmed(BOB, "Bob")
    secret = service.sign_in(ANN)
    by_session = service.exports.export(secret, ANN)
    assert by_session.account.user_id == ann.account.user_id
    assert [each.is_current for each in by_session.sessions] == [True]
    assert service.exports.export(OPERATOR_TOKEN, BOB).account.user_id == bob.account.user_id
    for credential in (secret, ann.token or ""):
        for other in (BOB, "nobody@example.org", "nonsense"):
            with pytest.raises(NotYoursError):
                service.exports.export(credential, other)
    with pytest.raises(AccountUnknownError):
        service.exports.export(OPERATOR_TOKEN, "nobody@example.org")
    service.sessions.sign_out(secret)
    with pytest.raises(SessionUnknownError):
        service.exports.export(secret, ANN)
    with pytest.raises(TokenUnknownError):
        service.exports.export("nonsense", ANN)


@ON_SQLITE
def test_what_others_have_is_in_nobody_elses_export(service: Service) -> None:
    """Neither sessions nor mails nor what the collector keeps."""
    ann, bob = service.register_confirmed(ANN), service.register_confirmed(BOB, "Bob")
    service.sign_in(BOB, "Safari on iPhone")
    service.sign_ins.request_link(Address(BOB))
    export = service.exports.export(ann.token or "", ANN)
    file = Export.from_export(export).model_dump_json()
    assert (export.sessions, export.mail_state and export.mail_state.sign_in_link) == ([], None)
    assert not any(each in file for each in (BOB, "Bob", "iPhone", str(bob.account.user_id)))


@ON_SQLITE
def test_an_unconfirmed_account_shows_nothing_of_the_mailbox(service: Service) -> None:
    """Whoever registered need not own it: the export is the same whether the address has a confirmed account, and
    whatever mails went there (ADR 28)."""
    service.register_confirmed(ANN)
    service.sign_in(ANN)
    service.sign_ins.request_link(Address(ANN))
    service.register(BOB)
    shown = []
    for email in (ANN, BOB):
        registration = service.register(email, "Mallory")
        export = service.exports.export(registration.token or "", email)
        assert (export.mail_state, export.sessions, export.account.confirmed) == (None, [], False)
        file = Export.from_export(export).model_dump_json()
        shown.append(file.replace(str(registration.account.user_id), "its id").replace(email, "its address"))
    assert shown[0] == shown[1]


@ON_SQLITE
def test_another_spelling_of_a_mailbox_shows_its_own_mails_only(service: Service) -> None:
    """Where a +tag is another person's address, the one learns nothing of the other."""
    service.register_confirmed(ANN)
    for _ in range(3):
        service.clock.advance(timedelta(days=2))
        service.sign_ins.request_link(Address(ANN))
    tagged = service.register_confirmed("ann+work@example.org")
    state = service.exports.export(tagged.token or "", "ann+work@example.org").mail_state
    assert state is not None
    # Confirming has ended the pauses of both kinds of mails to this very address.
    assert {(each.scope, each.mails) for each in state.counts} == {(PauseScope.ACCOUNT, 0), (PauseScope.SIGN_IN, 0)}
    assert all(each.email == "ann+work@example.org" for each in state.requested)
    assert state.sign_in_link is None


@ON_SQLITE
def test_without_the_collector_there_is_no_half_of_an_export(service: Service) -> None:
    """It fails, and can be asked for again."""
    ann = service.register_confirmed(ANN)
    service.interests.failure = CollectorUnavailableError("away")
    with pytest.raises(CollectorUnavailableError):
        service.exports.export(ann.token or "", ANN)
    service.interests.failure = None
    assert service.exports.export(ann.token or "", ANN).account.email == ANN


@ON_SQLITE
def test_a_deletion_that_may_come_to_nothing_is_shown(service: Service) -> None:
    """One that has passed the pivot ends the access."""
    ann = service.register_confirmed(ANN)
    assert service.exports.export(ann.token or "", ANN).deletion is None
    with service.database.transaction() as session:
        session.add(build_due_deletion(ann.account.user_id, service.clock.now()))
    assert service.exports.export(ann.token or "", ANN).deletion is not None
    with service.database.transaction() as session:
        session.execute(update(Deletion).values(step=DeletionStep.ERASE_ACCOUNT))
    with pytest.raises(TokenUnknownError):
        service.exports.export(ann.token or "", ANN)


def test_what_is_said_of_other_places_is_true() -> None:
    """The times are those of the topics and of the notifier, and every topic with people in it is named."""
    assert timedelta(days=NOTIFIER_STATUS_DAYS) == STATUS_RETENTION
    assert ALERTS_DEAD_LETTER.config["retention.ms"] == str(DEAD_LETTER_DAYS * DAY_MS)
    named = " ".join(each.where for each in KEPT_ELSEWHERE)
    of_nobody = {"flights.observed.v1", "collections.requested.v1"}
    assert {each.name for each in CATALOGUE if each.name not in named} == of_nobody
    assert uuid4().hex not in named
