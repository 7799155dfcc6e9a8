"""The purge of accounts whose address nobody has confirmed: after a while each goes through the ordinary deletion."""

from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import exists, select
from sqlalchemy.exc import IntegrityError

from chassis.clock import Clock
from chassis.db.database import Database
from user_manager.deletion.records import build_due_deletion
from user_manager.model import Deletion, User

log = structlog.get_logger()

UNCONFIRMED_LIFETIME: Final = timedelta(days=7)
"""Time after the last request for a confirmation mail after which an unconfirmed account is deleted; its link is
valid for as long."""

_BATCH_SIZE: Final = 100


def start_due_purges(database: Database, clock: Clock) -> int:
    """Record the deletion of up to 100 unconfirmed accounts that are due; the background task executes it.

    Returns the number of recorded deletions. Accounts that another replica has locked are left to it, and an account
    that is confirmed meanwhile is none of them. Raises DatabaseUnavailableError.
    """
    now = clock.now()
    try:
        recorded = _record_due_deletions(database, now)
    except IntegrityError:  # an owner's request for the same deletion was faster; the next run sees it
        return 0
    if recorded:
        log.info("accounts.purged", accounts=recorded)
    return recorded


def _record_due_deletions(database: Database, now: datetime) -> int:
    """Insert the record of the deletion of each account that is due, and return their number.

    Raises IntegrityError if a request inserts one of the records at the same instant.
    """
    with database.transaction() as session:
        due = session.scalars(
            select(User)
            .where(
                User.confirmed.is_(False),
                User.confirmation_asked_at <= now - UNCONFIRMED_LIFETIME,
                ~exists().where(Deletion.user_id == User.user_id),
            )
            .limit(_BATCH_SIZE)
            .with_for_update(skip_locked=True)
        ).all()
        session.add_all(build_due_deletion(user.user_id, now) for user in due)
        return len(due)
