"""The use cases on interests: a change and its event commit together, and people reach their own interests only."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text, update
from sqlalchemy.exc import IntegrityError

from chassis.db.database import Database
from chassis.db.outbox import LeaseWatch, OutboxMessage
from chassis.errors import ContendedError, DatabaseUnavailableError
from collector.collection_requests import CollectionRequests
from collector.errors import NoSuchAirportError, NoSuchInterestError, VersionMismatchError
from collector.interest_begins import FARTHEST_AHEAD
from collector.interest_requests import InterestUpdate
from collector.interests import InterestStore
from collector.intervals import DAY, FARTHEST_BACK, day_of
from collector.model import OUTBOX, CoverageRow, InterestRow
from domain.interests import HIGHEST_THRESHOLD, Direction, InterestError
from domain.windows import AlignedTo, Window
from tests.collector.conftest import ANN, BOB, NOON, NOWHERE, Service, outbox, wish
from towerwatch.collection.v1.events_pb2 import CollectionRequested
from towerwatch.interests.v1.events_pb2 import InterestSet
from towerwatch.topics import COLLECTIONS_REQUESTED, INTERESTS_CHANGED

TODAY = day_of(NOON)


def list_events(service: Service) -> list[tuple[str, int | None]]:
    """Return key and version of each event about an interest in the outbox, in order; None for a tombstone."""
    return [
        (message.key.decode(), None if message.value is None else InterestSet.FromString(message.value).version)
        for message in outbox(service.database, INTERESTS_CHANGED.name)
    ]


def list_requested_airports(service: Service) -> list[str]:
    """Return the airports whose collection was requested, in order."""
    messages = outbox(service.database, COLLECTIONS_REQUESTED.name)
    return [CollectionRequested.FromString(message.value or b"").airport for message in messages]


def cover(service: Service, direction: Direction, days: float) -> None:
    """Store coverage of KJFK from long ago to this number of days before today."""
    with service.database.transaction() as session:
        row = CoverageRow(airport="KJFK", direction=direction.value, covered_from=TODAY - 20 * DAY)
        row.covered_until = TODAY - timedelta(days=days)
        session.add(row)


def test_a_new_interest_is_published_and_its_airport_collected(service: Service) -> None:
    """The interest has version 1, and a collection is requested at once, so that the first mail comes soon."""
    interest, is_new = service.interests.set(ANN, wish(high=9, low=3, for_windows=2, repeat=True))
    assert is_new
    assert (interest.user_id, interest.airport, interest.direction) == (ANN, "KJFK", Direction.DEPARTURES)
    assert (interest.high, interest.low, interest.for_windows, interest.repeat) == (9, 3, 2, True)
    assert list_events(service) == [(f"KJFK/{interest.interest_id}", 1)]
    assert list_requested_airports(service) == ["KJFK"]
    assert service.interests.get(ANN, interest.interest_id) == interest


def test_an_equal_request_is_published_again(service: Service) -> None:
    """The version stays, and the event of this version comes once more: the stream may have lost it."""
    first = service.set(wish(), ANN)
    service.clock.advance(timedelta(days=300))
    for again in (wish(), wish(effective_from=first.effective_from)):
        assert service.interests.set(ANN, again) == (first, False)
    assert list_events(service) == [(f"KJFK/{first.interest_id}", 1)] * 3


@pytest.mark.parametrize(
    "change", [{"high": 6}, {"low": 1}, {"high": None, "low": 5}, {"for_windows": 2}, {"repeat": True}], ids=repr
)
def test_a_change_is_a_new_version_from_the_present_on(service: Service, change: dict[str, object]) -> None:
    """The interest keeps its id, earlier alerts stand, and no collection is requested."""
    first = service.set(wish(), ANN)
    service.clock.advance(timedelta(hours=3))
    second, is_new = service.interests.set(ANN, wish(**change))
    assert not is_new
    assert second.interest_id == first.interest_id
    assert second.version == 2
    assert second.effective_from == service.clock.now()
    assert list_events(service) == [(f"KJFK/{first.interest_id}", 1), (f"KJFK/{first.interest_id}", 2)]
    assert list_requested_airports(service) == ["KJFK"]


def test_a_change_may_name_effective_from(service: Service) -> None:
    """Another effective_from alone makes a new version."""
    service.set(wish(), ANN)
    changed = service.set(wish(effective_from=TODAY - 3 * DAY), ANN)
    assert (changed.version, changed.effective_from) == (2, TODAY - 3 * DAY)


@pytest.mark.parametrize(
    "other", [{"airport": "LICC"}, {"direction": Direction.BOTH}, {"window": Window.ONE_DAY}], ids=repr
)
def test_airport_direction_and_window_make_another_interest(service: Service, other: dict[str, object]) -> None:
    """A request with another airport, direction or window creates a new interest."""
    first = service.set(wish(), ANN)
    service.clock.advance(timedelta(seconds=1))
    second, is_new = service.interests.set(ANN, wish(**other))  # type: ignore[arg-type]
    assert is_new
    assert service.interests.list_of_user(ANN) == [first, second]


def test_people_do_not_share_interests(service: Service) -> None:
    """Equal requests of two users create two interests, and neither user reaches the other's."""
    ann, bob = service.set(wish(), ANN), service.set(wish(), BOB)
    assert ann.interest_id != bob.interest_id
    assert service.interests.list_of_user(ANN) == [ann]
    for reach in (service.interests.get, service.interests.remove):
        with pytest.raises(NoSuchInterestError):
            reach(ANN, bob.interest_id)
        with pytest.raises(NoSuchInterestError):
            reach(ANN, uuid4())
    assert service.interests.list_of_user(BOB) == [bob]


def test_before_the_first_collection_an_interest_begins_yesterday(service: Service) -> None:
    """The default is yesterday, where the first collection will begin."""
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
    """The day must be collected in all directions of the interest; a day that is collected to its end counts."""
    cover(service, Direction.DEPARTURES, days=-0.4)
    cover(service, Direction.ARRIVALS, days=1)
    assert service.set(wish(direction=direction)).effective_from == begins


@pytest.mark.parametrize(
    ("airport", "begins"),
    [
        ("KJFK", TODAY - timedelta(hours=43)),  # 5 o'clock UTC the day before yesterday
        ("VNKT", TODAY - timedelta(hours=29.75)),  # 18:15
        ("RJTT", TODAY - timedelta(hours=33)),
    ],
)
def test_by_default_the_last_whole_day_of_the_airport_is_judged(
    service: Service, airport: str, begins: datetime
) -> None:
    """The last day by the airport's clock that is collected to its end, if its begin is collected, too."""
    local = {"window": Window.ONE_DAY, "aligned_to": AlignedTo.AIRPORT}
    service.cover(Direction.DEPARTURES, TODAY - 9 * DAY, TODAY, airport=airport)
    assert service.set(wish(airport, **local)).effective_from == begins
    assert service.set(wish(airport)).effective_from == TODAY - DAY


def test_by_default_the_first_whole_day_of_a_new_airport_is_judged(service: Service) -> None:
    """Of one that was never collected, or only for a part of a local day, the first one that begins in the coverage."""
    local = {"window": Window.ONE_DAY, "aligned_to": AlignedTo.AIRPORT}
    assert service.set(wish("VNKT", **local)).effective_from == TODAY - DAY
    service.cover(Direction.DEPARTURES, TODAY - DAY, TODAY)
    assert service.set(wish(**local)).effective_from == TODAY - DAY


def test_the_default_goes_back_two_days_at_most(service: Service) -> None:
    """An airport without a collection for weeks is not collected day by day; a user who wants that names an instant."""
    cover(service, Direction.DEPARTURES, days=25)
    assert service.set().effective_from == TODAY - 2 * DAY


def test_with_one_direction_uncollected_both_begins_yesterday(service: Service) -> None:
    """The default is yesterday, where the collection of the missing direction will begin."""
    cover(service, Direction.DEPARTURES, days=5)
    assert service.set(wish(direction=Direction.BOTH)).effective_from == TODAY - DAY


def test_an_airport_must_exist(service: Service) -> None:
    """An unknown airport is rejected, with suggestions, also for a requested collection."""
    with pytest.raises(NoSuchAirportError, match="XXXX"):
        service.set(wish("XXXX"))
    with pytest.raises(NoSuchAirportError, match="XXXX"):
        service.requests.request("XXXX")
    with pytest.raises(NoSuchAirportError, match=r"JFK.*did you mean KJFK \(New York\)"):
        service.set(wish("JFK"))
    with pytest.raises(NoSuchAirportError, match="LICC"):
        service.interests.remove_of_airport(ANN, "LICX")
    assert list_events(service) == list_requested_airports(service) == []


@pytest.mark.parametrize(
    "fault",
    [
        {"high": None},
        {"high": 5, "low": 5},
        {"high": 4, "low": 5},
        {"high": HIGHEST_THRESHOLD + 1},
        {"low": 0},
        {"high_percent": 150},
        {"high": None, "high_percent": 100},
        {"low_percent": 100},
        {"aligned_to": AlignedTo.AIRPORT},
        {"aligned_to": AlignedTo.AIRPORT, "window": Window.ONE_DAY, "low_percent": 100},
        {"effective_from": day_of(NOON - FARTHEST_BACK) - timedelta(microseconds=1)},
        {"effective_from": NOON + FARTHEST_AHEAD + timedelta(microseconds=1)},
    ],
    ids=repr,
)
def test_an_invalid_request_is_rejected(service: Service, fault: dict[str, object]) -> None:
    """The request is rejected, and no event is published."""
    with pytest.raises(InterestError):
        service.set(wish(**fault))
    assert list_events(service) == []


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
def test_fields_that_an_update_leaves_out_stay(
    service: Service, change: InterestUpdate, after: tuple[int | None, int | None, int, bool]
) -> None:
    """The new version is judged from the present on, and its event has all fields."""
    first = service.set(wish(low=2), ANN)
    service.clock.advance(timedelta(hours=3))
    changed = service.interests.change(ANN, first.interest_id, 1, change)
    assert (changed.high, changed.low, changed.for_windows, changed.repeat) == after
    assert (changed.interest_id, changed.version) == (first.interest_id, 2)
    assert changed.effective_from == service.clock.now()
    assert service.interests.get(ANN, first.interest_id) == changed
    assert list_events(service) == [(f"KJFK/{first.interest_id}", 1), (f"KJFK/{first.interest_id}", 2)]
    assert list_requested_airports(service) == ["KJFK"]


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ({"high_percent": 150}, (None, None, 150, 50)),
        ({"low": 3}, (5, 3, None, None)),
        ({"low_percent": 40}, (5, None, None, 40)),
        ({"low_percent": None}, (5, None, None, None)),
        ({"high": None, "for_windows": 2}, (None, None, None, 50)),
    ],
    ids=repr,
)
def test_a_threshold_of_one_measure_replaces_that_of_the_other(
    service: Service, change: InterestUpdate, after: tuple[int | None, ...]
) -> None:
    """A bound has flights or a percent of what is usual; the two bounds may differ, and the event says which."""
    first = service.set(wish(low_percent=50), ANN)
    changed = service.interests.change(ANN, first.interest_id, None, change)
    assert (changed.high, changed.low, changed.high_percent, changed.low_percent) == after
    assert service.interests.get(ANN, first.interest_id) == changed
    event = InterestSet.FromString(outbox(service.database, INTERESTS_CHANGED.name)[-1].value or b"")
    found = (event.high, event.low, event.high_percent, event.low_percent)
    assert found == tuple(value or 0 for value in after)
    assert [event.HasField(name) for name in ("high", "low", "high_percent", "low_percent")] == [
        value is not None for value in after
    ]


def test_windows_by_the_airports_clock_are_another_interest(service: Service) -> None:
    """A person may have both at once; the event says by which clock, and changes of one leave the other as it is."""
    by_utc = service.set(wish(window=Window.ONE_DAY), ANN)
    local = service.set(wish(window=Window.ONE_DAY, aligned_to=AlignedTo.AIRPORT), ANN)
    assert local.interest_id != by_utc.interest_id
    again = service.set(wish(window=Window.ONE_DAY, aligned_to=AlignedTo.AIRPORT, high=6), ANN)
    assert (again.interest_id, again.version, again.aligned_to) == (local.interest_id, 2, AlignedTo.AIRPORT)
    changed = service.interests.change(ANN, local.interest_id, None, {"for_windows": 2})
    assert (changed.version, changed.aligned_to) == (3, AlignedTo.AIRPORT)
    percent = service.interests.change(ANN, local.interest_id, None, {"low_percent": 50})
    assert (percent.version, percent.low_percent, percent.aligned_to) == (4, 50, AlignedTo.AIRPORT)
    assert service.interests.get(ANN, by_utc.interest_id) == by_utc
    events = [InterestSet.FromString(each.value or b"") for each in outbox(service.database, INTERESTS_CHANGED.name)]
    assert [each.aligned_to for each in events] == [0, 2, 2, 2, 2]


def test_an_equal_percent_is_no_new_version(service: Service) -> None:
    """As with flights: the event is published again, and another percent is a change."""
    wanted = wish(high=None, low_percent=50)
    assert service.set(wanted, ANN) == service.set(wanted, ANN)
    assert service.set(wish(high=None, low_percent=51), ANN).version == 2


def test_an_equal_update_is_published_again(service: Service) -> None:
    """The version stays, and the event of this version comes once more: the stream may have lost it."""
    first = service.set(wish(low=2), ANN)
    for change in ({}, {"high": 5}, {"low": 2, "repeat": False}, {"effective_from": first.effective_from}):
        assert service.interests.change(ANN, first.interest_id, None, change) == first  # type: ignore[arg-type]
    assert list_events(service) == [(f"KJFK/{first.interest_id}", 1)] * 5


def test_an_update_of_another_version_is_rejected(service: Service) -> None:
    """The user has not seen the newest version, so nothing is overwritten."""
    first = service.set(wish(), ANN)
    service.set(wish(high=6), ANN)
    for version in (1, 3):
        with pytest.raises(VersionMismatchError):
            service.interests.change(ANN, first.interest_id, version, {"high": 7})
    assert service.interests.get(ANN, first.interest_id).high == 6
    assert service.interests.change(ANN, first.interest_id, None, {"high": 7}).version == 3


@pytest.mark.parametrize(
    "change",
    [
        {"high": None},
        {"low": 5},
        {"high": 0, "low": 0},
        {"low": 0},
        {"high": 4, "high_percent": 150},
        {"low_percent": 0},
        {"high": HIGHEST_THRESHOLD + 1},
        {"for_windows": 0},
        {"effective_from": NOON + FARTHEST_AHEAD + timedelta(days=1)},
    ],
    ids=repr,
)
def test_an_invalid_update_is_rejected(service: Service, change: InterestUpdate) -> None:
    """The update is judged together with the fields that stay, and the interest is unchanged."""
    first = service.set(wish(), ANN)
    with pytest.raises(InterestError):
        service.interests.change(ANN, first.interest_id, None, change)
    assert service.interests.get(ANN, first.interest_id) == first
    assert len(list_events(service)) == 1


def test_an_interest_of_before_keeps_its_low_of_zero(service: Service) -> None:
    """A low of 0 was accepted once: such an interest is listed and changed as others are, and its event is readable."""
    old = service.set(wish(low=1), ANN)
    with service.database.transaction() as session:
        session.execute(update(InterestRow).values(low=0))
    assert [each.low for each in service.interests.list_of_user(ANN)] == [0]
    changed = service.interests.change(ANN, old.interest_id, None, {"high": 9, "repeat": True})
    assert (changed.high, changed.low, changed.version) == (9, 0, 2)
    with pytest.raises(InterestError, match="low must be 1 or more"):
        service.interests.change(ANN, old.interest_id, None, {"low": 0})
    assert service.interests.change(ANN, old.interest_id, None, {"low": None}).low is None


def test_people_change_their_own_interests_only(service: Service) -> None:
    """Another user's interest is treated like one that does not exist."""
    bobs = service.set(wish(), BOB)
    for interest_id in (bobs.interest_id, uuid4()):
        with pytest.raises(NoSuchInterestError):
            service.interests.change(ANN, interest_id, None, {"high": 7})
    assert service.interests.list_of_user(BOB) == [bobs]


def test_all_interests_in_an_airport_are_removed(service: Service) -> None:
    """Each gets one tombstone; interests elsewhere and of other users stay, and a repeated call publishes nothing."""
    gone = [service.set(wish("KJFK", direction), ANN) for direction in Direction]
    kept = service.set(wish("LICC"), ANN)
    bobs = service.set(wish("KJFK"), BOB)
    assert [service.interests.remove_of_airport(ANN, "KJFK") for _ in range(2)] == [3, 0]
    assert service.interests.list_of_user(ANN) == [kept]
    assert service.interests.list_of_user(BOB) == [bobs]
    tombstones = sorted(key for key, version in list_events(service) if version is None)
    assert tombstones == sorted(f"KJFK/{each.interest_id}" for each in gone)


def test_a_removal_is_a_tombstone(service: Service) -> None:
    """A second removal finds no interest; an equal request afterwards creates a new one."""
    interest = service.set(wish(), ANN)
    service.interests.remove(ANN, interest.interest_id)
    with pytest.raises(NoSuchInterestError):
        service.interests.remove(ANN, interest.interest_id)
    key = f"KJFK/{interest.interest_id}"
    assert list_events(service) == [(key, 1), (key, None)]
    assert service.set(wish(), ANN).interest_id != interest.interest_id


def test_all_interests_of_one_user_are_removed(service: Service) -> None:
    """Each gets one tombstone; other users' interests stay, and a repeated call publishes nothing."""
    anns = [service.set(wish(airport), ANN) for airport in ("KJFK", "LICC", "EGLL")]
    bobs = service.set(wish(), BOB)
    assert service.interests.remove_all(ANN) == 3
    assert service.interests.remove_all(ANN) == 0
    tombstones = sorted(key for key, version in list_events(service) if version is None)
    assert tombstones == sorted(f"{each.airport}/{each.interest_id}" for each in anns)
    assert service.interests.list_of_user(ANN) == []
    assert service.interests.list_of_user(BOB) == [bobs]


def test_change_and_event_commit_together(service: Service) -> None:
    """If the commit fails, neither the change nor the event is stored."""
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
    assert service.interests.list_of_user(ANN) == [kept]
    assert len(list_events(service)) == 1


def test_without_its_event_no_change_is_stored(service: Service) -> None:
    """If the outbox cannot be written, the interest is not stored either."""
    with service.database.transaction() as session:
        session.execute(text("DROP TABLE outbox"))
    with pytest.raises(DatabaseUnavailableError):
        service.set(wish(), ANN)
    assert service.interests.list_of_user(ANN) == []


def test_concurrent_requests_make_one_interest(service: Service) -> None:
    """Each change has its own version, and the events are in the order of the versions."""
    start = threading.Barrier(6)

    def set_it(high: int) -> None:
        start.wait()
        service.set(wish(high=high), ANN)

    threads = [threading.Thread(target=set_it, args=(high,)) for high in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (interest,) = service.interests.list_of_user(ANN)
    assert interest.version == 6
    assert list_events(service) == [(f"KJFK/{interest.interest_id}", version) for version in range(1, 7)]


def test_a_request_that_loses_the_insert_race_changes_the_interest(service: Service) -> None:
    """If another request inserts the same interest first, the unique key fails, and the retry changes it."""
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


def test_a_request_that_always_loses_the_race_fails_as_contended(service: Service) -> None:
    """The error is ContendedError, and nothing is stored."""

    def there_for_the_key_only(_connection, cursor, statement, *_):  # type: ignore[no-untyped-def]
        if statement.startswith("INSERT INTO interests"):
            raise IntegrityError("INSERT", {}, Exception("duplicate"))

    event.listen(service.database.engine, "before_cursor_execute", there_for_the_key_only)
    with pytest.raises(ContendedError):
        service.interests.set(ANN, wish())
    event.remove(service.database.engine, "before_cursor_execute", there_for_the_key_only)
    assert service.interests.list_of_user(ANN) == []
    assert list_events(service) == list_requested_airports(service) == []


def test_concurrent_requests_of_all_kinds_stay_consistent(service: Service) -> None:
    """No request fails, and the published events, in order, end in exactly the stored interests.

    Threads set, change and remove the same few interests of one user, while two relays publish.
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
        found = service.interests.list_of_user(ANN)
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

    watches = {owner: LeaseWatch() for owner in ("first", "second")}

    def publish(owner: str) -> int:
        with service.database.transaction() as session:
            claimed = OUTBOX.claim_messages(session, owner, time.time(), watches[owner], time.monotonic())
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
                assert now == before or now.version == (before.version + 1 if before else 1)
                assert key not in last or before is not None, "what was removed does not come back"
            last[key] = now
    there = {f"{each.airport}/{each.interest_id}": each for each in service.interests.list_of_user(ANN)}
    assert {
        key: (last_event.version, last_event.high) for key, last_event in last.items() if last_event is not None
    } == {key: (interest.version, interest.high) for key, interest in there.items()}


def test_an_unavailable_database_is_a_transient_error(service: Service) -> None:
    """The error is ours, and shows neither SQL nor a path."""
    interests = InterestStore(Database(NOWHERE), service.clock)
    for act in (
        lambda: interests.set(ANN, wish()),
        lambda: interests.list_of_user(ANN),
        lambda: interests.get(ANN, uuid4()),
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
