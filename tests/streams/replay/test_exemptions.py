"""What the log can tell: an honest stream is never accused, and a lost alert is never excused without a reason."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import Alert
from domain.interests import Interest
from domain.traffic import Coverage, Observation
from streams.messages import encode_alert
from streams.replay.exemptions import (
    ComparedAlert,
    Exemption,
    ExemptionFinder,
    build_compared_alert,
    decode_compared_alert,
)
from streams.replay.log import PartitionReplay
from tests.domain.logs import BASE, an_interest, expected_ids, interests, interleaved
from tests.domain.test_rule import seen
from tests.streams.events import Event, interest_removed, interest_set, observed
from towerwatch.topics import FLIGHTS_OBSERVED, partition_of

AIRPORT = "KJFK"
TRUNCATED = (partition_of(AIRPORT, FLIGHTS_OBSERVED),)


def as_record(event: Event, offset: int = 0) -> Any:
    """The event as a consumer gives it."""
    return SimpleNamespace(
        topic=event.topic.name,
        partition=event.partition,
        offset=offset,
        timestamp=1_700_000_000_000 + offset,
        key=event.key,
        value=event.value,
        headers=() if event.sequence is None else (("sequence", str(event.sequence).encode()),),
    )


def told(events: Iterable[Event], grounds: ExemptionFinder | None = None) -> dict[UUID, Alert]:
    """What a fold of the events says."""
    refold, said = PartitionReplay(), {}
    for offset, event in enumerate(events):
        step = refold.fold_event(as_record(event, offset))
        said |= {alert.alert_id: alert for alert in refold.build_alerts(step)}
        refold.write_result(step)
        if grounds is not None:
            grounds.add_event(step)
    return said


def statements(alerts: dict[UUID, Alert]) -> dict[UUID, ComparedAlert]:
    return {alert_id: build_compared_alert(alert, 0) for alert_id, alert in alerts.items()}


@given(log=interleaved(), wishes=st.lists(interests, min_size=1, max_size=3), turns=st.randoms(use_true_random=False))
def test_what_is_folded_again_is_the_brute_force_models(log, wishes, turns) -> None:
    """Wherever among the flights an interest was set."""
    wishes = [replace(each, interest_id=UUID(int=number)) for number, each in enumerate(wishes)]
    events = [observed(AIRPORT, number + 1, event) for number, event in enumerate(log)]
    for number, each in enumerate(wishes):
        events.insert(turns.randrange(len(events) + 1), interest_set(each, number + 1))
    assert told(events).keys() == set().union(*(expected_ids(each, log) for each in wishes))


@dataclass(frozen=True, slots=True)
class Life:
    """The events of an airport, and how they meet, once in the stream and once in a replay."""

    flights: tuple[Event, ...]
    wishes: tuple[Event, ...]
    deleted: int
    """How many of the flights' events have left the log."""

    def merged(self, chance: Any, flights: Iterable[Event], wishes: Iterable[Event]) -> list[Event]:
        """Both in one, each in its own order; any way in which they can meet is as likely as any other."""
        queues = [list(flights), list(wishes)]
        turns = [queue for queue in queues for _ in queue]
        chance.shuffle(turns)
        return [queue.pop(0) for queue in turns]

    def kept_wishes(self) -> list[Event]:
        """What compaction leaves."""
        last = {each.key: each for each in self.wishes}
        return [each for each in self.wishes if last[each.key] is each]


@st.composite
def lives(draw, *, are_changed: bool) -> Life:
    log: list[Observation] = []
    for event in draw(interleaved()):
        late = draw(st.lists(st.integers(1, 12 * 3600), max_size=3)) if event.coverage is not Coverage.GAP else []
        log.append(replace(event, event_times=(*event.event_times, *(event.begin - back for back in late))))
    wishes = []
    sequence = count(1)
    for number in range(draw(st.integers(1, 3))):
        shape = replace(draw(interests), interest_id=UUID(int=number))
        for version in range(1, (draw(st.integers(1, 3)) if are_changed else 1) + 1):
            changed = replace(draw(interests), interest_id=shape.interest_id, version=version)
            kept = replace(changed, direction=shape.direction, window=shape.window)
            wishes.append(interest_set(kept, next(sequence)))
        if are_changed and draw(st.integers(0, 3)) == 0:
            wishes.append(interest_removed(shape, next(sequence)))
    flights = tuple(observed(AIRPORT, number + 1, event) for number, event in enumerate(log))
    deleted = draw(st.integers(0, len(flights))) if are_changed and draw(st.booleans()) else 0
    return Life(flights, tuple(wishes), deleted)


@settings(max_examples=300)
@given(
    life=lives(are_changed=False) | lives(are_changed=True),
    chance=st.randoms(use_true_random=False),
    is_compacted=st.booleans(),
)
def test_an_honest_stream_is_never_accused(life, chance, is_compacted) -> None:
    """However its topics met, whatever came late, was changed, removed, compacted or deleted since."""
    raised = statements(told(life.merged(chance, life.flights, life.wishes)))
    grounds = ExemptionFinder(TRUNCATED if life.deleted else ())
    wishes = life.kept_wishes() if is_compacted else life.wishes
    computed = statements(told(life.merged(chance, life.flights[life.deleted :], wishes), grounds))
    for alert_id in raised.keys() ^ computed.keys():
        assert grounds.find_exemption(raised.get(alert_id) or computed[alert_id]) is not None


TWO_HOURS = [seen(0, 1, (0.1, 0.2, 0.3)), seen(1, 2, ())]


def grounds_of(*events: Event, truncated: tuple[int, ...] = ()) -> ExemptionFinder:
    grounds = ExemptionFinder(truncated)
    told(events, grounds)
    return grounds


def an_alert(interest: Interest | None = None, log: Iterable[Observation] = TWO_HOURS) -> ComparedAlert:
    """The first thing to be said of an interest."""
    events = [interest_set(interest or an_interest(), 1)]
    events += [observed(AIRPORT, number + 1, event) for number, event in enumerate(log)]
    return next(iter(statements(told(events)).values()))


def flights(log: Iterable[Observation]) -> list[Event]:
    return [observed(AIRPORT, number + 1, event) for number, event in enumerate(log)]


def test_where_the_log_has_all_nothing_is_excused() -> None:
    """An alert that is lost there is a loss."""
    assert grounds_of(interest_set(an_interest(), 1), *flights(TWO_HOURS)).find_exemption(an_alert()) is None


@pytest.mark.parametrize(
    ("wishes", "reason"),
    [
        ([], Exemption.INTEREST_GONE),
        ([interest_set(an_interest(version=2), 2)], Exemption.INTEREST_GONE),
        ([interest_removed(an_interest(), 2)], Exemption.INTEREST_GONE),
        ([interest_set(an_interest(), 1), interest_set(an_interest(version=2), 2)], Exemption.INTEREST_CHANGED),
        ([interest_set(an_interest(), 1), interest_removed(an_interest(), 2)], Exemption.INTEREST_CHANGED),
    ],
)
def test_an_interest_that_is_not_what_it_was_excuses(wishes, reason) -> None:
    """Its key is compacted; and how far an earlier version was judged depended on when it was changed."""
    assert grounds_of(*wishes, *flights(TWO_HOURS)).find_exemption(an_alert()) is reason


def test_a_version_that_came_too_late_to_be_taken_changes_nothing() -> None:
    """The stream dropped it, and so it is no change."""
    wishes = [interest_set(an_interest(version=2), 1), interest_set(an_interest(version=1), 2)]
    assert grounds_of(*wishes, *flights(TWO_HOURS)).find_exemption(an_alert(an_interest(version=2))) is None


def test_a_late_flight_excuses_what_looks_at_its_hour_and_nothing_else() -> None:
    """Who was known when it came was told more than who came after it."""
    log = [*TWO_HOURS, seen(2, 3, (0.5,)), seen(3, 4, (3.1, 3.2, 3.3)), seen(4, 5)]
    grounds = grounds_of(interest_set(an_interest(), 1), *flights(log))
    first, *_, last = sorted(
        statements(told([interest_set(an_interest(), 1), *flights(log)])).values(), key=lambda each: each.window_start
    )
    assert grounds.find_exemption(first) is Exemption.LATE_FLIGHTS
    assert grounds.find_exemption(last) is None


def test_where_the_beginning_of_the_log_was_deleted_the_windows_that_it_may_have_counted_in_are_excused() -> None:
    """Up to the end of the first interval that is left, and for runs so many windows more."""
    later = [seen(hour, hour + 1, (hour + 0.1, hour + 0.2, hour + 0.3) if hour % 2 else ()) for hour in range(8)]
    run = an_interest(interest_id=UUID(int=7), for_windows=2, high=None, low=9)
    wishes = [interest_set(an_interest(), 1), interest_set(run, 2)]
    grounds = grounds_of(*wishes, *flights(later)[2:], truncated=TRUNCATED)
    excused = {
        (each.interest_id.int, (each.window_start - 1_360_281_600) // 3600): grounds.find_exemption(each)
        for each in statements(told([*wishes, *flights(later)])).values()
    }
    assert {key for key, reason in excused.items() if reason is Exemption.FLIGHTS_GONE} == {
        (1, 1),
        (1, 2),
        (1, 3),
        (7, 1),
    }
    assert {key for key, reason in excused.items() if reason is None} == {(1, 4), (1, 5), (1, 6), (1, 7)}


def test_an_interval_of_which_a_part_was_deleted_is_in_doubt_to_its_end() -> None:
    """It is covered by the part that is left, which has not all of its flights."""
    parts = [seen(0, 1, (0.1, 0.2), Coverage.PARTIAL), seen(0, 1, (0.3,))]
    wish = interest_set(an_interest(), 1)
    (alert,) = statements(told([wish, *flights(parts)])).values()
    assert grounds_of(wish, flights(parts)[1], truncated=TRUNCATED).find_exemption(alert) is Exemption.FLIGHTS_GONE


def test_of_an_airport_that_is_no_longer_in_the_log_nothing_can_be_told() -> None:
    """Its alerts may still be on their topic."""
    assert (
        grounds_of(interest_set(an_interest(), 1), truncated=TRUNCATED).find_exemption(an_alert())
        is Exemption.FLIGHTS_GONE
    )


def test_an_alert_is_the_same_statement_computed_or_read() -> None:
    """Else the two sides could not be compared."""
    (alert,) = told([interest_set(an_interest(), 1), *flights(TWO_HOURS[:1])]).values()
    published_at = BASE + timedelta(seconds=5)
    read = decode_compared_alert(encode_alert(alert, published_at))
    assert read == build_compared_alert(alert, round(published_at.timestamp() * 1000))
