"""Registration of accounts, each at most once, and confirmation of their addresses."""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import structlog
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.db.outbox import OutboxMessage
from chassis.errors import ContendedError
from user_manager import events, tokens
from user_manager.access import AccountAuthorizer, load_linked_account
from user_manager.accounts import Account
from user_manager.addresses import Address
from user_manager.errors import (
    AddressTakenError,
    AlreadyConfirmedError,
    LinkExpiredError,
    StillInFlightError,
    TooSoonError,
)
from user_manager.idempotency import IdempotencyStore, IdempotentRequest
from user_manager.links import ConfirmationLink, LinkSigner
from user_manager.model import OUTBOX, ConfirmationState, User

log = structlog.get_logger()

MIN_CONFIRMATION_DELAY: Final = timedelta(minutes=1)
"""Minimum time between the first and the second confirmation mail of an account."""

MAX_CONFIRMATION_DELAY: Final = timedelta(days=1)
"""Upper limit of the minimum time between two confirmation mails of an account."""

_MICROSECOND: Final = timedelta(microseconds=1)


def compute_next_confirmation_time(last_requested_at: datetime, requests: int) -> datetime:
    """Compute the earliest time at which another confirmation mail may be requested.

    `requests` (at least 1) is the number of mails requested so far, the last at `last_requested_at`. Each delay is
    twice as long as the one before, up to a day: nobody can fill another person's mailbox through this service.
    """
    factor: int = 2 ** min(requests - 1, 20)
    return last_requested_at + min(MIN_CONFIRMATION_DELAY * factor, MAX_CONFIRMATION_DELAY)


@dataclass(frozen=True, slots=True)
class Registration:
    """A new account together with its token, which is not shown again."""

    account: Account
    token: str = field(repr=False)


class Registrations:
    """Use cases of registration and confirmation. Safe for several threads; each may raise DatabaseUnavailableError."""

    def __init__(
        self,
        database: Database,
        links: LinkSigner,
        authorizer: AccountAuthorizer,
        answers: IdempotencyStore,
        clock: Clock,
    ) -> None:
        self._database = database
        self._links = links
        self._authorizer = authorizer
        self._answers = answers
        self._clock = clock

    def register(
        self, address: Address, name: str, time_zone: str, idempotency_key: UUID | None = None
    ) -> Registration:
        """Create an unconfirmed account with a new token, and publish the event that requests a confirmation mail.

        Idempotent: a duplicate of an earlier request changes nothing and returns what the first one returned, as long
        as that answer is stored. Without an `idempotency_key` the arguments themselves identify the request. Raises
        AddressTakenError, IdempotencyKeyReusedError, and StillInFlightError if a concurrent request blocks this one.
        """
        body = json.dumps([address.key, address.email, name, time_zone]).encode()
        request = IdempotentRequest.from_key_and_body(idempotency_key, body)
        try:
            registration, is_new = self._create_account(request, address, name, time_zone)
        except IntegrityError:
            # A concurrent request committed first: its result decides now.
            registration, is_new = self._load_concurrent_registration(request, address), False
        except ContendedError:
            raise StillInFlightError("The same is being worked on already; ask again shortly.") from None
        if is_new:
            log.info("account.registered", user_id=str(registration.account.user_id))
        return registration

    def _create_account(
        self, request: IdempotentRequest, address: Address, name: str, time_zone: str
    ) -> tuple[Registration, bool]:
        """Insert the account, its stored answer and its event in one transaction, unless the request is a duplicate.

        Returns the registration, and True if it is new, False if an earlier duplicate of the request created it. Raises
        the errors of `register`, and IntegrityError if a concurrent request for the same key or address commits first.
        """
        now = self._clock.now()
        token = tokens.generate_token()
        user = User(
            user_id=uuid4(),
            email=address.email,
            address_key=address.key,
            name=name,
            time_zone=time_zone,
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
            earlier = self._load_earlier_registration(session, request, address, now)
            if earlier is not None:
                return earlier, False
            self._answers.record_answer(session, request, user.user_id, _encode_answer(registration), now)
            session.add(user)
            session.flush()
            OUTBOX.add(session, [_build_request_event(user)])
        return registration, True

    def _load_concurrent_registration(self, request: IdempotentRequest, address: Address) -> Registration:
        """Return the registration that a concurrent duplicate of this request has committed.

        Called after a constraint was violated: only the driver's text names the constraint, together with the address,
        so this queries the tables instead of parsing that text. Raises AddressTakenError, IdempotencyKeyReusedError,
        and StillInFlightError if the tables show no reason.
        """
        with self._database.reading() as session:
            earlier = self._load_earlier_registration(session, request, address, self._clock.now())
            if earlier is not None:
                return earlier
        raise StillInFlightError("Another request was in the way; ask again.")

    def _load_earlier_registration(
        self, session: Session, request: IdempotentRequest, address: Address, now: datetime
    ) -> Registration | None:
        """Return the registration that an earlier duplicate of this request created; None if the request is new.

        Raises AddressTakenError if another request has registered the address, and IdempotencyKeyReusedError.
        """
        # In this order. On MySQL each query sees what was committed before that query, so the duplicate may commit
        # between the two: if the first query sees its account, the second one must look for its answer, not before.
        is_taken = session.scalar(select(User.user_id).where(User.address_key == address.key)) is not None
        answer = self._answers.load_answer(session, request, now)
        if answer is not None:
            return _decode_answer(answer)
        if is_taken:
            raise AddressTakenError("This address is registered already.")
        return None

    def confirm(self, link_token: str) -> None:
        """Confirm the address that the link was mailed to, and end its suppression. Idempotent.

        Stores the time of confirmation, increases the version and publishes an event, but only if the address was
        unconfirmed or suppressed. Raises LinkForgedError, LinkExpiredError, LinkOrphanedError.
        """
        link = self._links.parse_confirmation_link(link_token)
        now = self._clock.now()
        with self._database.transaction() as session:
            user = _load_confirmable_user(session, link, lock=True)
            is_change = user.suppressed or not user.confirmed
            if is_change:
                user.confirmed = True
                # Not before the last bounce, which a replica whose clock is ahead may have recorded.
                user.confirmed_at = max(now, user.bounced_at or now)
                user.version += 1
                OUTBOX.add(session, [events.build_confirmed_event(user.user_id)])
        if is_change:
            log.info("account.confirmed", user_id=str(link.user_id))

    def check_confirmation_link(self, link_token: str) -> None:
        """Verify that `confirm` would accept this link, without changing anything.

        Raises LinkForgedError, LinkExpiredError, LinkOrphanedError.
        """
        link = self._links.parse_confirmation_link(link_token)
        with self._database.reading() as session:
            _load_confirmable_user(session, link)

    def request_confirmation_mail(self, token: str, email: str) -> None:
        """Publish an event that requests another confirmation mail to the account's address, also to a suppressed one.

        Records the time and the number of requests, which delay the next one (`compute_next_confirmation_time`). Raises
        TokenUnknownError, NotYoursError, AccountUnknownError, AlreadyConfirmedError, TooSoonError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            user = self._authorizer.load_account(session, token, email, lock=True)
            if user.confirmed and not user.suppressed:
                raise AlreadyConfirmedError("This address is confirmed already.")
            wait = compute_next_confirmation_time(user.confirmation_asked_at, user.confirmations_asked) - now
            if wait > timedelta(0):
                raise TooSoonError(
                    "The confirmation mail waits for the mail server and is tried again by itself; or ask again later."
                    if user.confirmation is ConfirmationState.WAITING
                    else "A confirmation mail was sent a short time ago; look for it, or ask again later.",
                    retry_after_s=-(-wait // timedelta(seconds=1)),
                )
            # After the last bounce, for the same reason as in `confirm`.
            user.confirmation_asked_at = max(now, (user.bounced_at or now - _MICROSECOND) + _MICROSECOND)
            user.confirmations_asked += 1
            user.confirmation_id, user.confirmation_state = uuid4(), None
            OUTBOX.add(session, [_build_request_event(user)])


def _build_request_event(user: User) -> OutboxMessage:
    """Build the event that requests the account's last confirmation mail from the notifier."""
    assert user.confirmation_id is not None  # noqa: S101 - for mypy: it is set with each request
    return events.build_registered_event(user.user_id, confirmation_id=user.confirmation_id)


def _load_confirmable_user(session: Session, link: ConfirmationLink, *, lock: bool = False) -> User:
    """Return the user whose address this link can confirm; `lock` locks the row.

    Raises LinkOrphanedError if the account is gone, and LinkExpiredError if the address is suppressed because mail to
    it bounced after the link was requested.
    """
    user = load_linked_account(session, link.user_id, lock=lock)
    # The mail with this link was delivered before the server rejected the address: the link proves nothing any more.
    if user.bounced_at is not None and user.suppressed and link.requested_at <= user.bounced_at:
        raise LinkExpiredError("Mail to this address came back after this link was asked for; ask for another mail.")
    return user


def _encode_answer(registration: Registration) -> bytes:
    """Encode a registration, token included, as the JSON text that the idempotency store keeps.

    Leaves out `suppressed`.
    """
    account = asdict(registration.account)
    del account["suppressed"]  # False for a new account; and replicas of the version before can read the answer
    account |= {"user_id": str(registration.account.user_id), "created_at": registration.account.created_at.isoformat()}
    return json.dumps({"account": account, "token": registration.token}).encode()


def _decode_answer(answer: bytes) -> Registration:
    """Return the registration (account and token) that `_encode_answer` encoded; `suppressed` is always False."""
    decoded = json.loads(answer)
    account = decoded["account"]
    account |= {"user_id": UUID(account["user_id"]), "created_at": datetime.fromisoformat(account["created_at"])}
    return Registration(Account(**account, suppressed=False), decoded["token"])
