"""A database whose transactions fail as a test plans, and the kinds of faults."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Enum, auto

from sqlalchemy.orm import Session

from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError


class Killed(BaseException):
    """A simulated kill of the process: no code catches this error."""


class DatabaseFault(Enum):
    """A kind of failure of a transaction or a call."""

    REFUSED = auto()
    """It has no effect, and the caller gets an error."""
    LOST = auto()
    """It has its effect, but the caller gets an error: the response is lost, or comes after the deadline."""
    KILLED_BEFORE = auto()
    """The process is killed before the effect."""
    KILLED_AFTER = auto()
    """The process is killed just after the effect."""


Faults = Iterator[DatabaseFault | None]
"""The faults of the next transactions or calls, in order. None: no fault; after the last one none occurs."""


class FaultyDatabase(Database):
    """A database whose next transactions fail as `plan` says; the transactions after those succeed."""

    def __init__(self, sound: Database, plan: Faults) -> None:
        self._sound = sound
        self.plan = plan

    def reading(self) -> AbstractContextManager[Session]:
        return self._sound.reading()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Run a transaction of the sound database with the next fault of the plan."""
        fault = next(self.plan, None)
        with self._sound.transaction() as session:
            yield session
            if fault is DatabaseFault.REFUSED:
                raise DatabaseUnavailableError("as planned")
            if fault is DatabaseFault.KILLED_BEFORE:
                raise Killed
        if fault is DatabaseFault.LOST:
            raise DatabaseUnavailableError("as planned")
        if fault is DatabaseFault.KILLED_AFTER:
            raise Killed
