"""Authorization: a user may access their own account, the operator may access every account."""

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.credentials import Credential, SessionSecret
from user_manager import tokens
from user_manager.addresses import compute_lookup_key
from user_manager.deletion.steps import DeletionStep
from user_manager.errors import (
    AccountUnknownError,
    LinkOrphanedError,
    NotOperatorError,
    NotYoursError,
    SessionUnknownError,
    TokenUnknownError,
)
from user_manager.model import Deletion, User, WebSession
from user_manager.web_sessions import SessionLifetimes, find_session

ACCOUNT_EXISTS: Final[ColumnElement[bool]] = ~exists().where(
    Deletion.user_id == User.user_id, Deletion.step != DeletionStep.DELETE_INTERESTS
)
"""SQL condition on `User`: the account's deletion has not passed the pivot. Past it an account no longer exists."""


@dataclass(frozen=True, slots=True)
class AccountAuthorizer:
    """A check of credentials before a use case may use an account: an owner's token or session opens that one only.

    The operator's token, which belongs to no account, opens all accounts and the operations of the operator.
    """

    operator_token: str = field(repr=False)
    clock: Clock
    lifetimes: SessionLifetimes

    def load_account(
        self,
        session: Session,
        credential: Credential,
        email: str,
        *,
        lock: bool = False,
        include_deleting: bool = False,
    ) -> User:
        """Return the account with this address if `credential` is its owner's, or the operator's token.

        The operator gets the confirmed account of an address that has an unconfirmed one beside it. An account whose
        deletion has passed the pivot does not exist; `include_deleting` lets the operator load it. `lock` locks the
        account's row until the transaction ends. Raises the errors of `load_owner`, NotYoursError if a user's
        credential is for another account (whether this address has one or not), and AccountUnknownError if the operator
        names an address that has no account, or is no address.
        """
        key = compute_lookup_key(email)
        if not self.is_operator_token(credential):
            user = self.load_owner(session, credential, lock=lock)
            if user.address_key != key:
                kind = "session" if isinstance(credential, SessionSecret) else "token"
                raise NotYoursError(f"This {kind} is for another account.")
            return user
        if key is None:
            raise AccountUnknownError("No account has this address.")
        query = select(User).where(User.address_key == key).order_by(User.confirmed.desc()).limit(1)
        if not include_deleting:
            query = query.where(ACCOUNT_EXISTS)
        found = session.scalar(query.with_for_update() if lock else query)
        if found is None:
            raise AccountUnknownError("No account has this address.")
        return found

    def load_owner(self, session: Session, credential: Credential, *, lock: bool = False) -> User:
        """Return the account that a token or a session belongs to, unless its deletion has passed the pivot.

        `lock` locks the account's row until the transaction ends. Raises TokenUnknownError or SessionUnknownError.
        """
        if isinstance(credential, SessionSecret):
            return self.load_session(session, credential, lock=lock)[1]
        return load_token_owner(session, credential, lock=lock)

    def load_session(self, session: Session, secret: SessionSecret, *, lock: bool = False) -> tuple[WebSession, User]:
        """Return the session with this secret and its account, whose row `lock` locks. Raises SessionUnknownError."""
        row = find_session(session, secret, self.clock.now(), self.lifetimes)
        user = None if row is None else find_account(session, row.user_id, lock=lock)
        if row is None or user is None:
            raise SessionUnknownError(
                "You are signed out: the session was ended, was not used for long, or its account was deleted. Sign in "
                "again."
            )
        return row, user

    def is_operator_token(self, credential: Credential) -> bool:
        """Return True if this is the operator's token, in a time that does not depend on where the two differ.

        No session is the operator's.
        """
        return isinstance(credential, str) and tokens.is_same_token(credential, self.operator_token)

    def require_operator(self, session: Session, credential: Credential) -> None:
        """Accept the operator's token. Raises NotOperatorError for a user's credential, else as `load_owner` does."""
        if not self.is_operator_token(credential):
            self.load_owner(session, credential)
            raise NotOperatorError("Only the operator may do this.")


def load_token_owner(session: Session, token: str, *, lock: bool = False) -> User:
    """Return the account that this token belongs to, unless the account's deletion has passed the pivot.

    `lock` locks the account's row until the transaction ends. Raises TokenUnknownError, also for the operator's token.
    """
    query = select(User).where(User.token_sha256 == tokens.compute_digest(token), ACCOUNT_EXISTS)
    user = session.scalar(query.with_for_update() if lock else query)
    if user is None:
        raise TokenUnknownError(
            "This token belongs to no account: it was replaced, its account was deleted, or it is mistyped. For a new "
            "one send POST /users/token with your address."
        )
    return user


def find_account(session: Session, user_id: UUID, *, lock: bool = False) -> User | None:
    """Return the account with this id; None if no such account exists or its deletion has passed the pivot.

    `lock` locks the account's row until the transaction ends.
    """
    query = select(User).where(User.user_id == user_id, ACCOUNT_EXISTS)
    return session.scalar(query.with_for_update() if lock else query)


def find_account_of_address(session: Session, address_digest: str, *, lock: bool = False) -> User | None:
    """Return the account of the address with this digest, the confirmed one if there are two; None if there is none.

    `lock` locks the account's row until the transaction ends.
    """
    query = (
        select(User)
        .where(User.address_digest == address_digest, ACCOUNT_EXISTS)
        .order_by(User.confirmed.desc())
        .limit(1)
    )
    return session.scalar(query.with_for_update() if lock else query)


def has_confirmed_account(session: Session, address_digest: str) -> bool:
    """Return True if the address with this digest has a confirmed account that exists."""
    owner = find_account_of_address(session, address_digest)
    return owner is not None and owner.confirmed


def load_linked_account(session: Session, user_id: UUID, *, lock: bool = False) -> User:
    """Return the account of the user whom a link from a mail names. Raises LinkOrphanedError if the account is gone.

    `lock` locks the account's row until the transaction ends.
    """
    user = find_account(session, user_id, lock=lock)
    if user is None:
        raise LinkOrphanedError("The account that this link belongs to was deleted.")
    return user
