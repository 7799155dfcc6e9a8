"""Tests of airports whose calls fail: whichever they are, the records are proven and the other airports covered."""

from datetime import datetime, timedelta
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from collector.errors import IncompleteAnswerError, SourceError, SourceRefusedError, SourceUnavailableError
from collector.intervals import DAY, day_of
from collector.settled.evidence import NightlyRecord, NightlyRecords, RecordTiming, list_evidence_calls
from collector.settled.failing_airports import FailingAirports, FailingTargets
from collector.settled.record_store import load_records
from collector.sources.flight import Flight
from domain.interests import Direction
from tests.collector.conftest import ANN, BOB, CARL, NOON, ON_SQLITE, Service, wish
from tests.collector.settled.polling import HOUR, build_collector, list_complete, poll_hourly
from tests.collector.settled.test_hostile_sources import HostileSource, list_hourly_flights

TODAY = day_of(NOON)
TIMING = RecordTiming(asked_after=HOUR, settle_time=3 * HOUR)
EVENING = list_hourly_flights(TODAY + 18 * HOUR, 1)[:6]
ARRIVALS = Direction.ARRIVALS
CANDIDATES = ["WWWW", "EDDF", "KATL", "RJTT"]
Failures = dict[str, tuple[int, int]]
"""By airport: the hours after the day's end between which its calls fail."""

HOURS = st.tuples(st.integers(0, 30), st.integers(1, 60)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@st.composite
def draw_failures(draw: st.DrawFn) -> Failures:
    """Draw when each candidate fails; at least one of them never does."""
    good = draw(st.sampled_from(CANDIDATES))
    return {each: draw(HOURS) for each in CANDIDATES if each != good and draw(st.booleans())}


def find_whole_hour(failures: Failures, most_failures: int) -> int | None:
    """Poll each hour as the collector does, and return the hour after the day's end in which the record is whole.

    None if it is not within three days. The record is there from the third hour on. A poll ends after `most_failures`
    failures in a row, as it does when the circuit breaker opens.
    """
    record, failing = NightlyRecord(TODAY, ARRIVALS), FailingAirports()
    for hour in range(72):
        now = record.end + hour * HOUR
        for _ in range(most_failures):
            calls = list_evidence_calls(
                NightlyRecords([record]), {ARRIVALS: [TODAY]}, {ARRIVALS: CANDIDATES}, now, TIMING, failing
            )
            if not calls:
                break
            begin, end = failures.get(calls[0].airport, (0, 0))
            if not begin <= hour < end:
                failing.add_answer(record.key, calls[0].airport, now)
                record = record.after_answer(calls[0].airport, EVENING if hour >= 3 else [], now, TIMING.settle_time)
                break
            failing.add_failure(record.key, calls[0].airport, now)
        if record.whole_since is not None:
            return hour
    return None


@settings(max_examples=200)
@given(draw_failures(), st.integers(1, 5))
def test_a_record_is_proven_whichever_airports_fail(failures: Failures, most_failures: int) -> None:
    """As long as one candidate answers, whatever the others do and when, it takes at most a day more than without."""
    assert find_whole_hour({}, most_failures) == 6
    found = find_whole_hour(failures, most_failures)
    assert found is not None
    assert found <= 30


def test_all_fail_in_turn_and_one_that_answers_again_is_asked() -> None:
    """If all are passed over, the one that failed first is asked."""
    failing, record = FailingAirports(), (TODAY, ARRIVALS)
    failing.add_failure(record, "EDDF", NOON)
    failing.add_failure(record, "KATL", NOON + HOUR)
    assert failing.choose_usable(record, ["KATL", "EDDF"], NOON + 2 * HOUR) == ["EDDF"]
    assert failing.choose_usable(record, ["RJTT", "KATL", "EDDF"], NOON + 2 * HOUR) == ["RJTT"]
    assert failing.choose_usable(record, ["KATL", "EDDF"], NOON + 6 * HOUR) == ["EDDF"]
    assert failing.choose_usable((TODAY + DAY, ARRIVALS), ["EDDF", "KATL"], NOON + 2 * HOUR) == ["EDDF", "KATL"]
    failing.add_answer(record, "KATL", NOON)
    assert failing.choose_usable(record, ["KATL", "EDDF"], NOON + 2 * HOUR) == ["KATL"]
    assert failing.choose_usable(record, [], NOON) == []


class SourceWithoutOneDay(HostileSource):
    """A source that fails for one day, whichever airport is asked."""

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Answer as the other source does, unless the question is about the second day."""
        if day_of(begin) == TODAY + DAY:
            raise SourceUnavailableError("500")
        return await super().fetch_flights(airport, direction, begin, end)


@ON_SQLITE
def test_a_day_that_the_source_refuses_keeps_no_other_from_being_proven(service: Service) -> None:
    """Each later record is whole within twelve hours of its day, though calls for that one day fail at each poll."""
    service.set(wish("LICC", direction=ARRIVALS), ANN)
    poll_hourly(service, build_collector(service, SourceWithoutOneDay(service, days=9)), TODAY + 7 * DAY)
    with service.database.reading() as session:
        records = load_records(session, service.clock.now())
    for number in range(2, 6):
        day = TODAY + number * DAY
        whole = records.get(day, ARRIVALS).whole_since
        assert whole is not None
        assert whole <= day + DAY + 12 * HOUR


class PartlyFailingSource(HostileSource):
    """A source that fails for some airports from an instant on, and shows a wrong clock for others."""

    def __init__(self, service: Service, broken: dict[str, SourceError | timedelta], since: datetime) -> None:
        super().__init__(service)
        self._broken = broken
        self._since = since

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Answer as the other source does, unless the airport is broken."""
        fault = self._broken.get(airport) if self.clock.now() >= self._since else None
        if isinstance(fault, SourceError):
            raise fault
        found = await super().fetch_flights(airport, direction, begin, end)
        self.clock_error = fault or timedelta(0)
        return found


WATCHED = ["EBAM", "KJFK", "LICC"]
FAULTS: list[SourceError | timedelta] = [SourceUnavailableError("503"), SourceRefusedError("400"), timedelta(hours=2)]


@ON_SQLITE
@pytest.mark.parametrize("seed", range(3))
def test_other_airports_are_covered_whichever_fail(service: Service, seed: int) -> None:
    """Of watched airports and beacons all but one may fail for good, at any time: the others are covered all the same.

    EBAM, which always fails, is the one with most interests; the others fail at random.
    """
    chance = Random(seed)
    others = ["KJFK", "EDDF", "KATL", "RJTT"]
    chance.shuffle(others)
    broken = {airport: chance.choice(FAULTS) for airport in ["EBAM", *others[: seed + 1]]}
    since = TODAY + DAY + chance.randrange(9) * HOUR
    for person, airport in ((ANN, "LICC"), (CARL, "KJFK"), (BOB, "EBAM"), (CARL, "EBAM")):
        service.set(wish(airport, direction=ARRIVALS), person)
    collector = build_collector(service, PartlyFailingSource(service, broken, since))
    poll_hourly(service, collector, TODAY + 2 * DAY + 23 * HOUR)
    for airport in WATCHED:
        if airport not in broken:
            assert list_complete(service.database, airport)[-1][1] == TODAY + 2 * DAY


@ON_SQLITE
def test_a_day_without_flights_is_confirmed_though_its_evidence_airport_fails_now(service: Service) -> None:
    """Another airport with flights in the day's last hours shows as well that the source gives the record."""
    source = HostileSource(service)
    source.silent = {"LICC"}
    service.set(wish("KJFK", direction=ARRIVALS), ANN)
    collector = build_collector(service, source)
    poll_hourly(service, collector, TODAY + DAY + 8 * HOUR)
    evidence = next(airport for airport, *_ in reversed(source.questions))
    source.failing = {evidence: SourceUnavailableError("503")}
    service.set(wish("LICC", direction=ARRIVALS), BOB)
    poll_hourly(service, collector, TODAY + DAY + 9 * HOUR)
    asked = [begin for airport, _, begin, _ in source.collections if airport == "LICC"]
    poll_hourly(service, collector, TODAY + DAY + 11 * HOUR)
    assert asked != []
    assert [begin for airport, _, begin, _ in source.collections if airport == "LICC"] == asked


@ON_SQLITE
def test_an_incomplete_answer_covers_nothing_and_is_asked_for_again_hours_later(service: Service) -> None:
    """It was charged by the source, so an airport with such answers must not be asked for at each poll."""
    for airport in ("KJFK", "LICC"):
        service.set(wish(airport, direction=ARRIVALS), ANN)
    source = HostileSource(service)
    collector = build_collector(service, source)
    poll_hourly(service, collector, TODAY + DAY + 5 * HOUR)
    source.failing = {"KJFK": IncompleteAnswerError(47, 48)}
    poll_hourly(service, collector, TODAY + DAY + 20 * HOUR)
    assert list_complete(service.database, "LICC")[-1][1] == TODAY + DAY
    assert list_complete(service.database, "KJFK")[-1][1] == TODAY
    times = zip(source.call_times, source.calls, strict=True)
    asked = [(at - TODAY - DAY) // HOUR for at, call in times if call[0] == "KJFK" and call[2:] == (TODAY, TODAY + DAY)]
    assert len(asked) > 1
    assert {later - earlier for earlier, later in pairwise(asked)} == {6}
    source.failing = {}
    poll_hourly(service, collector, TODAY + 2 * DAY + HOUR)
    assert list_complete(service.database, "KJFK")[-1][1] == TODAY + DAY


@given(
    polls=st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from(["fails", "fails", "fails", "outage", "answers"])), max_size=30
    )
)
def test_a_target_is_refused_after_two_days_of_failures_without_a_long_pause(polls: list[tuple[int, str]]) -> None:
    """Neither an outage, nor a pause of more than 30 hours, nor an answer lies between the first and the last."""
    failing, target, now = FailingTargets(), ("LICC", ARRIVALS), NOON
    failing.add_failure(("KJFK", ARRIVALS), NOON - 9 * DAY, is_outage=False)
    since: datetime | None = None
    last = now
    for hours, what in polls:
        now += hours * HOUR
        if what == "answers":
            failing.add_answer(target)
            since = None
            continue
        is_refused = failing.add_failure(target, now, is_outage=what == "outage")
        if what == "outage":
            since = None
        elif since is None or now - last > 30 * HOUR:
            since = now
        last = now
        assert is_refused == (since is not None and now - since >= 48 * HOUR)
