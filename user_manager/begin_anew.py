"""`python -m user_manager --begin-anew`: delete all that other services know of accounts that the database lacks."""

import asyncio
import time
from collections.abc import Mapping, Set
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.db.log_check import LogContent, read_content
from towerwatch.topics import USERS_CHANGED
from towerwatch.users.v1.events_pb2 import UserChanged
from user_manager.deletion.records import build_due_deletion
from user_manager.events import build_confirmed_event, build_deleted_event
from user_manager.model import OUTBOX, Deletion, MailRequest, User


async def begin_anew(database: Database, bootstrap_servers: str, clock: Clock) -> int:
    """Start the deletion of each account that only the log has, and publish the confirmations that the log lacks.

    Such an account ends by the ordinary deletion, so that its interests end, too: the deletion's record and the event
    are stored, and the service does the rest when it runs. Events get sequences above all of the log's. Repeating this
    is harmless. The schema must be upgraded. Returns the number of these accounts; of versions before `without_account`
    also requests for a token count. Raises KafkaError, OSError and DatabaseUnavailableError.
    """
    content = await read_content(bootstrap_servers, USERS_CHANGED)
    with database.transaction() as session:
        OUTBOX.continue_above(session, content.last_sequence, time.time())
        users = {user.user_id: user.confirmed for user in session.scalars(select(User))}
        known = users.keys() | set(session.scalars(select(Deletion.user_id)))
        known |= set(session.scalars(select(MailRequest.request_id)))  # whose mails are still to be sent
        logged = find_logged_users(content)
        unknown = sorted(each for each in logged if each not in known)
        now = clock.now()
        session.add_all(build_due_deletion(user_id, now) for user_id in unknown)
        OUTBOX.add(session, map(build_deleted_event, unknown))
        _add_lost_confirmations(session, users, logged)
    return len(unknown)


async def publish_lost_confirmations(database: Database, bootstrap_servers: str) -> None:
    """Publish all confirmations again to a log that is empty, such as one that was lost.

    Only of accounts that were confirmed before the log is read: others publish their own. Nothing needs these events
    but the next comparison: without them the log could not tell of a lost database. Raises KafkaError, OSError and
    DatabaseUnavailableError.
    """
    confirmed = await asyncio.to_thread(load_confirmed_ids, database)
    if confirmed and not (await read_content(bootstrap_servers, USERS_CHANGED)).values:
        await asyncio.to_thread(add_confirmations, database, confirmed)


def load_confirmed_ids(database: Database) -> set[UUID]:
    """Return the ids of all confirmed accounts. Raises DatabaseUnavailableError."""
    with database.reading() as session:
        return set(session.scalars(select(User.user_id).where(User.confirmed)))


def add_confirmations(database: Database, user_ids: Set[UUID]) -> None:
    """Add the events of these accounts to the outbox, without those that are not confirmed or are deleted by now.

    Raises DatabaseUnavailableError.
    """
    with database.transaction() as session:
        # Locked, so that no deletion adds its event before these.
        confirmed = session.scalars(select(User.user_id).where(User.confirmed).with_for_update()).all()
        OUTBOX.add(session, [build_confirmed_event(each) for each in confirmed if each in user_ids])


def _add_lost_confirmations(session: Session, users: Mapping[UUID, bool], logged: Mapping[UUID, bool]) -> None:
    """Add the events of confirmed accounts to the outbox that the log does not have as confirmed.

    `users`: True for each account of the database that is confirmed; `logged`: likewise for those of the log.
    """
    OUTBOX.add(
        session,
        [build_confirmed_event(each) for each, is_confirmed in users.items() if is_confirmed > logged.get(each, False)],
    )


def find_logged_users(content: LogContent) -> dict[UUID, bool]:
    """Return the accounts that are not deleted by the log; True for each whose last event is its confirmation. Pure.

    An id of a request for a mail alone is no account.
    """
    users = {}
    for logged in content.values.values():
        change = UserChanged.FromString(logged.value or b"")
        if change.user_id and not change.HasField("deleted") and not change.registered.without_account:
            users[UUID(change.user_id)] = change.HasField("confirmed")
    return users
