"""The use cases: an interest and its events commit together, and everybody reaches their own only."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from chassis.db.database import Database
from chassis.db.outbox import OutboxMessage
from chassis.errors import ContendedError, DatabaseUnavailableError
from collector.collection_requests import CollectionRequests
from collector.errors import NoSuchAirportError, NoSuchInterestError, VersionMismatchError
from collector.interests import FARTHEST_AHEAD, Change, Interests
from collector.intervals import DAY, FARTHEST_BACK, day_of
from collector.model import OUTBOX, CoverageRow
from domain.interests import HIGHEST_THRESHOLD, Direction, InterestError
from domain.windows import Window
from tests.collector.conftest import ANN, BOB, NOON, NOWHERE, Service, outbox, wish
from towerwatch.collection.v1.events_pb2 import CollectionRequested
from towerwatch.interests.v1.events_pb2 import InterestSet
from towerwatch.topics import COLLECTIONS_REQUESTED, INTERESTS_CHANGED

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


def test_what_was_left_for_weeks_is_not_gone_back_to(service: Service) -> None:
    """Nobody paid for those days, and nobody asked for them now: who wants them says so."""
    cover(service, Direction.DEPARTURES, days=25)
    assert service.set().effective_from == TODAY - 2 * DAY


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
    with pytest.raises(NoSuchAirportError, match=r"JFK.*did you mean KJFK \(New York\)"):
        service.set(wish("JFK"))
    with pytest.raises(NoSuchAirportError, match="LICC"):
        service.interests.remove_of_airport(ANN, "LICX")
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


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ({"high": 9}, (9, 2, 1, False)),
        ({"high": None}, (None, 2, 1, False)),
        ({"low": None}, (5, None, 1, False)),
        ({"high": None, "low": 7}, (None, 7, 1, False)),
        ({"for_windows": 3, "repeat": True}, (5, 2, 3, True)),
    ],
    ids=repr,
)
def test_what_a_change_leaves_out_stays(
    service: Service, change: Change, after: tuple[int | None, int | None, int, bool]
) -> None:
    """A new version, judged from the present on; its event says all of it."""
    first = service.set(wish(low=2), ANN)
    service.clock.advance(timedelta(hours=3))
    changed = service.interests.change(ANN, first.interest_id, 1, change)
    assert (changed.high, changed.low, changed.for_windows, changed.repeat) == after
    assert (changed.interest_id, changed.version) == (first.interest_id, 2)
    assert changed.effective_from == service.clock.now()
    assert service.interests.one(ANN, first.interest_id) == changed
    assert told(service) == [(f"KJFK/{first.interest_id}", 1), (f"KJFK/{first.interest_id}", 2)]
    assert requested(service) == ["KJFK"]


def test_a_change_to_what_is_already_so_is_none(service: Service) -> None:
    """Same version, no event."""
    first = service.set(wish(low=2), ANN)
    for change in ({}, {"high": 5}, {"low": 2, "repeat": False}, {"effective_from": first.effective_from}):
        assert service.interests.change(ANN, first.interest_id, None, change) == first  # type: ignore[arg-type]
    assert len(told(service)) == 1


def test_a_change_of_another_version_is_refused(service: Service) -> None:
    """Somebody has changed it since: nothing is lost unseen."""
    first = service.set(wish(), ANN)
    service.set(wish(high=6), ANN)
    for version in (1, 3):
        with pytest.raises(VersionMismatchError):
            service.interests.change(ANN, first.interest_id, version, {"high": 7})
    assert service.interests.one(ANN, first.interest_id).high == 6
    assert service.interests.change(ANN, first.interest_id, None, {"high": 7}).version == 3


@pytest.mark.parametrize(
    "change",
    [
        {"high": None},
        {"low": 5},
        {"high": 0, "low": 0},
        {"high": HIGHEST_THRESHOLD + 1},
        {"for_windows": 0},
        {"effective_from": NOON + FARTHEST_AHEAD + timedelta(days=1)},
    ],
    ids=repr,
)
def test_a_change_to_what_contradicts_itself_is_refused(service: Service, change: Change) -> None:
    """With what stays, too; and the interest is as it was."""
    first = service.set(wish(), ANN)
    with pytest.raises(InterestError):
        service.interests.change(ANN, first.interest_id, None, change)
    assert service.interests.one(ANN, first.interest_id) == first
    assert len(told(service)) == 1


def test_people_change_their_own_interests_only(service: Service) -> None:
    """Somebody else's is as one that does not exist."""
    bobs = service.set(wish(), BOB)
    for interest_id in (bobs.interest_id, uuid4()):
        with pytest.raises(NoSuchInterestError):
            service.interests.change(ANN, interest_id, None, {"high": 7})
    assert service.interests.of_user(BOB) == [bobs]


def test_all_interests_in_an_airport_go_at_once(service: Service) -> None:
    """One tombstone each; those elsewhere and of others stay; again is no error and tells nothing."""
    gone = [service.set(wish("KJFK", direction), ANN) for direction in Direction]
    kept = service.set(wish("LICC"), ANN)
    bobs = service.set(wish("KJFK"), BOB)
    assert [service.interests.remove_of_airport(ANN, "KJFK") for _ in range(2)] == [3, 0]
    assert service.interests.of_user(ANN) == [kept]
    assert service.interests.of_user(BOB) == [bobs]
    tombstones = sorted(key for key, version in told(service) if version is None)
    assert tombstones == sorted(f"KJFK/{each.interest_id}" for each in gone)


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
    with pytest.raises(DatabaseUnavailableError):
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
    begin = "BEGIN IMMEDIATE" if service.database.is_sqlite else "BEGIN"
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


def test_who_loses_the_race_again_and_again_is_told_to_come_back(service: Service) -> None:
    """It is contention, not an error of ours, and nothing is set by half."""

    def there_for_the_key_only(_connection, cursor, statement, *_):  # type: ignore[no-untyped-def]
        if statement.startswith("INSERT INTO interests"):
            raise IntegrityError("INSERT", {}, Exception("duplicate"))

    event.listen(service.database.engine, "before_cursor_execute", there_for_the_key_only)
    with pytest.raises(ContendedError):
        service.interests.set(ANN, wish())
    event.remove(service.database.engine, "before_cursor_execute", there_for_the_key_only)
    assert service.interests.of_user(ANN) == []
    assert told(service) == requested(service) == []


def test_requests_of_all_kinds_at_the_same_time_agree(service: Service) -> None:
    """Nobody fails, no deadlock shows, and who reads the events knows exactly what is there, in every order of theirs.

    Setters, changers, removers and relays about the same few interests of one user.
    """
    rounds = 40
    wishes = [wish(airport, direction) for airport in ("KJFK", "LICC") for direction in Direction]
    failed: list[BaseException] = []
    published: dict[int, OutboxMessage] = {}
    over = threading.Event()

    def repeatedly(act: Callable[[random.Random, int], object], seed: int) -> None:
        chance = random.Random(seed)
        try:
            for number in range(rounds):
                with suppress(NoSuchInterestError):
                    act(chance, number)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            failed.append(error)

    def set_one(chance: random.Random, number: int) -> None:
        service.interests.set(ANN, replace(chance.choice(wishes), high=chance.randrange(1, 50)))

    def any_of_them(chance: random.Random) -> UUID:
        found = service.interests.of_user(ANN)
        return chance.choice(found).interest_id if found else uuid4()

    def change_one(chance: random.Random, number: int) -> None:
        service.interests.change(ANN, any_of_them(chance), None, {"high": chance.randrange(50, 99)})

    def remove_one(chance: random.Random, number: int) -> None:
        service.interests.remove(ANN, any_of_them(chance))

    def remove_many(chance: random.Random, number: int) -> None:
        if number % 2:
            service.interests.remove_all(ANN)
        else:
            service.interests.remove_of_airport(ANN, "KJFK")

    def publish(owner: str) -> int:
        with service.database.transaction() as session:
            claimed = OUTBOX.claim_messages(session, owner, time.time())
        for each in claimed:
            assert published.setdefault(each.sequence, each.message) == each.message
        with service.database.transaction() as session:
            OUTBOX.delete_published(session, claimed)
        return len(claimed)

    def relay(owner: str) -> None:
        try:
            while not over.is_set():
                with suppress(DatabaseUnavailableError, IntegrityError):
                    publish(owner)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            failed.append(error)

    acts = [set_one] * 4 + [change_one, remove_one, remove_one, remove_many]
    with ThreadPoolExecutor(max_workers=len(acts) + 2) as pool:
        relays = [pool.submit(relay, owner) for owner in ("first", "second")]
        for future in [pool.submit(repeatedly, act, seed) for seed, act in enumerate(acts)]:
            future.result()
        over.set()
        for future in relays:
            future.result()
    assert failed == []
    for owner in ("first", "second"):
        with service.database.transaction() as session:
            OUTBOX.release_lease(session, owner)
    while publish("first"):
        pass

    last: dict[str, InterestSet | None] = {}
    for _, message in sorted(published.items()):
        if message.topic == INTERESTS_CHANGED.name:
            key = message.key.decode()
            before = last.get(key)
            now = None if message.value is None else InterestSet.FromString(message.value)
            if now is None:
                assert before is not None, "one removal for each"
            else:
                assert now.version == (before.version + 1 if before else 1)
                assert key not in last or before is not None, "what was removed does not come back"
            last[key] = now
    there = {f"{each.airport}/{each.interest_id}": each for each in service.interests.of_user(ANN)}
    assert {key: (told.version, told.high) for key, told in last.items() if told is not None} == {
        key: (interest.version, interest.high) for key, interest in there.items()
    }


def test_a_database_that_is_away_is_said_without_its_text(service: Service) -> None:
    """The error is transient and ours; it shows neither SQL nor a path."""
    interests = Interests(Database(NOWHERE), service.clock)
    for act in (
        lambda: interests.set(ANN, wish()),
        lambda: interests.of_user(ANN),
        lambda: interests.one(ANN, uuid4()),
        lambda: interests.remove(ANN, uuid4()),
        lambda: interests.remove_all(ANN),
        lambda: interests.remove_of_airport(ANN, "KJFK"),
        lambda: interests.change(ANN, uuid4(), None, {"high": 1}),
        lambda: CollectionRequests(Database(NOWHERE)).request(None),
    ):
        with pytest.raises(DatabaseUnavailableError) as caught:
            act()
        assert caught.value.transient
        assert "nowhere" not in str(caught.value)
        assert "SELECT" not in str(caught.value)
