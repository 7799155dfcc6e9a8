"""The use cases: an interest and its events commit together, and everybody reaches their own only."""

import threading
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text

from chassis.database import Database
from chassis.errors import DatabaseAwayError
from collector.collection_requests import CollectionRequests
from collector.errors import NoSuchAirportError, NoSuchInterestError
from collector.interests import FARTHEST_AHEAD, Interests
from collector.intervals import DAY, FARTHEST_BACK, day_of
from collector.model import CoverageRow
from domain.interests import HIGHEST_THRESHOLD, Direction, InterestError
from domain.windows import Window
from tests.collector.conftest import NOON, NOWHERE, Service, outbox, wish
from towerwatch.collection.v1.events_pb2 import CollectionRequested
from towerwatch.interests.v1.events_pb2 import InterestSet
from towerwatch.topics import COLLECTIONS_REQUESTED, INTERESTS_CHANGED

ANN, BOB = UUID(int=1), UUID(int=2)
TODAY = day_of(NOON)


def told(service: Service) -> list[tuple[str, int | None]]:
    """Of each event about an interest, its key and its version; None for a tombstone."""
    return [
        (message.key.decode(), None if message.value is None else InterestSet.FromString(message.value).version)
        for message in outbox(service.database, INTERESTS_CHANGED.name)
    ]


def requested(service: Service) -> list[str]:
    """The airports whose collection was asked for."""
    messages = outbox(service.database, COLLECTIONS_REQUESTED.name)
    return [CollectionRequested.FromString(message.value or b"").airport for message in messages]


def cover(service: Service, direction: Direction, days: float) -> None:
    """KJFK, from long ago to so many days before today."""
    with service.database.transaction() as session:
        row = CoverageRow(airport="KJFK", direction=direction.value, covered_from=TODAY - 20 * DAY)
        row.covered_until = TODAY - timedelta(days=days)
        session.add(row)


def test_a_new_interest_is_told_and_its_airport_collected(service: Service) -> None:
    """Version 1, and a wish for a collection, so that the first mail comes at once."""
    interest, is_new = service.interests.set(ANN, wish(high=9, low=3, for_windows=2, repeat=True))
    assert is_new
    assert (interest.user_id, interest.airport, interest.direction) == (ANN, "KJFK", Direction.DEPARTURES)
    assert (interest.high, interest.low, interest.for_windows, interest.repeat) == (9, 3, 2, True)
    assert told(service) == [(f"KJFK/{interest.interest_id}", 1)]
    assert requested(service) == ["KJFK"]
    assert service.interests.one(ANN, interest.interest_id) == interest


def test_asking_for_what_is_already_so_changes_nothing(service: Service) -> None:
    """Same version, no event; also when effective_from is named as it is, however long ago."""
    first = service.set(wish(), ANN)
    service.clock.advance(timedelta(days=300))
    for again in (wish(), wish(effective_from=first.effective_from)):
        assert service.interests.set(ANN, again) == (first, False)
    assert len(told(service)) == 1


@pytest.mark.parametrize(
    "change", [{"high": 6}, {"low": 1}, {"high": None, "low": 5}, {"for_windows": 2}, {"repeat": True}], ids=repr
)
def test_a_change_is_a_new_version_from_the_present_on(service: Service, change: dict[str, object]) -> None:
    """What was said stands; the interest is the same, its airport is collected already."""
    first = service.set(wish(), ANN)
    service.clock.advance(timedelta(hours=3))
    second, is_new = service.interests.set(ANN, wish(**change))
    assert not is_new
    assert second.interest_id == first.interest_id
    assert second.version == 2
    assert second.effective_from == service.clock.now()
    assert told(service) == [(f"KJFK/{first.interest_id}", 1), (f"KJFK/{first.interest_id}", 2)]
    assert requested(service) == ["KJFK"]


def test_a_change_may_say_from_when_it_is_judged(service: Service) -> None:
    """Naming another instant is a change by itself."""
    service.set(wish(), ANN)
    changed = service.set(wish(effective_from=TODAY - 3 * DAY), ANN)
    assert (changed.version, changed.effective_from) == (2, TODAY - 3 * DAY)


@pytest.mark.parametrize(
    "other", [{"airport": "LICC"}, {"direction": Direction.BOTH}, {"window": Window.ONE_DAY}], ids=repr
)
def test_airport_direction_and_window_make_another_interest(service: Service, other: dict[str, object]) -> None:
    """They never change."""
    first = service.set(wish(), ANN)
    service.clock.advance(timedelta(seconds=1))
    second, is_new = service.interests.set(ANN, wish(**other))  # type: ignore[arg-type]
    assert is_new
    assert service.interests.of_user(ANN) == [first, second]


def test_people_do_not_share_interests(service: Service) -> None:
    """The same wish of two is two interests."""
    ann, bob = service.set(wish(), ANN), service.set(wish(), BOB)
    assert ann.interest_id != bob.interest_id
    assert service.interests.of_user(ANN) == [ann]
    for reach in (service.interests.one, service.interests.remove):
        with pytest.raises(NoSuchInterestError):
            reach(ANN, bob.interest_id)
        with pytest.raises(NoSuchInterestError):
            reach(ANN, uuid4())
    assert service.interests.of_user(BOB) == [bob]


def test_before_the_first_collection_an_interest_begins_yesterday(service: Service) -> None:
    """As the collection will."""
    assert service.set().effective_from == TODAY - DAY


@pytest.mark.parametrize(
    ("direction", "begins"),
    [
        (Direction.DEPARTURES, TODAY),
        (Direction.ARRIVALS, TODAY - 2 * DAY),
        (Direction.BOTH, TODAY - 2 * DAY),
    ],
)
def test_by_default_the_last_collected_day_is_judged(service: Service, direction: Direction, begins: object) -> None:
    """Of all directions that the interest counts; a day that was collected to its end is the last."""
    cover(service, Direction.DEPARTURES, days=-0.4)
    cover(service, Direction.ARRIVALS, days=1)
    assert service.set(wish(direction=direction)).effective_from == begins


def test_with_one_direction_uncollected_both_begins_yesterday(service: Service) -> None:
    """As the missing direction's collection will."""
    cover(service, Direction.DEPARTURES, days=5)
    assert service.set(wish(direction=Direction.BOTH)).effective_from == TODAY - DAY


def test_an_airport_must_exist(service: Service) -> None:
    """Also to be collected by hand."""
    with pytest.raises(NoSuchAirportError, match="XXXX"):
        service.set(wish("XXXX"))
    with pytest.raises(NoSuchAirportError, match="XXXX"):
        service.requests.request("XXXX")
    assert told(service) == requested(service) == []


@pytest.mark.parametrize(
    "fault",
    [
        {"high": None},
        {"high": 5, "low": 5},
        {"high": 4, "low": 5},
        {"high": HIGHEST_THRESHOLD + 1},
        {"effective_from": day_of(NOON - FARTHEST_BACK) - timedelta(microseconds=1)},
        {"effective_from": NOON + FARTHEST_AHEAD + timedelta(microseconds=1)},
    ],
    ids=repr,
)
def test_what_contradicts_itself_is_refused(service: Service, fault: dict[str, object]) -> None:
    """And nothing is told."""
    with pytest.raises(InterestError):
        service.set(wish(**fault))
    assert told(service) == []


def test_a_removal_is_a_tombstone(service: Service) -> None:
    """The second finds nothing; set anew, it is another interest."""
    interest = service.set(wish(), ANN)
    service.interests.remove(ANN, interest.interest_id)
    with pytest.raises(NoSuchInterestError):
        service.interests.remove(ANN, interest.interest_id)
    key = f"KJFK/{interest.interest_id}"
    assert told(service) == [(key, 1), (key, None)]
    assert service.set(wish(), ANN).interest_id != interest.interest_id


def test_all_of_a_user_goes_at_once_and_only_theirs(service: Service) -> None:
    """One tombstone each; again is no error and tells nothing."""
    anns = [service.set(wish(airport), ANN) for airport in ("KJFK", "LICC", "EGLL")]
    bobs = service.set(wish(), BOB)
    assert service.interests.remove_all(ANN) == 3
    assert service.interests.remove_all(ANN) == 0
    tombstones = sorted(key for key, version in told(service) if version is None)
    assert tombstones == sorted(f"{each.airport}/{each.interest_id}" for each in anns)
    assert service.interests.of_user(ANN) == []
    assert service.interests.of_user(BOB) == [bobs]


def test_change_and_event_commit_together(service: Service) -> None:
    """The last step of the transaction fails: neither is there."""
    kept = service.set(wish(), ANN)

    def refuse(_connection: object) -> None:
        raise RuntimeError("the disk is full")

    event.listen(service.database.engine, "commit", refuse)
    for act in (
        lambda: service.set(wish("LICC"), ANN),
        lambda: service.set(wish(high=99), ANN),
        lambda: service.interests.remove(ANN, kept.interest_id),
        lambda: service.interests.remove_all(ANN),
    ):
        with pytest.raises(RuntimeError):
            act()
    event.remove(service.database.engine, "commit", refuse)
    assert service.interests.of_user(ANN) == [kept]
    assert len(told(service)) == 1


def test_an_event_that_cannot_be_recorded_is_no_change(service: Service) -> None:
    """The outbox refuses: the interest is not there either."""
    with service.database.transaction() as session:
        session.execute(text("DROP TABLE outbox"))
    with pytest.raises(DatabaseAwayError):
        service.set(wish(), ANN)
    assert service.interests.of_user(ANN) == []


def test_requests_at_the_same_time_make_one_interest(service: Service) -> None:
    """Each change has a version of its own, and the events are in their order."""
    start = threading.Barrier(6)

    def set_it(high: int) -> None:
        start.wait()
        service.set(wish(high=high), ANN)

    threads = [threading.Thread(target=set_it, args=(high,)) for high in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (interest,) = service.interests.of_user(ANN)
    assert interest.version == 6
    assert told(service) == [(f"KJFK/{interest.interest_id}", version) for version in range(1, 7)]


def test_who_loses_the_race_for_a_new_interest_changes_it(service: Service) -> None:
    """On a database that lets both look before one inserts: the unique key decides."""
    first = service.set(wish(), ANN)
    begin = "BEGIN IMMEDIATE" if service.database.sqlite else "BEGIN"
    with service.database.transaction() as session:
        session.execute(text("UPDATE interests SET airport = 'LICC'"))  # the first look does not find it

    def it_is_there_now(_connection, cursor, statement, *_):  # type: ignore[no-untyped-def]
        if statement.startswith("INSERT INTO interests"):
            for elsewhere in ("UPDATE interests SET airport = 'KJFK'", "COMMIT", begin):
                cursor.execute(elsewhere)

    event.listen(service.database.engine, "before_cursor_execute", it_is_there_now)
    second, is_new = service.interests.set(ANN, wish(high=99))
    event.remove(service.database.engine, "before_cursor_execute", it_is_there_now)
    assert not is_new
    assert (second.interest_id, second.version) == (first.interest_id, 2)


def test_coverage_is_shown_to_who_watches(service: Service) -> None:
    """Nobody learns which airports others watch."""
    cover(service, Direction.DEPARTURES, days=0)
    with pytest.raises(NoSuchInterestError):
        service.interests.coverage(ANN, "KJFK")
    service.set(wish(), ANN)
    assert service.interests.coverage(ANN, "KJFK") == {Direction.DEPARTURES: (TODAY - 20 * DAY, TODAY)}


def test_a_database_that_is_away_is_said_without_its_text(service: Service) -> None:
    """The error is transient and ours; it shows neither SQL nor a path."""
    interests = Interests(Database(NOWHERE), service.clock)
    for act in (
        lambda: interests.set(ANN, wish()),
        lambda: interests.of_user(ANN),
        lambda: interests.one(ANN, uuid4()),
        lambda: interests.remove(ANN, uuid4()),
        lambda: interests.remove_all(ANN),
        lambda: interests.coverage(ANN, "KJFK"),
        lambda: CollectionRequests(Database(NOWHERE)).request(None),
    ):
        with pytest.raises(DatabaseAwayError) as caught:
            act()
        assert caught.value.transient
        assert "nowhere" not in str(caught.value)
        assert "SELECT" not in str(caught.value)
