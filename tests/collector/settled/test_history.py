"""Tests of the history that interests in percent need: which days are asked for, when, and by whose credits."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from sqlalchemy import func, select, update

from collector.errors import IncompleteAnswerError, SourceUnavailableError
from collector.event_log.republication import republish
from collector.intervals import day_of
from collector.model import CoverageRow, CreditsRow, FlightRow, LiveOutcome, NightlyRecordRow, PersonRow
from collector.retention import FlightRetention
from collector.settled.collection import FlightCollector
from collector.settled.history import find_first_wanted
from collector.settled.history_days import HistoryDayRow
from collector.settled.shares import MICRO, ROUND
from domain.calendar import find_calendar
from domain.interests import Direction
from domain.windows import seconds
from tests.collector.conftest import ANN, BOB, NOON, ON_SQLITE, Service, outbox, prove_past_days, wish
from tests.collector.settled.live_rows import fold_outbox, load_outcomes, publish_live
from tests.collector.settled.polling import HOUR, build_collector, list_complete, list_published, poll, poll_hourly
from tests.fakes.nightly_source import NightlySource, build_flight
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED

DAY: Final = timedelta(days=1)
TODAY: Final = day_of(NOON)
DEPARTURES, ARRIVALS, BOTH = Direction.DEPARTURES, Direction.ARRIVALS, Direction.BOTH
PERCENT: Final = {"high": None, "low_percent": 50}
FIRST_DUE: Final = TODAY - DAY
"""The day that a new interest begins with: yesterday."""
HISTORY: Final = [TODAY - back * DAY for back in range(2, 36)]
"""The days before it of which the windows of today have base windows, newest first."""


def build_source(service: Service, without: Sequence[datetime] = (), hours: Sequence[int] = range(24)) -> NightlySource:
    """Return a source with a flight in some hours of each day of seven weeks, but for some days."""
    days = [TODAY + number * DAY for number in range(-45, 6)]
    times = [day + hour * HOUR + timedelta(minutes=30) for day in days if day not in without for hour in hours]
    return NightlySource(service.clock, [build_flight(at, 20, 1 + at.hour) for at in times])


def begin(
    service: Service, without: Sequence[datetime] = (), budget: int = 100_000
) -> tuple[NightlySource, FlightCollector]:
    """Return a source and a collector, of a service that has proven the records of the last weeks."""
    prove_past_days(service.database, NOON)
    source = build_source(service, without)
    return source, build_collector(service, source, budget)


def list_asked(source: NightlySource, airport: str = "KJFK", direction: Direction = DEPARTURES) -> list[datetime]:
    """Return the days that were asked for of an airport and direction, in the order of the calls, newest first."""
    days = []
    for icao, part, first, end in source.collections:
        if (icao, part) == (airport, direction):
            days += [first + number * DAY for number in range((end - first) // DAY)][::-1]
    return days


def list_as_history(service: Service, direction: Direction = DEPARTURES) -> list[datetime]:
    """Return the begins of the intervals of KJFK that are published as history, in the order of the outbox."""
    values = (
        flights_pb.FlightsObserved.FromString(each.value or b"")
        for each in outbox(service.database, FLIGHTS_OBSERVED.name)
    )
    name = f"DIRECTION_{direction.name}"
    return [
        value.begin.ToDatetime(UTC)
        for value in values
        if value.history and value.direction == flights_pb.Direction.Value(name)
    ]


def load_coverage(service: Service, airport: str = "KJFK", direction: Direction = DEPARTURES) -> CoverageRow:
    """Return the row of an airport's coverage."""
    with service.database.reading() as session:
        row = session.get(CoverageRow, (airport, direction.value))
        assert row is not None
        return row


def test_an_interest_in_percent_brings_its_five_weeks_newest_first(service: Service) -> None:
    """After the due day, the days of five weeks are asked for, two a call, each once, and published day by day."""
    source, collector = begin(service)
    service.set(wish(**PERCENT))
    poll(collector)
    assert list_asked(source) == [FIRST_DUE, *HISTORY]
    assert len(source.collections) == 1 + len(HISTORY) // 2
    told = list_complete(service.database, direction=DEPARTURES)
    assert told == [(day, day + DAY, 24) for day in (FIRST_DUE, *HISTORY)]
    assert list_as_history(service) == HISTORY
    assert load_coverage(service).covered_from == HISTORY[-1]
    source.calls.clear()
    poll_hourly(service, collector, NOON + 5 * HOUR)
    assert source.collections == []


@pytest.mark.parametrize("direction", [DEPARTURES, BOTH])
@ON_SQLITE
def test_only_what_percents_want_is_asked_for(service: Service, direction: Direction) -> None:
    """An interest in flights alone causes no history; one in both directions causes that of both."""
    source, collector = begin(service)
    service.set(wish("KBOS", BOTH))
    service.set(wish(direction=direction, **PERCENT))
    poll(collector)
    asked = {(airport, part) for airport, part, first, _ in source.collections if first < FIRST_DUE}
    assert asked == {("KJFK", part) for part in direction.parts}


def test_the_whole_base_of_the_next_day_is_asked_for() -> None:
    """The base windows of all windows of the next day lie in the wanted days, also around a change of clocks.

    Those of hours, and those by the airport's clock.
    """
    for airport in ("KJFK", "PHNL", "VNKT", "YLHI", "EDDF", "YPAD", "NZCI", "NSFA", "HECA", "SBGR"):
        calendar = find_calendar(airport)
        for number in range(-400, 550, 3):
            until = datetime(2013, 1, 1, tzinfo=UTC) + number * DAY
            bases = [
                base
                for hour in range(24)
                for base in calendar.find_same_times(seconds(until + hour * HOUR))
                if base is not None
            ]
            local = calendar.plan_local_day(seconds(until) // 86_400).starts
            assert len(local) >= 4
            bases += [base[0] for start in local for base in start.bases if base is not None]
            assert seconds(find_first_wanted(airport, until)) <= min(bases), (airport, until)
            assert until - find_first_wanted(airport, until) <= 36 * DAY


@ON_SQLITE
def test_what_is_due_comes_before_anybodys_history(service: Service) -> None:
    """With credits for three calls now, the due days of all are collected, whoever waits for history the longest."""
    source, collector = begin(service, budget=400)
    service.set(wish(**PERCENT), ANN)
    poll(collector)
    made = len(source.collections)
    assert 1 < made < 18
    for airport in ("KBOS", "KLGA"):
        service.set(wish(airport), BOB)
    poll_hourly(service, collector, NOON + 11 * HOUR)
    after = [airport for airport, *_ in source.collections[made:]]
    assert after[:2] == ["KBOS", "KLGA"]
    assert set(after[2:]) == {"KJFK"}


@ON_SQLITE
def test_history_never_costs_more_than_the_budget_and_goes_on_next_day(service: Service) -> None:
    """With 400 credits a day, no day's credits are exceeded, and the history is complete after some days."""
    source, collector = begin(service, budget=400)
    service.set(wish(**PERCENT))
    made = 0
    for number in range(4):
        day = TODAY + number * DAY
        poll_hourly(service, collector, day + DAY)
        calls, made = source.calls[made:], len(source.calls)
        assert sum(4 if first >= day else 30 for *_, first, _ in calls) <= 400
    row = load_coverage(service)
    assert row.covered_from <= row.covered_until - 35 * DAY


@ON_SQLITE
def test_people_who_want_history_get_equal_shares_of_what_is_left(service: Service) -> None:
    """One person with three airports in percent and one with one: the calls for history go to both in turns."""
    source, collector = begin(service, budget=1_600)
    for airport in ("KBOS", "KLGA", "KEWR"):
        service.set(wish(airport, **PERCENT), ANN)
    service.set(wish(**PERCENT), BOB)
    poll_hourly(service, collector, NOON + 4 * HOUR)
    made = Counter(airport == "KJFK" for airport, _, first, _ in source.collections if first < FIRST_DUE)
    assert made[True] >= 4
    assert abs(made[True] - made[False]) <= 1


@ON_SQLITE
def test_two_who_want_the_same_history_pay_half_of_it_each(service: Service) -> None:
    """A call for history is paid by all who have an interest in percent there, and by nobody else."""
    _, collector = begin(service)
    service.set(wish(**PERCENT), ANN)
    service.set(wish(**PERCENT), BOB)
    poll(collector)
    with service.database.reading() as session:
        paid = {row.user_id: row.paid for row in session.scalars(select(PersonRow))}
        spent = session.scalar(select(CreditsRow.spent).where(CreditsRow.id == 1))
    assert abs(paid[ANN] - paid[BOB]) <= 1_000
    assert sum(paid.values()) == 2 * ROUND + (1 + len(HISTORY) // 2) * 30 * MICRO  # who joins begins with a round
    assert spent == 30 * (1 + len(HISTORY) // 2)


@ON_SQLITE
def test_a_new_leader_goes_on_where_the_last_one_stopped(service: Service) -> None:
    """Each poll is by a new collector: every day is asked for and published once all the same."""
    source, _ = begin(service)
    service.set(wish(**PERCENT))
    for number in range(16):
        poll(build_collector(service, source, 400))
        service.clock.advance(HOUR if number % 2 else 2 * HOUR)
    days = [day for day in list_asked(source) if day < FIRST_DUE]
    assert days == HISTORY[: len(days)]
    assert len(days) > 20
    told = Counter(day for day, _, _ in list_complete(service.database, direction=DEPARTURES))
    assert set(told.values()) == {1}


@ON_SQLITE
def test_who_removes_the_interest_ends_its_history_and_who_sets_it_again_goes_on(service: Service) -> None:
    """Nothing is asked for without an interest in percent; days that are stored are not asked for again."""
    source, collector = begin(service, budget=400)
    interest = service.set(wish(**PERCENT), ANN)
    service.set(wish(), BOB)
    poll(collector)
    before = list_asked(source)
    service.interests.remove(interest.user_id, interest.interest_id)
    poll_hourly(service, collector, NOON + 6 * HOUR)
    assert list_asked(source) == before
    service.set(wish(**PERCENT), ANN)
    poll_hourly(service, collector, NOON + 9 * HOUR)
    after = list_asked(source)
    assert len(after) > len(before)
    assert max(Counter(after).values()) == 1


@ON_SQLITE
def test_a_second_interest_finds_the_history_there(service: Service) -> None:
    """A second person's interest in percent costs nothing where the first one's history is there."""
    source, collector = begin(service)
    service.set(wish(**PERCENT), ANN)
    poll(collector)
    source.calls.clear()
    service.set(wish(high=None, high_percent=150), BOB)
    poll(collector)
    assert source.collections == []


@ON_SQLITE
def test_a_day_without_a_record_is_known_as_such_and_older_days_are_told(service: Service) -> None:
    """A day that the source lacks is asked for a few times, hours apart, and never published as without flights."""
    lost = HISTORY[7]
    source = build_source(service, without=[lost])
    source.recorded_at = lambda day: None if day == lost else day + DAY + timedelta(hours=2, minutes=40)
    prove_past_days(service.database, NOON)
    with service.database.transaction() as session:
        for row in session.scalars(select(NightlyRecordRow).where(NightlyRecordRow.day == lost)):
            session.delete(row)
    collector = build_collector(service, source)
    service.set(wish(**PERCENT))
    poll_hourly(service, collector, NOON + 4 * DAY)
    told = [day for day, _, _ in list_complete(service.database, direction=DEPARTURES)]
    assert lost not in told
    assert set(HISTORY) - {lost} <= set(told)
    assert list_asked(source).count(lost) <= 5
    source.calls.clear()
    poll_hourly(service, collector, NOON + 5 * DAY)
    assert lost not in list_asked(source)


@ON_SQLITE
def test_a_quiet_airports_days_are_proven_by_another_airport(service: Service) -> None:
    """Of an airport without flights in a day's last hours, a beacon proves the days, once for all airports."""
    source = build_source(service, hours=range(12))
    collector = build_collector(service, source)
    prove_past_days(service.database, NOON)
    with service.database.transaction() as session:
        for row in session.scalars(select(NightlyRecordRow).where(NightlyRecordRow.day < FIRST_DUE)):
            session.delete(row)
    service.set(wish(**PERCENT))
    poll(collector)
    told = [day for day, _, flights in list_complete(service.database, direction=DEPARTURES) if flights == 12]
    assert told == [FIRST_DUE, *HISTORY]
    proofs = [call for call in source.collections if call[0] != "KJFK"]
    assert len(proofs) == len(HISTORY) // 2
    service.set(wish("KBOS", **PERCENT))
    poll(collector)
    assert [call for call in source.collections if call[0] not in ("KJFK", "KBOS")] == proofs


@ON_SQLITE
def test_an_outage_of_the_source_makes_no_day_of_history_empty(service: Service) -> None:
    """While the source answers everything with no flights, nothing is published; afterwards all days are."""
    source, collector = begin(service)
    service.set(wish())
    poll(collector)
    service.set(wish(**PERCENT))
    flights, source.available = source.available, []
    beacons, source.beacons = source.beacons, ()
    poll_hourly(service, collector, NOON + 2 * HOUR)
    assert [day for day, _, _ in list_complete(service.database, direction=DEPARTURES)] == [FIRST_DUE]
    source.available, source.beacons = flights, beacons
    poll_hourly(service, collector, NOON + 20 * HOUR)
    told = {day: flights for day, _, flights in list_complete(service.database, direction=DEPARTURES)}
    assert {told.get(day) for day in HISTORY} == {24}


@ON_SQLITE
def test_an_empty_day_of_a_busy_airport_is_asked_for_again_before_it_is_believed(service: Service) -> None:
    """A day without any flight, at an airport that has some each day, is published so after a second answer only."""
    empty = HISTORY[3]
    source, collector = begin(service, without=[empty])
    service.set(wish(**PERCENT))
    poll_hourly(service, collector, NOON + 5 * HOUR)
    told = [day for day, _, _ in list_complete(service.database, direction=DEPARTURES)]
    assert told == [FIRST_DUE, *(day for day in HISTORY if day != empty)]
    assert list_asked(source).count(empty) == 1
    assert load_coverage(service).covered_from == HISTORY[2]
    poll_hourly(service, collector, NOON + 8 * HOUR)
    assert list_complete(service.database, direction=DEPARTURES)[-1] == (empty, empty + DAY, 0)
    assert list_asked(source).count(empty) == 2
    assert load_coverage(service).covered_from == HISTORY[-1]


@ON_SQLITE
def test_answers_that_cannot_be_counted_are_not_asked_for_each_hour(service: Service) -> None:
    """After an answer with rows that cannot be counted, its days are given up, and the others go on."""
    source, collector = begin(service)
    service.set(wish())
    poll(collector)
    service.set(wish(**PERCENT))
    source.failures = [IncompleteAnswerError(3, 9)]
    poll_hourly(service, collector, NOON + 20 * HOUR)
    assert max(Counter(list_asked(source)).values()) <= 2
    told = {day for day, _, _ in list_complete(service.database, direction=DEPARTURES)}
    assert set(HISTORY[4:]) <= told


@ON_SQLITE
def test_a_failure_of_the_source_costs_nothing_and_is_tried_again(service: Service) -> None:
    """A call that fails is refunded, and made again with the next poll."""
    source, collector = begin(service)
    service.set(wish())
    poll(collector)
    service.set(wish(**PERCENT))
    source.failures = [SourceUnavailableError("503")]
    poll(collector)
    service.clock.advance(HOUR)
    poll(collector)
    assert load_coverage(service).covered_from == HISTORY[-1]


@ON_SQLITE
def test_what_was_covered_before_a_gap_is_not_asked_for_again(service: Service) -> None:
    """Days from before a time without interests are known; those of that time are asked for, and the gap is filled."""
    source, collector = begin(service)
    interest = service.set(wish(), ANN)
    poll(collector)
    service.interests.remove(interest.user_id, interest.interest_id)
    service.clock.advance(10 * DAY)
    later = service.clock.now()
    prove_past_days(service.database, later)
    source.available += [
        build_flight(day + hour * HOUR, 20, 1 + hour)
        for day in (TODAY + number * DAY for number in range(6, 12))
        for hour in range(24)
    ]
    service.set(wish(**PERCENT), ANN)
    poll(collector)
    gaps = list_published(service.database, "KJFK", DEPARTURES, flights_pb.COVERAGE_GAP)
    assert [(first, end) for first, end, _ in gaps] == [(TODAY, day_of(later) - 2 * DAY)]
    assert list_asked(source).count(FIRST_DUE) == 1
    told = Counter(day for day, _, _ in list_complete(service.database, direction=DEPARTURES))
    assert max(told.values()) == 1
    row = load_coverage(service)
    assert (row.covered_from, row.covered_until) == (day_of(later) - 35 * DAY, day_of(later))
    assert row.gap_from is None


@ON_SQLITE
def test_a_flight_that_is_stored_already_is_not_told_twice(service: Service) -> None:
    """Sums over the log: each flight of each day is published once, with history from both sides of a midnight."""
    source, collector = begin(service)
    source.available.append(build_flight(TODAY - 3 * DAY - timedelta(minutes=5), 10, 77))
    service.set(wish(direction=BOTH, **PERCENT))
    poll(collector)
    seen: Counter[tuple[int, str, datetime]] = Counter()
    for message in outbox(service.database, FLIGHTS_OBSERVED.name):
        value = flights_pb.FlightsObserved.FromString(message.value or b"")
        seen.update((value.direction, each.icao24, each.first_seen.ToDatetime(UTC)) for each in value.flights)
    assert max(seen.values()) == 1
    assert len(seen) == 2 * 24 * 35 + 2


@ON_SQLITE
def test_rows_of_days_that_are_needed_no_more_are_deleted(service: Service) -> None:
    """The table of history keeps some weeks alone."""
    _, collector = begin(service)
    service.set(wish(**PERCENT))
    with service.database.transaction() as session:
        session.add(HistoryDayRow(airport="KJFK", direction="departures", day=TODAY - 50 * DAY, covered=True))
    poll(collector)
    with service.database.reading() as session:
        assert min(session.scalars(select(HistoryDayRow.day))) >= TODAY - 42 * DAY


@ON_SQLITE
def test_a_new_log_is_told_the_history_behind_a_day_that_is_missing(service: Service) -> None:
    """After the loss of the log every covered day is published again, as past; the missing one is not."""
    lost = HISTORY[7]
    source, collector = begin(service, without=[lost])
    service.set(wish(**PERCENT))
    source.failures = [None] * 4 + [IncompleteAnswerError(3, 9)]
    poll_hourly(service, collector, NOON + 2 * HOUR)
    given_up = set(HISTORY) - {day for day, _, _ in list_complete(service.database, direction=DEPARTURES)}
    assert lost in given_up
    with service.database.transaction() as session:
        told = session.scalar(select(func.max(FlightRow.id)))
        session.execute(update(CoverageRow).values(told_until=CoverageRow.covered_until))
        republish(session, told or 0)
    values = [
        flights_pb.FlightsObserved.FromString(each.value or b"")
        for each in outbox(service.database, FLIGHTS_OBSERVED.name)
    ]
    again = {
        value.begin.ToDatetime(UTC): len(value.flights)
        for value in values
        if value.past and value.coverage == flights_pb.COVERAGE_COMPLETE
    }
    assert again == dict.fromkeys({FIRST_DUE, *HISTORY} - given_up, 24)
    assert set(list_as_history(service)) == set(HISTORY) - given_up, "it is not judged in the new log, either"


@ON_SQLITE
def test_days_whose_flights_were_deleted_are_not_asked_for_again(service: Service) -> None:
    """The stream still counts them: for who comes back after the last interest was removed they would count twice."""
    _, collector = begin(service)
    interest = service.set(wish(**PERCENT))
    poll(collector)
    published = list_complete(service.database, direction=DEPARTURES)
    assert len(published) > 30
    service.interests.remove(interest.user_id, interest.interest_id)
    assert FlightRetention(service.database, service.clock, timedelta(days=32)).delete_expired() > 0
    service.set(wish(**PERCENT))
    poll(collector)
    assert list_complete(service.database, direction=DEPARTURES) == published


@ON_SQLITE
def test_a_coverage_that_begins_amid_a_day_is_extended_back_over_that_day(service: Service) -> None:
    """An airport that was unheard is covered from its first flight on; the morning before is a part of the history."""
    prove_past_days(service.database, NOON)
    source = NightlySource(service.clock, build_source(service, [FIRST_DUE], range(8, 24)).available)
    collector = build_collector(service, source)
    service.set(wish())
    poll(collector)
    service.clock.advance(DAY)
    prove_past_days(service.database, service.clock.now())
    poll(collector)
    heard_from = TODAY + 8 * HOUR + timedelta(minutes=30)
    assert load_coverage(service).covered_from == heard_from
    service.set(wish(**PERCENT), BOB)
    for _ in range(4):
        poll(collector)
        service.clock.advance(7 * HOUR)
    assert TODAY in list_as_history(service)
    assert load_coverage(service).covered_from == HISTORY[-1] + DAY
    traffic = fold_outbox(service.database, DEPARTURES)
    assert (traffic.covered_from, traffic.known_from) == (seconds(heard_from), seconds(HISTORY[-1] + DAY))
    assert traffic.counts.total(seconds(TODAY) // 3600, 24) == 16, "no flight of the day is counted twice"
    with service.database.reading() as session:
        row = session.get(HistoryDayRow, ("KJFK", "departures", TODAY))
        assert row is not None
        assert (row.covered, row.judged_from) == (True, heard_from)


@ON_SQLITE
@pytest.mark.parametrize("is_between", [True, False])
def test_live_movements_at_the_ends_of_days_of_history_are_decided(service: Service, is_between: bool) -> None:
    """By the later of the two records that tell of them: the days come newest first, each once.

    A movement that neither has is retracted; one that the next day's record has, minutes later, is matched.
    """
    midnight = HISTORY[3] if is_between else FIRST_DUE
    source, collector = begin(service)
    found, phantom = (900, midnight - timedelta(minutes=6)), (901, midnight - timedelta(minutes=7))
    source.available.append(build_flight(midnight + timedelta(minutes=5), 10, 900))
    publish_live(service.database, DEPARTURES, [phantom, found])
    service.set(wish(**PERCENT))
    poll(collector)
    assert load_outcomes(service.database) == [(901, LiveOutcome.RETRACTED), (900, LiveOutcome.MATCHED)]


@ON_SQLITE
def test_live_movements_next_to_a_day_that_is_not_known_stand(service: Service) -> None:
    """They may be first flights of a day whose record the source never gave."""
    lost = HISTORY[7]
    source, collector = begin(service, without=[lost])
    source.failures = [None] * 4 + [IncompleteAnswerError(3, 9)]
    publish_live(service.database, DEPARTURES, [(901, lost - timedelta(minutes=7)), (902, lost - HOUR)])
    service.set(wish(**PERCENT))
    poll_hourly(service, collector, NOON + 9 * HOUR)
    assert load_coverage(service).covered_from > lost
    assert lost - DAY in list_as_history(service)
    assert load_outcomes(service.database) == [(902, LiveOutcome.RETRACTED), (901, LiveOutcome.PUBLISHED)]
