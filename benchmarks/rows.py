"""`python -m benchmarks.rows`: measures what people, interests, flights and alerts cost in the databases and the log.

A real MariaDB gets 100,000 people with three interests each, spread over 300 airports, and 200,000 flights. Printed are
the bytes of a row of each table with its indexes, as the server counts them; the bytes that a record takes in the log
of a real Kafka, where many are sent together; and what those tasks of the collector cost that read every interest: the
comparison with the stream's interests, and the order of the next collections. Times are processor times of this
process: the server's own come on top.
"""

import argparse
import asyncio
import gc
import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import insert, text

from benchmarks.nightly import build_alert_records
from benchmarks.streams.figures import print_progress, report
from benchmarks.streams.kafka import BenchmarkBroker, list_stream_topics
from benchmarks.streams.traffic import Record, build_flight_records, choose_airports
from chassis.db.database import Database
from collector import model as collector_model
from collector.event_log.comparison import find_differences, load_interests, read_stream_interests
from collector.messages import encode_interest_set
from collector.model import CoverageRow, FlightRow, InterestRow, PersonRow
from collector.settled.evidence import RecordTiming
from collector.settled.planner import list_due_calls
from collector.settled.schedule import CollectionTiming, load_schedule
from domain.airports import read_airports
from domain.interests import Direction
from domain.windows import Window
from local.kafka import running_broker
from streams.entries import encode_interest_entry
from tests.mariadb_fixture import INSTALLED, MISSING, DatabaseServer, MariaDbProcess
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, INTERESTS_CHANGED, INTERESTS_CHANGELOG, partition_of
from user_manager import model as user_manager_model
from user_manager.model import User

NAME: Final = "rows"
PEOPLE: Final = 100_000
EACH: Final = 3
"""Interests of each person."""
AIRPORTS: Final = 300
FLIGHTS: Final = 200_000
CREDITS: Final = 4_000
"""Credits of a day: calls are listed until these are spent."""
_NOW: Final = datetime(2026, 11, 1, 12, tzinfo=UTC)
_TIMING: Final = CollectionTiming(
    RecordTiming(timedelta(hours=1), timedelta(hours=3)), timedelta(hours=1), timedelta(days=3)
)
_BATCH: Final = 10_000


def main() -> int:
    """Fill the databases and the log, and print all figures; return 0, or 1 if no MariaDB server is installed."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see whether it works")
    options, _ = parser.parse_known_args()  # `make bench` gives all benchmarks the same arguments
    if INSTALLED is None:
        print(f"benchmarks.{NAME}: {MISSING}", file=sys.stderr)
        return 1
    people = PEOPLE // 10 if options.quick else PEOPLE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mariadb").mkdir()
        own = MariaDbProcess(folder / "mariadb")
        try:
            own.start()
            _measure_accounts(own.server, people)
            _measure_interests(own.server, folder, people)
        finally:
            own.kill()
    return 0


def _measure_accounts(server: DatabaseServer, people: int) -> None:
    """Insert the accounts of so many people, and report the bytes of a row."""
    with server.database() as url:
        database = Database(url)
        user_manager_model.SCHEMA.create_all(database.engine)
        _insert(database, User, _build_accounts(people))
        _report_row_bytes(database, User.__tablename__, people)
        database.close()


def _measure_interests(server: DatabaseServer, folder: Path, people: int) -> None:
    """Insert people, interests and flights; report the bytes of rows and records, and what reading all costs."""
    with server.database() as url, running_broker(folder / "kafka", topics=list_stream_topics()) as broker:
        database = Database(url)
        collector_model.SCHEMA.create_all(database.engine)
        _insert(database, PersonRow, ({"user_id": _get_user_id(person)} for person in range(people)))
        _insert(database, InterestRow, _build_interests(people))
        flights = FLIGHTS * people // PEOPLE
        _insert(database, CoverageRow, _build_coverage())
        _insert(database, FlightRow, _build_flights(flights))
        _report_row_bytes(database, PersonRow.__tablename__, people)
        _report_row_bytes(database, InterestRow.__tablename__, people * EACH)
        _report_row_bytes(database, FlightRow.__tablename__, flights)
        _measure_schedule(database, people)
        cluster = BenchmarkBroker(broker.bootstrap_servers)
        _measure_comparison(database, cluster, people * EACH)
        _measure_log(cluster, folder / "kafka", people)
        database.close()


def _measure_schedule(database: Database, people: int) -> None:
    """Measure and report what each person adds to the cost of ordering the calls that are due, as the leader does."""
    began = time.process_time()
    calls = _order_calls(database)
    took = time.process_time() - began
    gc.collect()
    tracemalloc.start()  # exact, and several times as slow: in a second run
    _order_calls(database)
    _, weight = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    figure = "order of the next collections"
    report(NAME, figure, took / people * 1e6, "µs a person", people=people, airports=AIRPORTS, calls=calls)
    report(NAME, f"{figure}, memory", weight / people, "bytes a person", people=people, airports=AIRPORTS)


def _order_calls(database: Database) -> int:
    """List the calls that are due in their order, as the leader does, and return their number."""
    with database.reading() as session:
        schedule = load_schedule(session, _TIMING, _NOW)
    return len(list_due_calls(schedule.targets, _NOW, schedule.payments, (), CREDITS))


def _measure_comparison(database: Database, cluster: BenchmarkBroker, interests: int) -> None:
    """Measure and report what each interest adds to the comparison with the stream's interests; none differs."""
    with database.reading() as session:
        stored = load_interests(session)
    events = map(encode_interest_set, stored.values())
    cluster.fill(
        INTERESTS_CHANGELOG,
        (Record(each.partition, each.key or b"", encode_interest_entry(1, each.value or b""), 1) for each in events),
    )
    del stored, events
    began = time.process_time()
    _compare(database, cluster, interests)
    took = time.process_time() - began
    gc.collect()
    tracemalloc.start()  # exact, and several times as slow: in a second run
    _compare(database, cluster, interests)
    _, weight = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    report(NAME, "comparison of all interests", took / interests * 1e6, "µs an interest", interests=interests)
    report(NAME, "comparison of all interests, memory", weight / interests, "bytes an interest", interests=interests)


def _compare(database: Database, cluster: BenchmarkBroker, interests: int) -> None:
    """Compare all interests with those of the changelog, as the collector does. End the benchmark if any differs."""
    with database.reading() as session:
        stored = load_interests(session)
    known = asyncio.run(read_stream_interests(cluster.bootstrap_servers))
    differences = find_differences(stored, known)
    if differences or len(stored) != interests:
        raise SystemExit(f"{len(differences)} of {len(stored)} interests differ: this is not what was to be measured")


def _measure_log(cluster: BenchmarkBroker, data: Path, people: int) -> None:
    """Fill the topics, and report a record's bytes in the log by kind, with key, headers and its share of a batch."""
    rows = islice(_build_interests(people), people)
    kinds: dict[str, tuple[str, Iterable[Record], int]] = {
        "an interest": (INTERESTS_CHANGED.name, map(_encode_interest, rows, count(1)), people),
        "an alert": (ALERTS_RAISED.name, build_alert_records(people // 5), people // 5 * 5),
    }
    for what, (topic, records, number) in kinds.items():
        cluster.fill(topic, records)
        report(NAME, f"log: {what}", _measure_topic_bytes(data, topic) / number, "bytes", records=number)
    before = 0
    for size in (10, 1_000):
        batches = max(people // size // 10, 24)
        cluster.fill(FLIGHTS_OBSERVED.name, build_flight_records(choose_airports(24), size, batches, count(1)))
        now = _measure_topic_bytes(data, FLIGHTS_OBSERVED.name)
        report(NAME, f"log: a flight, {size:,} a batch", (now - before) / batches / size, "bytes", batches=batches)
        before = now


def _measure_topic_bytes(data: Path, topic: str) -> int:
    """Return the bytes of a topic's log segments below the broker's data folder, indexes left out.

    Kafka allocates the indexes of the newest segment in advance.
    """
    segments = [each for folder in data.rglob(f"{topic}-*") if folder.is_dir() for each in folder.glob("*.log")]
    if not segments:
        raise SystemExit(f"no log of {topic} was found")
    return sum(each.stat().st_size for each in segments)


def _report_row_bytes(database: Database, table: str, rows: int) -> None:
    """Report the bytes of a row of a table, with its share of pages and indexes, by the server's own count."""
    with database.engine.connect() as connection:
        connection.execute(text(f"ANALYZE TABLE {table}"))
        size = connection.execute(
            text(
                "SELECT data_length + index_length FROM information_schema.tables"
                " WHERE table_schema = database() AND table_name = :table"
            ),
            {"table": table},
        ).scalar_one()
    report(NAME, f"row of {table}", float(size) / rows, "bytes", rows=rows)


def _insert(database: Database, table: type[Any], rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows, some thousand in each transaction."""
    rows = iter(rows)
    while batch := list(islice(rows, _BATCH)):
        with database.transaction() as session:
            session.execute(insert(table), batch)
    print_progress(f"{table.__tablename__} is filled")


def _get_user_id(person: int) -> UUID:
    """Return the user id of the person with this number. It is as random as a real one, so that indexes fill alike."""
    return UUID(int=random.Random(person).getrandbits(128), version=4)


def _build_accounts(people: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of confirmed accounts."""
    for person in range(people):
        address = f"somebody.{person}@example.org"
        yield {
            "user_id": _get_user_id(person),
            "email": address,
            "address_key": address,
            "name": f"Somebody {person}",
            "time_zone": "Europe/Rome",
            "confirmed": True,
            "paused": False,
            "created_at": _NOW,
            "version": 1,
            "token_sha256": f"{person:064x}",
            "confirmation_asked_at": _NOW,
            "confirmations_asked": 1,
            "confirmed_at": _NOW,
            "confirmation_id": _get_user_id(person),
            "confirmation_state": "sent",
            "address_digest": f"{random.Random(person).getrandbits(256):064x}",
            "language": "en",
        }


def _build_interests(people: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of EACH interests of each of `people` people, in airports that follow one another."""
    airports = _choose_airports()
    for person in range(people):
        for number in range(EACH):
            yield {
                "interest_id": UUID(int=random.Random(f"{person}/{number}").getrandbits(128), version=4),
                "user_id": _get_user_id(person),
                "airport": airports[(person + number) % AIRPORTS],
                "direction": Direction.DEPARTURES.value,
                "window_length": Window.ONE_HOUR.value,
                "aligned_to": "utc",
                "high": 30 + person % 50,
                "low": None,
                "high_percent": None,
                "low_percent": None,
                "for_windows": 1,
                "repeat": False,
                "effective_from": _NOW,
                "version": 1,
                "created_at": _NOW,
                "updated_at": _NOW,
            }


def _choose_airports() -> list[str]:
    """Choose the codes of real airports, always the same."""
    return [airport.icao for airport in islice(read_airports(), AIRPORTS)]


def _encode_interest(row: dict[str, Any], sequence: int) -> Record:
    """Encode the row of an interest into the record of its event."""
    values = {key: value for key, value in row.items() if key not in ("created_at", "updated_at")}
    event = encode_interest_set(InterestRow(**values).value())
    return Record(partition_of(row["airport"], INTERESTS_CHANGED), event.key, event.value or b"", sequence)


def _build_coverage() -> Iterator[dict[str, Any]]:
    """Yield the rows of the coverage of departures of a month, up to today, at all airports."""
    today = _NOW.replace(hour=0)
    for airport in _choose_airports():
        yield {
            "airport": airport,
            "direction": Direction.DEPARTURES.value,
            "covered_from": today - timedelta(days=30),
            "covered_until": today,
        }


def _build_flights(number: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of flights, one a minute, at all airports in turn."""
    airports = _choose_airports()
    for flight in range(number):
        at = _NOW - timedelta(minutes=flight // AIRPORTS)
        yield {
            "airport": airports[flight % AIRPORTS],
            "direction": Direction.DEPARTURES.value,
            "icao24": f"{flight % 16_000_000:06x}",
            "callsign": f"DLH{flight % 1000}",
            "first_seen": at,
            "last_seen": at,
            "event_time": at,
            "other_airport": "EDDF",
        }


if __name__ == "__main__":
    sys.exit(main())
