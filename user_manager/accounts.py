"""What people and the other services can do with accounts that exist."""

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import and_, func, or_, select, update

from chassis.db.database import Database
from user_manager import tokens
from user_manager.access import EXISTS, Access, owner, require_account
from user_manager.addresses import lookup_key
from user_manager.errors import BadCursorError, TooManyUsersError, VersionMismatchError
from user_manager.links import Links
from user_manager.model import User

log = structlog.get_logger()

MOST_CONTACTS: Final = 500
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
    """Whether the person wants no alerts at present."""
    suppressed: bool
    """Whether mail to the address came back, so that none is sent there until it is confirmed once more."""
    created_at: datetime
    version: int
    """Grows with every change."""

    @classmethod
    def of(cls, user: User) -> "Account":
        return cls(
            user_id=user.user_id,
            email=user.email,
            name=user.name,
            time_zone=user.time_zone,
            confirmed=user.confirmed,
            paused=user.paused,
            suppressed=user.suppressed,
            created_at=user.created_at,
            version=user.version,
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What an owner wants to be otherwise. None: as it is."""

    name: str | None = None
    time_zone: str | None = None
    paused: bool | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some of all accounts, oldest first."""

    accounts: list[Account]
    next_cursor: str | None
    """Where the next page begins, opaque and URL-safe; None on the last page."""


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
    """Empty when no confirmation mail may go to the address."""
    unsubscribe_url: str


class Accounts:
    """The use cases. Every one may raise DatabaseAwayError, and may be called by several threads at once."""

    def __init__(self, database: Database, links: Links, access: Access) -> None:
        self._database = database
        self._links = links
        self._access = access

    def get(self, token: str, email: str) -> Account:
        """The account with this address. Raises TokenUnknownError, NotYoursError, AccountUnknownError."""
        with self._database.reading() as session:
            return Account.of(self._access.account(session, token, email))

    def page(self, token: str, cursor: str | None, limit: int) -> Page:
        """At most `limit` accounts, from where the cursor points; for the operator.

        An account that is made while somebody turns the pages is on the last one; none is there twice or left out.
        Raises TokenUnknownError, NotOperatorError, BadCursorError.
        """
        query = select(User).where(EXISTS).order_by(User.created_at, User.user_id).limit(limit + 1)
        with self._database.reading() as session:
            self._access.require_operator(session, token)
            if cursor is not None:
                after, last = _read_cursor(cursor)
                query = query.where(or_(User.created_at > after, and_(User.created_at == after, User.user_id > last)))
            accounts = [Account.of(user) for user in session.scalars(query)]
        more = len(accounts) > limit
        return Page(accounts[:limit], _cursor(accounts[limit - 1]) if more else None)

    def change(self, token: str, email: str, version: int | None, change: Change) -> Account:
        """Change the account with this address, if it still is at `version` (None: at whichever).

        Returns what it is now. Raises as `get` does, VersionMismatchError.
        """
        with self._database.transaction() as session:
            user = self._access.account(session, token, email, lock=True)
            if version is not None and user.version != version:
                raise VersionMismatchError("The account was changed meanwhile; read it again.")
            before = Account.of(user)
            if change.name is not None:
                user.name = change.name
            if change.time_zone is not None:
                user.time_zone = change.time_zone
            if change.paused is not None:
                user.paused = change.paused
            if Account.of(user) != before:
                user.version += 1
            return Account.of(user)

    def rotate_token(self, token: str, email: str) -> str:
        """Give the account a new token, which is shown this once; the one before is void from now on.

        Raises as `get` does.
        """
        new = tokens.new_token()
        with self._database.transaction() as session:
            user = self._access.account(session, token, email, lock=True)
            user.token_sha256 = tokens.digest(new)
            user_id = user.user_id
        log.info("account.token_rotated", user_id=str(user_id))
        return new

    def exists(self, token: str, email: str) -> bool:
        """Whether an account has this address; for the operator. Raises TokenUnknownError, NotOperatorError."""
        with self._database.reading() as session:
            self._access.require_operator(session, token)
        return self.verify(email)

    def verify(self, email: str) -> bool:
        """Whether an account has this address; for the other services."""
        key = lookup_key(email)
        if key is None:
            return False
        with self._database.reading() as session:
            return session.scalar(select(User.user_id).where(User.address_key == key, EXISTS)) is not None

    def check_unsubscribe(self, link_token: str) -> None:
        """Say whether `unsubscribe` could do something, and change nothing. Raises as it does."""
        user_id = self._links.unsubscribing(link_token)
        with self._database.reading() as session:
            require_account(session, user_id)

    def unsubscribe(self, link_token: str) -> None:
        """Pause all alerts of the user whose mail the link came with. Safe to repeat.

        Raises LinkForgedError, LinkOrphanedError.
        """
        user_id = self._links.unsubscribing(link_token)
        with self._database.transaction() as session:
            first = session.connection().execute(
                update(User)
                .where(User.user_id == user_id, User.paused.is_(False), EXISTS)
                .values(paused=True, version=User.version + 1)
            )
            if first.rowcount == 0:
                require_account(session, user_id)
        if first.rowcount == 1:
            log.info("account.unsubscribed", user_id=str(user_id))

    def authenticate(self, token: str) -> Identity:
        """Whose token it is; the operator's is no user's. Raises TokenUnknownError."""
        with self._database.reading() as session:
            user = owner(session, token)
            return Identity(user.user_id, user.confirmed)

    def contacts(self, user_ids: Sequence[str]) -> list[Contact]:
        """What mails to these users need, in no order; who does not exist is left out.

        So is what is no UUID at all: one wrong id among many must not cost the others their mail.
        Raises TooManyUsersError for more than `MOST_CONTACTS`.
        """
        if len(user_ids) > MOST_CONTACTS:
            raise TooManyUsersError(f"Ask for at most {MOST_CONTACTS} users in one call.")
        with self._database.reading() as session:
            users = session.scalars(select(User).where(User.user_id.in_(list(_uuids(user_ids))), EXISTS)).all()
        return [
            Contact(
                Account.of(user),
                self._links.confirmation_url(user.user_id, user.confirmation_asked_at) if user.confirmable else "",
                self._links.unsubscription_url(user.user_id),
            )
            for user in users
        ]

    def count(self) -> int:
        """How many accounts exist."""
        with self._database.reading() as session:
            return session.scalar(select(func.count()).select_from(User).where(EXISTS)) or 0


def _uuids(texts: Iterable[str]) -> Iterator[UUID]:
    for text in texts:
        with suppress(ValueError):
            yield UUID(text)


def _cursor(account: Account) -> str:
    return base64.urlsafe_b64encode(f"{account.created_at.isoformat()} {account.user_id}".encode()).decode("ascii")


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        created_at, _, user_id = (
            base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode().partition(" ")
        )
        instant = datetime.fromisoformat(created_at)
        if instant.tzinfo is None:
            raise ValueError
        return instant.astimezone(UTC), UUID(user_id)
    except (binascii.Error, ValueError, OverflowError):
        raise BadCursorError("This cursor is not one of ours; begin without one.") from None
