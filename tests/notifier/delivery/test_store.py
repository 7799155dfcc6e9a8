"""What became of alerts, and when that is sure."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any
from uuid import UUID

import pytest
from aiokafka.errors import KafkaTimeoutError

from notifier.delivery.store import STATUS_RETENTION, DeliveryStatus, DeliveryStore
from notifier.delivery.user_state import UserState
from tests.fakes.stream import Deed, FakeTable, an_event

NOW = datetime(2026, 11, 23, tzinfo=UTC)
A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)
EVENT = an_event("alerts.raised.v1", 3, b"", b"", {})


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(**values: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**values), 20))

    return run


class PurgedTable(FakeTable):
    """In memory, and purged like the real one."""

    async def purge(self, is_over: Callable[[bytes], bool]) -> int:
        over = [key for key, entry in self.items() if is_over(entry)]
        for key in over:
            del self[key]
        return len(over)


class StoreFixture:
    """A store, and its tables."""

    def __init__(self) -> None:
        self.deeds: list[Deed] = []
        self.statuses, self.users = PurgedTable(self.deeds, "status"), PurgedTable(self.deeds, "user")
        self.crashes: list[BaseException] = []
        self.store = DeliveryStore(self.statuses, self.users, self.crashes.append)  # type: ignore[arg-type]


@in_a_loop
async def test_fates() -> None:
    """Mailed is for good; dead until somebody wants it to be tried again."""
    store = StoreFixture().store
    assert store.find_status(EVENT, A) is None
    store.mark_mailed(EVENT, (A,), NOW)
    store.mark_dead_lettered(EVENT, (A, B), NOW)
    assert (store.find_status(EVENT, A), store.find_status(EVENT, B)) == (
        DeliveryStatus.MAILED,
        DeliveryStatus.DEAD_LETTERED,
    )
    store.clear_dead_lettered(EVENT, (A, B, C))
    assert (store.find_status(EVENT, A), store.find_status(EVENT, B)) == (DeliveryStatus.MAILED, None)


@in_a_loop
async def test_confirmations_are_remembered_apart() -> None:
    """By what tells one wish from the next."""
    store = StoreFixture().store
    store.mark_confirmation_mailed(EVENT, str(A), NOW)
    assert store.was_confirmation_mailed(EVENT, str(A))
    assert not store.was_confirmation_mailed(EVENT, str(B))
    assert store.find_status(EVENT, A) is None


@in_a_loop
async def test_people_are_remembered() -> None:
    """Of whom nothing is left to be remembered has no entry."""
    it = StoreFixture()
    user = UserState().with_mail_in_flight((A,))
    it.store.save_user_state(EVENT, B, user)
    assert it.store.load_user_state(EVENT, B) == user
    it.store.save_user_state(EVENT, B, UserState())
    assert it.store.load_user_state(EVENT, B) == UserState()
    assert not it.users


@in_a_loop
async def test_kept_waits_for_both_tables() -> None:
    """And for nothing, where nothing was written."""
    it = StoreFixture()
    await it.store.wait_until_persisted(EVENT)
    it.store.mark_mailed(EVENT, (A,), NOW)
    it.store.save_user_state(EVENT, B, UserState().with_mail_sent(NOW, (), 12))
    waiting = asyncio.create_task(it.store.wait_until_persisted(EVENT))
    it.statuses.keep()
    await asyncio.sleep(0.01)
    assert not waiting.done()
    it.users.keep()
    await asyncio.wait_for(waiting, 5)


@pytest.mark.parametrize("failing", ["statuses", "users"])
@in_a_loop
async def test_what_the_broker_will_never_have_ends_the_worker(failing: str) -> None:
    """And nothing is acknowledged before: the table here holds what no other would recover."""
    it = StoreFixture()
    it.store.mark_mailed(EVENT, (A,), NOW)
    it.store.save_user_state(EVENT, B, UserState().with_mail_sent(NOW, (), 12))
    waiting = asyncio.create_task(it.store.wait_until_persisted(EVENT))
    tables: dict[str, Any] = {"statuses": it.statuses, "users": it.users}
    for name, table in tables.items():
        table.keep(KafkaTimeoutError() if name == failing else None)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert [type(each) for each in it.crashes] == [KafkaTimeoutError]
    waiting.cancel()


@in_a_loop
async def test_old_fates_are_let_go() -> None:
    """Of the dead too, and nobody else's; the topics have let go of the alerts themselves by then."""
    it = StoreFixture()
    long_ago = NOW - STATUS_RETENTION - timedelta(seconds=1)
    it.store.mark_mailed(EVENT, (A,), long_ago)
    it.store.mark_dead_lettered(EVENT, (B,), long_ago)
    it.store.mark_mailed(EVENT, (C,), NOW - STATUS_RETENTION)
    it.store.mark_dead_lettered(EVENT, (UUID(int=4),), NOW)
    assert await it.store.purge_expired(NOW) == 2
    assert [it.store.find_status(EVENT, UUID(int=each)) for each in (1, 2, 3, 4)] == [
        None,
        None,
        DeliveryStatus.MAILED,
        DeliveryStatus.DEAD_LETTERED,
    ]


@in_a_loop
async def test_people_of_whom_nothing_matters_any_more_are_let_go() -> None:
    """Else there would be one for everybody who was ever mailed, also of accounts that are gone."""
    it = StoreFixture()
    it.store.save_user_state(EVENT, A, UserState().with_mail_sent(NOW - timedelta(hours=1), (), 12))
    it.store.save_user_state(EVENT, B, UserState().with_mail_sent(NOW, (), 12))
    it.store.save_user_state(EVENT, C, UserState().with_mail_in_flight((A,)))
    assert await it.store.purge_expired(NOW) == 1
    assert [it.store.load_user_state(EVENT, each) == UserState() for each in (A, B, C)] == [True, False, False]
