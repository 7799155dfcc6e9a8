"""Reconciliation of requests for account mails: those that Kafka has lost are published again.

A request that was published leaves no row in the outbox. If the topic is lost before the notifier has sent the mail,
nobody would ever send it. So accounts that wait for a confirmation mail, and the requests that no account (any more)
stands for, are compared with the topic: it is compacted by user, and has the last event of each.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from aiokafka.errors import KafkaError
from google.protobuf.message import DecodeError
from sqlalchemy import select

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.errors import ChassisError
from chassis.log_reading import read_topic
from towerwatch.topics import USERS_CHANGED
from towerwatch.users.v1.events_pb2 import UserChanged
from user_manager.events import build_registered_event
from user_manager.links import CONFIRMATION_LINK_LIFETIME
from user_manager.model import OUTBOX, ConfirmationState, MailRequest, User

log = structlog.get_logger()

CHECK_INTERVAL_S: Final = 120.0
"""Seconds between two comparisons."""

_READ_WITHIN_S: Final = 60.0
_NOT_BEFORE: Final = timedelta(minutes=1)
"""Age of a request from which on it is compared; most mails are sent by then."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request whose mail is not known to be sent."""

    mail_id: UUID
    has_account: bool
    """False: the request for a token, or one whose account was replaced or deleted. If the topic has any event of it,
    it was not lost: the last one may be that of the deletion."""


class LostRequests:
    """The periodic comparison of the requests for account mails that wait with the topic of account events.

    Safe on any number of replicas at once: the notifier sends one mail for each request, however often it comes.
    """

    def __init__(self, database: Database, bootstrap_servers: str, clock: Clock) -> None:
        self._database = database
        self._bootstrap_servers = bootstrap_servers
        self._clock = clock

    async def run(self) -> None:
        """Publish lost requests every two minutes, until cancelled; log an error, and try again at the next time."""
        while True:
            try:
                async with asyncio.timeout(_READ_WITHIN_S):
                    await self.publish_lost()
            except (KafkaError, OSError, ChassisError) as error:  # a TimeoutError, too
                log.warning("requests.not_compared", error=type(error).__name__)
            await asyncio.sleep(CHECK_INTERVAL_S)

    async def publish_lost(self) -> int:
        """Publish again the requests that the topic lacks, and return how many.

        The topic is read only if an account waits for a mail.

        Raises KafkaError, OSError, DatabaseUnavailableError or ContendedError.
        """
        waiting = await asyncio.to_thread(self._load_waiting)
        if not waiting:
            return 0
        published: dict[bytes, UserChanged] = {}
        async for record in read_topic(self._bootstrap_servers, USERS_CHANGED.name, USERS_CHANGED.partitions):
            try:
                published[record.key] = UserChanged.FromString(record.value or b"")
            except DecodeError:
                published.pop(record.key, None)
        lost = {
            user_id: waits
            for user_id, waits in waiting.items()
            if (last := published.get(str(user_id).encode())) is None
            or (waits.has_account and last.registered.confirmation_id != str(waits.mail_id))
        }
        return await asyncio.to_thread(self._publish, lost) if lost else 0

    def _load_waiting(self) -> dict[UUID, _Waiting]:
        """Load the requests whose mail was not sent and whose link would still be valid, by the user id of the event.

        Only what was requested is stored as a request: an account that a pause keeps from getting a mail has none,
        though it may show that it waits, like the one before it. Empty, too, while the outbox has events that are not
        published yet.
        """
        now = self._clock.now()
        with self._database.reading() as session:
            rows = session.execute(
                select(MailRequest, User)
                .outerjoin(User, User.user_id == MailRequest.request_id)
                .where(MailRequest.requested_at.between(now - CONFIRMATION_LINK_LIFETIME, now - _NOT_BEFORE))
            )
            found = {
                request.request_id: _Waiting(request.mail_id, has_account=user is not None)
                for request, user in rows.all()
                if user is None or _is_mail_waiting(user, request.mail_id)
            }
            return {} if OUTBOX.count_unpublished(session) else found

    def _publish(self, lost: Mapping[UUID, _Waiting]) -> int:
        """Add the requests to the outbox that still wait and are their users' last ones; log and return how many."""
        published = 0
        with self._database.transaction() as session:
            for user_id in sorted(lost):
                mail_id, has_account = lost[user_id].mail_id, lost[user_id].has_account
                user = session.get(User, user_id, with_for_update=True) if has_account else None
                request = session.get(MailRequest, user_id, with_for_update=True)
                still = request is not None and request.mail_id == mail_id
                if has_account:
                    still = still and user is not None and _is_mail_waiting(user, mail_id)
                if still:
                    OUTBOX.add(session, [build_registered_event(user_id, mail_id, has_account=has_account)])
                    published += 1
        log.warning("requests.published_again", requests=published)
        return published


def _is_mail_waiting(user: User, mail_id: UUID) -> bool:
    """Return True if the requested mail of an account may still be sent, False if it was sent or must not be."""
    is_shown = user.confirmation_id == mail_id  # the account shows how far this mail is
    is_done = is_shown and user.confirmation_state not in (None, ConfirmationState.WAITING.value)
    return user.can_get_confirmation_mail and not is_done
