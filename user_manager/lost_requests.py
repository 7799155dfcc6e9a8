"""Reconciliation of requests for confirmation mails: those that Kafka has lost are published again.

A request that was published leaves no row in the outbox. If the topic is lost before the notifier has sent the mail,
nobody would ever send it. So accounts that wait for a confirmation mail are compared with the topic: it is compacted by
user, and has the last event of each.
"""

import asyncio
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from aiokafka.errors import KafkaError
from google.protobuf.message import DecodeError
from sqlalchemy import or_, select

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.errors import ChassisError
from chassis.log_reading import read_topic
from towerwatch.topics import USERS_CHANGED
from towerwatch.users.v1.events_pb2 import UserChanged
from user_manager.events import build_registered_event
from user_manager.links import CONFIRMATION_LINK_LIFETIME
from user_manager.model import OUTBOX, ConfirmationState, User

log = structlog.get_logger()

CHECK_INTERVAL_S: Final = 120.0
"""Seconds between two comparisons."""

_READ_WITHIN_S: Final = 60.0
_NOT_BEFORE: Final = timedelta(minutes=1)
"""Age of a request from which on it is compared; most mails are sent by then."""


class LostRequests:
    """The periodic comparison of the accounts that wait for a confirmation mail with the topic of account events.

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
        lost = [
            user_id
            for user_id, confirmation_id in waiting.items()
            if (last := published.get(str(user_id).encode())) is None
            or last.registered.confirmation_id != str(confirmation_id)
        ]
        return await asyncio.to_thread(self._publish, {user_id: waiting[user_id] for user_id in lost}) if lost else 0

    def _load_waiting(self) -> dict[UUID, UUID]:
        """Load the requests whose mail was not sent and whose link would still be valid: by user, the request's id.

        Empty, too, while the outbox has events that are not published yet.
        """
        now = self._clock.now()
        with self._database.reading() as session:
            users = session.scalars(
                select(User).where(
                    User.confirmation_asked_at.between(now - CONFIRMATION_LINK_LIFETIME, now - _NOT_BEFORE),
                    User.confirmation_id.is_not(None),
                    or_(User.confirmation_state.is_(None), User.confirmation_state == ConfirmationState.WAITING.value),
                )
            ).all()
            found = {
                user.user_id: user.confirmation_id
                for user in users
                if user.can_get_confirmation_mail and user.confirmation_id is not None
            }
            return {} if OUTBOX.count_unpublished(session) else found

    def _publish(self, lost: dict[UUID, UUID]) -> int:
        """Add the requests to the outbox that are still the last ones of their users; log and return how many."""
        published = 0
        with self._database.transaction() as session:
            for user_id, confirmation_id in sorted(lost.items()):
                user = session.get(User, user_id, with_for_update=True)
                if user is not None and user.confirmation_id == confirmation_id and user.can_get_confirmation_mail:
                    OUTBOX.add(session, [build_registered_event(user_id, confirmation_id)])
                    published += 1
        log.warning("requests.published_again", requests=published)
        return published
