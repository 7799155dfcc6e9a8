"""How an account comes to be, at most once, and how its address is confirmed."""

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
from chassis.errors import ContendedError
from user_manager import events, tokens
from user_manager.access import Access, require_account
from user_manager.accounts import Account
from user_manager.addresses import Address
from user_manager.errors import (
    AddressTakenError,
    AlreadyConfirmedError,
    LinkExpiredError,
    StillInFlightError,
    TooSoonError,
)
from user_manager.idempotency import IdempotentAnswers, IdempotentRequest
from user_manager.links import ConfirmationLink, Links
from user_manager.model import OUTBOX, User

log = structlog.get_logger()

FIRST_PAUSE: Final = timedelta(minutes=1)
LONGEST_PAUSE: Final = timedelta(days=1)

_INSTANT: Final = timedelta(microseconds=1)


def next_confirmation_at(asked_at: datetime, asked: int) -> datetime:
    """When another confirmation mail may be asked for, after `asked` of them (at least 1), the last at `asked_at`.

    Each pause is twice as long as the one before, up to a day: nobody can fill somebody else's mailbox with us.
    """
    doublings: int = 2 ** min(asked - 1, 20)
    return asked_at + min(FIRST_PAUSE * doublings, LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class Registration:
    """A new account and its token, which is shown this once."""

    account: Account
    token: str = field(repr=False)


class Registrations:
    """The use cases. Every one may raise DatabaseAwayError, and may be called by several threads at once."""

    def __init__(
        self, database: Database, links: Links, access: Access, answers: IdempotentAnswers, clock: Clock
    ) -> None:
        self._database = database
        self._links = links
        self._access = access
        self._answers = answers
        self._clock = clock

    def register(
        self, address: Address, name: str, time_zone: str, idempotency_key: UUID | None = None
    ) -> Registration:
        """Open an account, not confirmed yet, and announce it. The same again, with the same key, changes nothing.

        Returns what the first such request got. Without a key, the wish itself is the key.
        Raises AddressTakenError, IdempotencyKeyReusedError, StillInFlightError.
        """
        body = json.dumps([address.key, address.email, name, time_zone]).encode()
        request = IdempotentRequest.of(idempotency_key, body)
        try:
            registration, is_new = self._register(request, address, name, time_zone)
        except IntegrityError:
            # Another request was faster by a moment: what it committed decides now.
            registration, is_new = self._in_vain(request, address)
        except ContendedError:
            raise StillInFlightError("The same is being worked on already; ask again shortly.") from None
        if is_new:
            log.info("account.registered", user_id=str(registration.account.user_id))
        return registration

    def _register(
        self, request: IdempotentRequest, address: Address, name: str, time_zone: str
    ) -> tuple[Registration, bool]:
        now = self._clock.now()
        token = tokens.new_token()
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
            token_sha256=tokens.digest(token),
            confirmation_asked_at=now,
            confirmations_asked=1,
        )
        registration = Registration(Account.of(user), token)
        with self._database.transaction() as session:
            given = self._given(session, request, address, now)
            if given is not None:
                return given, False
            self._answers.record(session, request, user.user_id, _packed(registration), now)
            session.add(user)
            session.flush()
            OUTBOX.add(session, [events.registered(user.user_id, confirmation_id=uuid4())])
        return registration, True

    def _in_vain(self, request: IdempotentRequest, address: Address) -> tuple[Registration, bool]:
        """Why a constraint was violated stands only in the driver's text, with the address: look instead of reading."""
        with self._database.reading() as session:
            given = self._given(session, request, address, self._clock.now())
            if given is not None:
                return given, False
        raise StillInFlightError("Another request was in the way; ask again.")

    def _given(
        self, session: Session, request: IdempotentRequest, address: Address, now: datetime
    ) -> Registration | None:
        """What this request got before; None when it is new and may go on. Raises as `register` does."""
        # In this order. On MySQL each query sees what was committed before that query, so the same request may commit
        # between the two: whoever saw its account must look for its answer after that, and not before.
        taken = session.scalar(select(User.user_id).where(User.address_key == address.key)) is not None
        given = self._answers.given(session, request, now)
        if given is not None:
            return _unpacked(given)
        if taken:
            raise AddressTakenError("This address is registered already.")
        return None

    def confirm(self, link_token: str) -> None:
        """Confirm the address that the link was mailed to, and suppress it no longer; announced where that is news.

        Raises LinkForgedError, LinkExpiredError, LinkOrphanedError.
        """
        link = self._links.confirming(link_token)
        now = self._clock.now()
        with self._database.transaction() as session:
            user = _linked(session, link, lock=True)
            news = user.suppressed or not user.confirmed
            if news:
                user.confirmed = True
                # Not before the bounce that it answers: that may have been recorded by a replica whose clock is ahead.
                user.confirmed_at = max(now, user.bounced_at or now)
                user.version += 1
                OUTBOX.add(session, [events.confirmed(user.user_id)])
        if news:
            log.info("account.confirmed", user_id=str(link.user_id))

    def check_link(self, link_token: str) -> None:
        """Say whether `confirm` could do something with this link, and change nothing. Raises as `confirm` does."""
        link = self._links.confirming(link_token)
        with self._database.reading() as session:
            _linked(session, link)

    def ask_confirmation(self, token: str, email: str) -> None:
        """Have another confirmation mail sent to the account's address, also when that is suppressed.

        Raises TokenUnknownError, NotYoursError, AccountUnknownError, AlreadyConfirmedError, TooSoonError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            user = self._access.account(session, token, email, lock=True)
            if user.confirmed and not user.suppressed:
                raise AlreadyConfirmedError("This address is confirmed already.")
            wait = next_confirmation_at(user.confirmation_asked_at, user.confirmations_asked) - now
            if wait > timedelta(0):
                raise TooSoonError(
                    "A confirmation mail was sent a short time ago; look for it, or ask again later.",
                    retry_after_s=-(-wait // timedelta(seconds=1)),
                )
            # After the bounce that is known, for the same reason as in `confirm`.
            user.confirmation_asked_at = max(now, (user.bounced_at or now - _INSTANT) + _INSTANT)
            user.confirmations_asked += 1
            OUTBOX.add(session, [events.registered(user.user_id, confirmation_id=uuid4())])


def _linked(session: Session, link: ConfirmationLink, *, lock: bool = False) -> User:
    """The user whose address this link can confirm. Raises LinkOrphanedError, LinkExpiredError."""
    user = require_account(session, link.user_id, lock=lock)
    # The mail with it reached somebody before the server said that there is nobody: that proves nothing any more.
    if user.bounced_at is not None and user.suppressed and link.wished_at <= user.bounced_at:
        raise LinkExpiredError("Mail to this address came back after this link was asked for; ask for another mail.")
    return user


def _packed(registration: Registration) -> bytes:
    account = asdict(registration.account)
    del account["suppressed"]  # a new account is not; and replicas of the version before can read the answer
    account |= {"user_id": str(registration.account.user_id), "created_at": registration.account.created_at.isoformat()}
    return json.dumps({"account": account, "token": registration.token}).encode()


def _unpacked(answer: bytes) -> Registration:
    packed = json.loads(answer)
    account = packed["account"]
    account |= {"user_id": UUID(account["user_id"]), "created_at": datetime.fromisoformat(account["created_at"])}
    return Registration(Account(**account, suppressed=False), packed["token"])
