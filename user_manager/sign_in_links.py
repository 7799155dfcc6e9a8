"""The one link that signs in to an address: that of the mail that was asked for last, until it is used. ADR 53."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from user_manager.links import SIGN_IN_RENEWAL_LIFETIME
from user_manager.model import SignInLink


def store_sign_in_link(session: Session, address_hash: str, mail_id: UUID, now: datetime) -> None:
    """Store the link in this mail as the only one that signs in to an address; earlier links are void.

    The caller holds the lock of the address' mailbox, so that of two requests at once one is the later one.
    """
    void_sign_in_link(session, address_hash)
    session.add(SignInLink(address_hash=address_hash, mail_id=mail_id, requested_at=now))
    session.flush()


def is_sign_in_link_valid(session: Session, address_hash: str, mail_id: UUID) -> bool:
    """Return True if the link in this mail may still be used, False if it was, or if another was asked for."""
    return session.scalar(select(SignInLink.mail_id).where(SignInLink.address_hash == address_hash)) == mail_id


def use_sign_in_link(session: Session, address_hash: str, mail_id: UUID) -> bool:
    """Use up the link in this mail; return False if it was used, or if another was asked for.

    Of several transactions at once exactly one gets True: the others wait for it, and find no row.
    """
    is_it = (SignInLink.address_hash == address_hash, SignInLink.mail_id == mail_id)
    return session.connection().execute(delete(SignInLink).where(*is_it)).rowcount == 1


def void_sign_in_link(session: Session, address_hash: str) -> None:
    """Void the link that signs in to an address, if there is one."""
    session.execute(delete(SignInLink).where(SignInLink.address_hash == address_hash))


def delete_expired_sign_in_links(session: Session, now: datetime) -> None:
    """Delete the rows of links that are too old to sign in or to ask for a new one."""
    session.execute(delete(SignInLink).where(SignInLink.requested_at <= now - SIGN_IN_RENEWAL_LIFETIME))
