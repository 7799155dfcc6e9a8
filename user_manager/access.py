"""Who may do what: a user with their own account, the operator with every account."""

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from user_manager import tokens
from user_manager.addresses import lookup_key
from user_manager.deletion.steps import Step
from user_manager.errors import (
    AccountUnknownError,
    LinkOrphanedError,
    NotOperatorError,
    NotYoursError,
    TokenUnknownError,
)
from user_manager.model import Deletion, User

EXISTS: Final[ColumnElement[bool]] = ~exists().where(
    Deletion.user_id == User.user_id, Deletion.step != Step.DELETE_INTERESTS
)
"""Holds for accounts that are not on their way out: past the pivot an account is gone, whatever is left of it."""


@dataclass(frozen=True, slots=True)
class Access:
    """Reads tokens. The operator's is no user's."""

    operator_token: str = field(repr=False)

    def account(self, session: Session, token: str, email: str, *, lock: bool = False, leaving: bool = False) -> User:
        """The account with this address, if the token may touch it: its owner's or the operator's.

        `lock` holds its row until the transaction ends. `leaving` shows the operator accounts past the pivot too.
        Raises TokenUnknownError, NotYoursError, AccountUnknownError.
        """
        key = lookup_key(email)
        if not self.is_operator(token):
            user = owner(session, token, lock=lock)
            if user.address_key != key:
                raise NotYoursError("This token is for another account.")
            return user
        if key is None:
            raise AccountUnknownError("No account has this address.")
        query = select(User).where(User.address_key == key)
        if not leaving:
            query = query.where(EXISTS)
        found = session.scalar(query.with_for_update() if lock else query)
        if found is None:
            raise AccountUnknownError("No account has this address.")
        return found

    def is_operator(self, token: str) -> bool:
        return tokens.same(token, self.operator_token)

    def require_operator(self, session: Session, token: str) -> None:
        """Raises TokenUnknownError, NotOperatorError."""
        if not self.is_operator(token):
            owner(session, token)
            raise NotOperatorError("Only the operator may do this.")


def owner(session: Session, token: str, *, lock: bool = False) -> User:
    """Whose token it is. Raises TokenUnknownError."""
    query = select(User).where(User.token_sha256 == tokens.digest(token), EXISTS)
    user = session.scalar(query.with_for_update() if lock else query)
    if user is None:
        raise TokenUnknownError("This token is nobody's.")
    return user


def account_of(session: Session, user_id: UUID, *, lock: bool = False) -> User | None:
    """The account with this id; None when there is none (any more). `lock` holds its row until the transaction ends."""
    query = select(User).where(User.user_id == user_id, EXISTS)
    return session.scalar(query.with_for_update() if lock else query)


def require_account(session: Session, user_id: UUID, *, lock: bool = False) -> User:
    """As `account_of`, and refuses a link whose account is gone. Raises LinkOrphanedError."""
    user = account_of(session, user_id, lock=lock)
    if user is None:
        raise LinkOrphanedError("The account that this link belongs to was deleted.")
    return user
