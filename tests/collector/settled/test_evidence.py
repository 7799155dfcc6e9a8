"""Tests of the evidence of the source's records: nothing counts as recorded that no answer proves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from collector.intervals import DAY
from collector.settled.evidence import (
    FEWEST_FLIGHTS,
    GIVE_UP_AFTER,
    JITTER,
    EvidenceCall,
    NightlyRecord,
    NightlyRecords,
    RecordTiming,
    choose_candidates,
    list_days,
    list_evidence_calls,
)
from collector.settled.schedule import Schedule, list_candidates
from collector.settled.shares import NO_PAYMENTS
from collector.sources.flight import Flight
from domain.interests import Direction
from tests.collector.settled.test_planner import target
from tests.fakes.nightly_source import build_flight

D12 = datetime(2013, 2, 12, tzinfo=UTC)
"""The day of most examples; it ends at END."""
END = D12 + DAY
HOUR = timedelta(hours=1)
SETTLE = 3 * HOUR
TIMING = RecordTiming(asked_after=HOUR, settle_time=SETTLE)
EVENING = [build_flight(END - timedelta(minutes=10 * number), 5, number) for number in range(1, 11)]
ARRIVALS, DEPARTURES = Direction.ARRIVALS, Direction.DEPARTURES


def answered(*answers: tuple[float, str, list[Flight]], direction: Direction = ARRIVALS) -> NightlyRecord:
    """Return the record of the day after these answers: hours after its end, airport, flights."""
    record = NightlyRecord(D12, direction)
    for hours, airport, flights in answers:
        record = record.after_answer(airport, flights, END + hours * HOUR, SETTLE)
    return record


def test_a_record_is_whole_when_the_same_flights_are_given_after_the_settle_time() -> None:
    """The first answer with flights shows that it is there; the same one, three hours later, that it is whole."""
    there = answered((1, "EDDF", []), (3, "EDDF", EVENING))
    assert (there.airport, there.flights, there.there_since, there.whole_since) == ("EDDF", 10, END + 3 * HOUR, None)
    assert answered((3, "EDDF", EVENING), (5.9, "EDDF", EVENING)).whole_since is None
    assert answered((3, "EDDF", EVENING), (6, "EDDF", EVENING[::-1])).whole_since == END + 6 * HOUR


@pytest.mark.parametrize("second", [EVENING[:9], [*EVENING, build_flight(END - HOUR, 1, 11)], []])
def test_another_answer_begins_a_new_wait(second: list[Flight]) -> None:
    """A second part adds flights; a record that was taken back has none."""
    record = answered((3, "EDDF", EVENING), (6, "EDDF", second))
    assert record.whole_since is None
    assert record.there_since == (END + 6 * HOUR if second else None)
    assert answered((3, "EDDF", EVENING), (6, "EDDF", second), (8, "EDDF", second)).whole_since is None


def test_moved_times_and_duplicate_rows_are_the_same_answer() -> None:
    """Aircraft are compared: an answer's times move by seconds, and one flight may be in two rows, for weeks."""
    moved = [build_flight(each.first_seen + timedelta(seconds=16), 6, number) for number, each in enumerate(EVENING, 1)]
    for second in (moved, [*EVENING, moved[0]]):
        assert answered((3, "EDDF", EVENING), (6, "EDDF", second)).whole_since == END + 6 * HOUR


def test_one_more_flight_of_an_aircraft_is_another_answer() -> None:
    """Its flights are counted, not only its address."""
    again = build_flight(END - 5 * HOUR, 5, 1)
    assert answered((3, "EDDF", EVENING), (6, "EDDF", [*EVENING, again])).whole_since is None


@pytest.mark.parametrize("answers", [3, 4])
def test_many_changing_answers_make_way_for_another_airport(answers: int) -> None:
    """An answer that changes after the third one proves nothing any more, and the next candidate is asked."""
    record = answered(*((hours, "EDDF", EVENING[: 9 + hours % 2]) for hours in range(1, answers + 1)))
    assert record.airport == (None if answers == 4 else "EDDF")
    assert (record.there_since is None) is (answers == 4)


def test_a_contradicted_record_is_proven_anew() -> None:
    """Nothing of the evidence is left; the number of answers is."""
    whole = answered((3, "EDDF", EVENING), (6, "EDDF", EVENING))
    record = whole.without_evidence(END + 9 * HOUR)
    assert record == NightlyRecord(D12, ARRIVALS, asked_at=END + 9 * HOUR, attempts=2)
    assert record.compute_next_call_time(TIMING) == END + 10 * HOUR


def test_a_call_counts_as_due_a_minute_early() -> None:
    """A scheduled poll that comes seconds early does not put an answer off by an hour."""
    record = answered((3, "EDDF", EVENING))
    second = timedelta(seconds=1) / HOUR
    assert list_due({}, record, hours=6 - 60 * second) != []
    assert list_due({}, record, hours=6 - 61 * second) == []
    assert answered((3, "EDDF", EVENING), (6 - 60 * second, "EDDF", EVENING)).whole_since is not None
    assert answered((3, "EDDF", EVENING), (6 - 61 * second, "EDDF", EVENING)).whole_since is None


def test_a_whole_record_does_not_change() -> None:
    """What was published on its evidence stands; corrections find later flights."""
    whole = answered((3, "EDDF", EVENING), (6, "EDDF", EVENING))
    assert whole.after_answer("EDDF", [], END + 9 * HOUR, SETTLE) == whole


ANSWERS = st.lists(
    st.tuples(
        st.floats(0, 200),
        st.sampled_from(["EDDF", "KATL"]),
        st.sampled_from([[], EVENING, EVENING[:6], EVENING[4:], EVENING[:4]]),
    ),
    max_size=12,
)


@given(ANSWERS)
def test_whole_means_two_equal_answers_of_one_airport_apart_and_none_else_between(
    answers: list[tuple[float, str, list[Flight]]],
) -> None:
    """A brute-force look at the answers finds the same: the first answer that ends such a run proves it.

    A change of the answer after the third one ends a run, and begins none.
    """
    ordered = sorted(answers, key=lambda answer: answer[0])
    run: tuple[str, list[Flight], float] | None = None
    proven = None
    for number, (hours, airport, flights) in enumerate(ordered):
        if run is not None and run[:2] == (airport, flights):
            if hours * HOUR - run[2] * HOUR >= SETTLE - JITTER:
                proven = END + hours * HOUR
                break
        elif len(flights) < FEWEST_FLIGHTS or (run is not None and number >= 3):
            run = None
        else:
            run = (airport, flights, hours)
    assert answered(*ordered).whole_since == proven


def test_evidence_calls_come_hourly_and_less_often_when_they_are_expensive() -> None:
    """Not before an hour after midnight; hourly up to 18 hours after it, then every six hours, then daily."""
    record = NightlyRecord(D12, ARRIVALS)
    assert record.compute_next_call_time(TIMING) == END + HOUR
    for hours, pause in ((1, 1), (17.5, 1), (18, 6), (71, 6), (72, 24), (150, 24)):
        asked = answered((hours, "EDDF", []))
        assert asked.compute_next_call_time(TIMING) == END + (hours + pause) * HOUR


def test_a_record_that_is_there_is_asked_for_after_the_settle_time() -> None:
    """Then hourly, should the evidence call have failed; and the same airport is asked."""
    assert answered((3, "EDDF", EVENING)).compute_next_call_time(TIMING) == END + 6 * HOUR
    (call,) = list_due({}, answered((3, "EDDF", EVENING)), hours=6)
    assert (call.airport, call.interval.begin, call.interval.end) == ("EDDF", END - 6 * HOUR, END)


def list_due(
    pending: dict[Direction, list[datetime]],
    *records: NightlyRecord,
    hours: float = 12,
    beacons: str = "EDDF KATL RJTT",
) -> list[EvidenceCall]:
    """Return the evidence calls that are due so many hours after the day's end, if its arrivals are awaited."""
    candidates = {part: choose_candidates(None, [], beacons.split()) for part in (ARRIVALS, DEPARTURES)}
    wanted = pending or {ARRIVALS: [D12]}
    return list_evidence_calls(NightlyRecords(records), wanted, candidates, END + hours * HOUR, TIMING)


def test_departures_are_asked_for_once_the_arrivals_are_there() -> None:
    """Departures that the source may give before its nightly batch are no evidence of that batch."""
    both = {ARRIVALS: [D12], DEPARTURES: [D12]}
    assert [call.record.direction for call in list_due(both)] == [ARRIVALS]
    assert [call.record.direction for call in list_due({DEPARTURES: [D12]})] == [ARRIVALS]
    there = answered((10, "EDDF", EVENING))
    assert [call.record.direction for call in list_due(both, there)] == [DEPARTURES]


def test_an_unfinished_day_is_not_asked_for() -> None:
    """Its record cannot be there."""
    assert list_due({ARRIVALS: [D12]}, hours=-1) == []


def test_silent_candidates_take_turns() -> None:
    """Every other evidence call goes to the first candidate, the others in turn."""
    asked = []
    record = NightlyRecord(D12, ARRIVALS)
    for hours in range(1, 9):
        (call,) = list_due({}, record, hours=hours)
        asked.append(call.airport)
        record = record.after_answer(call.airport, [], END + hours * HOUR, SETTLE)
    assert asked == ["EDDF", "KATL", "EDDF", "RJTT", "EDDF", "KATL", "EDDF", "RJTT"]
    assert [list_due({}, beacons=only)[0].airport for only in ("LICC",)] == ["LICC"]


def test_departures_are_first_asked_at_the_airport_that_proves_the_arrivals() -> None:
    """It is one at which the night's record can be seen."""
    there = answered((10, "RJTT", EVENING))
    (call,) = list_due({ARRIVALS: [D12], DEPARTURES: [D12]}, there)
    assert (call.record.direction, call.airport) == (DEPARTURES, "RJTT")


def test_recent_days_are_asked_for_before_old_ones_and_old_ones_from_the_oldest_on() -> None:
    """Recent days are cheap, and a collection goes on with its oldest day."""
    days = [D12 - number * DAY for number in range(4)]
    assert [call.record.day for call in list_due({ARRIVALS: days})] == [D12, *reversed(days[1:])]


def test_candidates_are_named_once_and_the_last_airport_with_evidence_comes_first() -> None:
    """Beacons come before watched airports, which strangers choose; two of these are enough."""
    assert choose_candidates("KATL", ["LICC", "KATL", "KJFK"], ["EDDF", "KATL"]) == ["KATL", "EDDF", "LICC"]


def test_a_few_flights_prove_nothing() -> None:
    """All of them may be in the first part of a record that comes in parts; the next candidate is asked."""
    few = EVENING[: FEWEST_FLIGHTS - 1]
    record = answered((3, "LICC", few), (6, "LICC", few))
    assert (record.airport, record.there_since, record.whole_since, record.attempts) == (None, None, None, 2)
    there = answered((3, "EDDF", EVENING), (6, "EDDF", few))
    assert (there.airport, there.there_since) == (None, None)
    whole = answered((3, "EDDF", EVENING), (6, "EDDF", EVENING))
    assert NightlyRecords([whole]).find_last_airport(ARRIVALS) == "EDDF"
    assert NightlyRecords([replace(whole, flights=len(few))]).find_last_airport(ARRIVALS) is None


def test_one_person_with_many_interests_does_not_choose_the_evidence_airport() -> None:
    """The airports with most people come first, and of equals the one that is watched for longest."""
    ann, bob = UUID(int=1), UUID(int=2)
    targets = [
        target("EDFZ", Direction.ARRIVALS, interests=9, people={bob: D12 + HOUR}),
        target("KJFK", Direction.ARRIVALS, interests=1, people={ann: D12}),
        target("LICC", Direction.ARRIVALS, interests=2, people={ann: D12 + HOUR, bob: D12 + HOUR}),
    ]
    schedule = Schedule(targets, NightlyRecords(), NO_PAYMENTS)
    assert list_candidates(schedule, ["EDDF"], ARRIVALS) == ["EDDF", "LICC", "KJFK"]


def test_departures_of_a_day_are_recorded_only_with_its_arrivals() -> None:
    """Either alone proves nothing about departures; arrivals need no departures."""
    whole = [answered((3, "EDDF", EVENING), (6, "EDDF", EVENING), direction=part) for part in (ARRIVALS, DEPARTURES)]
    assert [NightlyRecords(whole[:1]).is_whole(D12, part) for part in (ARRIVALS, DEPARTURES)] == [True, False]
    assert [NightlyRecords(whole[1:]).is_whole(D12, part) for part in (ARRIVALS, DEPARTURES)] == [False, False]
    assert [NightlyRecords(whole).is_whole(D12, part) for part in (ARRIVALS, DEPARTURES)] == [True, True]


def test_a_day_is_given_up_a_week_after_its_end() -> None:
    """But only if it was asked for a few times, and more often if its record is there and goes on changing."""
    late, last = END + GIVE_UP_AFTER, 6 * 24
    silent = answered((1, "EDDF", []), (2, "KATL", []), (last, "EDDF", []))
    assert silent.is_given_up(late)
    assert not silent.is_given_up(late - timedelta(seconds=1))
    assert not answered((1, "EDDF", []), (last, "KATL", [])).is_given_up(late)
    assert not answered(*[(hours, "EDDF", []) for hours in range(5)], (last, "EDDF", EVENING)).is_given_up(late)
    changing = [(hours, "EDDF", EVENING[: 9 + hours % 2]) for hours in (*range(1, 9), last)]
    assert answered(*changing).there_since is not None
    assert answered(*changing).is_given_up(late)
    assert not answered((1, "EDDF", EVENING), *[(hours, "EDDF", EVENING) for hours in range(2, 12)]).is_given_up(late)
    records = NightlyRecords([silent])
    assert records.is_given_up(D12, DEPARTURES, late)
    assert not records.is_given_up(D12 + DAY, ARRIVALS, late + 9 * DAY)


@pytest.mark.parametrize("away", [8 * DAY, 40 * DAY])
def test_a_day_is_not_given_up_unasked_after_an_absence(away: timedelta) -> None:
    """In its night it was asked for in vain a few times; it is asked for again, and given up only by that answer."""
    before = answered((1, "EDDF", []), (2, "KATL", []), (3, "EDDF", []))
    back = END + away
    assert not before.is_given_up(back)
    [call] = list_evidence_calls(NightlyRecords([before]), {ARRIVALS: [D12]}, {ARRIVALS: ["EDDF"]}, back, TIMING)
    assert call.record == before
    assert before.after_answer("EDDF", [], back, SETTLE).is_given_up(back)
    there = before.after_answer("EDDF", EVENING, back, SETTLE)
    assert not there.is_given_up(back)
    assert there.after_answer("EDDF", EVENING, back + SETTLE, SETTLE).whole_since == back + SETTLE


@given(st.datetimes(datetime(2013, 1, 1), datetime(2013, 3, 1), timezones=st.just(UTC)), st.floats(0, 200))
def test_the_days_of_a_range_are_those_that_it_touches(begin: datetime, hours: float) -> None:
    """An empty range touches none."""
    end = begin + hours * HOUR
    days = list_days(begin, end)
    all_days = [datetime(2013, 1, 1, tzinfo=UTC) + number * DAY for number in range(80)]
    assert days == [day for day in all_days if day < end and begin < day + DAY]
