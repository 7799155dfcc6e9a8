"""The client of user_manager's contacts, which are requested when a mail is sent: only user_manager stores
addresses."""

import asyncio
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import grpc
import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.rpc import create_aio_channel
from notifier.delivery.interfaces import ConfirmationState
from notifier.errors import UserManagerUnavailable
from notifier.mail import Contact, InterestLinks, is_printable_link
from towerwatch.users.v1 import user_service_pb2 as users_pb
from towerwatch.users.v1.user_service_pb2 import (
    Contact as ContactMessage,
    GetContactsRequest,
    MailedInterests,
    ReportBounceRequest,
)
from towerwatch.users.v1.user_service_pb2_grpc import UserServiceStub

log = structlog.get_logger()

DEADLINE_S: Final = 3.0

_STATES: Final = {
    ConfirmationState.WAITING: users_pb.CONFIRMATION_STATE_WAITING,
    ConfirmationState.SENT: users_pb.CONFIRMATION_STATE_SENT,
    ConfirmationState.FAILED: users_pb.CONFIRMATION_STATE_FAILED,
}

MAX_USERS_PER_REQUEST: Final = 500
"""The number of users that the contract allows in one request."""

MAX_INTERESTS_PER_USER: Final = 200
"""The number of interests of one user to which the contract allows links in one request."""
MAX_INTERESTS_PER_REQUEST: Final = 1_000
"""The same of all users of a request."""

_MAX_CACHED: Final = 10_000

_NO_INTERESTS: Final[Collection[UUID]] = ()


class _RequestRound:
    """One round of requests: the users whose contacts are requested together, and their results.

    Calls join the round while the round before is in progress; they wait for `is_done` and then read the results.
    """

    def __init__(self) -> None:
        self.wanted: dict[UUID, set[UUID]] = {}
        """The users, each with the interests to which links are wanted."""
        self.is_done = asyncio.Event()
        """Set once every user of the round is in `contacts` or in `failed`, or does not exist."""
        self.contacts: dict[UUID, Contact] = {}
        self.failed: dict[UUID, str] = {}
        """The error text by user."""
        self.outdated: set[UUID] = set()
        """Users whose bounce was reported meanwhile: their response may be older, and must not be cached."""


class ContactsClient:
    """A client of user_manager over gRPC that finds contacts, in batches and cached, and reports bounces.

    For one event loop; connects at the first request. Many mails request contacts at once, so one round of requests is
    in progress at a time, and all calls meanwhile share the next round. So no response is older than its call, and a
    slow user_manager receives fewer and larger requests. Contacts who may receive alerts are cached for some seconds.
    """

    def __init__(self, target: str, cache_s: float, secrets: Sequence[str] = ()) -> None:
        """`target` is host:port. A contact who may receive alerts is cached for `cache_s` seconds, others are not.

        The first of `secrets`, if any, is sent with each call.
        """
        self._target = target
        self._secrets = secrets
        self._cache_s = cache_s
        self._channel: grpc.aio.Channel | None = None
        self._cache: dict[UUID, tuple[float, Contact]] = {}
        """The cached contacts with their time of expiry (time.monotonic), the oldest first."""
        self._next_round = _RequestRound()
        self._current_round: _RequestRound | None = None
        self._rounds_task: asyncio.Task[None] | None = None

    async def find_contact(self, user_id: UUID, interest_ids: Collection[UUID] = _NO_INTERESTS) -> Contact | None:
        """Return the contact of a user from the cache or from user_manager; None: the user does not exist.

        It has links to the interests, but to MAX_INTERESTS_PER_USER of them at most, and to none if user_manager is of
        a version without such links. Shares a request with other calls. Returns within twice DEADLINE_S. Raises
        UserManagerUnavailable.
        """
        return (await self.find_contacts([user_id], {user_id: interest_ids})).get(user_id)

    async def find_contacts(
        self, user_ids: Collection[UUID], interests: Mapping[UUID, Collection[UUID]] | None = None
    ) -> Mapping[UUID, Contact]:
        """Return the contacts of these users by id, without users who do not exist.

        `interests`: the interests, by user, to which the contacts have links, as `find_contact` says. Cached contacts
        that have them are returned from the cache; for the others the call joins the next round of requests and waits
        for it. Returns within twice DEADLINE_S: the rest of the round in progress, and the next round. Raises
        UserManagerUnavailable if a request for one of these users failed. Cancelling the call does not affect other
        calls.
        """
        wanted = {each: _select_interests((interests or {}).get(each, _NO_INTERESTS)) for each in user_ids}
        known = self._find_cached(wanted)
        missing = wanted.keys() - known.keys()
        if not missing:
            return known
        joined_round = self._next_round
        for user_id in missing:
            joined_round.wanted.setdefault(user_id, set()).update(wanted[user_id])
        if self._rounds_task is None:
            self._rounds_task = asyncio.create_task(self._run_rounds())
        await joined_round.is_done.wait()
        for user_id in missing:  # few, while the round may be large
            if user_id in joined_round.failed:
                raise UserManagerUnavailable(joined_round.failed[user_id])
            if user_id in joined_round.contacts:
                known[user_id] = joined_round.contacts[user_id]
        return known

    async def report_bounce(self, user_id: UUID, at: datetime) -> None:
        """Report to user_manager that at `at` (aware) a mail server rejected the user's address as non-existent.

        Makes one attempt, within DEADLINE_S, and deletes the user's contact from the cache even if the attempt fails.
        Idempotent. Raises UserManagerUnavailable.
        """
        bounced_at = Timestamp()
        bounced_at.FromDatetime(at)
        request = ReportBounceRequest(user_id=str(user_id), bounced_at=bounced_at)
        try:
            await UserServiceStub(self._get_channel()).ReportBounce(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise UserManagerUnavailable(f"user_manager answered {error.code().name}") from None
        finally:
            self._evict(user_id)

    async def report_confirmation(self, user_id: UUID, confirmation_id: str, state: ConfirmationState) -> None:
        """Report to user_manager how far the mail of a confirmation request is.

        Makes one attempt, within DEADLINE_S. Idempotent. Raises UserManagerUnavailable, also if user_manager is of a
        version that does not know this report.
        """
        request = users_pb.ReportConfirmationRequest(
            user_id=str(user_id), confirmation_id=confirmation_id, state=_STATES[state]
        )
        try:
            await UserServiceStub(self._get_channel()).ReportConfirmation(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise UserManagerUnavailable(f"user_manager answered {error.code().name}") from None

    async def close(self) -> None:
        """Cancel the rounds of requests and close the connection; calls that wait for contacts raise
        UserManagerUnavailable."""
        if self._rounds_task is not None:
            self._rounds_task.cancel()
            await asyncio.wait([self._rounds_task])
            self._fail_waiting_calls()  # a task that is cancelled before its first step runs no `finally`
        if self._channel is not None:
            await self._channel.close()

    async def _run_rounds(self) -> None:
        """Request the contacts of one round after the other, until no call waits for a next round.

        Sets `is_done` after each round. If this task is cancelled, all waiting calls fail.
        """
        try:
            while self._next_round.wanted:
                await asyncio.sleep(0)  # all calls of this iteration of the event loop join the round
                self._current_round, self._next_round = self._next_round, _RequestRound()
                await self._request_round(self._current_round)
                self._current_round.is_done.set()
                self._current_round = None
        finally:
            self._fail_waiting_calls()

    def _fail_waiting_calls(self) -> None:
        """Fail all calls that wait for a round that will not be completed, and reset the rounds.

        The next call then starts a new task. Without waiting calls only resets.
        """
        for unfinished in (self._current_round, self._next_round):
            if unfinished is not None:
                unfinished.failed |= dict.fromkeys(unfinished.wanted, "the question was broken off")
                unfinished.is_done.set()
        self._rounds_task, self._current_round, self._next_round = None, None, _RequestRound()

    async def _request_round(self, current: _RequestRound) -> None:
        """Send all requests of a round concurrently, and store contacts and failures in the round.

        Contacts that are cached by now are taken from the cache; the other users are divided into requests of
        MAX_USERS_PER_REQUEST users and MAX_INTERESTS_PER_REQUEST interests at most.
        """
        current.contacts |= self._find_cached(current.wanted)  # some may have been cached since they joined
        missing = {each: ids for each, ids in current.wanted.items() if each not in current.contacts}
        await asyncio.gather(*(self._request_contacts(current, each) for each in _split_into_requests(missing)))

    async def _request_contacts(self, current: _RequestRound, wanted: Mapping[UUID, Collection[UUID]]) -> None:
        """Send one request and store in the round its contacts, or the error text for each of its users.

        Raises nothing after a gRPC error. Caches the contacts, except those of users whose bounce was reported
        meanwhile. Ignores contacts that were not requested.
        """
        by_text = {str(user_id): user_id for user_id in wanted}
        interests = [
            MailedInterests(user_id=str(user_id), interest_ids=map(str, ids)) for user_id, ids in wanted.items() if ids
        ]
        try:
            response = await UserServiceStub(self._get_channel()).GetContacts(
                GetContactsRequest(user_ids=by_text, interests=interests), timeout=DEADLINE_S
            )
        except grpc.aio.AioRpcError as error:
            current.failed |= dict.fromkeys(by_text.values(), f"user_manager answered {error.code().name}")
            return
        _report_unprintable_links(response.contacts)
        for each in response.contacts:
            user_id = by_text.get(each.user_id)
            if user_id is not None:
                current.contacts[user_id] = _to_contact(user_id, each, wanted[user_id])
                if user_id not in current.outdated:
                    self._cache_contact(current.contacts[user_id])

    def _find_cached(self, wanted: Mapping[UUID, Collection[UUID]]) -> dict[UUID, Contact]:
        """Return the unexpired cached contacts of these users that have links to the wanted interests, by user id.

        Deletes the expired contacts of these users.
        """
        now = time.monotonic()
        found = {}
        for user_id, interest_ids in wanted.items():
            expires, contact = self._cache.get(user_id, (now, None))
            if contact is None:
                continue
            if now >= expires:
                del self._cache[user_id]
            elif all(each in contact.interest_links for each in interest_ids):
                found[user_id] = contact
        return found

    def _cache_contact(self, contact: Contact) -> None:
        """Cache a contact who is confirmed, not paused and not suppressed; delete the user's earlier entry in any case.

        If the cache holds _MAX_CACHED contacts, the new contact replaces the oldest.
        """
        self._cache.pop(contact.user_id, None)
        # A user who cannot be mailed may confirm a second later: a cached "not confirmed" would drop the first alert.
        if not contact.confirmed or contact.paused or contact.suppressed:
            return
        if len(self._cache) >= _MAX_CACHED:
            del self._cache[next(iter(self._cache))]
        self._cache[contact.user_id] = (time.monotonic() + self._cache_s, contact)

    def _evict(self, user_id: UUID) -> None:
        """Delete a user's contact from the cache, and keep the round in progress from caching it again."""
        self._cache.pop(user_id, None)
        if self._current_round is not None:
            self._current_round.outdated.add(user_id)

    def _get_channel(self) -> grpc.aio.Channel:
        """Return the gRPC channel, created at the first call."""
        if self._channel is None:
            self._channel = create_aio_channel(self._target, self._secrets)
        return self._channel


def _select_interests(interest_ids: Iterable[UUID]) -> Collection[UUID]:
    """Return each of the ids once, but MAX_INTERESTS_PER_USER of them at most: the same ones for the same ids."""
    return sorted(set(interest_ids))[:MAX_INTERESTS_PER_USER]


def _split_into_requests(wanted: Mapping[UUID, Collection[UUID]]) -> Iterator[Mapping[UUID, Collection[UUID]]]:
    """Yield the users with their wanted interests, divided so that each part may be one request.

    Calls that joined one round may want more interests of a user together than one request may name: then links to the
    others are left out.
    """
    part: dict[UUID, Collection[UUID]] = {}
    interests = 0
    for user_id, all_ids in wanted.items():
        interest_ids = _select_interests(all_ids)
        if len(part) == MAX_USERS_PER_REQUEST or interests + len(interest_ids) > MAX_INTERESTS_PER_REQUEST:
            yield part
            part, interests = {}, 0
        part[user_id] = interest_ids
        interests += len(interest_ids)
    if part:
        yield part


def _report_unprintable_links(contacts: Iterable[ContactMessage]) -> None:
    """Log one error if mails to some of these contacts have to go without their link that stops all alerts."""
    without = sum(bool(each.unsubscribe_url) and not is_printable_link(each.unsubscribe_url) for each in contacts)
    if without:
        log.error("contacts.link_unprintable", contacts=without, advice="correct the PUBLIC_URL of user_manager")


def _to_contact(user_id: UUID, message: ContactMessage, interest_ids: Iterable[UUID]) -> Contact:
    """Convert the contract's contact message to a Contact of this user, field by field; links to these interests."""
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
        token_url=message.token_url,
        sign_in_url=message.sign_in_url,
        stop_url=message.stop_url,
        without_corrections=message.without_corrections,
        language=message.language,
        interest_links=_read_interest_links(message, interest_ids),
    )


def _read_interest_links(message: ContactMessage, interest_ids: Iterable[UUID]) -> Mapping[UUID, InterestLinks]:
    """Return the links to those of the interests to which a contact message has links, by the interest's id."""
    answered = {each.interest_id: InterestLinks(each.change_url, each.stop_url) for each in message.interest_links}
    return {each: answered[str(each)] for each in interest_ids if str(each) in answered}
