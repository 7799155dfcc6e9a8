"""Account mails that were requested and are not known to be sent; what each offers is decided at that time. ADR 27."""

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from towerwatch.topics import LONGEST_ABSENCE_DAYS
from user_manager import events
from user_manager.addresses import Address, compute_address_digest
from user_manager.model import OUTBOX, MailRequest

REQUEST_LIFETIME: Final = timedelta(days=7)
"""Time after which a request to confirm an address is deleted, reported or not: so is its unconfirmed account."""
TOKEN_REQUEST_LIFETIME: Final = timedelta(days=LONGEST_ABSENCE_DAYS) + REQUEST_LIFETIME
"""The same for a token: the notifier may be away for so long, and then tries for a week before it gives a mail up."""

SIGN_IN_REQUEST_LIFETIME: Final = timedelta(days=1)
"""The same for signing in: later nobody waits for the mail any more, and by then another may be asked for."""


class MailKind(StrEnum):
    """The purpose of an account mail. The column holds these values."""

    CONFIRMATION = "confirmation"
    """To confirm the address; or to say that it has a confirmed account."""
    TOKEN = "token"  # noqa: S105 - a kind of mail
    """To replace a lost token; or, without a confirmed account, to confirm the address."""
    SIGN_IN = "sign_in"
    """To sign in; or, without a confirmed account, to confirm the address."""


def request_mail(
    session: Session, address: Address, kind: MailKind, request_id: UUID, mail_id: UUID, now: datetime
) -> None:
    """Store the request for a mail, and publish its event, in the session's transaction.

    `request_id` is the user id of the event; an earlier request with this id is replaced.
    """
    session.execute(delete(MailRequest).where(MailRequest.request_id == request_id))
    session.add(
        MailRequest(
            request_id=request_id,
            mail_id=mail_id,
            kind=kind,
            email=address.email,
            address_digest=compute_address_digest(address.key),
            requested_at=now,
        )
    )
    has_account = kind is MailKind.CONFIRMATION
    OUTBOX.add(session, [events.build_registered_event(request_id, confirmation_id=mail_id, has_account=has_account)])


def load_requests(session: Session, request_ids: Collection[UUID]) -> list[MailRequest]:
    """Return the stored requests with these ids."""
    return list(session.scalars(select(MailRequest).where(MailRequest.request_id.in_(request_ids))))


def delete_completed_request(session: Session, request_id: UUID, mail_id: UUID) -> None:
    """Delete the request whose mail was sent or given up, unless another mail was requested with its id since."""
    session.execute(delete(MailRequest).where(MailRequest.request_id == request_id, MailRequest.mail_id == mail_id))


def delete_requests_to(session: Session, address_digest: str) -> None:
    """Delete all requests for mails to an address."""
    session.execute(delete(MailRequest).where(MailRequest.address_digest == address_digest))


def delete_sign_in_requests_to(session: Session, address_digest: str) -> None:
    """Delete the requests for mails to an address by which somebody would sign in."""
    of_kind = MailRequest.kind == MailKind.SIGN_IN.value
    session.execute(delete(MailRequest).where(MailRequest.address_digest == address_digest, of_kind))


def delete_expired_requests(session: Session, now: datetime) -> None:
    """Delete the requests that are older than the lifetime of their kind."""
    is_old = (MailRequest.requested_at <= now - REQUEST_LIFETIME) & (MailRequest.kind != MailKind.TOKEN.value)
    is_late = (MailRequest.requested_at <= now - SIGN_IN_REQUEST_LIFETIME) & (
        MailRequest.kind == MailKind.SIGN_IN.value
    )
    is_over = is_old | is_late | (MailRequest.requested_at <= now - TOKEN_REQUEST_LIFETIME)
    session.execute(delete(MailRequest).where(is_over))


def load_requests_to(session: Session, address_digest: str) -> list[MailRequest]:
    """Return the stored requests for mails to an address, oldest first."""
    query = select(MailRequest).where(MailRequest.address_digest == address_digest)
    return list(session.scalars(query.order_by(MailRequest.requested_at, MailRequest.request_id)))


def compute_request_expiry(row: MailRequest) -> datetime:
    """Return the time from which on `delete_expired_requests` deletes a request that is not reported as sent before."""
    lifetimes = {MailKind.TOKEN.value: TOKEN_REQUEST_LIFETIME, MailKind.SIGN_IN.value: SIGN_IN_REQUEST_LIFETIME}
    return row.requested_at + lifetimes.get(row.kind, REQUEST_LIFETIME)
