"""Use cases of signing in by a link in a mail, which is used once, and starts a session of a browser. ADR 53."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import uuid4

import structlog
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.credentials import SessionSecret
from chassis.db.database import Database
from chassis.metrics import Metrics
from user_manager import events
from user_manager.access import load_linked_account
from user_manager.accounts import Account
from user_manager.addresses import Address, compute_address_digest
from user_manager.errors import LinkExpiredError, LinkForgedError, LinkOrphanedError
from user_manager.links import SIGN_IN_RENEWAL_LIFETIME, LinkSigner, SignInLink
from user_manager.mail_requests import MailKind, delete_sign_in_requests_to, request_mail
from user_manager.mailbox_limits import Admission, MailboxLimits, PauseScope
from user_manager.model import OUTBOX, User
from user_manager.newcomers import Newcomer, add_newcomer
from user_manager.sign_in_links import is_sign_in_link_valid, store_sign_in_link, use_sign_in_link
from user_manager.web_sessions import SessionLifetimes, delete_session, start_session

log = structlog.get_logger()


class SignInOutcome(StrEnum):
    """The outcome of an attempt to sign in by a link; a metric label."""

    SIGNED_IN = "signed_in"
    EXPIRED = "expired"
    """The link was too old."""
    VOID = "void"
    """The link was used before, another was asked for since, or its account is gone."""
    FORGED = "forged"
    """The link is none of ours."""


@dataclass(frozen=True, slots=True)
class StartedSession:
    """A session that has just begun."""

    account: Account
    secret: SessionSecret
    """For the browser's cookie; it is not stored, and not shown again."""


class SignIns:
    """Use cases for people who have a mailbox and want a session. Safe for several threads.

    Each may raise DatabaseUnavailableError.
    """

    def __init__(
        self,
        database: Database,
        links: LinkSigner,
        limits: MailboxLimits,
        clock: Clock,
        lifetimes: SessionLifetimes,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._links = links
        self._limits = limits
        self._clock = clock
        self._lifetimes = lifetimes
        self._attempts = metrics.counter("sign_ins_total", "Attempts to sign in by a link in a mail", "outcome")
        for outcome in SignInOutcome:
            self._attempts.labels(outcome=outcome)  # from zero, so that the first one is an increase

    def request_link(self, address: Address, client: str | None = None, newcomer: Newcomer | None = None) -> None:
        """Request a mail with a link that signs in, if the mailbox may get one; that link voids all before it.

        Does the same whether the address has an account or not: what the mail offers is decided when it is sent. An
        address without a confirmed account gets the link that confirms it; if it has no account at all, one that is
        unconfirmed is made for the `newcomer` (None: none is). `client` identifies who causes the mail. Raises
        TooManyMailsError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            mailbox = self._limits.lock_mailbox(session, self._limits.compute_hash(address.key), now)
            admission = self._limits.admit_mail(session, mailbox, address, client, now, PauseScope.SIGN_IN)
            if newcomer is not None:
                add_newcomer(session, address, newcomer, now)
            if admission is not Admission.REFUSED:
                self._request_mail(session, address)

    def request_link_again(self, link_token: str, client: str | None = None) -> None:
        """Request a mail with a new link for whoever holds a link that has expired and was not used.

        Such a person reads the mailbox: no pause forbids the mail, so that no stranger keeps an owner out who asks for
        mails at night. The link before is void, so each of them asks for one mail. Raises LinkForgedError,
        LinkExpiredError (after seven days), LinkOrphanedError, TooManyMailsError.
        """
        link = self._links.parse_sign_in_link(link_token, SIGN_IN_RENEWAL_LIFETIME)
        now = self._clock.now()
        with self._database.transaction() as session:
            key = _load_user(session, link).address_key
            session.expire_all()
            self._limits.lock_mailbox(session, self._limits.compute_hash(key), now)
            user = _load_user(session, link)
            self._require_valid(session, user, link)
            self._limits.count_owners_mail(session, client, now)
            self._request_mail(session, Address(user.email))

    def check_link(self, link_token: str) -> Account:
        """Return the account that `sign_in` would sign in to by this link, without changing anything.

        Raises LinkForgedError, LinkExpiredError, LinkOrphanedError.
        """
        link = self._links.parse_sign_in_link(link_token)
        with self._database.reading() as session:
            user = _load_user(session, link)
            self._require_valid(session, user, link)
            return Account.from_user(user)

    def check_expired_link(self, link_token: str) -> None:
        """Check that `request_link_again` would take this link, without changing anything; raises its errors."""
        link = self._links.parse_sign_in_link(link_token, SIGN_IN_RENEWAL_LIFETIME)
        with self._database.reading() as session:
            self._require_valid(session, _load_user(session, link), link)

    def sign_in(self, link_token: str, device: str, replaced: SessionSecret | None = None) -> StartedSession:
        """Start a session, with a new secret, of the account that the link names; the link is void from then on.

        Ends the session `replaced`, whose cookie the new one overwrites; nothing else is taken from it. The link proves
        that the mailbox is read: a suppressed address gets mail again, and the pauses between such mails begin anew.
        Raises LinkForgedError, LinkExpiredError, LinkOrphanedError; each attempt is counted.
        """
        try:
            started = self._start_session(self._links.parse_sign_in_link(link_token), device, replaced)
        except LinkExpiredError:
            self._attempts.labels(outcome=SignInOutcome.EXPIRED).inc()
            raise
        except LinkOrphanedError:
            self._attempts.labels(outcome=SignInOutcome.VOID).inc()
            raise
        except LinkForgedError:
            self._attempts.labels(outcome=SignInOutcome.FORGED).inc()
            raise
        self._attempts.labels(outcome=SignInOutcome.SIGNED_IN).inc()
        log.info("session.started", user_id=str(started.account.user_id))
        return started

    def _start_session(self, link: SignInLink, device: str, replaced: SessionSecret | None) -> StartedSession:
        """Use the link and store the session, in one transaction. Raises LinkOrphanedError."""
        now = self._clock.now()
        with self._database.transaction() as session:
            found = _load_user(session, link)
            digest, address = _find_digest(found), Address(found.email)
            session.expire_all()
            self._limits.end_sign_in_pauses(session, address, now)
            is_used = use_sign_in_link(session, self._limits.compute_sign_in_hash(digest), link.mail_id)
            if not is_used:
                raise LinkOrphanedError(_VOID)
            user = _load_user(session, link, lock=True)
            _require_mailbox_since(user, link)
            if user.suppressed:
                user.confirmed_at = max(now, user.bounced_at or now)
                user.version += 1
                OUTBOX.add(session, [events.build_confirmed_event(user.user_id)])
            if replaced is not None:
                delete_session(session, replaced)
            secret = start_session(session, user.user_id, device, now, self._lifetimes)
            return StartedSession(Account.from_user(user), secret)

    def _request_mail(self, session: Session, address: Address) -> None:
        """Store the only link that signs in to this address from now on, and request its mail.

        A mail with the link before it is not sent any more. The caller holds the lock of the mailbox.
        """
        now, mail_id, digest = self._clock.now(), uuid4(), compute_address_digest(address.key)
        store_sign_in_link(session, self._limits.compute_sign_in_hash(digest), mail_id, now)
        delete_sign_in_requests_to(session, digest)
        request_mail(session, address, MailKind.SIGN_IN, uuid4(), mail_id, now)

    def _require_valid(self, session: Session, user: User, link: SignInLink) -> None:
        """Raise LinkOrphanedError unless the link may still be used by its account."""
        address_hash = self._limits.compute_sign_in_hash(_find_digest(user))
        if not is_sign_in_link_valid(session, address_hash, link.mail_id):
            raise LinkOrphanedError(_VOID)
        _require_mailbox_since(user, link)


def _load_user(session: Session, link: SignInLink, *, lock: bool = False) -> User:
    """Return the account that the link names; `lock` locks its row. Raises LinkOrphanedError if it is gone."""
    user = load_linked_account(session, link.user_id, lock=lock)
    if not user.confirmed:
        raise LinkOrphanedError(_VOID)
    return user


def _require_mailbox_since(user: User, link: SignInLink) -> None:
    """Raise LinkOrphanedError if mail to the address came back after the link was requested.

    The mail with the link was delivered before, perhaps to a mailbox that its owner has lost.
    """
    if user.bounced_at is not None and user.suppressed and link.requested_at <= user.bounced_at:
        raise LinkOrphanedError("Mail to this address came back since; ask for another mail.")


def _find_digest(user: User) -> str:
    """Return the digest of an account's address, also of a row that a version before has written."""
    return user.address_digest or compute_address_digest(user.address_key)


_VOID: Final = (
    "This link was used already, or another was asked for since; open the link in the latest mail, or ask for another."
)
