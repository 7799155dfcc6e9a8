"""Tests of the exemptions: a correct stream has no differences, and a lost alert is exempt only for a reason."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import Alert
from domain.interests import Direction, Interest
from domain.traffic import Coverage, Observation
from domain.windows import Window, instant
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
from tests.domain.test_percents import AIRPORTS, a_percent, draw_interest, hours
from tests.domain.test_rule import seen
from tests.domain.test_usual import MONDAY
from tests.domain.usual_logs import generate_usual_log
from tests.streams.events import Event, build_flights_message, interest_removed, interest_set, observed
from towerwatch.flights.v1.events_pb2 import FlightsObserved
from towerwatch.topics import FLIGHTS_OBSERVED, partition_of

AIRPORT = "KJFK"
TRUNCATED = (partition_of(AIRPORT, FLIGHTS_OBSERVED),)


def make_record(event: Event, offset: int = 0) -> Any:
    """Return an event as a record of a consumer."""
    return SimpleNamespace(
        topic=event.topic.name,
        partition=event.partition,
        offset=offset,
        timestamp=1_700_000_000_000 + offset,
        key=event.key,
        value=event.value,
        headers=() if event.sequence is None else (("sequence", str(event.sequence).encode()),),
    )


def fold_events(events: Iterable[Event], exemptions: ExemptionFinder | None = None) -> dict[UUID, Alert]:
    """Fold events, return their alerts by id, and collect the facts of the log in `exemptions` if given."""
    replay, alerts = PartitionReplay(), {}
    for offset, event in enumerate(events):
        folded = replay.fold_event(make_record(event, offset))
        alerts |= {alert.alert_id: alert for alert in replay.build_alerts(folded)}
        replay.write_result(folded)
        if exemptions is not None:
            exemptions.add_event(folded)
    return alerts


def build_compared_alerts(alerts: dict[UUID, Alert]) -> dict[UUID, ComparedAlert]:
    """Return the comparable forms of alerts, by id."""
    return {alert_id: build_compared_alert(alert, 0) for alert_id, alert in alerts.items()}


@given(
    log=interleaved(),
    given_interests=st.lists(interests, min_size=1, max_size=3),
    turns=st.randoms(use_true_random=False),
)
def test_a_replay_gives_the_alerts_of_the_brute_force_model(log, given_interests, turns) -> None:
    """The place among the flights at which an interest is set does not matter."""
    given_interests = [replace(each, interest_id=UUID(int=number)) for number, each in enumerate(given_interests)]
    events = [observed(AIRPORT, number + 1, event) for number, event in enumerate(log)]
    for number, each in enumerate(given_interests):
        events.insert(turns.randrange(len(events) + 1), interest_set(each, number + 1))
    assert fold_events(events).keys() == set().union(*(expected_ids(each, log) for each in given_interests))


@dataclass(frozen=True, slots=True)
class AirportHistory:
    """The events of an airport, which the stream and a replay may read in different interleavings."""

    flights: tuple[Event, ...]
    interest_events: tuple[Event, ...]
    deleted: int
    """Number of flight events that retention has deleted."""

    def merge(self, chance: Any, flights: Iterable[Event], interest_events: Iterable[Event]) -> list[Event]:
        """Merge both queues at random, each in its own order; all interleavings are equally likely."""
        queues = [list(flights), list(interest_events)]
        turns = [queue for queue in queues for _ in queue]
        chance.shuffle(turns)
        return [queue.pop(0) for queue in turns]

    def compacted_interest_events(self) -> list[Event]:
        """Return the events that compaction leaves: the last one of each key."""
        last = {each.key: each for each in self.interest_events}
        return [each for each in self.interest_events if last[each.key] is each]


@st.composite
def airport_histories(draw, *, are_changed: bool) -> AirportHistory:
    """Generate a history with late and retracted flights.

    `are_changed`: interests may be changed or removed, and flights deleted.
    """
    log: list[Observation] = []
    published: list[tuple[Direction, int, int]] = []
    for event in draw(interleaved()):
        late = draw(st.lists(st.integers(1, 12 * 3600), max_size=3)) if event.coverage is not Coverage.GAP else []
        retracted = draw(st.lists(st.sampled_from(published), max_size=2)) if published else []
        times = (*event.event_times, *(event.begin - back for back in late))
        flights = [(event.direction, at, number) for number, at in enumerate(times, start=len(published) + 1)]
        published += flights
        log.append(
            replace(
                event,
                event_times=times,
                fingerprints=tuple(number for _, _, number in flights),
                retracted=tuple((at, number) for part, at, number in retracted if part is event.direction),
            )
        )
    interest_events = []
    sequence = count(1)
    for number in range(draw(st.integers(1, 3))):
        shape = replace(draw(interests), interest_id=UUID(int=number))
        for version in range(1, (draw(st.integers(1, 3)) if are_changed else 1) + 1):
            changed = replace(draw(interests), interest_id=shape.interest_id, version=version)
            kept = replace(changed, direction=shape.direction, window=shape.window)
            interest_events.append(interest_set(kept, next(sequence)))
        if are_changed and draw(st.integers(0, 3)) == 0:
            interest_events.append(interest_removed(shape, next(sequence)))
    flights = tuple(observed(AIRPORT, number + 1, event) for number, event in enumerate(log))
    deleted = draw(st.integers(0, len(flights))) if are_changed and draw(st.booleans()) else 0
    return AirportHistory(flights, tuple(interest_events), deleted)


@settings(max_examples=300)
@given(
    history=airport_histories(are_changed=False) | airport_histories(are_changed=True),
    chance=st.randoms(use_true_random=False),
    is_compacted=st.booleans(),
)
def test_a_correct_stream_has_no_difference_without_an_exemption(history, chance, is_compacted) -> None:
    """Any interleaving, corrections, changes, removals, compaction and retention are explained by exemptions."""
    raised = build_compared_alerts(fold_events(history.merge(chance, history.flights, history.interest_events)))
    exemptions = ExemptionFinder(TRUNCATED if history.deleted else ())
    interest_events = history.compacted_interest_events() if is_compacted else history.interest_events
    remaining = history.merge(chance, history.flights[history.deleted :], interest_events)
    computed = build_compared_alerts(fold_events(remaining, exemptions))
    for alert_id in raised.keys() ^ computed.keys():
        assert exemptions.find_exemption(raised.get(alert_id) or computed[alert_id]) is not None


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_correct_stream_has_no_difference_in_percents_either(seed) -> None:
    """Whatever was corrected, and however much of the weeks before has left the log."""
    chance = Random(seed)
    log = generate_usual_log(chance)
    airport = AIRPORTS[log.zone]
    wanted = [replace(draw_interest(chance, log), interest_id=UUID(int=number)) for number in range(3)]
    flights = tuple(observed(airport, number + 1, each) for number, each in enumerate(log.messages))
    # Of each direction a message of the past that covers its interval is left: what comes later may go back in time.
    last = {each.direction: n for n, each in enumerate(log.past) if each.coverage is Coverage.COMPLETE}
    deleted = chance.choice((0, chance.randrange(min(last.values()) + 1)))
    history = AirportHistory(flights, tuple(interest_set(each, n + 1) for n, each in enumerate(wanted)), deleted)
    raised = build_compared_alerts(fold_events(history.merge(chance, flights, history.interest_events)))
    exemptions = ExemptionFinder((partition_of(airport, FLIGHTS_OBSERVED),) if deleted else ())
    remaining = history.merge(chance, flights[deleted:], history.interest_events)
    computed = build_compared_alerts(fold_events(remaining, exemptions))
    for alert_id in raised.keys() ^ computed.keys():
        assert exemptions.find_exemption(raised.get(alert_id) or computed[alert_id]) is not None


def test_percents_are_compared_once_five_weeks_of_flights_are_in_the_log() -> None:
    """A late flight of a week before exempts nothing: what is usual is decided by the order of the log alone."""
    interest = a_percent(airport=AIRPORT, effective_from=hour_of_day(30))
    ordinary = dict.fromkeys(range(24), 10)
    days = [hours(day, ordinary | {12: 2} if day > 40 else ordinary) for day in range(60)]
    late = replace(hours(50, {}), event_times=(days[50].begin + 5,), fingerprints=(999,))
    events = [interest_set(interest, 1), *flight_events([*days, late])]
    exemptions = collect_exemptions(events[0], *events[8:], truncated=TRUNCATED)
    found: dict[Exemption | None, set[int]] = {}
    for each in build_compared_alerts(fold_events(events)).values():
        day = each.window_start // 86_400 - MONDAY
        found.setdefault(exemptions.find_exemption(each), set()).add(day)
    assert found == {Exemption.FLIGHTS_GONE: {41, 42, 43}, None: set(range(44, 60))}


def hour_of_day(day: int) -> datetime:
    """Return the begin of a day after MONDAY."""
    return instant(hours(day, {}).begin)


TWO_HOURS = [seen(0, 1, (0.1, 0.2, 0.3)), seen(1, 2, ())]


def collect_exemptions(*events: Event, truncated: tuple[int, ...] = ()) -> ExemptionFinder:
    """Return an exemption finder that has the facts of these events."""
    exemptions = ExemptionFinder(truncated)
    fold_events(events, exemptions)
    return exemptions


def an_alert(interest: Interest | None = None, log: Iterable[Observation] = TWO_HOURS) -> ComparedAlert:
    """Return the first alert of an interest with these flights."""
    events = [interest_set(interest or an_interest(), 1)]
    events += [observed(AIRPORT, number + 1, event) for number, event in enumerate(log)]
    return next(iter(build_compared_alerts(fold_events(events)).values()))


def flight_events(log: Iterable[Observation]) -> list[Event]:
    """Return the events of observations at the airport, with sequences from 1."""
    return [observed(AIRPORT, number + 1, event) for number, event in enumerate(log)]


def test_with_a_complete_log_no_alert_is_exempt() -> None:
    """A missing alert is then a real loss."""
    assert (
        collect_exemptions(interest_set(an_interest(), 1), *flight_events(TWO_HOURS)).find_exemption(an_alert()) is None
    )


@pytest.mark.parametrize(
    ("interest_events", "reason"),
    [
        ([], Exemption.INTEREST_GONE),
        ([interest_set(an_interest(version=2), 2)], Exemption.INTEREST_GONE),
        ([interest_removed(an_interest(), 2)], Exemption.INTEREST_GONE),
        ([interest_set(an_interest(), 1), interest_set(an_interest(version=2), 2)], Exemption.INTEREST_CHANGED),
        ([interest_set(an_interest(), 1), interest_removed(an_interest(), 2)], Exemption.INTEREST_CHANGED),
    ],
)
def test_a_changed_or_removed_interest_exempts_its_alerts(interest_events, reason) -> None:
    """Compaction removes older versions, and the time of a change decides which windows the older version judged."""
    assert collect_exemptions(*interest_events, *flight_events(TWO_HOURS)).find_exemption(an_alert()) is reason


def test_an_outdated_version_is_no_change() -> None:
    """The stream dropped the outdated version, so the alerts are not exempt."""
    interest_events = [interest_set(an_interest(version=2), 1), interest_set(an_interest(version=1), 2)]
    exemptions = collect_exemptions(*interest_events, *flight_events(TWO_HOURS))
    assert exemptions.find_exemption(an_alert(an_interest(version=2))) is None


def test_a_late_flight_exempts_the_alerts_that_depend_on_its_hour_and_no_others() -> None:
    """An interest that was set before the late flight has more alerts than one that was set after it."""
    log = [*TWO_HOURS, seen(2, 3, (0.5,)), seen(3, 4, (3.1, 3.2, 3.3)), seen(4, 5)]
    exemptions = collect_exemptions(interest_set(an_interest(), 1), *flight_events(log))
    alerts = build_compared_alerts(fold_events([interest_set(an_interest(), 1), *flight_events(log)]))
    first, *_, last = sorted(alerts.values(), key=lambda alert: alert.window_start)
    assert exemptions.find_exemption(first) is Exemption.LATE_FLIGHTS
    assert exemptions.find_exemption(last) is None


def test_a_truncated_log_exempts_the_windows_that_the_deleted_flights_may_have_counted_in() -> None:
    """Exempt are windows up to the end of the first remaining interval, and for runs `for_windows` windows more."""
    later = [seen(hour, hour + 1, (hour + 0.1, hour + 0.2, hour + 0.3) if hour % 2 else ()) for hour in range(8)]
    run = an_interest(interest_id=UUID(int=7), for_windows=2, high=None, low=9)
    interest_events = [interest_set(an_interest(), 1), interest_set(run, 2)]
    exemptions = collect_exemptions(*interest_events, *flight_events(later)[2:], truncated=TRUNCATED)
    found = {
        (each.interest_id.int, (each.window_start - 1_360_281_600) // 3600): exemptions.find_exemption(each)
        for each in build_compared_alerts(fold_events([*interest_events, *flight_events(later)])).values()
    }
    assert {key for key, reason in found.items() if reason is Exemption.FLIGHTS_GONE} == {
        (1, 1),
        (1, 2),
        (1, 3),
        (7, 1),
    }
    assert {key for key, reason in found.items() if reason is None} == {(1, 4), (1, 5), (1, 6), (1, 7)}


def test_an_interval_with_a_deleted_batch_is_exempt_to_its_end() -> None:
    """The remaining batch covers the interval, but does not have all of its flights."""
    parts = [seen(0, 1, (0.1, 0.2), Coverage.PARTIAL), seen(0, 1, (0.3,))]
    event = interest_set(an_interest(), 1)
    (alert,) = build_compared_alerts(fold_events([event, *flight_events(parts)])).values()
    exemptions = collect_exemptions(event, flight_events(parts)[1], truncated=TRUNCATED)
    assert exemptions.find_exemption(alert) is Exemption.FLIGHTS_GONE


def test_an_airport_that_has_left_the_log_exempts_its_alerts() -> None:
    """The alerts of such an airport may still be on their topic."""
    assert (
        collect_exemptions(interest_set(an_interest(), 1), truncated=TRUNCATED).find_exemption(an_alert())
        is Exemption.FLIGHTS_GONE
    )


def test_a_computed_alert_equals_the_decoded_one() -> None:
    """The two sides could not be compared otherwise."""
    (alert,) = fold_events([interest_set(an_interest(), 1), *flight_events(TWO_HOURS[:1])]).values()
    published_at = BASE + timedelta(seconds=5)
    read = decode_compared_alert(encode_alert(alert, published_at))
    assert read == build_compared_alert(alert, round(published_at.timestamp() * 1000))


def test_an_alert_of_a_log_that_was_lost_is_exempt() -> None:
    """What was told before the loss is folded in silence; later alerts are compared as ever."""
    interest = an_interest()
    first, second = seen(0, 1, (0.1, 0.2, 0.3)), seen(1, 2, (1.1, 1.2, 1.3))
    third = seen(2, 3, (2.1,))
    raised = fold_events([interest_set(interest, 1), observed(AIRPORT, 2, first)])
    exemptions = ExemptionFinder(())
    anew = observed(AIRPORT, 3, first)
    message = FlightsObserved.FromString(anew.value or b"")
    message.past = message.begins_anew = True
    log = [
        replace(anew, value=message.SerializeToString()),
        interest_set(interest, 4),
        observed(AIRPORT, 5, second),
        observed(AIRPORT, 6, third),
    ]
    alerts = fold_events(log, exemptions)
    (lost,) = build_compared_alerts(raised).values()
    assert exemptions.find_exemption(replace(lost, cause_ms=1_600_000_000_000)) is Exemption.EARLIER_LOG
    assert exemptions.has_interests
    assert alerts
    for each in build_compared_alerts(alerts).values():
        assert exemptions.find_exemption(replace(each, cause_ms=1_800_000_000_000)) is None


def test_a_log_without_interests_is_known() -> None:
    """A log with flights alone has lost its interests, or nobody has set one."""
    exemptions = ExemptionFinder(())
    fold_events([observed(AIRPORT, 1, seen(0, 1, (0.1,)))], exemptions)
    assert not exemptions.has_interests


def test_a_filled_gap_exempts_the_windows_that_it_made_known() -> None:
    """Who was there before was told of the windows after it as if nothing had been before; the log cannot tell who."""
    log = [
        seen(0, 1),
        seen(2, 3, (2.1, 2.2, 2.3)),
        seen(4, 5, (4.1, 4.2, 4.3)),
        seen(5, 6),
        seen(1, 2, (1.1, 1.2, 1.3)),
    ]
    exemptions = collect_exemptions(interest_set(an_interest(), 1), *flight_events(log))
    assert exemptions.find_exemption(an_alert(log=log[1:2])) is Exemption.LATE_FLIGHTS
    assert exemptions.find_exemption(an_alert(log=log[2:3])) is None


def test_a_retracted_flight_exempts_the_windows_that_it_corrected() -> None:
    """Who was there before was told of the count that was taken back; the log cannot tell who was."""
    (first,) = (each for each in TWO_HOURS if each.event_times)
    taken = replace(first, event_times=(), retracted=((first.event_times[0], 0),))
    exemptions = collect_exemptions(interest_set(an_interest(), 1), *flight_events([*TWO_HOURS, taken]))
    assert exemptions.find_exemption(an_alert()) is Exemption.LATE_FLIGHTS
    other = [seen(4, 5, (4.1, 4.2, 4.3))]
    assert exemptions.find_exemption(an_alert(log=other)) is None


@pytest.mark.parametrize("is_marked", [True, False])
def test_a_truncated_log_that_begins_with_history_exempts_what_the_deleted_days_may_have_decided(is_marked) -> None:
    """The first messages are of days weeks before; the days until the next one that is due are not in the log.

    Logs of collectors from before there was a mark have such days, too: what shows is that coverage was unbroken.
    """
    weeks_ago = [replace(hours(day, {9: 5}), is_history=is_marked) for day in (21, 20)]
    interest = replace(an_interest(high=None, low=3, window=Window.ONE_HOUR), airport=AIRPORT)
    interest = replace(interest, effective_from=instant((MONDAY + 1) * 86_400))
    due = [hours(50, dict.fromkeys(range(24), 5) | {0: 1}), hours(51, dict.fromkeys(range(24), 5) | {0: 1, 9: 1})]
    events = [interest_set(interest, 1)]
    for number, message in enumerate([*weeks_ago, *due], start=1):
        value = build_flights_message(AIRPORT, message)
        value.covered_from.seconds = message.begin if number < 3 else weeks_ago[1].begin
        events.append(Event(FLIGHTS_OBSERVED, AIRPORT, AIRPORT.encode(), value.SerializeToString(), number))
    exemptions = ExemptionFinder(TRUNCATED)
    alerts = fold_events(events, exemptions)
    reasons = {
        (alert.window_start.day - instant(due[0].begin).day, alert.window_start.hour, alert.state.value): (
            exemptions.find_exemption(build_compared_alert(alert, 0))
        )
        for alert in alerts.values()
        if alert.window_start >= instant(due[0].begin)
    }
    if not is_marked:
        assert reasons.pop((0, 0, "FIRING")) is Exemption.FLIGHTS_GONE
        assert reasons.pop((0, 1, "RESOLVED")) is Exemption.FLIGHTS_GONE
    assert reasons.pop((1, 0, "FIRING")) is Exemption.FLIGHTS_GONE
    assert set(reasons.values()) == {None}
