"""Rows as live collection stores them, with the events that it publishes, and what the stream makes of the outbox."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import select

from chassis.db.database import Database
from collector.intervals import DAY, Interval, day_of
from collector.messages import encode_flights_observed, encode_partial_flights
from collector.model import OUTBOX, FlightRow, LiveAgreementRow, LiveCoverageRow, LiveMovementRow, LiveOutcome
from collector.sources.flight import Flight
from domain.interests import Direction
from domain.traffic import DirectionTraffic
from streams.messages import decode_flights
from tests.collector.conftest import NOON, outbox
from towerwatch.flights.v1.events_pb2 import PROVENANCE_LIVE
from towerwatch.topics import FLIGHTS_OBSERVED


def publish_live(
    database: Database, direction: Direction, movements: Iterable[tuple[int, datetime]], airport: str = "KJFK"
) -> None:
    """Store and publish movements, each of an aircraft's number and an event time, as live collection does."""
    with database.transaction() as session:
        for number, at in movements:
            icao24 = f"{number:06x}"
            session.add(
                LiveMovementRow(
                    airport=airport,
                    direction=direction.value,
                    icao24=icao24,
                    callsign="",
                    event_time=at,
                    evidence="surface",
                    feed="opensky",
                    found_at=at,
                    outcome=LiveOutcome.PUBLISHED.value,
                )
            )
            seconds = int(at.timestamp())
            flight = Flight.model_validate({"icao24": icao24, "firstSeen": seconds, "lastSeen": seconds})
            interval = Interval(airport, direction, at - DAY, at + timedelta(seconds=1))  # begins in covered time
            OUTBOX.add(session, encode_partial_flights(interval, [flight], provenance=PROVENANCE_LIVE))


def cover_live(
    database: Database,
    direction: Direction,
    begin: datetime,
    end: datetime,
    airport: str = "KJFK",
    published: bool = True,
) -> None:
    """Store a stretch of live coverage, and publish it unless it is of an airport that is distrusted."""
    with database.transaction() as session:
        session.add(
            LiveCoverageRow(airport=airport, direction=direction.value, begin_at=begin, end_at=end, published=published)
        )
        if published:
            OUTBOX.add(session, encode_flights_observed(airport, direction, begin, end, (), provenance=PROVENANCE_LIVE))


def fold_outbox(database: Database, direction: Direction, airport: str = "KJFK") -> DirectionTraffic:
    """Return the traffic of an airport and direction after all events of the outbox, as the stream folds them."""
    traffic = DirectionTraffic()
    for message in outbox(database, FLIGHTS_OBSERVED.name):
        observed = decode_flights(message.value or b"")
        if observed.airport == airport and observed.observation.direction is direction:
            traffic = traffic.fold(observed.observation)
    return traffic


def load_outcomes(database: Database) -> list[tuple[int, LiveOutcome]]:
    """Return the aircraft's number and the outcome of each movement, in the order of their event times."""
    with database.reading() as session:
        rows = session.execute(
            select(LiveMovementRow.icao24, LiveMovementRow.outcome).order_by(
                LiveMovementRow.event_time, LiveMovementRow.id
            )
        ).all()
    return [(int(row.icao24, 16), LiveOutcome(row.outcome)) for row in rows]


def load_event_times(database: Database, direction: Direction, airport: str = "KJFK") -> list[tuple[int, datetime]]:
    """Return the aircraft's number and the event time as published of each stored flight, in their order."""
    with database.reading() as session:
        rows = session.execute(
            select(FlightRow.icao24, FlightRow.event_time)
            .where(FlightRow.airport == airport, FlightRow.direction == direction.value)
            .order_by(FlightRow.event_time, FlightRow.icao24)
        ).all()
    return [(int(row.icao24, 16), row.event_time) for row in rows]


def store_agreement_rows(
    database: Database, direction: Direction, days: Iterable[tuple[int, int, int]], airport: str = "KJFK"
) -> None:
    """Store the agreement of the days before today, newest first: flights of the record, movements, those of both.

    All are in the first hour of the day.
    """
    with database.transaction() as session:
        for back, (recorded, live, matched) in enumerate(days, 1):
            session.merge(
                LiveAgreementRow(
                    airport=airport,
                    direction=direction.value,
                    day=day_of(NOON) - back * DAY,
                    recorded=recorded,
                    live=live,
                    matched=matched,
                    added=recorded - matched,
                    retracted=live - matched,
                    hourly=json.dumps([(recorded, live), *[(0, 0)] * 23]),
                )
            )
