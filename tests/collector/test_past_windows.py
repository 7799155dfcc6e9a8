"""Tests of the limit of past windows: what one person's changes may make the stream judge in a day."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from hypothesis import given, strategies as st
from sqlalchemy import select

from collector.errors import TooManyPastWindowsError
from collector.interests import InterestStore
from collector.intervals import FARTHEST_BACK
from collector.model import InterestRow, PersonRow
from collector.people import delete_idle_people
from collector.rest.users import Authenticator
from collector.write_limits import DEFAULT_LIMITS, PastWindowsLimit, PersonLimits, count_past_windows
from domain.calendar import find_grid
from domain.grids import LOCAL_WINDOWS
from domain.windows import EPOCH, AlignedTo, Window
from tests.collector.conftest import ANN, ANNS, BOB, BOBS, ON_SQLITE, Service, app_of, outbox, status_of, wish
from tests.collector.test_write_limits import run_at_once
from tests.domain.logs import BASE as BASE_TIME
from tests.domain.test_rule import seen
from tests.streams.events import Event, observed
from tests.streams.join_state_on_dicts import JoinStateOnDicts
from towerwatch.topics import INTERESTS_CHANGED

INSTANTS = st.datetimes(datetime(2024, 1, 1), datetime(2024, 2, 20), timezones=st.just(UTC))
SETTINGS_MINIMUM = 1_000
"""The smallest limit that an operator may set."""


def list_starts(window: Window, begin: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the starts of windows from `begin` to `end`, hour by hour: the model of the count."""
    at = EPOCH + (begin - EPOCH) // timedelta(hours=1) * timedelta(hours=1)
    while at <= end:
        if at >= begin and at.hour % window.hours == 0:
            yield at
        at += timedelta(hours=1)


@given(st.sampled_from(Window), INSTANTS, INSTANTS)
def test_the_past_windows_are_those_that_start_since_then(window: Window, begin: datetime, now: datetime) -> None:
    """Counted is each window that starts from `effective_from` to now, and none if that is in the future."""
    assert count_past_windows(window, begin, now) == len(list(list_starts(window, begin, now)))


@given(st.sampled_from(LOCAL_WINDOWS), INSTANTS, INSTANTS)
def test_past_windows_by_the_airports_clock_are_counted_by_it(window: Window, begin: datetime, now: datetime) -> None:
    """At Kathmandu, where the clock is 5:45 ahead of UTC all year."""
    ahead = timedelta(hours=5, minutes=45)
    expected = len(list(list_starts(window, begin + ahead, now + ahead)))
    assert count_past_windows(find_grid("VNKT", window, AlignedTo.AIRPORT), begin, now) == expected


def test_one_change_is_always_possible_with_the_smallest_limit() -> None:
    """The largest number of windows of one change is below the smallest limit that can be set."""
    now = datetime(2024, 2, 1, 23, 59, 59, tzinfo=UTC)
    oldest = (now - FARTHEST_BACK).replace(hour=0, minute=0, second=0)
    most = count_past_windows(Window.ONE_HOUR, oldest, now)
    assert most < SETTINGS_MINIMUM
    assert most * DEFAULT_LIMITS.interests < DEFAULT_LIMITS.past_windows_per_day


def pay(service: Service, limit: PastWindowsLimit, hours: int, user_id: UUID = ANN) -> None:
    """Pay for an interest by the hour that is effective from some hours before the service's time."""
    with service.database.transaction() as session:
        begin = service.clock.now() - timedelta(hours=hours - 1)
        limit.pay(
            session,
            InterestRow(user_id=user_id, window_length="1h", aligned_to="utc", effective_from=begin),
            service.clock.now(),
        )


def test_replicas_count_past_windows_together_and_they_come_back_in_a_day(service: Service) -> None:
    """Changes that come at once at several replicas are refused above the limit; what is used comes back evenly."""
    now = 1_700_000_000.0
    limits = PersonLimits(past_windows_per_day=1_000)
    refused: list[int] = []

    def change(_number: int) -> None:
        """Set interests of two people at a replica of its own, and note the refusals."""
        replica = PastWindowsLimit(limits, lambda: now)
        for person in (ANN, BOB, ANN):
            try:
                pay(service, replica, 250, person)
            except TooManyPastWindowsError as error:
                refused.append(error.retry_after_s)

    run_at_once(change, 4)
    assert refused == [21_600] * 4, "eight of Ann's, of which four fit; all four of Bob's fit"
    limit = PastWindowsLimit(limits, lambda: now)
    now += 21_599.0
    with pytest.raises(TooManyPastWindowsError, match="come back in 1 s"):
        pay(service, limit, 250)
    now += 1.0
    pay(service, limit, 250)
    now += 30 * 86_400.0
    for _ in range(4):
        pay(service, limit, 250)
    with pytest.raises(TooManyPastWindowsError):
        pay(service, limit, 250)


@ON_SQLITE
def test_a_clock_that_was_wrong_neither_locks_out_nor_frees(service: Service) -> None:
    """What a clock of the far future stored counts as nothing; a replica some minutes behind counts what is there."""
    now = 1_700_000_000.0 + 400 * 86_400
    limit = PastWindowsLimit(PersonLimits(past_windows_per_day=1_000), lambda: now)
    pay(service, limit, 700)
    now = 1_700_000_000.0
    pay(service, limit, 700)
    now -= 600.0
    with pytest.raises(TooManyPastWindowsError):
        pay(service, limit, 700)
    pay(service, limit, 250)


def test_only_what_is_judged_is_paid_and_a_refused_change_changes_nothing(service: Service) -> None:
    """Creating, changing, and creating again after a removal pay; a repeat and a change from now on do not."""
    limits = PersonLimits(past_windows_per_day=1_000)
    store = InterestStore(service.database, service.clock, limits)
    noon = service.clock.now()
    back = noon - timedelta(hours=399)
    interest, _ = store.set(ANN, wish(effective_from=back))
    for _ in range(5):
        assert store.set(ANN, wish(effective_from=back)) == (interest, False)
        store.change(ANN, interest.interest_id, None, {"effective_from": back})
    service.clock.advance(timedelta(minutes=1))
    for high in range(10, 20):
        store.change(ANN, interest.interest_id, None, {"high": high})
    store.set(ANN, wish(high=30, effective_from=noon + timedelta(days=2)))
    store.change(ANN, interest.interest_id, None, {"high": 31, "effective_from": back})
    events = len(outbox(service.database, INTERESTS_CHANGED.name))
    stored = store.list_of_user(ANN)
    with pytest.raises(TooManyPastWindowsError):
        store.change(ANN, interest.interest_id, None, {"high": 32, "effective_from": back})
    with pytest.raises(TooManyPastWindowsError):
        store.set(ANN, wish(high=33, effective_from=back))
    with pytest.raises(TooManyPastWindowsError):
        store.set(ANN, wish("LICC", effective_from=back))
    assert (store.list_of_user(ANN), len(outbox(service.database, INTERESTS_CHANGED.name))) == (stored, events)
    store.remove(ANN, interest.interest_id)
    with pytest.raises(TooManyPastWindowsError):
        store.set(ANN, wish(effective_from=back))
    store.set(BOB, wish(effective_from=back))


def test_who_removes_all_interests_does_not_begin_anew(service: Service) -> None:
    """A person's row stays until its past windows are paid off, also without any interest; then it goes."""
    store = InterestStore(service.database, service.clock, PersonLimits(past_windows_per_day=1_000))
    store.set(ANN, wish(effective_from=service.clock.now() - timedelta(hours=399)))
    store.remove_of_airport(ANN, "KJFK")
    with service.database.transaction() as session:
        until = session.scalars(select(PersonRow.past_windows_until)).one()
        session.get_one(PersonRow, ANN).paid = 0
        session.flush()
        delete_idle_people(session, minute=until // 60_000)
        assert session.scalars(select(PersonRow.user_id)).all() == [ANN]
        delete_idle_people(session, minute=until // 60_000 + 1)
        assert session.scalars(select(PersonRow.user_id)).all() == []


@ON_SQLITE
def test_what_one_person_changes_raises_a_bounded_number_of_alerts(service: Service) -> None:
    """However often a person changes an interest with history, the stream raises two alerts for each window paid.

    The thresholds alternate, so that each version speaks of each window anew; 60 changes a minute were unlimited.
    """
    join = JoinStateOnDicts()
    for day in range(29):
        times = tuple(24 * day + hour + part for hour in range(0, 24, 2) for part in (0.1, 0.2, 0.3))
        join.fold(observed("KJFK", day + 1, seen(24 * day, 24 * day + 24, times)))
    service.clock.advance(BASE_TIME + timedelta(days=29) - service.clock.now())
    limits = PersonLimits(past_windows_per_day=3_000)
    store = InterestStore(service.database, service.clock, limits)
    first, _ = store.set(ANN, wish(high=2, low=1, repeat=True, effective_from=BASE_TIME))
    for number in range(60):
        update = {"repeat": bool(number % 2), "effective_from": BASE_TIME}
        with suppress(TooManyPastWindowsError):
            store.change(ANN, first.interest_id, None, update)  # type: ignore[arg-type]
    alerts = 0
    for sequence, message in enumerate(outbox(service.database, INTERESTS_CHANGED.name), start=100):
        alerts += len(join.fold(Event(INTERESTS_CHANGED, "KJFK", message.key, message.value, sequence)))
    assert store.get(ANN, first.interest_id).version == 4
    assert 3_000 <= alerts <= 2 * 3_000


@pytest.fixture
def limited(service: Service, users: Authenticator) -> FlaskClient:
    """Return a client of a service with a small limit of past windows."""
    return app_of(service.database, service.clock, users, PersonLimits(past_windows_per_day=1_000)).test_client()


@ON_SQLITE
def test_the_limit_is_a_clear_problem_and_is_counted(service: Service, limited: FlaskClient) -> None:
    """429 says how many windows, and when to come back; another person is not concerned; the metric names nobody."""
    back = (service.clock.now() - timedelta(days=25)).isoformat()
    body = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 5, "effective_from": back}
    created = limited.post("/interests", headers=ANNS, json=body)
    assert created.status_code == 201
    path = created.headers["Location"]
    change = {"high_value": 6, "effective_from": back}
    answers = [
        limited.patch(path, headers={**ANNS, "If-Match": "*"}, json=change),
        limited.post("/interests", headers=ANNS, json={**body, "window": "1h", "direction": "arrivals"}),
    ]
    for answer in answers:
        assert status_of(answer) == 429
        assert answer.json is not None
        assert "1000 past windows judged in a day, and this one has 601" in answer.json["detail"]
        assert answer.json["errors"][0]["field"] == "effective_from"
        assert 1 <= int(answer.headers["Retry-After"]) <= 86_400
    assert limited.post("/interests", headers=BOBS, json=body).status_code == 201
    assert limited.post("/interests", headers=ANNS, json={**body, "window": "1d"}).status_code == 201
    exposed = limited.get("/metrics").text
    assert 'writes_refused_total{limit="past_windows",node="local",service="collector"} 2.0' in exposed
    assert str(ANN) not in exposed
