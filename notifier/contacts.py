"""user_manager, asked at the moment of sending: it alone holds addresses and names."""

import time
from typing import Final
from uuid import UUID

import grpc

from chassis.rpc import aio_channel
from notifier.errors import UserManagerAway
from notifier.mail import Contact
from towerwatch.users.v1.user_service_pb2 import GetContactsRequest
from towerwatch.users.v1.user_service_pb2_grpc import UserServiceStub

DEADLINE_S: Final = 3.0

_MOST_CACHED: Final = 10_000


class Contacts:
    """A client of UserService.GetContacts. Connects when first used, from the event loop that uses it."""

    def __init__(self, target: str, cache_s: float) -> None:
        """`target` is host:port. A contact to whom alerts may go is remembered for `cache_s` seconds."""
        self._target = target
        self._cache_s = cache_s
        self._channel: grpc.aio.Channel | None = None
        self._known: dict[UUID, tuple[float, Contact]] = {}

    async def of(self, user_id: UUID) -> Contact | None:
        """The contact of a user, or None when there is no such user (any more).

        Returns within DEADLINE_S. Raises UserManagerAway.
        """
        expires, known = self._known.get(user_id, (0.0, None))
        if known is not None and time.monotonic() < expires:
            return known
        self._known.pop(user_id, None)
        contact = await self._asked(user_id)
        # Whoever cannot be mailed yet may be a second later: a remembered "not confirmed" would drop their first alert.
        if contact is not None and contact.confirmed and not contact.paused:
            if len(self._known) >= _MOST_CACHED:
                self._known.clear()
            self._known[user_id] = (time.monotonic() + self._cache_s, contact)
        return contact

    async def _asked(self, user_id: UUID) -> Contact | None:
        if self._channel is None:
            self._channel = aio_channel(self._target)
        request = GetContactsRequest(user_ids=[str(user_id)])
        try:
            answer = await UserServiceStub(self._channel).GetContacts(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise UserManagerAway(f"user_manager answered {error.code().name}") from None
        for each in answer.contacts:
            if each.user_id == str(user_id):
                return Contact(
                    user_id=user_id,
                    email=each.email,
                    name=each.name,
                    time_zone=each.time_zone,
                    confirmed=each.confirmed,
                    paused=each.paused,
                    confirm_url=each.confirm_url,
                    unsubscribe_url=each.unsubscribe_url,
                )
        return None

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
