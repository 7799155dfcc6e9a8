"""What the notifier remembers, in two Faust tables that are written through to the broker."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID

import structlog
from faust.types import EventT

from chassis.faust.table import Write, set_current_event
from notifier.delivery.user_state import Person

log = structlog.get_logger()

REMEMBERED: Final = timedelta(days=8)
"""A day longer than the topics keep the alerts, so that no replay mails twice."""

_DEAD: Final = b"dead "


class Fate(StrEnum):
    """What became of an alert, for good."""

    MAILED = "mailed"
    DEAD = "dead"
    """It is a dead letter."""


class Table(Protocol):
    """A table as it is used here: `chassis.faust.table.DirectTable`."""

    def get(self, key: bytes, /) -> bytes | None: ...
    def write(self, event: EventT[bytes], key: bytes, entry: bytes | None) -> None: ...
    def last_write(self, partition: int) -> Write | None: ...
    async def purge(self, is_over: Callable[[bytes], bool]) -> int: ...


class Ledger:
    """The fates of alerts and confirmations, and the people.

    Everything is asked and written for an event, because Faust's tables are cut in partitions as the events are; what
    is written is sure once `kept` has returned.
    """

    def __init__(self, fates: Table, people: Table, crash: Callable[[BaseException], None]) -> None:
        """`crash` ends the worker, to be started again: when a table holds what its changelog will never have."""
        self._fates = fates
        self._people = people
        self._crash = crash

    def fate(self, event: EventT[bytes], alert_id: UUID) -> Fate | None:
        """None: it is still to be mailed."""
        return self._fate(event, _key(alert_id))

    def confirmation_was_mailed(self, event: EventT[bytes], confirmation_id: str) -> bool:
        return self._fate(event, _confirmation(confirmation_id)) is Fate.MAILED

    def person(self, event: EventT[bytes], user_id: UUID) -> Person:
        set_current_event(event)
        return Person.decoded(self._people.get(_key(user_id)))

    def remember(self, event: EventT[bytes], user_id: UUID, person: Person) -> None:
        entry = person.encoded()
        self._people.write(event, _key(user_id), entry or None)

    def mailed(self, event: EventT[bytes], alert_ids: Iterable[UUID], at: datetime) -> None:
        for each in alert_ids:
            self._fates.write(event, _key(each), _time(at))

    def confirmation_mailed(self, event: EventT[bytes], confirmation_id: str, at: datetime) -> None:
        self._fates.write(event, _confirmation(confirmation_id), _time(at))

    def buried(self, event: EventT[bytes], alert_ids: Iterable[UUID], at: datetime) -> None:
        """They are dead letters; those that were mailed are not."""
        for each in alert_ids:
            if self.fate(event, each) is not Fate.MAILED:
                self._fates.write(event, _key(each), _DEAD + _time(at))

    def revived(self, event: EventT[bytes], alert_ids: Iterable[UUID]) -> None:
        """Somebody wants dead letters to be tried again."""
        for each in alert_ids:
            if self.fate(event, each) is Fate.DEAD:
                self._fates.write(event, _key(each), None)

    async def kept(self, event: EventT[bytes]) -> None:
        """Return once the broker has what was written for an event's partition."""
        partition = event.message.partition
        last = (self._fates.last_write(partition), self._people.last_write(partition))
        writes = {write for write in last if write is not None}
        if not writes:
            return
        await asyncio.wait(writes)
        error = next((error for write in writes if (error := write.exception()) is not None), None)
        if error is not None:
            log.error("ledger.not_kept", error=type(error).__name__)
            self._crash(error)
            await asyncio.Event().wait()  # the end comes from outside, and nothing may be done before

    async def purge(self, now: datetime) -> int:
        """Let go of fates that are older than REMEMBERED, and of people who are over; how many there were."""
        oldest = _time(now - REMEMBERED)
        fates = await self._fates.purge(lambda entry: entry.removeprefix(_DEAD) < oldest)
        return fates + await self._people.purge(lambda entry: Person.decoded(entry).is_over(now))

    def _fate(self, event: EventT[bytes], key: bytes) -> Fate | None:
        set_current_event(event)
        entry = self._fates.get(key)
        if entry is None:
            return None
        return Fate.DEAD if entry.startswith(_DEAD) else Fate.MAILED


def _key(of: UUID) -> bytes:
    return str(of).encode()


def _confirmation(confirmation_id: str) -> bytes:
    return b"confirmation/" + confirmation_id.encode()


def _time(at: datetime) -> bytes:
    """Sorts as the time does."""
    return at.astimezone(UTC).isoformat(timespec="seconds").encode()
