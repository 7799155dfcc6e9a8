"""Tests of the retention: only old flights without an interest are deleted, and covered ranges stay complete."""

from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import func, select, text, update

from collector import retention as retention_module
from collector.intervals import day_of
from collector.model import CoverageRow, FlightRow, LiveAgreementRow, LiveCoverageRow, LiveMovementRow, LiveOutcome
from collector.retention import FlightRetention
from domain.interests import Direction
from tests.collector.conftest import NOON, Service, wish
from tests.collector.settled.live_rows import cover_live, publish_live, store_agreement_rows

RETENTION = timedelta(days=40)
ANN = UUID(int=1)


def fill(service: Service, airport: str, days: int) -> None:
    """Store an airport's departures, one per hour, all of them covered."""
    with service.database.transaction() as session:
        begin = day_of(NOON)
        session.add(
            CoverageRow(
                airport=airport,
                direction="departures",
                covered_from=begin,
                covered_until=begin + timedelta(days=days),
                corrected_until=begin,
            )
        )
        session.flush()
        for hour in range(days * 24):
            at = begin + timedelta(hours=hour)
            session.add(
                FlightRow(
                    airport=airport,
                    direction="departures",
                    icao24=f"{hour:06x}",
                    callsign="",
                    first_seen=at,
                    last_seen=at,
                    event_time=at,
                    other_airport="",
                )
            )


def count_flights(service: Service, airport: str = "KJFK") -> int:
    """Return the number of stored flights of an airport."""
    with service.database.transaction() as session:
        query = select(func.count()).select_from(FlightRow).where(FlightRow.airport == airport)
        return session.scalar(query) or 0


def test_only_old_flights_without_an_interest_are_deleted(service: Service) -> None:
    """Flights are deleted day by day once they exceed the retention, and coverage no longer holds them."""
    for airport in ("KJFK", "LICC", "EGLL", "KBOS"):
        fill(service, airport, days=3)
    service.set(wish("LICC"))
    service.set(wish("EGLL", Direction.BOTH))
    service.set(wish("KBOS", Direction.ARRIVALS))
    retention = FlightRetention(service.database, service.clock, RETENTION)
    service.clock.advance(RETENTION)
    assert retention.delete_expired() == 0
    service.clock.advance(timedelta(days=1))
    assert retention.delete_expired() == 2 * 24
    assert [count_flights(service, airport) for airport in ("KJFK", "KBOS", "LICC", "EGLL")] == [48, 48, 72, 72]
    with service.database.transaction() as session:
        cursor = session.get_one(CoverageRow, ("KJFK", "departures"))
    assert (cursor.covered_from, cursor.covered_until) == (
        day_of(NOON) + timedelta(days=1),
        day_of(NOON) + timedelta(days=3),
    )


def test_in_the_end_only_the_cursor_is_left(service: Service) -> None:
    """The cursor marks where the gap begins if a new interest in the airport comes."""
    fill(service, "KJFK", days=3)
    service.clock.advance(RETENTION + timedelta(days=60))
    FlightRetention(service.database, service.clock, RETENTION).delete_expired()
    assert count_flights(service) == 0
    with service.database.transaction() as session:
        cursor = session.get_one(CoverageRow, ("KJFK", "departures"))
    assert cursor.covered_from == cursor.covered_until == day_of(NOON) + timedelta(days=3)


def test_it_works_in_chunks(service: Service, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """No transaction deletes more flights than CHUNK."""
    monkeypatch.setattr(retention_module, "CHUNK", 10)
    fill(service, "KJFK", days=1)
    service.clock.advance(RETENTION + timedelta(days=2))
    assert FlightRetention(service.database, service.clock, RETENTION).delete_expired() == 24
    assert count_flights(service) == 0


def test_an_interest_keeps_its_history(service: Service) -> None:
    """Even old flights are kept while their airport has an interest."""
    fill(service, "KJFK", days=2)
    service.set(user_id=ANN)
    service.clock.advance(RETENTION + timedelta(days=30))
    retention = FlightRetention(service.database, service.clock, RETENTION)
    assert retention.delete_expired() == 0
    service.interests.remove_all(ANN)
    assert retention.delete_expired() == 48


def test_it_finds_its_flights_by_an_index(service: Service) -> None:
    """The deletion must not read a whole table of millions of flights."""
    for airport in ("KJFK", "LICC", "EGLL"):
        fill(service, airport, days=30)
    statement = (
        "SELECT id FROM flights WHERE airport = 'KJFK' AND direction = 'departures' AND event_time < '2013-02-14'"
        " ORDER BY event_time LIMIT 1000"
    )
    with service.database.transaction() as session:
        if service.database.is_sqlite:
            plan = " ".join(str(row) for row in session.execute(text(f"EXPLAIN QUERY PLAN {statement}")))
            assert "ix_flights_event_time" in plan
            assert "SCAN" not in plan
        else:
            session.execute(text("ANALYZE TABLE flights"))
            (row,) = session.execute(text(f"EXPLAIN FORMAT=TRADITIONAL {statement}")).mappings()
            assert (row["type"], row["key"]) == ("range", "ix_flights_event_time")


def test_an_empty_database_is_no_error(service: Service) -> None:
    """Neither airports nor flights are needed."""
    service.set(user_id=uuid4())
    assert FlightRetention(service.database, service.clock, RETENTION).delete_expired() == 0


def test_what_was_live_goes_with_the_flights_and_what_is_settled_goes_anyway(service: Service) -> None:
    """Movements that the record has not decided about stay for an airport with interests, as its flights do.

    Settled movements, stretches and agreements go once no lost log is written anew with them.
    """
    old, recent = NOON - timedelta(days=41), NOON - timedelta(days=30)
    for airport in ("KJFK", "LICC"):
        for at in (old - timedelta(days=10), old, recent):
            publish_live(service.database, Direction.DEPARTURES, [(1, at), (2, at)], airport)
            cover_live(service.database, Direction.DEPARTURES, at, at + timedelta(hours=1), airport)
    with service.database.transaction() as session:
        session.execute(
            update(LiveMovementRow).where(LiveMovementRow.icao24 == "000002").values(outcome=LiveOutcome.MATCHED.value)
        )
    store_agreement_rows(service.database, Direction.DEPARTURES, [(1, 1, 1)] * 60)
    service.set(wish("LICC", Direction.BOTH))
    FlightRetention(service.database, service.clock, RETENTION).delete_expired()
    with service.database.reading() as session:
        movements = session.execute(
            select(LiveMovementRow.airport, LiveMovementRow.icao24, LiveMovementRow.event_time).order_by(
                LiveMovementRow.airport, LiveMovementRow.icao24, LiveMovementRow.event_time
            )
        ).all()
        stretches = session.execute(
            select(LiveCoverageRow.airport, LiveCoverageRow.begin_at).order_by(
                LiveCoverageRow.airport, LiveCoverageRow.begin_at
            )
        ).all()
        agreements = session.scalar(select(func.count()).select_from(LiveAgreementRow))
    assert [tuple(row) for row in movements] == [
        ("KJFK", "000001", recent),
        ("KJFK", "000002", recent),
        ("LICC", "000001", old - timedelta(days=10)),
        ("LICC", "000001", old),
        ("LICC", "000001", recent),
        ("LICC", "000002", old),
        ("LICC", "000002", recent),
    ]
    assert [tuple(row) for row in stretches] == [("KJFK", old), ("KJFK", recent), ("LICC", old), ("LICC", recent)]
    assert agreements == 43
