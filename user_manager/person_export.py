"""The export: all that is kept about a person, for that person to have. ADR 64.

It holds no secret: no token, no digest of one, and nothing that a link is made of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.credentials import Credential
from chassis.db.database import Database
from user_manager.access import AccountAuthorizer
from user_manager.accounts import Account, Confirmation
from user_manager.addresses import compute_address_digest
from user_manager.collector_record import CollectorRecord
from user_manager.deletion.steps import DeletionStep
from user_manager.links import SIGN_IN_RENEWAL_LIFETIME
from user_manager.mail_requests import compute_request_expiry, load_requests_to
from user_manager.mailbox_limits import MailboxLimits, PauseScope
from user_manager.model import Deletion, IdempotencyRecord, Mailbox, SignInLink, User
from user_manager.sessions import Sessions, SessionView

log = structlog.get_logger()


class RecordReader(Protocol):
    """The part of the collector's interface that exports need."""

    def export_person(self, user_id: UUID) -> CollectorRecord:
        """Return all that the collector keeps about the user.

        Raises CollectorUnavailableError, CollectorRefusedError.
        """
        ...


@dataclass(frozen=True, slots=True)
class MailCount:
    """The counts of the mails to an address that anybody can request."""

    scope: PauseScope
    mails: int
    last_mail_at: datetime | None
    stopped_at: datetime | None
    """Time at which the owner stopped these mails; None: they are not stopped."""
    proved_at: datetime | None
    """Time at which a link last confirmed the address; None: never, or not counted here."""
    kept_until: datetime
    """Time at which this is forgotten, unless a mail is asked for before."""


@dataclass(frozen=True, slots=True)
class RequestedMail:
    """A mail about the account that was asked for and is not known to be sent."""

    kind: str
    """A value of `mail_requests.MailKind`."""
    email: str
    requested_at: datetime
    kept_until: datetime


@dataclass(frozen=True, slots=True)
class OpenLink:
    """The link in the last mail to sign in with, which was not used."""

    requested_at: datetime
    kept_until: datetime


@dataclass(frozen=True, slots=True)
class MailState:
    """The stored state of the mails to a confirmed address; strangers, too, may have requested them."""

    counts: Sequence[MailCount]
    requested: Sequence[RequestedMail]
    sign_in_link: OpenLink | None


@dataclass(frozen=True, slots=True)
class PendingDeletion:
    """A deletion that was asked for and may still come to nothing."""

    deletion_id: UUID
    requested_at: datetime
    attempts: int
    next_attempt_at: datetime


@dataclass(frozen=True, slots=True)
class PersonExport:
    """All that is kept about a person by user_manager and the collector."""

    exported_at: datetime
    account: Account
    confirmation: Confirmation
    confirmation_mails: int
    """Number of confirmation mails that were asked for."""
    confirmed_at: datetime | None
    bounced_at: datetime | None
    sessions: Sequence[SessionView]
    mail_state: MailState | None
    """None for an unconfirmed account, whose holder need not be the owner of the address."""
    stored_answers: Sequence[datetime]
    """For each answer to a registration that is still kept, encrypted: the time at which it is deleted."""
    deletion: PendingDeletion | None
    collector: CollectorRecord


class PersonExports:
    """The use case of exporting what is kept about a person. Safe for several threads."""

    def __init__(
        self,
        database: Database,
        authorizer: AccountAuthorizer,
        sessions: Sessions,
        limits: MailboxLimits,
        records: RecordReader,
        clock: Clock,
    ) -> None:
        self._database = database
        self._authorizer = authorizer
        self._sessions = sessions
        self._limits = limits
        self._records = records
        self._clock = clock

    def export(self, credential: Credential, email: str) -> PersonExport:
        """Return all that is kept about the owner of the account with this address. Changes nothing.

        Blocks on the collector, without holding a database lock. Raises TokenUnknownError, SessionUnknownError,
        NotYoursError, AccountUnknownError, CollectorUnavailableError, CollectorRefusedError, DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.reading() as session:
            user = self._authorizer.load_account(session, credential, email)
            account, user_id = Account.from_user(user), user.user_id
            confirmation = Confirmation(user.confirmation, user.confirmation_asked_at)
            facts = (user.confirmations_asked, user.confirmed_at, user.bounced_at)
            mail_state = self._load_mail_state(session, user) if user.confirmed else None
            answers = session.scalars(
                select(IdempotencyRecord.expires_at)
                .where(IdempotencyRecord.user_id == user_id)
                .order_by(IdempotencyRecord.expires_at)
            ).all()
            deletion = _load_pending_deletion(session, user_id)
        views = self._sessions.list_of_account(credential, email)
        record = self._records.export_person(user_id)
        log.info("account.exported", user_id=str(user_id))
        return PersonExport(now, account, confirmation, *facts, views, mail_state, answers, deletion, record)

    def _load_mail_state(self, session: Session, user: User) -> MailState:
        """Return the stored state of the mails to the address of a confirmed account."""
        digest = user.address_digest or compute_address_digest(user.address_key)
        hashes = self._limits.compute_own_hashes(user.address_key)
        rows = ((scope, session.get(Mailbox, each)) for scope, each in hashes.items())
        link = session.get(SignInLink, self._limits.compute_sign_in_hash(digest))
        return MailState(
            [self._to_mail_count(scope, row) for scope, row in rows if row is not None],
            [
                RequestedMail(each.kind, each.email, each.requested_at, compute_request_expiry(each))
                for each in load_requests_to(session, digest)
            ],
            None if link is None else OpenLink(link.requested_at, link.requested_at + SIGN_IN_RENEWAL_LIFETIME),
        )

    def _to_mail_count(self, scope: PauseScope, row: Mailbox) -> MailCount:
        """Return what a mailbox's row counts."""
        expiry = self._limits.compute_expiry(row)
        return MailCount(scope, row.mails, row.last_mail_at, row.stopped_at, row.proved_at, expiry)


def _load_pending_deletion(session: Session, user_id: UUID) -> PendingDeletion | None:
    """Return the account's deletion that may still be cancelled; None if none was requested, or it was cancelled."""
    row = session.scalar(
        select(Deletion).where(Deletion.user_id == user_id, Deletion.step == DeletionStep.DELETE_INTERESTS)
    )
    if row is None:
        return None
    return PendingDeletion(row.deletion_id, row.requested_at, row.attempts, row.next_attempt_at)
