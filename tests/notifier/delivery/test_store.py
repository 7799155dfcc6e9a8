"""The store of delivery statuses and user states, and when its writes are durable."""

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


def run_in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in an event loop; fail after 20 seconds."""

    @wraps(test)
    def run(**values: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**values), 120))

    return run


class PurgedTable(FakeTable):
    """A table in memory that can be purged like the real one."""

    async def purge(self, is_over: Callable[[bytes], bool]) -> int:
        over = [key for key, entry in self.items() if is_over(entry)]
        for key in over:
            del self[key]
        return len(over)


class StoreFixture:
    """A store with its tables in memory."""

    def __init__(self) -> None:
        self.deeds: list[Deed] = []
        self.statuses, self.users = PurgedTable(self.deeds, "status"), PurgedTable(self.deeds, "user")
        self.crashes: list[BaseException] = []
        self.store = DeliveryStore(self.statuses, self.users, self.crashes.append)  # type: ignore[arg-type]


@run_in_loop
async def test_delivery_statuses() -> None:
    """MAILED is final; DEAD_LETTERED can be cleared."""
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


@run_in_loop
async def test_confirmations_are_stored_apart_from_alerts() -> None:
    """A confirmation is stored by its own id."""
    store = StoreFixture().store
    store.mark_confirmation_mailed(EVENT, str(A), NOW)
    assert store.find_confirmation_status(EVENT, str(A)) is DeliveryStatus.MAILED
    assert store.find_confirmation_status(EVENT, str(B)) is None
    store.mark_confirmation_dead_lettered(EVENT, str(B), NOW)
    assert store.find_confirmation_status(EVENT, str(B)) is DeliveryStatus.DEAD_LETTERED
    assert store.find_status(EVENT, A) is None


@run_in_loop
async def test_user_states_are_stored() -> None:
    """An empty state has no entry."""
    fixture = StoreFixture()
    user = UserState().with_mail_in_flight((A,))
    fixture.store.save_user_state(EVENT, B, user)
    assert fixture.store.load_user_state(EVENT, B) == user
    fixture.store.save_user_state(EVENT, B, UserState())
    assert fixture.store.load_user_state(EVENT, B) == UserState()
    assert not fixture.users


@run_in_loop
async def test_wait_until_persisted_waits_for_both_tables() -> None:
    """The method returns at once if nothing was written."""
    fixture = StoreFixture()
    await fixture.store.wait_until_persisted(EVENT)
    fixture.store.mark_mailed(EVENT, (A,), NOW)
    fixture.store.save_user_state(EVENT, B, UserState().with_mail_sent(NOW, (), 12))
    waiting = asyncio.create_task(fixture.store.wait_until_persisted(EVENT))
    fixture.statuses.keep()
    await asyncio.sleep(0.01)
    assert not waiting.done()
    fixture.users.keep()
    await asyncio.wait_for(waiting, 60)


@pytest.mark.parametrize("failing", ["statuses", "users"])
@run_in_loop
async def test_a_failed_write_crashes_the_worker(failing: str) -> None:
    """No event is acknowledged after it: this worker's table contains an entry that another worker could not
    recover."""
    fixture = StoreFixture()
    fixture.store.mark_mailed(EVENT, (A,), NOW)
    fixture.store.save_user_state(EVENT, B, UserState().with_mail_sent(NOW, (), 12))
    waiting = asyncio.create_task(fixture.store.wait_until_persisted(EVENT))
    tables: dict[str, Any] = {"statuses": fixture.statuses, "users": fixture.users}
    for name, table in tables.items():
        table.keep(KafkaTimeoutError() if name == failing else None)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert [type(each) for each in fixture.crashes] == [KafkaTimeoutError]
    waiting.cancel()


@run_in_loop
async def test_old_statuses_are_purged() -> None:
    """Old dead-lettered statuses are purged, too, and no newer ones; the topics have deleted the alerts by then."""
    fixture = StoreFixture()
    long_ago = NOW - STATUS_RETENTION - timedelta(seconds=1)
    fixture.store.mark_mailed(EVENT, (A,), long_ago)
    fixture.store.mark_dead_lettered(EVENT, (B,), long_ago)
    fixture.store.mark_mailed(EVENT, (C,), NOW - STATUS_RETENTION)
    fixture.store.mark_dead_lettered(EVENT, (UUID(int=4),), NOW)
    assert await fixture.store.purge_expired(NOW) == 2
    assert [fixture.store.find_status(EVENT, UUID(int=each)) for each in (1, 2, 3, 4)] == [
        None,
        None,
        DeliveryStatus.MAILED,
        DeliveryStatus.DEAD_LETTERED,
    ]


@run_in_loop
async def test_expired_user_states_are_purged() -> None:
    """Otherwise the table would keep an entry for every user ever mailed, also of deleted accounts."""
    fixture = StoreFixture()
    fixture.store.save_user_state(EVENT, A, UserState().with_mail_sent(NOW - timedelta(hours=1), (), 12))
    fixture.store.save_user_state(EVENT, B, UserState().with_mail_sent(NOW, (), 12))
    fixture.store.save_user_state(EVENT, C, UserState().with_mail_in_flight((A,)))
    assert await fixture.store.purge_expired(NOW) == 1
    assert [fixture.store.load_user_state(EVENT, each) == UserState() for each in (A, B, C)] == [True, False, False]


@run_in_loop
async def test_an_unproven_bounce_is_kept_until_it_is_cleared_or_old() -> None:
    """The time is exact, so that what the server accepted in the same second before it is no evidence."""
    fixture = StoreFixture()
    store = fixture.store
    assert store.find_unproven_bounce(EVENT, A) is None
    at = NOW + timedelta(microseconds=123_456)
    store.mark_unproven_bounce(EVENT, A, at)
    assert (store.find_unproven_bounce(EVENT, A), store.find_unproven_bounce(EVENT, B)) == (at, None)
    store.clear_unproven_bounce(EVENT, A)
    store.clear_unproven_bounce(EVENT, B)
    assert store.find_unproven_bounce(EVENT, A) is None
    store.mark_unproven_bounce(EVENT, A, NOW)
    assert await store.purge_expired(NOW + STATUS_RETENTION) == 0
    assert await store.purge_expired(NOW + STATUS_RETENTION + timedelta(seconds=1)) == 1
