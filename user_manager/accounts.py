"""What people can do with accounts. Each use case decides, and commits state and event in one transaction."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid4

import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.exc import (
    IntegrityError,
)
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import DatabaseAwayError
from user_manager import events, tokens
from user_manager.addresses import Address, lookup_key
from user_manager.errors import (
    AccountUnknownError,
    AddressTakenError,
    LinkOrphanedError,
    NotYoursError,
    TokenUnknownError,
    TooManyUsersError,
)
from user_manager.links import Links
from user_manager.model import OUTBOX, User

log = structlog.get_logger()

MOST_CONTACTS = 500
"""Users that one call of `contacts` may ask for."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the owner of an account sees of it."""

    user_id: UUID
    email: str
    name: str
    time_zone: str
    """IANA name."""
    confirmed: bool
    paused: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Registration:
    """A new account and its token, which is shown this once."""

    account: Account
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose token it is."""

    user_id: UUID
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Contact:
    """What a mail to a user needs."""

    account: Account
    confirm_url: str
    """Empty when the address is confirmed."""


class Interests(Protocol):
    """What accounts need of the service that keeps interests."""

    def delete_interests(self, user_id: UUID) -> None:
        """Idempotent. Raises CollectorAwayError, CollectorRefusedError."""
        ...


class Accounts:
    """The use cases. Every one may raise DatabaseAwayError, and may be called by several threads at once."""

    def __init__(
        self, database: Database, interests: Interests, links: Links, clock: Clock, operator_token: str
    ) -> None:
        self._database = database
        self._interests = interests
        self._links = links
        self._clock = clock
        self._operator_token = operator_token

    def register(self, address: Address, name: str, time_zone: str) -> Registration:
        """Open an account, not confirmed yet, and announce it. Raises AddressTakenError."""
        token = tokens.new_token()
        user = User(
            user_id=uuid4(),
            email=address.email,
            address_key=address.key,
            name=name,
            time_zone=time_zone,
            confirmed=False,
            paused=False,
            created_at=self._clock.now(),
            token_sha256=tokens.digest(token),
        )
        try:
            with self._database.transaction() as session:
                session.add(user)
                session.flush()
                OUTBOX.add(session, [events.registered(user.user_id, confirmation_id=uuid4())])
        except IntegrityError:
            # Which constraint it was stands only in the driver's text, with the address: look instead of reading it.
            if self._is_taken(address):
                raise AddressTakenError("This address is registered already.") from None
            raise DatabaseAwayError("Another request was in the way; try again.") from None
        log.info("account.registered", user_id=str(user.user_id))
        return Registration(_account(user), token)

    def confirm(self, link_token: str) -> None:
        """Confirm the address that the link was mailed to; announced the first time only.

        Raises LinkForgedError, LinkExpiredError, LinkOrphanedError.
        """
        user_id = self._links.user_of(link_token)
        with self._database.transaction() as session:
            first = session.connection().execute(
                update(User).where(User.user_id == user_id, User.confirmed.is_(False)).values(confirmed=True)
            )
            if first.rowcount == 1:
                OUTBOX.add(session, [events.confirmed(user_id)])
            elif session.get(User, user_id) is None:
                raise LinkOrphanedError("The account that this link belongs to was deleted.")
        if first.rowcount == 1:
            log.info("account.confirmed", user_id=str(user_id))

    def check_link(self, link_token: str) -> None:
        """Say whether `confirm` could do something with this link, and change nothing. Raises as `confirm` does."""
        user_id = self._links.user_of(link_token)
        with self._database.transaction() as session:
            if session.get(User, user_id) is None:
                raise LinkOrphanedError("The account that this link belongs to was deleted.")

    def get(self, token: str, email: str) -> Account:
        """The account with this address. Raises TokenUnknownError, NotYoursError, AccountUnknownError."""
        with self._database.transaction() as session:
            return _account(self._permitted(session, token, email))

    def delete(self, token: str, email: str) -> None:
        """Erase the account with this address, and everything that it was to be told. Safe to repeat.

        The interests go first (the pivot): while that fails, nothing is touched here. Blocks on the collector, but
        holds no lock meanwhile. Raises as `get` does, CollectorAwayError, CollectorRefusedError.
        """
        with self._database.transaction() as session:
            user_id = self._permitted(session, token, email).user_id
        self._interests.delete_interests(user_id)
        with self._database.transaction() as session:
            gone = session.connection().execute(delete(User).where(User.user_id == user_id))
            if gone.rowcount == 1:  # else another request was faster, and has announced it
                OUTBOX.add(session, [events.deleted(user_id)])
        log.info("account.deleted", user_id=str(user_id))

    def authenticate(self, token: str) -> Identity:
        """Whose token it is; the operator's is no user's. Raises TokenUnknownError."""
        with self._database.transaction() as session:
            user = _owner(session, token)
            return Identity(user.user_id, user.confirmed)

    def contacts(self, user_ids: Sequence[str]) -> list[Contact]:
        """What mails to these users need, in no order; who does not exist is left out.

        So is what is no UUID at all: one wrong id among many must not cost the others their mail.
        Raises TooManyUsersError for more than `MOST_CONTACTS`.
        """
        if len(user_ids) > MOST_CONTACTS:
            raise TooManyUsersError(f"Ask for at most {MOST_CONTACTS} users in one call.")
        with self._database.transaction() as session:
            users = session.scalars(select(User).where(User.user_id.in_(list(_uuids(user_ids))))).all()
        return [Contact(_account(user), "" if user.confirmed else self._links.url(user.user_id)) for user in users]

    def _permitted(self, session: Session, token: str, email: str) -> User:
        """The account with this address, if the token may touch it: its owner's or the operator's."""
        key = lookup_key(email)
        if not tokens.same(token, self._operator_token):
            user = _owner(session, token)
            if user.address_key != key:
                raise NotYoursError("This token is for another account.")
            return user
        found = session.scalar(select(User).where(User.address_key == key)) if key else None
        if found is None:
            raise AccountUnknownError("No account has this address.")
        return found

    def _is_taken(self, address: Address) -> bool:
        with self._database.transaction() as session:
            return session.scalar(select(User.user_id).where(User.address_key == address.key)) is not None


def _owner(session: Session, token: str) -> User:
    user = session.scalar(select(User).where(User.token_sha256 == tokens.digest(token)))
    if user is None:
        raise TokenUnknownError("This token is nobody's.")
    return user


def _uuids(texts: Iterable[str]) -> Iterator[UUID]:
    for text in texts:
        with suppress(ValueError):
            yield UUID(text)


def _account(user: User) -> Account:
    return Account(user.user_id, user.email, user.name, user.time_zone, user.confirmed, user.paused, user.created_at)
