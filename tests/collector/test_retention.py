"""The sweep: only what nobody wants is forgotten, and only what is old; what stays covered stays complete."""

from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import func, select, text

from collector import retention as sweep_module
from collector.intervals import day_of
from collector.model import CoverageRow, FlightRow
from collector.retention import Sweep
from domain.interests import Direction
from tests.collector.conftest import NOON, Service, wish

RETENTION = timedelta(days=40)
ANN = UUID(int=1)


def fill(service: Service, airport: str, days: int) -> None:
    """An airport's departures, one an hour, all of them covered."""
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


def left(service: Service, airport: str = "KJFK") -> int:
    with service.database.transaction() as session:
        query = select(func.count()).select_from(FlightRow).where(FlightRow.airport == airport)
        return session.scalar(query) or 0


def test_only_old_flights_that_nobody_wants_are_forgotten(service: Service) -> None:
    """Day by day, from the retention on; and coverage no longer says that they are there."""
    for airport in ("KJFK", "LICC", "EGLL", "KBOS"):
        fill(service, airport, days=3)
    service.set(wish("LICC"))
    service.set(wish("EGLL", Direction.BOTH))
    service.set(wish("KBOS", Direction.ARRIVALS))
    sweep = Sweep(service.database, service.clock, RETENTION)
    service.clock.advance(RETENTION)
    assert sweep.run() == 0
    service.clock.advance(timedelta(days=1))
    assert sweep.run() == 2 * 24
    assert [left(service, airport) for airport in ("KJFK", "KBOS", "LICC", "EGLL")] == [48, 48, 72, 72]
    with service.database.transaction() as session:
        cursor = session.get_one(CoverageRow, ("KJFK", "departures"))
    assert (cursor.covered_from, cursor.covered_until) == (
        day_of(NOON) + timedelta(days=1),
        day_of(NOON) + timedelta(days=3),
    )


def test_in_the_end_only_the_cursor_is_left(service: Service) -> None:
    """It says where the gap begins when somebody wants the airport again."""
    fill(service, "KJFK", days=3)
    service.clock.advance(RETENTION + timedelta(days=60))
    Sweep(service.database, service.clock, RETENTION).run()
    assert left(service) == 0
    with service.database.transaction() as session:
        cursor = session.get_one(CoverageRow, ("KJFK", "departures"))
    assert cursor.covered_from == cursor.covered_until == day_of(NOON) + timedelta(days=3)


def test_it_works_in_chunks(service: Service, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """No transaction deletes more."""
    monkeypatch.setattr(sweep_module, "CHUNK", 10)
    fill(service, "KJFK", days=1)
    service.clock.advance(RETENTION + timedelta(days=2))
    assert Sweep(service.database, service.clock, RETENTION).run() == 24
    assert left(service) == 0


def test_an_interest_keeps_its_history(service: Service) -> None:
    """Also an old one, while somebody wants the airport."""
    fill(service, "KJFK", days=2)
    service.set(user_id=ANN)
    service.clock.advance(RETENTION + timedelta(days=30))
    sweep = Sweep(service.database, service.clock, RETENTION)
    assert sweep.run() == 0
    service.interests.remove_all(ANN)
    assert sweep.run() == 48


def test_it_finds_its_flights_by_an_index(service: Service) -> None:
    """A table of millions of flights is not read for it."""
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
            (row,) = session.execute(text(f"EXPLAIN {statement}")).mappings()
            assert (row["type"], row["key"]) == ("range", "ix_flights_event_time")


def test_nothing_to_sweep_is_fine(service: Service) -> None:
    """Neither airports nor flights."""
    service.set(user_id=uuid4())
    assert Sweep(service.database, service.clock, RETENTION).run() == 0
