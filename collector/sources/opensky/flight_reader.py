"""The reader of OpenSky's answers for flights: it also counts and logs unreadable fields and rows."""

from datetime import timedelta
from typing import Final

import httpx
import structlog
from pydantic import ValidationError

from chassis.clock import Clock
from chassis.metrics import Metrics
from collector.errors import ForeignAnswer, IncompleteAnswerError, SourceRefusedError
from collector.intervals import Interval
from collector.sources.flight import UNASSIGNED_ADDRESSES, Flight
from collector.sources.opensky.answers import classify_foreign_answer, parse_flight, parse_rows
from collector.sources.opensky.foreign_answers import ForeignAnswerCounter

log = structlog.get_logger()

_LOG_INTERVAL: Final = timedelta(days=1)
"""A dropped field is logged at most once in this period of elapsed time."""

_MOST_ROWS: Final = 20_000
"""Rows of the largest answer: ten times as many as the largest airport has flights in a day."""
_TOLERATED_SHARE: Final = 20
"""Of so many rows one may be left out: that is little beside what the source itself misses."""
_FINAL_AFTER: Final = timedelta(days=2)
"""Time after an interval's end from which its answer counts as the source's last word."""


def count_tolerated_rows(rows: int, age: timedelta) -> int:
    """Return how many of an answer's rows may be left out, if its interval ended `age` ago: one in twenty.

    More, and the rest must not be taken for all flights. Of an answer that is the source's last word one row may
    always be left out: else a row that is never mended would keep a small airport from being covered for ever.
    """
    return max(rows // _TOLERATED_SHARE, 1 if age >= _FINAL_AFTER and rows > 1 else 0)


class FlightReader:
    """Reads the flights of answers; counts the rows and fields that it leaves out."""

    def __init__(self, clock: Clock, metrics: Metrics, foreign: ForeignAnswerCounter) -> None:
        self._clock = clock
        self._foreign = foreign
        self._malformed = metrics.counter("opensky_malformed_flights_total", "Flights left out as malformed").labels()
        self._dropped = metrics.counter(
            "opensky_dropped_fields_total", "Unreadable fields dropped from flights that count all the same", "field"
        )
        self._dropped_logged_at: dict[str, timedelta] = {}
        """By field, the elapsed time of the last log entry."""

    def read_flights(self, answer: httpx.Response, interval: Interval) -> list[Flight]:
        """Return the flights of an answer with status 200 to the question about an interval, in the order of the rows.

        Rows without identity (icao24, which must be one that an aircraft can have, and two times), and rows that name
        another airport than the interval's, are left out, counted and logged. Other unreadable fields are dropped from
        their flight, counted by field, and each field is logged once a day at most. Safe to call in a thread.

        Raises ForeignAnswerError if the body is no list, or if there are rows and none has an identity: that is not a
        day without flights. Raises IncompleteAnswerError if too many rows are left out (see `count_tolerated_rows`),
        SourceRefusedError if there are more rows than any airport has flights: they are not even read, because that
        could take minutes.
        """
        rows = parse_rows(answer)
        if rows is None:
            raise self._foreign.count(answer, classify_foreign_answer(answer))
        if len(rows) > _MOST_ROWS:
            raise SourceRefusedError(
                f"the answer has {len(rows)} flights, too many for one airport: check the address of the source"
            )
        flights: list[Flight] = []
        faults: set[str] = set()
        for row in rows:
            try:
                flight, dropped = parse_flight(row)
            except ValidationError as error:
                self._malformed.inc()
                faults |= {".".join(map(str, fault["loc"])) or fault["msg"] for fault in error.errors()}
                continue
            if flight.icao24 in UNASSIGNED_ADDRESSES:
                self._malformed.inc()
                faults.add("icao24")
                continue
            if flight.own_airport(interval.direction) not in ("", interval.airport):
                self._malformed.inc()
                faults.add("of another airport")
                continue
            flights.append(flight)
            for field in dropped:
                self._count_dropped(field)
        if len(flights) < len(rows):
            log.warning("opensky.malformed_flights", left_out=len(rows) - len(flights), faults=sorted(faults))
        if rows and not flights and faults != {"of another airport"}:
            raise self._foreign.count(answer, ForeignAnswer.NO_IDENTITY)
        if len(rows) - len(flights) > count_tolerated_rows(len(rows), self._clock.now() - interval.end):
            raise IncompleteAnswerError(len(rows) - len(flights), len(rows))
        return flights

    def _count_dropped(self, field: str) -> None:
        """Count a field that was dropped from a flight, and log the field if it was not logged in the last day."""
        self._dropped.labels(field=field).inc()
        logged_at, elapsed = self._dropped_logged_at.get(field), self._clock.elapsed()
        if logged_at is None or elapsed - logged_at >= _LOG_INTERVAL:
            self._dropped_logged_at[field] = elapsed
            log.warning("opensky.field_dropped", field=field)
