"""Tests of days about which the source refuses to answer at every airport: they are given up, and cost little."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st
from sqlalchemy import func, select

from collector.errors import (
    ForeignAnswer,
    ForeignAnswerError,
    IncompleteAnswerError,
    SourceError,
    SourceUnavailableError,
)
from collector.intervals import DAY, day_of
from collector.model import CoverageRow, UnheardRow
from collector.settled.coverage_report import CoverageReports
from collector.settled.evidence import GIVE_UP_AFTER, NightlyRecord
from collector.settled.failing_airports import FailingAirports
from collector.settled.record_store import load_records
from collector.sources.flight import Flight
from domain.interests import Direction
from tests.collector.conftest import ANN, BOB, NOON, ON_SQLITE, Service, wish
from tests.collector.settled.polling import (
    HOUR,
    TIMING as COLLECTION_TIMING,
    build_collector,
    list_complete,
    list_published,
    poll_hourly,
)
from tests.collector.settled.test_hostile_sources import EVIDENCE_CALL, HostileSource, list_hourly_flights
from towerwatch.flights.v1 import events_pb2 as flights_pb

TODAY = day_of(NOON)
BAD_DAY = TODAY + DAY
ARRIVALS, DEPARTURES = Direction.ARRIVALS, Direction.DEPARTURES
RECORD = (TODAY, ARRIVALS)
AIRPORTS = ["EDDF", "KATL", "RJTT"]


class RefusingSource(HostileSource):
    """A source that fails for the calls that the test chooses, whichever airport is asked."""

    error: SourceError = SourceUnavailableError("500")

    def __init__(
        self,
        service: Service,
        is_refused: Callable[[str, Direction, datetime], bool],
        first_day: datetime = TODAY - 4 * DAY,
    ) -> None:
        """`is_refused`: True for the airport, direction and begin of a call that fails."""
        super().__init__(service, first_day, days=40)
        self._is_refused = is_refused

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Fail if the call is refused, else answer as the other source does."""
        if self._is_refused(airport, direction, begin):
            self.calls.append((airport, direction, begin, end))
            self.call_times.append(self.clock.now())
            raise self.error
        return await super().fetch_flights(airport, direction, begin, end)

    def list_evidence_times(self, day: datetime) -> list[datetime]:
        """Return the times of the evidence calls about a day at the price of old flights."""
        return [
            at
            for at, (_, _, begin, end) in zip(self.call_times, self.calls, strict=True)
            if end == day + DAY and end - begin == EVIDENCE_CALL and begin < at - DAY
        ]


def list_gaps(service: Service, airport: str, direction: Direction = ARRIVALS) -> list[tuple[datetime, datetime]]:
    """Return the gaps that were published for an airport and direction."""
    found = list_published(service.database, airport, direction, flights_pb.COVERAGE_GAP)
    return [(begin, end) for begin, end, _ in found]


@ON_SQLITE
def test_a_day_that_is_refused_at_every_airport_becomes_a_gap(service: Service) -> None:
    """Nine days after its end at the latest, for all airports; the days after it are covered then."""
    service.set(wish("LICC", direction=ARRIVALS), ANN)
    service.set(wish("KJFK", direction=ARRIVALS), BOB)
    source = RefusingSource(service, lambda _airport, _direction, begin: day_of(begin) == BAD_DAY)
    poll_hourly(service, build_collector(service, source, 4000), BAD_DAY + DAY + 9 * DAY + 12 * HOUR, 2 * HOUR)
    for airport in ("LICC", "KJFK"):
        assert list_gaps(service, airport) == [(BAD_DAY, BAD_DAY + DAY)]
        assert list_complete(service.database, airport)[-1][1] == BAD_DAY + 10 * DAY


@ON_SQLITE
def test_departures_that_are_refused_become_gaps_though_arrivals_are_given(service: Service) -> None:
    """If the source refuses departures for two weeks, its arrivals are covered, and the first days are given up."""
    until = BAD_DAY + 14 * DAY
    service.set(wish("KJFK", direction=Direction.BOTH), BOB)
    source = RefusingSource(service, lambda _, direction, begin: direction is DEPARTURES and BAD_DAY <= begin < until)
    poll_hourly(service, build_collector(service, source, 4000), BAD_DAY + 12 * DAY, 6 * HOUR)
    assert list_complete(service.database, "KJFK", ARRIVALS)[-1][1] == BAD_DAY + 12 * DAY - DAY
    with service.database.reading() as session:
        records = load_records(session, service.clock.now())
    now = service.clock.now()
    assert records.is_given_up(BAD_DAY, DEPARTURES, now)
    assert not records.is_given_up(BAD_DAY, ARRIVALS, now)
    assert not records.is_given_up(BAD_DAY + 5 * DAY, DEPARTURES, now)


@ON_SQLITE
def test_an_outage_gives_no_day_up(service: Service) -> None:
    """While the source answers nothing at all, its days may still come: twelve days later they are all covered."""
    service.set(wish("KJFK", direction=ARRIVALS), ANN)
    begin, end = BAD_DAY + HOUR, BAD_DAY + 12 * DAY
    source = RefusingSource(service, lambda *_: begin <= service.clock.now() < end)
    poll_hourly(service, build_collector(service, source, 4000), end + 20 * HOUR, 6 * HOUR)
    assert list_gaps(service, "KJFK") == []
    assert list_complete(service.database, "KJFK")[-1][1] == day_of(end)


@ON_SQLITE
def test_incomplete_answers_about_an_old_day_cost_one_call_in_six_hours(service: Service) -> None:
    """The source charges them, so neither the next poll nor the next airport is asked at once; the day is given up."""
    service.set(wish("KJFK", direction=ARRIVALS), ANN)
    source = RefusingSource(service, lambda _airport, _direction, begin: day_of(begin) == BAD_DAY)
    source.error = IncompleteAnswerError(20, 48)
    poll_hourly(service, build_collector(service, source, 4000), BAD_DAY + DAY + 10 * DAY + 12 * HOUR)
    times = source.list_evidence_times(BAD_DAY)
    assert len(times) > 1
    assert all(later - earlier >= timedelta(hours=5, minutes=59) for earlier, later in pairwise(times))
    assert len({airport for airport, _, begin, _ in source.calls if day_of(begin) == BAD_DAY}) > 2
    assert list_gaps(service, "KJFK") == [(BAD_DAY, BAD_DAY + DAY)]


@ON_SQLITE
def test_incomplete_answers_about_last_night_are_not_paid_for_at_each_poll(service: Service) -> None:
    """Each airport is asked once in six hours at most, also at the price of recent flights."""
    service.set(wish("KJFK", direction=ARRIVALS), ANN)
    source = RefusingSource(service, lambda _airport, _direction, begin: day_of(begin) == BAD_DAY)
    source.error = IncompleteAnswerError(20, 48)
    poll_hourly(service, build_collector(service, source), BAD_DAY + DAY + 17 * HOUR)
    asked: dict[str, list[datetime]] = {}
    for at, (airport, _, begin, end) in zip(source.call_times, source.calls, strict=True):
        if day_of(begin) == BAD_DAY and end - begin == EVIDENCE_CALL:
            asked.setdefault(airport, []).append(at)
    assert len(asked) == 4
    for times in asked.values():
        assert 2 <= len(times) <= 3
        assert all(later - earlier >= timedelta(hours=5, minutes=59) for earlier, later in pairwise(times))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 14 * 24), st.booleans()), max_size=60).map(sorted))
def test_failures_give_a_record_up_only_after_three_attempts_a_day_apart(polls: list[tuple[int, bool]]) -> None:
    """Whatever polls fail or answer without flights, and when: never before a week, never by failures of two days."""
    record = NightlyRecord(TODAY, ARRIVALS)
    counted: list[datetime] = []
    for hour, fails in polls:
        now = record.end + hour * HOUR
        if record.is_given_up(now):
            break
        after = record.after_failure(now) if fails else record.after_answer("EDDF", [], now, HOUR)
        assert now >= record.end + GIVE_UP_AFTER or not fails or after == record
        if after.attempts > record.attempts and fails:
            assert not counted or now - counted[-1] >= DAY - timedelta(minutes=1)
            counted.append(now)
        record = after
    now = record.end + 30 * DAY
    assert record.is_given_up(now) <= (record.attempts >= 3)
    assert record.attempts >= len(counted)


@pytest.mark.parametrize("pause", [1, 5, 7, 24])
@pytest.mark.parametrize("failures", [1, 2, 5])
def test_each_airport_has_its_turn_though_a_poll_ends_after_a_few_failures(pause: int, failures: int) -> None:
    """The circuit breaker opens, and the next poll comes hours later: all of eight are asked within so many polls."""
    failing, airports = FailingAirports(), [f"E{number:03}" for number in range(8)]
    asked: set[str] = set()
    for poll in range(-(-len(airports) // failures)):
        now = NOON + poll * pause * HOUR
        for _ in range(failures):
            airport = failing.choose_usable(RECORD, airports, now)[0]
            failing.add_failure(RECORD, airport, now)
            asked.add(airport)
    assert asked == set(airports)


def test_a_record_is_refused_everywhere_only_while_others_are_answered() -> None:
    """One airport that is not passed over, or a source that answers nothing, is reason enough to wait."""
    failing = FailingAirports()
    for airport in AIRPORTS[:2]:
        failing.add_failure(RECORD, airport, NOON)
    failing.add_answer((TODAY + DAY, ARRIVALS), "EDDF", NOON)
    assert not failing.is_refused_everywhere(RECORD, AIRPORTS, NOON)
    failing.add_failure(RECORD, AIRPORTS[2], NOON + HOUR)
    assert failing.is_refused_everywhere(RECORD, AIRPORTS, NOON + HOUR)
    assert not failing.is_refused_everywhere(RECORD, AIRPORTS, NOON + 7 * HOUR)
    alone = FailingAirports()
    alone.add_answer(RECORD, "EDDF", NOON)
    alone.add_failure(RECORD, "EDDF", NOON)
    assert not alone.is_refused_everywhere(RECORD, ["EDDF"], NOON)


USELESS = [IncompleteAnswerError(1, 1), ForeignAnswerError(ForeignAnswer.NO_IDENTITY, 200)]


@ON_SQLITE
@pytest.mark.parametrize("error", USELESS, ids=["incomplete", "no identity"])
def test_a_day_whose_answer_cannot_be_counted_becomes_a_gap_for_its_airport(
    service: Service, error: SourceError
) -> None:
    """A week after its end it is the source's last word: the only row is malformed, say. Others are not affected."""
    service.set(wish("LICC", direction=ARRIVALS), ANN)
    service.set(wish("KJFK", direction=ARRIVALS), BOB)
    source = RefusingSource(service, lambda airport, _, begin: airport == "LICC" and begin == BAD_DAY)
    source.error = error
    poll_hourly(service, build_collector(service, source), BAD_DAY + DAY + GIVE_UP_AFTER - HOUR, 3 * HOUR)
    assert list_gaps(service, "LICC") == []
    reports = CoverageReports(service.database, service.clock, COLLECTION_TIMING)
    waiting = reports.load_report(ANN, "LICC").waiting_for[ARRIVALS]
    assert waiting.startswith("14 Feb: the source's answer has too many flights without")
    assert waiting.endswith("and given up as a gap from 22 Feb on")
    assert reports.load_report(BOB, "KJFK").waiting_for == {}
    poll_hourly(service, build_collector(service, source), BAD_DAY + DAY + GIVE_UP_AFTER + 15 * HOUR, 3 * HOUR)
    assert "given up" not in reports.load_report(ANN, "LICC").waiting_for.get(ARRIVALS, "")
    assert reports.load_report(ANN, "LICC").gaps[ARRIVALS].startswith("14 Feb: not collected")
    assert list_gaps(service, "LICC") == [(BAD_DAY, BAD_DAY + DAY)]
    assert list_complete(service.database, "LICC")[-1][1] == BAD_DAY + DAY + GIVE_UP_AFTER
    assert list_gaps(service, "KJFK") == []
    asked = [at for at, call in zip(source.call_times, source.calls, strict=True) if call[0] == "LICC"]
    assert len(asked) < 40


@ON_SQLITE
def test_a_day_that_fails_for_one_airport_alone_becomes_a_gap_a_week_after_its_end(service: Service) -> None:
    """Whichever failure it is, the days after it are collected then, and not only after thirty days."""
    service.set(wish("LICC", direction=ARRIVALS), ANN)
    service.set(wish("KJFK", direction=ARRIVALS), BOB)
    source = RefusingSource(service, lambda airport, _, begin: airport == "LICC" and begin == BAD_DAY)
    collector = build_collector(service, source)
    poll_hourly(service, collector, BAD_DAY + DAY + GIVE_UP_AFTER - HOUR, 6 * HOUR)
    assert list_gaps(service, "LICC") == []
    poll_hourly(service, collector, BAD_DAY + DAY + GIVE_UP_AFTER + 15 * HOUR, 6 * HOUR)
    assert list_gaps(service, "LICC") == [(BAD_DAY, BAD_DAY + DAY)]
    assert list_complete(service.database, "LICC")[-1][1] == BAD_DAY + DAY + GIVE_UP_AFTER
    assert list_gaps(service, "KJFK") == []


@ON_SQLITE
def test_an_outage_for_all_or_of_hours_gives_no_day_up(service: Service) -> None:
    """Old days are asked for until they are answered, if the airport fails since an hour or nobody is answered."""
    service.set(wish("KJFK", direction=ARRIVALS), BOB)
    service.set(wish("LICC", direction=ARRIVALS), ANN)
    away = [(BAD_DAY + 12 * HOUR, BAD_DAY + 10 * DAY)]
    source = RefusingSource(service, lambda *_: any(begin <= service.clock.now() < end for begin, end in away))
    collector = build_collector(service, source)
    poll_hourly(service, collector, BAD_DAY + 10 * DAY, 12 * HOUR)
    back = service.clock.now()
    source._is_refused = lambda airport, *_: airport == "LICC" and service.clock.now() < back + 40 * HOUR
    poll_hourly(service, collector, back + 5 * DAY, 6 * HOUR)
    for icao in ("KJFK", "LICC"):
        assert list_gaps(service, icao) == []
        assert list_complete(service.database, icao)[-1][1] >= BAD_DAY + 11 * DAY


@ON_SQLITE
def test_the_first_day_of_an_airport_is_given_up_too(service: Service) -> None:
    """Its coverage begins with the first flight of the days after it; what was not given is not zero."""
    service.set(wish("KJFK", direction=ARRIVALS), BOB)
    first = TODAY - 15 * DAY
    service.set(wish("LICC", direction=ARRIVALS, effective_from=first), ANN)
    source = RefusingSource(service, lambda airport, _, begin: airport == "LICC" and begin == first, first_day=first)
    source.error = IncompleteAnswerError(1, 1)
    poll_hourly(service, build_collector(service, source), TODAY + DAY + 14 * HOUR)
    covered = list_complete(service.database, "LICC")
    assert covered[0][0] == list_hourly_flights(first + DAY, 1)[0].last_seen
    assert covered[-1][1] == TODAY + DAY


@ON_SQLITE
def test_no_day_is_given_up_while_no_answer_can_be_counted(service: Service) -> None:
    """The source's format may have changed: a newer version of the collector will read what this one cannot."""
    service.set(wish("KJFK", direction=ARRIVALS), BOB)
    source = RefusingSource(service, lambda *_: service.clock.now() >= BAD_DAY + 12 * HOUR)
    source.error = ForeignAnswerError(ForeignAnswer.NO_IDENTITY, 200)
    poll_hourly(service, build_collector(service, source), BAD_DAY + 12 * HOUR)
    service.set(wish("LICC", direction=ARRIVALS, effective_from=TODAY - DAY), ANN)
    poll_hourly(service, build_collector(service, source), BAD_DAY + 11 * DAY, 6 * HOUR)
    assert list_gaps(service, "KJFK") == []
    with service.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(UnheardRow)) == 0


class AlmostSilentSource(HostileSource):
    """A source that gives one flight for a beacon, and none for any other airport, in an outage of two hours."""

    begin: datetime

    def list_recorded(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return one flight or none during the outage."""
        found = super().list_recorded(airport, direction, begin, end)
        if not self.begin <= self.clock.now() < self.begin + 2 * HOUR:
            return found
        return found[:1] if airport in self.beacons else []


@ON_SQLITE
def test_one_flight_of_the_evidence_airport_confirms_no_zero(service: Service) -> None:
    """It has fewer than a proof needs, so the source may have lost most of the record: no empty day is covered."""
    service.set(wish("KBOS", direction=ARRIVALS), ANN)
    source = AlmostSilentSource(service)
    source.begin = BAD_DAY + 14 * HOUR
    collector = build_collector(service, source)
    poll_hourly(service, collector, source.begin)
    service.set(wish("KJFK", direction=ARRIVALS), BOB)
    poll_hourly(service, collector, source.begin + 20 * HOUR)
    assert [flights for _, _, flights in list_complete(service.database, "KJFK")] == [24, 24]


@ON_SQLITE
def test_history_that_ends_because_somebody_joins_is_explained(service: Service) -> None:
    """Nobody waits for somebody else's history: so the report does not say that nobody asked for these days."""
    first = TODAY - 20 * DAY
    service.set(wish("LICC", direction=ARRIVALS, effective_from=first), ANN)
    with service.database.transaction() as session:
        covered = {"covered_from": first, "covered_until": first + 3 * DAY}
        session.add(CoverageRow(airport="LICC", direction=ARRIVALS.value, **covered))
    service.set(wish("LICC", direction=ARRIVALS), BOB)
    report = CoverageReports(service.database, service.clock, COLLECTION_TIMING).load_report(ANN, "LICC")
    assert "not wanted by all who watch the airport" in report.gaps[ARRIVALS]
    assert "nobody" not in report.gaps[ARRIVALS]
