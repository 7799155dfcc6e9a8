"""Registration by the form that signs in, too: whoever has no account yet gets one that the mail's link confirms."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from user_manager import tokens
from user_manager.access import ACCOUNT_EXISTS
from user_manager.addresses import Address, compute_address_digest
from user_manager.model import ConfirmationState, User

_MAX_NAME_LENGTH: Final = 100


@dataclass(frozen=True, slots=True)
class Newcomer:
    """The time zone and language of somebody who may have no account yet."""

    time_zone: str
    """IANA name."""
    language: str


def add_newcomer(session: Session, address: Address, newcomer: Newcomer, now: datetime) -> None:
    """Insert an unconfirmed account for the address, unless the address has an account already, confirmed or not.

    The person's name is the address's local part until they type another when they confirm. Nobody knows the account's
    token; no mail is requested. The caller holds the lock of the mailbox.
    """
    has_account = select(User.user_id).where(
        User.address_key == address.key, or_(User.confirmed.is_(False), ACCOUNT_EXISTS)
    )
    if session.scalar(has_account) is not None:
        return
    session.add(
        User(
            user_id=uuid4(),
            email=address.email,
            address_key=address.key,
            address_digest=compute_address_digest(address.key),
            name=address.email.rpartition("@")[0][:_MAX_NAME_LENGTH],
            time_zone=newcomer.time_zone,
            language=newcomer.language,
            confirmed=False,
            paused=False,
            created_at=now,
            version=1,
            token_sha256=tokens.compute_digest(tokens.generate_token()),
            confirmation_asked_at=now,
            confirmations_asked=1,
            confirmation_id=uuid4(),
            confirmation_state=ConfirmationState.SENT,
        )
    )
