"""What became of alerts, and when that is sure."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any
from uuid import UUID

import pytest
from aiokafka.errors import KafkaTimeoutError

from notifier.delivery.store import REMEMBERED, Fate, Ledger
from notifier.delivery.user_state import Person
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


class Kept:
    """A ledger, and its tables."""

    def __init__(self) -> None:
        self.deeds: list[Deed] = []
        self.fates, self.people = PurgedTable(self.deeds, "fate"), PurgedTable(self.deeds, "person")
        self.crashes: list[BaseException] = []
        self.ledger = Ledger(self.fates, self.people, self.crashes.append)  # type: ignore[arg-type]


@in_a_loop
async def test_fates() -> None:
    """Mailed is for good; dead until somebody wants it to be tried again."""
    ledger = Kept().ledger
    assert ledger.fate(EVENT, A) is None
    ledger.mailed(EVENT, (A,), NOW)
    ledger.buried(EVENT, (A, B), NOW)
    assert (ledger.fate(EVENT, A), ledger.fate(EVENT, B)) == (Fate.MAILED, Fate.DEAD)
    ledger.revived(EVENT, (A, B, C))
    assert (ledger.fate(EVENT, A), ledger.fate(EVENT, B)) == (Fate.MAILED, None)


@in_a_loop
async def test_confirmations_are_remembered_apart() -> None:
    """By what tells one wish from the next."""
    ledger = Kept().ledger
    ledger.confirmation_mailed(EVENT, str(A), NOW)
    assert ledger.confirmation_was_mailed(EVENT, str(A))
    assert not ledger.confirmation_was_mailed(EVENT, str(B))
    assert ledger.fate(EVENT, A) is None


@in_a_loop
async def test_people_are_remembered() -> None:
    """Of whom nothing is left to be remembered has no entry."""
    it = Kept()
    person = Person().sending((A,))
    it.ledger.remember(EVENT, B, person)
    assert it.ledger.person(EVENT, B) == person
    it.ledger.remember(EVENT, B, Person())
    assert it.ledger.person(EVENT, B) == Person()
    assert not it.people


@in_a_loop
async def test_kept_waits_for_both_tables() -> None:
    """And for nothing, where nothing was written."""
    it = Kept()
    await it.ledger.kept(EVENT)
    it.ledger.mailed(EVENT, (A,), NOW)
    it.ledger.remember(EVENT, B, Person().mailed(NOW, (), 12))
    waits = asyncio.create_task(it.ledger.kept(EVENT))
    it.fates.keep()
    await asyncio.sleep(0.01)
    assert not waits.done()
    it.people.keep()
    await asyncio.wait_for(waits, 5)


@pytest.mark.parametrize("failing", ["fates", "people"])
@in_a_loop
async def test_what_the_broker_will_never_have_ends_the_worker(failing: str) -> None:
    """And nothing is acknowledged before: the table here holds what no other would recover."""
    it = Kept()
    it.ledger.mailed(EVENT, (A,), NOW)
    it.ledger.remember(EVENT, B, Person().mailed(NOW, (), 12))
    waits = asyncio.create_task(it.ledger.kept(EVENT))
    tables: dict[str, Any] = {"fates": it.fates, "people": it.people}
    for name, table in tables.items():
        table.keep(KafkaTimeoutError() if name == failing else None)
    await asyncio.sleep(0.01)
    assert not waits.done()
    assert [type(each) for each in it.crashes] == [KafkaTimeoutError]
    waits.cancel()


@in_a_loop
async def test_old_fates_are_let_go() -> None:
    """Of the dead too, and nobody else's; the topics have let go of the alerts themselves by then."""
    it = Kept()
    long_ago = NOW - REMEMBERED - timedelta(seconds=1)
    it.ledger.mailed(EVENT, (A,), long_ago)
    it.ledger.buried(EVENT, (B,), long_ago)
    it.ledger.mailed(EVENT, (C,), NOW - REMEMBERED)
    it.ledger.buried(EVENT, (UUID(int=4),), NOW)
    assert await it.ledger.purge(NOW) == 2
    assert [it.ledger.fate(EVENT, UUID(int=each)) for each in (1, 2, 3, 4)] == [None, None, Fate.MAILED, Fate.DEAD]


@in_a_loop
async def test_people_of_whom_nothing_matters_any_more_are_let_go() -> None:
    """Else there would be one for everybody who was ever mailed, also of accounts that are gone."""
    it = Kept()
    it.ledger.remember(EVENT, A, Person().mailed(NOW - timedelta(hours=1), (), 12))
    it.ledger.remember(EVENT, B, Person().mailed(NOW, (), 12))
    it.ledger.remember(EVENT, C, Person().sending((A,)))
    assert await it.ledger.purge(NOW) == 1
    assert [it.ledger.person(EVENT, each) == Person() for each in (A, B, C)] == [True, False, False]
