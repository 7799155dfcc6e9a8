"""API calls within the credit quota: each is charged before it is made, and refunded if it fails.

Each answer is also used to check our clock.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from collector.errors import (
    BreakerOpenError,
    ForeignAnswer,
    ForeignAnswerError,
    IncompleteAnswerError,
    SourceError,
    SourceLimitedError,
    WrongClockError,
)
from collector.intervals import Interval
from collector.leadership.terms import Term, require_term
from collector.people import charge_people, refund_people
from collector.settled.planner import compute_price
from collector.settled.quota import QuotaStore
from collector.settled.shares import Bill
from collector.settled.source_failure import clear_failure, store_failure
from collector.settled.source_state import (
    LARGEST_CLOCK_ERROR,
    count_foreign_answer,
    reset_future_instants,
    store_clock_error,
)
from collector.sources.flight import Flight
from domain.interests import Direction

log = structlog.get_logger()


class FlightSource(Protocol):
    """A client of the source of flights, which also holds what the source last reported besides flights.

    The caller sets both attributes to None before each fetch, so that an older report is not taken for new.
    """

    remaining_credits: int | None
    """Credits left today, as the source last reported; None: not reported since a caller last set None."""
    clock_error: timedelta | None
    """Time that our clock is ahead of the source's (negative: behind it), by the last answer; None: not known."""

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return all flights with an event time in [begin, end), possibly with duplicates. Raises SourceError."""
        ...


@dataclass(frozen=True, slots=True)
class Charge:
    """The credits that were charged to the quota for one API call, and the time of the charge."""

    credits: int
    at: datetime
    parts: Mapping[UUID, int] = field(default_factory=dict)
    """What each person paid of it, in microcredits; empty: the call is for all."""


@dataclass(frozen=True, slots=True)
class CallConditions:
    """The conditions that the credits must meet for an API call, and who pays for it."""

    reserved_credits: int = 0
    """Credits that must be left afterwards."""
    ahead_credits: int = 0
    """Credits of the calls that come first, for which the allowance of now must be enough, too."""
    bill: Bill | None = None
    """Who pays. None: nobody, the call is for all."""


FOR_ALL: Final = CallConditions()
"""The conditions of a call that is for all, and that comes first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The source's answer to one API call."""

    flights: list[Flight]
    charge: Charge
    remaining_credits: int | None
    """Credits left today, as the source reported with the answer; None: not reported."""


def stops_collection(error: SourceError) -> bool:
    """Return True if the next call would fail for the same reason, False if only this call's target is affected."""
    return isinstance(error, SourceLimitedError | BreakerOpenError | WrongClockError)


def is_useless_answer(error: SourceError) -> bool:
    """Return True if the source has answered, but with rows that cannot be counted; False for any other failure."""
    return isinstance(error, IncompleteAnswerError) or (
        isinstance(error, ForeignAnswerError) and error.kind is ForeignAnswer.NO_IDENTITY
    )


class SourceCalls:
    """Makes API calls within the quota, and stores the credits, pauses and clock errors that the source reports."""

    def __init__(self, database: Database, source: FlightSource, clock: Clock, quota: QuotaStore) -> None:
        self._database = database
        self._source = source
        self._clock = clock
        self._quota = quota

    async def fetch(
        self,
        term: Term,
        interval: Interval,
        conditions: CallConditions = FOR_ALL,
        on_charge: Callable[[Session, Charge], None] = lambda _session, _charge: None,
    ) -> Answer | None:
        """Charge the quota for one interval, and fetch its flights; None, at no cost, if the quota defers the call.

        `on_charge` runs in the transaction of the charge. Raises SourceError if the call fails, after the refund of its
        credits; IncompleteAnswerError, without a refund, because the source has charged the call; WrongClockError,
        without a refund, if the answer shows that our clock is wrong; SupersededError, DatabaseUnavailableError.
        """
        charge = await asyncio.to_thread(self._charge, term, interval, conditions, on_charge)
        if charge is None:
            return None
        self._source.remaining_credits = self._source.clock_error = None
        try:
            flights = await self._source.fetch_flights(
                interval.airport, interval.direction, interval.begin, interval.end
            )
        except SourceError as error:
            await asyncio.to_thread(self._refund, charge, error)
            raise
        await asyncio.to_thread(self._check_clock)
        return Answer(flights, charge, self._source.remaining_credits)

    def reconcile(self, session: Session, answer: Answer, now: datetime) -> None:
        """Store the credits that the source reported with an answer, and that it has answered.

        It runs in the caller's transaction.
        """
        clear_failure(session)
        self._quota.reconcile_with_source(session, answer.remaining_credits, answer.charge.at, now)

    def _charge(
        self, term: Term, interval: Interval, conditions: CallConditions, on_charge: Callable[[Session, Charge], None]
    ) -> Charge | None:
        """Charge the quota for one API call, before the call is made.

        Return None, and change nothing, if the credits or a pause of the source do not allow the call now. A crash
        after the charge may lose credits that were not used, but never spends a credit twice. Raises SupersededError,
        DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            require_term(session, term)
            balance = self._quota.load_balance(session, now)
            price = compute_price(interval.begin, now)
            if balance.is_paused(now) or not balance.can_spend(price + conditions.ahead_credits, now):
                return None
            if balance.left - price < conditions.reserved_credits:
                return None
            self._quota.charge(session, price, now)
            charge = Charge(price, now, charge_people(session, conditions.bill, price) if conditions.bill else {})
            on_charge(session, charge)
        return charge

    def _refund(self, charge: Charge, error: SourceError) -> None:
        """Refund the charge of an API call that failed, and store the pause or the credits that the source reported.

        What people paid is given back, too; nothing is refunded after an IncompleteAnswerError. After a
        SourceLimitedError the pause is stored, after any other error the reported credits, if there are any. A charge
        of an earlier UTC day is not refunded to the day. A foreign answer is counted, and the failure
        stored to be shown, as is the comparison of the clocks if the answer allowed one (a 429 does). Raises
        DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            if not isinstance(error, IncompleteAnswerError):
                self._quota.refund(session, charge.credits, charge.at, now)
                refund_people(session, charge.parts)
            count_foreign_answer(session, error, now)
            store_failure(session, error, now)
            if self._source.clock_error is not None:
                store_clock_error(session, self._source.clock_error, now)
            if isinstance(error, SourceLimitedError):
                self._quota.store_pause(session, now + timedelta(seconds=error.retry_after_s), now)
            else:
                self._quota.reconcile_with_source(session, self._source.remaining_credits, charge.at, now)

    def _check_clock(self) -> None:
        """Store the error of our clock by the last answer; if the clock is right, reset stored instants of the future.

        Does nothing if the answer did not show the source's time. Raises WrongClockError if the error is larger than
        LARGEST_CLOCK_ERROR; DatabaseUnavailableError.
        """
        error, now = self._source.clock_error, self._clock.now()
        if error is None:
            return
        agrees = abs(error) <= LARGEST_CLOCK_ERROR
        with self._database.transaction() as session:
            store_clock_error(session, error, now)
            if agrees:
                reset_future_instants(session, now)
            else:
                store_failure(session, WrongClockError(error), now)
        if not agrees:
            raise WrongClockError(error)
