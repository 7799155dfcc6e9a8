"""Tests of the limits by person: interests, airports, writes in a minute; shared by all replicas."""

import threading
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from chassis.db.database import Database
from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import LimitError, TooManyAirportsError, TooManyInterestsError, TooManyWritesError
from collector.interests import InterestStore
from collector.model import CreditsRow, PersonRow
from collector.people import count_read, count_write, delete_idle_people
from collector.rest.users import Authenticator
from collector.write_limits import PersonLimits, WriteLimit
from domain.interests import Direction
from domain.windows import Window
from tests.collector.conftest import ANN, ANNS, BOB, BOBS, CARL, ON_SQLITE, Service, app_of, status_of, wish

AIRPORTS = ["KJFK", "LICC", "EGLL", "EDDF", "LFPG", "LIRF", "EHAM", "LEMD"]
BODY = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 5}


def store_with(service: Service, **limits: int) -> InterestStore:
    """Return another replica's interests, with these limits."""
    return InterestStore(service.database, service.clock, PersonLimits(**limits))


def build_write_limit(database: Database, per_minute: int, now: Callable[[], float]) -> WriteLimit:
    """Return a replica's limit of writes, by a clock of the test."""
    metrics = Metrics(ServiceIdentity("collector", "local"))
    return WriteLimit(database, PersonLimits(writes_per_minute=per_minute), metrics, now)


def run_at_once(work: Callable[[int], None], threads: int) -> None:
    """Run a function in several threads that begin together, with the number of each, and wait for all."""
    begin = threading.Barrier(threads)

    def run(number: int) -> None:
        begin.wait()
        work(number)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()


def test_a_person_may_have_so_many_interests_and_airports(service: Service) -> None:
    """A new interest above a limit is refused, also after a removal and a new one; others are not concerned."""
    store = store_with(service, interests=3, airports=2)
    for request in (wish("KJFK"), wish("LICC")):
        store.set(ANN, request)
    with pytest.raises(TooManyAirportsError):
        store.set(ANN, wish("EGLL"))
    store.set(ANN, wish("LICC", Direction.ARRIVALS))
    with pytest.raises(TooManyInterestsError):
        store.set(ANN, wish("LICC", window=Window.ONE_DAY))
    store.set(BOB, wish("EGLL"))
    store.remove_of_airport(ANN, "LICC")
    store.set(ANN, wish("EGLL"))
    assert sorted(each.airport for each in store.list_of_user(ANN)) == ["EGLL", "KJFK"]


def test_interests_above_a_lowered_limit_stay(service: Service) -> None:
    """They can be read, changed and removed; only a new one is refused until there is room."""
    for airport in AIRPORTS[:4]:
        service.set(wish(airport), ANN)
    store = store_with(service, interests=2, airports=1)
    first = next(each for each in store.list_of_user(ANN) if each.airport == "KJFK")
    assert store.get(ANN, first.interest_id).high == 5
    changed = store.set(ANN, wish("KJFK", high=9))
    assert changed == (store.get(ANN, first.interest_id), False)
    assert store.change(ANN, first.interest_id, None, {"high": 11}).version == 3
    with pytest.raises(LimitError):
        store.set(ANN, wish("KJFK", Direction.ARRIVALS))
    for airport in AIRPORTS[:4]:
        assert store.remove_of_airport(ANN, airport) == 1
    store.set(ANN, wish("KJFK"))


def test_replicas_cannot_exceed_the_limits_together(service: Service) -> None:
    """Requests of one person that come at once at several replicas get exactly as many interests as the limit says."""
    refused = []

    def set_one(number: int) -> None:
        replica = store_with(service, interests=50, airports=3)
        try:
            replica.set(ANN, wish(AIRPORTS[number]))
        except TooManyAirportsError as error:
            refused.append(error)

    run_at_once(set_one, len(AIRPORTS))
    assert (len(service.interests.list_of_user(ANN)), len(refused)) == (3, len(AIRPORTS) - 3)


def test_replicas_count_writes_together(service: Service) -> None:
    """Writes that come at once at several replicas are refused above the limit; the next minute allows as many."""
    now = 6_000.0
    allowed: list[UUID] = []
    waits: list[int] = []

    def write(_number: int) -> None:
        replica = build_write_limit(service.database, 5, lambda: now)
        for person in (ANN, BOB, ANN):
            try:
                replica.count_write(person)
            except TooManyWritesError as error:
                waits.append(error.retry_after_s)
            else:
                allowed.append(person)

    run_at_once(write, 4)
    assert (allowed.count(ANN), allowed.count(BOB)) == (5, 4)
    assert waits == [61] * 3
    now = 6_060.0
    write(0)
    assert (allowed.count(ANN), allowed.count(BOB)) == (7, 5)


@ON_SQLITE
def test_a_clock_that_is_behind_or_was_wrong_neither_frees_nor_locks_out(service: Service) -> None:
    """A replica a minute behind counts in the other's minute; a minute of the far future is forgotten."""
    now = 6_060.0
    limit = build_write_limit(service.database, 2, lambda: now)
    limit.count_write(ANN)
    now = 6_059.0
    limit.count_write(ANN)
    with pytest.raises(TooManyWritesError):
        limit.count_write(ANN)
    now = 9_000_000.0
    limit.count_write(ANN)
    now = 6_061.0
    limit.count_write(ANN)
    limit.count_write(ANN)


def test_a_person_who_comes_again_begins_in_the_next_round(service: Service) -> None:
    """Who sets the first interest has an account at once; deleting the person deletes it."""
    person = uuid4()
    service.set(user_id=person)
    with service.database.reading() as session:
        assert session.scalars(select(PersonRow.user_id)).all() == [person]
    service.interests.remove_all(person)
    with service.database.reading() as session:
        assert session.scalars(select(PersonRow.user_id)).all() == []


@pytest.fixture
def limited(service: Service, users: Authenticator) -> FlaskClient:
    """Return a client of a service with small limits."""
    limits = PersonLimits(interests=2, airports=1, writes_per_minute=6)
    return app_of(service.database, service.clock, users, limits).test_client()


@ON_SQLITE
def test_each_limit_is_a_clear_problem_and_is_counted(limited: FlaskClient) -> None:
    """422 says what to do; 429 says when; readers are not limited; the metric names no person."""
    answers = [
        limited.post("/interests", headers=ANNS, json={**BODY, **changes})
        for changes in ({}, {"airport_icao": "LICC"}, {"window": "1d"}, {"window": "6h"}, {"high_value": 9})
    ]
    assert [answer.status_code for answer in answers] == [201, 422, 201, 422, 200]
    airport, interests = answers[1], answers[3]
    assert status_of(airport) == status_of(interests) == 422
    assert airport.json is not None
    assert airport.json["errors"][0]["field"] == "airport_icao"
    assert "remove" in airport.json["detail"]
    assert interests.json is not None
    assert "change or remove" in interests.json["detail"]
    assert limited.delete("/interests?airport_icao=LICC", headers=ANNS).status_code == 204
    too_often = [
        limited.post("/interests", headers=ANNS, json=BODY),
        limited.delete("/interests?airport_icao=KJFK", headers=ANNS),
    ]
    for answer in too_often:
        if answer.status_code != 429:
            continue  # a new minute of the wall clock has begun
        assert status_of(answer) == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert limited.get("/interests", headers=ANNS).status_code == 200
    assert limited.post("/interests", headers=BOBS, json=BODY).status_code == 201
    exposed = limited.get("/metrics").text
    assert 'writes_refused_total{limit="airports",node="local",service="collector"} 1.0' in exposed
    assert 'writes_refused_total{limit="interests",node="local",service="collector"} 1.0' in exposed
    assert str(ANN) not in exposed


def test_costly_reads_of_a_person_are_limited_by_all_replicas_together(service: Service, users: Authenticator) -> None:
    """Windows, previews and what is usual: 429 says when. Others, cheap reads and unchanged answers do not count.

    On SQLite, which one process uses, that process counts alone, in its memory.
    """
    now = [1_000_000_010.0]
    limits = PersonLimits(reads_per_minute=4)
    one, other = (
        app_of(service.database, service.clock, users, limits, lambda: now[0]).test_client() for _ in range(2)
    )
    if service.database.is_sqlite:
        other = one
    windows = f"/interests/{service.set(wish(), ANN).interest_id}/windows"
    preview = {**BODY, "airport_icao": "KJFK"}
    first = one.get(windows, headers=ANNS)
    assert first.status_code == 200
    unchanged = ANNS | {"If-None-Match": first.headers["ETag"]}
    for _ in range(9):
        assert other.get(windows, headers=unchanged).status_code == 304
        assert one.get("/interests", headers=ANNS).status_code == 200
    assert other.post("/interests/preview", headers=ANNS, json=preview).status_code == 200
    assert one.get("/flights/KJFK/usual?direction=departures&window=1h", headers=ANNS).status_code == 200
    assert other.get(windows, headers=ANNS).status_code == 200
    refused = [
        one.get(windows, headers=ANNS),
        other.post("/interests/preview", headers=ANNS, json=preview),
        one.get("/flights/KJFK/usual?direction=departures&window=1h", headers=ANNS),
    ]
    for answer in refused:
        assert status_of(answer) == 429
        assert answer.headers["Retry-After"] == "11"
        assert answer.json is not None
        assert "4 times in a minute" in answer.json["detail"]
    assert other.get(windows, headers=unchanged).status_code == 304
    assert other.post("/interests/preview", headers=BOBS, json=preview).status_code == 200
    count = "3.0" if other is one else "2.0"
    assert f'reads_refused_total{{node="local",service="collector"}} {count}' in one.get("/metrics").text
    now[0] += 11
    assert one.get(windows, headers=ANNS).status_code == 200


def test_writes_and_costly_reads_are_counted_apart(service: Service) -> None:
    """Neither count raises the other or begins it anew, in the same minute or in another."""
    with service.database.transaction() as session:
        assert [count_write(session, ANN, 100) for _ in range(3)] == [1, 2, 3]
        assert [count_read(session, ANN, 100) for _ in range(2)] == [1, 2]
        assert count_write(session, ANN, 100) == 4
        assert count_read(session, ANN, 105) == 1
        assert count_write(session, ANN, 100) == 5
        assert count_read(session, ANN, 105) == 2
        row = session.scalars(select(PersonRow).where(PersonRow.user_id == ANN)).one()
        session.refresh(row)
        assert (row.minute, row.writes, row.read_minute, row.reads) == (100, 5, 105, 2)


def test_accounts_that_say_nothing_are_deleted(service: Service) -> None:
    """Deleted is who has no interest, no more than the level, and nothing counted lately; other accounts stay."""
    service.set(user_id=ANN)
    with service.database.transaction() as session:
        session.merge(CreditsRow(id=1, day=service.clock.now(), spent=0, unaccounted=0, live_spent=0, level=10))
        session.add(PersonRow(user_id=UUID(int=5), read_minute=99, reads=1))
        rows = {BOB: (10, 5), CARL: (11, 5), UUID(int=4): (0, 99)}
        for person, (paid, minute) in rows.items():
            session.add(PersonRow(user_id=person, paid=paid, minute=minute, writes=1))
        session.flush()
        delete_idle_people(session, minute=100)
        assert set(session.scalars(select(PersonRow.user_id))) == {ANN, CARL, UUID(int=4), UUID(int=5)}
