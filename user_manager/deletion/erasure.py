"""The erasure of an account in this service's own database: a step of the deletion saga, and how one is replaced."""

from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from user_manager import events
from user_manager.idempotency import delete_answers_of_user
from user_manager.mail_requests import delete_requests_to
from user_manager.model import OUTBOX, User
from user_manager.web_sessions import delete_sessions_of_user


def erase_account(session: Session, user_id: UUID) -> bool:
    """Delete the account with its sessions and stored answers, and publish the event of the deletion.

    All in the transaction of `session`. With a confirmed account, the requests for mails to its address are deleted,
    too. Those of an unconfirmed account stay until they are mailed, because whoever deletes it need not be the owner of
    the address (ADR 27). Returns False if no such account exists (any more): then nothing changes.
    """
    confirmed_digest = session.scalar(
        select(User.address_digest).where(User.user_id == user_id, User.confirmed.is_(True))
    )
    erased = session.connection().execute(delete(User).where(User.user_id == user_id))
    if erased.rowcount == 0:
        return False
    delete_answers_of_user(session, user_id)
    delete_sessions_of_user(session, user_id)
    if confirmed_digest is not None:
        delete_requests_to(session, confirmed_digest)
    OUTBOX.add(session, [events.build_deleted_event(user_id)])
    return True
