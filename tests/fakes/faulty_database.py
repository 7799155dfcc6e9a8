"""A database whose transactions go wrong as a test plans it, and the faults that it knows."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Enum, auto

from sqlalchemy.orm import Session

from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError


class Killed(BaseException):
    """The process is gone: nothing in it can catch this."""


class Fault(Enum):
    """What goes wrong with a transaction or a call."""

    REFUSED = auto()
    """It does not happen, and fails."""
    LOST = auto()
    """It happens, and seems to fail: the answer is lost, or comes after the deadline."""
    KILLED_BEFORE = auto()
    """The process is killed before it happens."""
    KILLED_AFTER = auto()
    """The process is killed just after it happened."""


Faults = Iterator[Fault | None]


class FaultyDatabase(Database):
    """A database whose next transactions go wrong as planned; all is well after them."""

    def __init__(self, sound: Database, plan: Faults) -> None:
        self._sound = sound
        self.plan = plan

    def reading(self) -> AbstractContextManager[Session]:
        return self._sound.reading()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        fault = next(self.plan, None)
        with self._sound.transaction() as session:
            yield session
            if fault is Fault.REFUSED:
                raise DatabaseUnavailableError("as planned")
            if fault is Fault.KILLED_BEFORE:
                raise Killed
        if fault is Fault.LOST:
            raise DatabaseUnavailableError("as planned")
        if fault is Fault.KILLED_AFTER:
            raise Killed
