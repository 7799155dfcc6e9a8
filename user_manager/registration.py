"""Registration of accounts, each at most once, and confirmation of their addresses."""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import structlog
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.credentials import Credential, SessionSecret
from chassis.db.database import Database
from chassis.errors import ContendedError
from chassis.texts import DEFAULT_LANGUAGE
from user_manager import events, tokens
from user_manager.access import AccountAuthorizer, find_account, find_account_of_address
from user_manager.accounts import Account
from user_manager.addresses import Address, compute_address_digest
from user_manager.deletion.erasure import erase_account
from user_manager.errors import (
    AlreadyConfirmedError,
    LinkExpiredError,
    LinkOrphanedError,
    StillInFlightError,
    TooSoonError,
)
from user_manager.idempotency import IdempotencyStore, IdempotentRequest
from user_manager.links import ConfirmationLink, LinkSigner
from user_manager.mail_requests import MailKind, request_mail
from user_manager.mailbox_limits import Admission, MailboxLimits
from user_manager.model import OUTBOX, ConfirmationState, Deletion, Mailbox, User
from user_manager.web_sessions import SessionLifetimes, delete_session, delete_sessions_of_user, start_session

log = structlog.get_logger()

_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Registration:
    """A new account together with its token, which is not shown again."""

    account: Account
    token: str | None = field(repr=False)
    """None in the answer to a repeated request without an Idempotency-Key: anybody can repeat a body."""


@dataclass(frozen=True, slots=True)
class ConfirmedAddress:
    """The account whose address a link has confirmed, now or before."""

    account: Account
    new_token: str | None = field(repr=False)
    """The token that replaces the account's earlier one, which is not shown again; None: that one stays valid."""
    secret: SessionSecret | None = None
    """Of the session of the browser that has confirmed; None: none was asked for, or the address was confirmed before.
    """


class Registrations:
    """Use cases of registration and confirmation. Safe for several threads; each may raise DatabaseUnavailableError.

    A session raises SessionUnknownError where a token raises TokenUnknownError.
    """

    def __init__(
        self,
        database: Database,
        links: LinkSigner,
        authorizer: AccountAuthorizer,
        answers: IdempotencyStore,
        limits: MailboxLimits,
        clock: Clock,
        lifetimes: SessionLifetimes,
    ) -> None:
        self._lifetimes = lifetimes
        self._database = database
        self._links = links
        self._authorizer = authorizer
        self._answers = answers
        self._limits = limits
        self._clock = clock

    def register(
        self,
        address: Address,
        name: str,
        time_zone: str,
        idempotency_key: UUID | None = None,
        client: str | None = None,
        language: str | None = None,
    ) -> Registration:
        """Create an unconfirmed account with a new token, and request a confirmation mail if the mailbox may get one.

        Replaces an unconfirmed account with the address. If the address also has a confirmed account, that one is
        neither read nor changed, so that nobody can tell (ADR 28). Idempotent: a duplicate of an earlier request
        changes nothing and returns what the first one returned, as long as that answer is stored; without an
        `idempotency_key` the arguments themselves identify the request, and a duplicate gets no token. `client`
        identifies who causes the mail; `language` is that of the pages (None: English). Raises
        IdempotencyKeyReusedError, TooManyMailsError, and StillInFlightError if a concurrent request blocks this one.
        """
        # Without a language as the version before has it: replicas of both may get a request and its duplicate.
        body = json.dumps([address.key, address.email, name, time_zone, *([language] if language else [])]).encode()
        request = IdempotentRequest.from_key_and_body(idempotency_key, body)
        try:
            registration, is_new = self._create_account(request, address, name, time_zone, language, client)
        except IntegrityError:
            # A concurrent request with the same key, for another address, committed first: its result decides now.
            registration, is_new = self._load_concurrent_registration(request), False
        except ContendedError:
            raise StillInFlightError("The same is being worked on already; ask again shortly.") from None
        if is_new:
            log.info("account.registered", user_id=str(registration.account.user_id))
        return registration

    def _create_account(
        self,
        request: IdempotentRequest,
        address: Address,
        name: str,
        time_zone: str,
        language: str | None,
        client: str | None,
    ) -> tuple[Registration, bool]:
        """Insert the account, its stored answer and the mail's request in one transaction, unless it is a duplicate.

        Returns the registration, and True if it is new, False if an earlier duplicate of the request created it. Raises
        the errors of `register`, and IntegrityError if a concurrent request with the same key commits first.
        """
        now = self._clock.now()
        token = tokens.generate_token()
        user = User(
            user_id=uuid4(),
            email=address.email,
            address_key=address.key,
            address_digest=compute_address_digest(address.key),
            name=name,
            time_zone=time_zone,
            language=language,
            confirmed=False,
            paused=False,
            created_at=now,
            version=1,
            token_sha256=tokens.compute_digest(token),
            confirmation_asked_at=now,
            confirmations_asked=1,
            confirmation_id=uuid4(),
        )
        registration = Registration(Account.from_user(user), token)
        with self._database.transaction() as session:
            # Locks the registrations of this address, so the earlier answer and account are found below.
            mailbox = self._limits.lock_mailbox(session, self._limits.compute_hash(address.key), now)
            earlier = self._answers.load_answer(session, request, now)
            if earlier is not None:
                return _decode_answer(earlier), False
            answer = registration if request.has_key else replace(registration, token=None)
            self._answers.record_answer(session, request, user.user_id, _encode_answer(answer), now)
            earlier_state = self._erase_unconfirmed_account(session, address)
            admission = self._limits.admit_mail(session, mailbox, address, client, now)
            _request_admitted_mail(session, user, admission, now, earlier_state)
            session.add(user)
            session.flush()
        return registration, True

    def _erase_unconfirmed_account(self, session: Session, address: Address) -> str | None:
        """Erase the unconfirmed account with this address; return the state of its mail, None if there is none."""
        query = select(User).where(User.address_key == address.key, User.confirmed.is_(False)).with_for_update()
        user = session.scalar(query)
        if user is None:
            return None
        state = user.confirmation_state
        session.expunge(user)
        erase_account(session, user.user_id)
        return state

    def _load_concurrent_registration(self, request: IdempotentRequest) -> Registration:
        """Return the registration that a concurrent duplicate of this request has committed.

        Called after a constraint was violated: only the driver's text names the constraint, together with the address,
        so this queries the tables instead of parsing that text. Raises IdempotencyKeyReusedError, and
        StillInFlightError if the tables show no reason.
        """
        with self._database.reading() as session:
            answer = self._answers.load_answer(session, request, self._clock.now())
        if answer is not None:
            return _decode_answer(answer)
        raise StillInFlightError("Another request was in the way; ask again.")

    def confirm(
        self,
        link_token: str,
        proof: str | None = None,
        *,
        name: str | None = None,
        language: str | None = None,
        device: str | None = None,
        replaced: SessionSecret | None = None,
    ) -> ConfirmedAddress:
        """Confirm the address that the link was mailed to, and end its suppression. Idempotent.

        If the address was unconfirmed, the account's token is replaced, unless `proof` is that token: whoever asked for
        it need not own the address (ADR 28). Stores the time of confirmation, increases the version and publishes an
        event, but only if the address was unconfirmed or suppressed; then account mails to the mailbox are no longer
        stopped, mails to sign in need no pause any more, and all sessions of the account end. Only if the address was
        unconfirmed, `name` becomes the person's name (None: it stays). Where a new token is handed out, alerts are not
        paused, corrections are as for a new account, `language` becomes the person's (None: it stays), and a session of
        the browser `device` starts (None: none) in place of the session `replaced`: it opens no more than the token.
        Raises LinkForgedError, LinkExpiredError, LinkOrphanedError.
        """
        link = self._links.parse_confirmation_link(link_token)
        now = self._clock.now()
        new_token = secret = None
        with self._database.transaction() as session:
            found = self._load_confirmable_user(session, link)
            address_key, is_proof = found.address_key, found.suppressed or not found.confirmed
            session.expire_all()
            mailbox = self._limits.lock_mailbox(session, self._limits.compute_hash(address_key), now)
            if is_proof:  # before the account is locked, in the order of signing in
                self._limits.end_sign_in_pauses(session, Address(address_key), now)
            user = self._load_confirmable_user(session, link, lock=True)
            is_change = user.suppressed or not user.confirmed
            if is_change:
                if not user.confirmed:
                    _make_room_for_confirmed_account(session, user)
                    if proof is None or tokens.compute_digest(proof) != user.token_sha256:
                        new_token = tokens.generate_token()
                        user.token_sha256 = tokens.compute_digest(new_token)
                        # A stranger who registered the address may have chosen these.
                        user.paused, user.corrections = False, None
                        user.language = language or user.language
                    user.name = user.name if name is None else name
                delete_sessions_of_user(session, user.user_id)
                if new_token is not None and device is not None:
                    if replaced is not None:
                        delete_session(session, replaced)
                    secret = start_session(session, user.user_id, device, now, self._lifetimes)
                user.confirmed = True
                # Not before the last bounce, which a replica whose clock is ahead may have recorded.
                user.confirmed_at = max(now, user.bounced_at or now)
                user.version += 1
                mailbox.stopped_at, mailbox.touched_at = None, now
                proof_of = self._limits.lock_mailbox(session, self._limits.compute_proof_hash(address_key), now)
                proof_of.proved_at, proof_of.touched_at = now, now
                OUTBOX.add(session, [events.build_confirmed_event(user.user_id)])
            account = Account.from_user(user)
        if is_change:
            log.info("account.confirmed", user_id=str(account.user_id))
        return ConfirmedAddress(account, new_token, secret)

    def check_confirmation_link(self, link_token: str) -> Account:
        """Return the account that `confirm` would confirm by this link, without changing anything.

        Raises LinkForgedError, LinkExpiredError, LinkOrphanedError.
        """
        link = self._links.parse_confirmation_link(link_token)
        with self._database.reading() as session:
            return Account.from_user(self._load_confirmable_user(session, link))

    def request_confirmation_mail(self, credential: Credential, email: str, client: str | None = None) -> None:
        """Request another confirmation mail to the account's address, also to a suppressed one.

        The mail goes out if the mailbox may get one (`MailboxLimits`); the answer for an unconfirmed account does not
        tell. The owner of a confirmed account thereby ends
        the stop of these mails. Raises TokenUnknownError, NotYoursError, AccountUnknownError, AlreadyConfirmedError,
        TooSoonError, TooManyMailsError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            address_key = self._authorizer.load_account(session, credential, email).address_key
            session.expire_all()
            mailbox = self._limits.lock_mailbox(session, self._limits.compute_hash(address_key), now)
            user = self._authorizer.load_account(session, credential, email, lock=True)
            if user.confirmed and not user.suppressed:
                raise AlreadyConfirmedError("This address is confirmed already.")
            wait = self._compute_wait_to_ask(session, user, mailbox, now)
            if wait > timedelta(0):
                raise TooSoonError(
                    "The confirmation mail waits for the mail server and is tried again by itself; or ask again later."
                    if user.confirmation is ConfirmationState.WAITING
                    else "A confirmation mail was sent a short time ago; look for it, or ask again later.",
                    retry_after_s=-(-wait // timedelta(seconds=1)),
                )
            if user.confirmed:
                mailbox.stopped_at = None
            # After the last bounce, for the same reason as in `confirm`.
            asked_at = max(now, (user.bounced_at or now - _MICROSECOND) + _MICROSECOND)
            user.confirmation_asked_at = asked_at
            user.confirmations_asked += 1
            user.confirmation_id, user.confirmation_state = uuid4(), None
            admission = self._limits.admit_mail(session, mailbox, Address(user.email), client, now)
            if admission is Admission.HIDDEN and user.confirmed:
                admission = Admission.OPEN  # the holder is the owner
            _request_admitted_mail(session, user, admission, asked_at)

    def _compute_wait_to_ask(self, session: Session, user: User, mailbox: Mailbox, now: datetime) -> timedelta:
        """Return how long the holder of an account is refused another confirmation mail; 0 if they may ask now.

        For an unconfirmed account only its own requests count: whoever registered need not own the mailbox, and must
        not learn that mails went there before.
        """
        if user.confirmed:
            return self._limits.compute_owners_wait(session, mailbox, Address(user.email), now)
        return self._limits.compute_wait_after(user.confirmations_asked, user.confirmation_asked_at, now)

    def _load_confirmable_user(self, session: Session, link: ConfirmationLink, *, lock: bool = False) -> User:
        """Return the account whose address this link can confirm; `lock` locks the row.

        It is the account that the link names or, after that was replaced or deleted, the one that its address has now.
        Raises LinkOrphanedError if there is none, if it will be deleted, or if it is not confirmed and such a link was
        used before, and LinkExpiredError if the address is suppressed because mail to it bounced after the link was
        requested.
        """
        user = find_account(session, link.user_id, lock=lock)
        if user is None and link.address_digest:
            user = find_account_of_address(session, link.address_digest, lock=lock)
            if user is not None:
                row = session.get(Mailbox, self._limits.compute_proof_hash(user.address_key))
                was_used = row is not None and row.proved_at is not None and link.requested_at <= row.proved_at
                if was_used and not user.confirmed:
                    raise LinkOrphanedError("This link was used already; register again for another mail.")
        if user is None:
            raise LinkOrphanedError(
                "No account has this address: none was registered, or it was deleted. Register, "
                "then open this link once more."
            )
        if not user.confirmed and session.scalar(select(Deletion.step).where(Deletion.user_id == user.user_id)):
            raise LinkOrphanedError("The account that this link belongs to was deleted; register again.")
        # The mail with this link was delivered before the server rejected the address: the link proves nothing any
        # more.
        if user.bounced_at is not None and user.suppressed and link.requested_at <= user.bounced_at:
            raise LinkExpiredError(
                "Mail to this address came back after this link was asked for; ask for another mail."
            )
        return user


def _request_admitted_mail(
    session: Session, user: User, admission: Admission, now: datetime, earlier_state: str | None = None
) -> None:
    """Request the confirmation mail of an account unless it is REFUSED.

    Only of an OPEN one the account shows how far it is. For any other it goes on showing `earlier_state` (None: sent),
    whatever becomes of a HIDDEN mail.
    """
    assert user.confirmation_id is not None  # noqa: S101 - for mypy: the callers have set it
    mail_id = user.confirmation_id
    if admission is not Admission.OPEN:
        # The mail before has a link that confirms this account, too (`compute_address_digest`), or the address waits.
        user.confirmation_state = earlier_state or ConfirmationState.SENT
        mail_id = uuid4()
    if admission is not Admission.REFUSED:
        request_mail(session, Address(user.email), MailKind.CONFIRMATION, user.user_id, mail_id, now)


def _make_room_for_confirmed_account(session: Session, user: User) -> None:
    """Erase a confirmed account with the address of `user` whose deletion has passed the pivot.

    Raises LinkOrphanedError if the address has a confirmed account that exists.
    """
    others = session.scalars(
        select(User).where(User.address_key == user.address_key, User.confirmed.is_(True)).with_for_update()
    ).all()
    for other in others:
        if find_account(session, other.user_id) is not None:
            raise LinkOrphanedError(
                "This address has a confirmed account already; if its token is lost, POST /users/token mails a new one."
            )
        session.expunge(other)
        erase_account(session, other.user_id)


def _encode_answer(registration: Registration) -> bytes:
    """Encode a registration, token included, as the JSON text that the idempotency store keeps.

    Leaves out `suppressed` and `corrections`; `language` stands beside the account.
    """
    account = asdict(registration.account)
    # Known of a new account; and so replicas of the versions before can read the answer, and this one can read theirs.
    del account["suppressed"], account["corrections"], account["language"]
    account |= {"user_id": str(registration.account.user_id), "created_at": registration.account.created_at.isoformat()}
    encoded = {"account": account, "token": registration.token, "language": registration.account.language}
    return json.dumps(encoded).encode()


def _decode_answer(answer: bytes) -> Registration:
    """Return the registration (account and token) that `_encode_answer` encoded; the rest is as in a new account."""
    decoded = json.loads(answer)
    account = decoded["account"]
    account |= {"user_id": UUID(account["user_id"]), "created_at": datetime.fromisoformat(account["created_at"])}
    language = decoded.get("language", DEFAULT_LANGUAGE)
    return Registration(Account(**account, language=language, suppressed=False, corrections=True), decoded["token"])
