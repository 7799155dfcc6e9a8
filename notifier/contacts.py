"""user_manager, asked at the moment of sending: it alone holds addresses and names."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Final
from uuid import UUID

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.rpc import create_aio_channel
from notifier.errors import UserManagerAway
from notifier.mail import Contact
from towerwatch.users.v1.user_service_pb2 import Contact as ContactMessage, GetContactsRequest, ReportBounceRequest
from towerwatch.users.v1.user_service_pb2_grpc import UserServiceStub

DEADLINE_S: Final = 3.0

MOST_IN_A_REQUEST: Final = 500
"""Users that the contract lets one request ask for."""

_MOST_CACHED: Final = 10_000


class _Round:
    """Users who are asked for together: those that came up while the round before was under way."""

    def __init__(self) -> None:
        self.user_ids: set[UUID] = set()
        self.ended = asyncio.Event()
        """Set once every user of the round stands in `contacts` or in `failed`, or does not exist."""
        self.contacts: dict[UUID, Contact] = {}
        self.failed: dict[UUID, str] = {}
        """Why, by user."""
        self.outdated: set[UUID] = set()
        """Who changed meanwhile: the answer is from before or after, and not to be remembered."""


class Contacts:
    """A client of UserService, for one event loop. Connects when first used.

    Many mails ask at once, so that who asks waits for company: one round of requests is under way at a time, and
    whoever comes meanwhile shares the next. So no answer is older than the question, and a user_manager that is slow
    gets fewer and larger requests.
    """

    def __init__(self, target: str, cache_s: float) -> None:
        """`target` is host:port. A contact to whom alerts may go is remembered for `cache_s` seconds."""
        self._target = target
        self._cache_s = cache_s
        self._channel: grpc.aio.Channel | None = None
        self._known: dict[UUID, tuple[float, Contact]] = {}
        """Who is remembered until when, by time.monotonic; the oldest first."""
        self._gathering = _Round()
        self._under_way: _Round | None = None
        self._asking: asyncio.Task[None] | None = None

    async def of(self, user_id: UUID) -> Contact | None:
        """The contact of a user, or None when there is no such user (any more). As `of_many`."""
        return (await self.of_many([user_id])).get(user_id)

    async def of_many(self, user_ids: Collection[UUID]) -> Mapping[UUID, Contact]:
        """The contacts of these users; who does not exist (any more) is left out.

        Returns within twice DEADLINE_S: what is left of the round under way, and the next. Raises UserManagerAway when
        a request that asked for one of them failed. Cancelling it leaves others' requests alone.
        """
        wanted = set(user_ids)
        known = self._remembered(wanted)
        missing = wanted - known.keys()
        if not missing:
            return known
        joined = self._gathering
        joined.user_ids |= missing
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_round_by_round())
        await joined.ended.wait()
        for user_id in missing:  # which are few, and the round may be large
            if user_id in joined.failed:
                raise UserManagerAway(joined.failed[user_id])
            if user_id in joined.contacts:
                known[user_id] = joined.contacts[user_id]
        return known

    async def report_bounce(self, user_id: UUID, at: datetime) -> None:
        """Tell that a mail server said at `at` (aware) that this user's address does not exist. Safe to repeat.

        Returns within DEADLINE_S. Raises UserManagerAway.
        """
        bounced_at = Timestamp()
        bounced_at.FromDatetime(at)
        request = ReportBounceRequest(user_id=str(user_id), bounced_at=bounced_at)
        try:
            await UserServiceStub(self._open()).ReportBounce(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise UserManagerAway(f"user_manager answered {error.code().name}") from None
        finally:
            self._forget(user_id)

    async def close(self) -> None:
        """Whoever waits for an answer gets UserManagerAway."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
            self._end()  # of a task that was cancelled before its first step nothing ran, no `finally` either
        if self._channel is not None:
            await self._channel.close()

    async def _ask_round_by_round(self) -> None:
        try:
            while self._gathering.user_ids:
                await asyncio.sleep(0)  # all who are about to ask in this turn of the event loop shall join
                self._under_way, self._gathering = self._gathering, _Round()
                await self._ask(self._under_way)
                self._under_way.ended.set()
                self._under_way = None
        finally:
            self._end()

    def _end(self) -> None:
        """Let nobody wait for what will not come."""
        for broken_off in (self._under_way, self._gathering):
            if broken_off is not None:
                broken_off.failed |= dict.fromkeys(broken_off.user_ids, "the question was broken off")
                broken_off.ended.set()
        self._asking, self._under_way, self._gathering = None, None, _Round()

    async def _ask(self, this: _Round) -> None:
        """All requests of a round at once."""
        this.contacts |= self._remembered(this.user_ids)  # some may have been answered while it gathered
        missing = iter(this.user_ids - this.contacts.keys())
        requests = []
        while together := list(islice(missing, MOST_IN_A_REQUEST)):
            requests.append(self._request(this, together))
        await asyncio.gather(*requests)

    async def _request(self, this: _Round, user_ids: Iterable[UUID]) -> None:
        by_text = {str(user_id): user_id for user_id in user_ids}
        try:
            answer = await UserServiceStub(self._open()).GetContacts(
                GetContactsRequest(user_ids=by_text), timeout=DEADLINE_S
            )
        except grpc.aio.AioRpcError as error:
            this.failed |= dict.fromkeys(by_text.values(), f"user_manager answered {error.code().name}")
            return
        for each in answer.contacts:
            user_id = by_text.get(each.user_id)
            if user_id is not None:
                this.contacts[user_id] = _contact(user_id, each)
                if user_id not in this.outdated:
                    self._remember(this.contacts[user_id])

    def _remembered(self, user_ids: Iterable[UUID]) -> dict[UUID, Contact]:
        now = time.monotonic()
        found = {}
        for user_id in user_ids:
            expires, contact = self._known.get(user_id, (now, None))
            if contact is None:
                continue
            if now < expires:
                found[user_id] = contact
            else:
                del self._known[user_id]
        return found

    def _remember(self, contact: Contact) -> None:
        self._known.pop(contact.user_id, None)
        # Whoever cannot be mailed yet may be a second later: a remembered "not confirmed" would drop their first alert.
        if not contact.confirmed or contact.paused or contact.suppressed:
            return
        if len(self._known) >= _MOST_CACHED:
            del self._known[next(iter(self._known))]
        self._known[contact.user_id] = (time.monotonic() + self._cache_s, contact)

    def _forget(self, user_id: UUID) -> None:
        self._known.pop(user_id, None)
        if self._under_way is not None:
            self._under_way.outdated.add(user_id)

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = create_aio_channel(self._target)
        return self._channel


def _contact(user_id: UUID, message: ContactMessage) -> Contact:
    return Contact(
        user_id=user_id,
        email=message.email,
        name=message.name,
        time_zone=message.time_zone,
        confirmed=message.confirmed,
        paused=message.paused,
        confirm_url=message.confirm_url,
        unsubscribe_url=message.unsubscribe_url,
        suppressed=message.suppressed,
    )
