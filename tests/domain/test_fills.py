"""Tests of filled gaps: what becomes known late is judged late, and what was said and is untrue is withdrawn."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import Alert, Bound
from domain.changes import NO_TRAFFIC, TrafficChange
from domain.corrections import MAX_CORRECTIONS_A_DAY
from domain.explanation import judge_windows
from domain.interest_alerts import compute_alerts
from domain.interests import Direction, Interest
from domain.traffic import RETAINED_HOURS, Coverage, DirectionTraffic, Observation, find_oldest_coverage
from domain.windows import HOUR_S, Window, seconds
from tests.domain import brute_force
from tests.domain.filled_logs import (
    LONG_SLOT_S,
    filled_logs,
    filled_logs_of_days,
    judge_filled_windows,
    tell_filled_statements,
)
from tests.domain.logs import BASE, an_interest, interests
from tests.domain.test_corrections import describe, message
from tests.domain.test_rule import raise_alerts
from tests.domain.test_threshold_index import build_index, find_alerts, interest_lists

DAY_HOURS = 24
DAY = timedelta(days=1)


def full(hour: float) -> Observation:
    """Return a COMPLETE hour with three departures, which breach `high=2`."""
    return message(hour, hour + 1, (hour + 0.1, hour + 0.2, hour + 0.3))


def calm(hour: float) -> Observation:
    """Return a COMPLETE hour without departures."""
    return message(hour, hour + 1)


def arriving(observation: Observation) -> Observation:
    """Return the same observation of arrivals."""
    return replace(observation, direction=Direction.ARRIVALS)


def describe_parts(interest: Interest, *parts: list[Observation]) -> list[list[tuple[str, ...]]]:
    """Return what the parts of a log say one after the other to an interest that was set before them."""
    log = [event for part in parts for event in part]
    return [
        describe(raise_alerts(interest, log[:end])[len(raise_alerts(interest, log[:begin])) :])
        for begin, end in (
            (sum(map(len, parts[:number])), sum(map(len, parts[: number + 1]))) for number in range(len(parts))
        )
    ]


def test_a_daily_window_that_an_outage_touched_is_judged_when_the_record_of_the_day_comes():
    """Five minutes without polls make the day unknown; the record knows the whole day, and fills it."""
    interest = an_interest(window=Window.ONE_DAY, high=None, low=3)
    live = [message(0, 10, (1,)), message(10.1, 24, (11,)), message(24, 30)]
    record = message(0, 24)
    assert describe_parts(interest, live, [record], [record]) == [[], [("FIRING", 0, 2)], []]


def test_an_hour_that_the_fill_finds_calm_ends_the_breach_before_it_late_and_the_breach_after_it_stands():
    """RESOLVED of the filled hour is said now; the next hour was FIRING, for nothing was known before it, and is."""
    assert describe_parts(an_interest(), [full(0), full(2)], [calm(1)], [calm(3)]) == [
        [("FIRING", 0, 3), ("FIRING", 2, 3)],
        [("RESOLVED", 1, 0)],
        [("RESOLVED", 3, 0)],
    ]


def test_an_hour_that_the_fill_finds_in_breach_makes_the_next_one_still_and_its_firing_stands():
    """FIRING of the hour after the gap was said, and is not said again nor withdrawn; `repeat` is told STILL."""
    log = [calm(0), full(2)], [full(1)], [calm(3)]
    assert describe_parts(an_interest(), *log) == [[("FIRING", 2, 3)], [("FIRING", 1, 3)], [("RESOLVED", 3, 0)]]
    assert describe_parts(an_interest(repeat=True), *log) == [
        [("FIRING", 2, 3)],
        [("FIRING", 1, 3), ("STILL", 2, 3)],
        [("RESOLVED", 3, 0)],
    ]


def test_a_breach_on_both_sides_of_a_gap_becomes_one_when_the_gap_was_in_breach():
    """The end names the breach by its first window, which is known by then to be the one before the gap."""
    log = [full(0), full(2), full(1), calm(3)]
    alerts = raise_alerts(an_interest(), log)
    assert describe(alerts) == [("FIRING", 0, 3), ("FIRING", 2, 3), ("RESOLVED", 3, 0)]
    assert alerts[2].episode_id == alerts[0].alert_id


def test_a_calm_hour_after_a_filled_breach_ends_it_late():
    """The hour after the gap was calm, and nothing had been before it: now there has."""
    assert describe_parts(an_interest(), [calm(0), calm(2)], [full(1)]) == [[], [("FIRING", 1, 3), ("RESOLVED", 2, 0)]]
    low = an_interest(high=None, low=1)
    assert describe_parts(low, [full(0), full(2)], [calm(1)]) == [[], [("FIRING", 1, 0), ("RESOLVED", 2, 3)]]


def test_a_window_is_judged_when_the_last_part_of_its_gaps_is_filled():
    """Half a gap, or one of two gaps, leaves the window unknown, whatever the order in which they are filled."""
    low = an_interest(high=None, low=1)
    live = [calm(0), message(1.2, 1.4), message(1.8, 3)]
    for parts in (
        [(1, 1.2), (1.4, 1.6), (1.6, 1.8)],
        [(1.5, 1.8), (1.4, 1.5), (1, 1.2)],
        [(0, 1.1), (1.3, 1.8), (1, 2)],
    ):
        steps = [[message(begin, end)] for begin, end in parts]
        # The windows on both sides were FIRING, as on both sides of a gap; the one between them is STILL.
        assert describe_parts(low, live, *steps) == [[("FIRING", 0, 0), ("FIRING", 2, 0)], [], [], []]
        with_flight = replace(steps[2][0], event_times=(seconds(BASE) + HOUR_S + 60,))
        assert describe_parts(low, live, *steps[:2], [with_flight])[2:] == [[], [("RESOLVED", 1, 1)]]


def test_coverage_begins_earlier_where_a_complete_interval_does_and_what_lies_between_is_a_gap():
    """Yesterday's record comes after the first live coverage of today; the hours between are filled in turn."""
    log = [full(5)], [full(1)], [message(2, 4)], [message(4, 5, (4.1, 4.2, 4.3))]
    assert describe_parts(an_interest(), *log) == [
        [("FIRING", 5, 3)],
        [("FIRING", 1, 3)],
        [("RESOLVED", 2, 0)],
        [("FIRING", 4, 3)],
    ]


def test_flights_from_before_the_coverage_count_when_their_hour_is_filled():
    """A day of more flights than one message holds is published in several, of which only the last is COMPLETE."""
    partial = message(-48, -24, (-47.9, -47.8), coverage=Coverage.PARTIAL)
    log = [calm(0)], [partial], [message(-48, -24, (-47.7,))]
    interest = an_interest(effective_from=BASE - 3 * DAY)
    assert describe_parts(interest, *log) == [[], [], [("FIRING", -48, 3), ("RESOLVED", -47, 0)]]


def test_a_gap_said_of_known_time_and_one_that_was_filled_change_nothing():
    """What is known stays known; a message that comes again says nothing."""
    log = [full(0), calm(2)], [calm(1)], [message(0, 3, coverage=Coverage.GAP)], [calm(1)]
    assert describe_parts(an_interest(), *log) == [[("FIRING", 0, 3)], [("RESOLVED", 1, 0)], [], []]


def test_a_high_that_a_gap_did_not_hide_stands_unless_the_fill_takes_its_flights_back():
    """More than two flights did depart (ADR 3); the record may know better, in the message that fills the gap."""
    live = [message(0, 0.5, (0.1, 0.2, 0.3)), message(0.6, 2)]
    assert describe_parts(an_interest(), live, [message(0, 1, (0.55,))]) == [
        [("FIRING", 0, 3)],
        [("RESOLVED", 1, 0)],
    ]
    assert describe_parts(an_interest(), live, [message(0, 1, (), (0.1,))]) == [
        [("FIRING", 0, 3)],
        [("WITHDRAWN FIRING", 0, 2, 3)],
    ]


@pytest.mark.parametrize(
    ("interest", "parts", "told"),
    [
        (
            {"repeat": True},
            [[full(0), full(2)], [full(1)], [calm(3)]],
            [
                [("FIRING", 0, 3), ("FIRING", 2, 3)],
                [("STILL", 1, 3), ("STILL", 2, 3)],
                [("RESOLVED", 3, 0)],
            ],
        ),
        (
            {},
            [[calm(0), calm(2)], [message(1, 1.5, (1.1, 1.2, 1.3))], [message(1.5, 2)]],
            [[], [("FIRING", 1, 3)], [("RESOLVED", 2, 0)]],
        ),
        (
            {"high": None, "low": 1},
            [[calm(0), calm(2)], [calm(1)]],
            [[("FIRING", 0, 0), ("FIRING", 2, 0)], []],
        ),
        (
            {"effective_from": BASE - DAY},
            [[full(5)], [full(1)], [message(0, 6, coverage=Coverage.GAP)], [message(2, 5)], [calm(6)]],
            [[("FIRING", 5, 3)], [("FIRING", 1, 3)], [], [("RESOLVED", 2, 0)], [("RESOLVED", 6, 0)]],
        ),
    ],
)
def test_the_examples_of_the_decision_are_what_the_rule_says(interest, parts, told):
    """Rows of the table in ADR 41 that no other test has."""
    assert describe_parts(an_interest(**interest), *parts) == told


def test_a_filled_window_completes_the_runs_that_it_is_part_of():
    """`for_windows` = 2: the run after the gap began in the gap, so its FIRING comes late, one window earlier."""
    two = an_interest(for_windows=2)
    log = [calm(0), full(2), full(3)], [full(1)], [calm(4)]
    assert describe_parts(two, *log) == [[("FIRING", 3, 3)], [("FIRING", 2, 3)], [("RESOLVED", 4, 0)]]


UNDECIDED = [
    message(0, 1),
    message(1.5, 3, (2.1, 2.2, 2.3)),
    arriving(message(0, 0.5)),
]
"""Departures of 02:00 are a breach of both directions, and 01:00 is a gap; arrivals are covered to 00:30."""


def test_an_early_high_stands_while_the_window_before_it_is_open_because_its_gap_was_filled():
    """It was said with nothing before; whether it is FIRING or STILL is known when arrivals are covered, too."""
    both = an_interest(direction=Direction.BOTH)
    fill, rest = message(1, 1.5, (1.1, 1.2, 1.3)), arriving(message(0.5, 3))
    assert describe_parts(both, UNDECIDED, [fill], [rest]) == [[("FIRING", 2, 3)], [], [("FIRING", 1, 3)]]
    assert describe_parts(replace(both, repeat=True), UNDECIDED, [fill], [rest])[-1] == [
        ("FIRING", 1, 3),
        ("STILL", 2, 3),
    ]
    assert describe_parts(both, UNDECIDED, [message(1, 1.5)], [rest]) == [[("FIRING", 2, 3)], [], []]
    traffic = NO_TRAFFIC
    for event in [*UNDECIDED, fill]:
        traffic = traffic.fold(event)
    assert describe(compute_alerts(both, NO_TRAFFIC, traffic)) == [("FIRING", 2, 3)], "who comes later is told, too"


def test_an_early_high_is_withdrawn_at_once_also_while_the_window_before_it_is_open():
    """Whatever comes before: two flights are no breach of a threshold of two. What comes again has its own id."""
    both = an_interest(direction=Direction.BOTH)
    taken, again = message(2, 3, (), (2.1,)), message(2, 3, (2.4,))
    rest = arriving(message(0.5, 3))
    for steps in ([message(1, 1.5)], [taken], [again], [rest]), ([message(1, 1.5, (), (2.1,))], [again], [rest]):
        said = describe_parts(both, UNDECIDED, *steps)
        told = [each for each in said if each]
        assert told == [[("FIRING", 2, 3)], [("WITHDRAWN FIRING", 2, 2, 3)], [("FIRING", 2, 3)]]
        assert said[-1] == told[-1], "the second time it waits for the window before, as any early high"
        alerts = raise_alerts(both, [*UNDECIDED, *(event for step in steps for event in step)])
        assert [alert.revision for alert in alerts] == [0, 0, 1]
        assert len({alert.alert_id for alert in alerts}) == len(alerts)


def test_what_is_said_and_withdrawn_around_a_fill_has_ids_of_its_own():
    """The filled hour's flights are taken back and come again: the past is judged with the gap where it was."""
    log = [calm(0), full(2), full(1), message(1, 2, (), (1.1,)), message(1, 2, (1.1,)), calm(3)]
    alerts = raise_alerts(an_interest(), log)
    assert describe(alerts) == [
        ("FIRING", 2, 3),
        ("FIRING", 1, 3),
        ("WITHDRAWN FIRING", 1, 2, 3),
        ("FIRING", 1, 3),
        ("RESOLVED", 3, 0),
    ]
    assert [alert.revision for alert in alerts] == [0, 0, 0, 1, 0]


def test_nothing_is_filled_before_the_retained_days():
    """Counts of older days are gone, so nobody may be told that there were none."""
    traffic = NO_TRAFFIC.fold(message(0, 24)).fold(message(24 * 50, 24 * 51)).fold(message(24, 24 * 8))
    departures = traffic.departures
    assert departures.watermark is not None
    assert departures.covered_from == find_oldest_coverage(departures.watermark) == seconds(BASE) + 11 * 24 * HOUR_S
    assert departures.gaps == ((seconds(BASE) + 24 * 8 * HOUR_S, seconds(BASE) + 24 * 50 * HOUR_S),)
    assert not departures.corrections
    late = NO_TRAFFIC.fold(message(24 * 50, 24 * 51)).fold(message(24 * 8, 24 * 12))
    assert late.departures.covered_from == departures.covered_from, "of an interval across the edge the retained part"
    low = an_interest(window=Window.ONE_DAY, high=None, low=1)
    alerts = raise_alerts(low, [message(24 * 50, 24 * 51), message(24 * 2, 24 * 8)])
    assert describe(alerts) == [("FIRING", 24 * 50, 0)]


def test_the_first_window_of_both_directions_is_judged_late_also_if_one_of_them_is_older_than_what_is_retained():
    """Before it no window of both was ever known, so nothing is forgotten that could have been said of it."""
    both = an_interest(window=Window.ONE_DAY, direction=Direction.BOTH, effective_from=BASE + 40 * DAY)
    departures = [message(24 * day, 24 * (day + 1)) for day in range(50)]
    today, yesterday = arriving(message(24 * 50, 24 * 51)), arriving(message(24 * 49, 24 * 50, (24 * 49 + 1,) * 3))
    assert describe_parts(both, [*departures, today], [yesterday]) == [[], [("FIRING", 24 * 49, 3)]]


def test_a_day_whose_gaps_are_filled_for_ever_takes_no_more_than_its_share_of_the_state():
    """Of the records of a day only so many are kept, whatever they changed."""
    traffic = NO_TRAFFIC
    for part in range(MAX_CORRECTIONS_A_DAY + 20):
        traffic = traffic.fold(message(part / 10, part / 10 + 0.05))
    for part in range(MAX_CORRECTIONS_A_DAY + 19):
        traffic = traffic.fold(message(part / 10, part / 10 + 0.1))
    departures = traffic.departures
    assert (departures.gaps, len(departures.corrections)) == ((), MAX_CORRECTIONS_A_DAY)
    assert sum(departures.forgotten.values()) == 19


# Properties of any log.


@settings(max_examples=400, deadline=None)
@given(log=filled_logs, interest=interests)
def test_each_message_says_what_the_model_says(log, interest):
    """Each message raises exactly the model's statements, with the model's ids; who comes after sees the outcome.

    The model knows what was ever COMPLETE and what it told; the rule knows the gaps and the corrections alone.
    """
    told, outcome = tell_filled_statements(interest, log)
    traffic = NO_TRAFFIC
    for event, expected in zip(log, told, strict=True):
        after = traffic.fold(event)
        alerts = list(compute_alerts(interest, traffic, after))
        assert {alert.alert_id for alert in alerts} == expected
        assert len(alerts) == len(expected)
        traffic = after
    assert {alert.alert_id for alert in compute_alerts(interest, NO_TRAFFIC, traffic)} == outcome
    everything = set[UUID]().union(*told)
    assert len(everything) == sum(len(each) for each in told), "no id comes twice"
    assert outcome <= everything


@settings(max_examples=200, deadline=None)
@given(log=filled_logs | filled_logs_of_days, interest=interests, position=st.integers(0, 14))
def test_who_comes_in_between_is_told_nothing_that_who_came_first_was_not(log, interest, position):
    """An interest that is set between two messages gets ids of the one that was there before all, each once."""
    first = {alert.alert_id for alert in raise_alerts(interest, log)}
    traffic = NO_TRAFFIC
    for event in log[:position]:
        traffic = traffic.fold(event)
    alerts: list[Alert] = list(compute_alerts(interest, NO_TRAFFIC, traffic))
    for event in log[position:]:
        after = traffic.fold(event)
        alerts += compute_alerts(interest, traffic, after)
        traffic = after
    assert {alert.alert_id for alert in alerts} <= first
    assert len({alert.alert_id for alert in alerts}) == len(alerts)


@settings(max_examples=150, deadline=None)
@given(log=filled_logs, interest=interests)
def test_an_interest_is_explained_by_what_is_known_now(log, interest):
    """A filled window is explained as any other, and the windows after it by what it turned out to be."""
    traffic = NO_TRAFFIC
    for event in log:
        traffic = traffic.fold(event)
    verdicts = [
        (each.start, bound, each.state_of(bound)) for each in judge_windows(interest, traffic) for bound in Bound
    ]
    explained = {(bound.value, state.value, start) for start, bound, state in verdicts if state is not None}
    judged = judge_filled_windows(interest, log)
    assert explained == {(bound, state, start) for bound, state, start in judged if state != brute_force.UNDECIDED}


@settings(max_examples=150, deadline=None)
@given(log=filled_logs, wanted=interest_lists)
def test_the_index_finds_what_the_rule_says_of_each_interest(log, wanted):
    """Whatever a fill withdraws or says late, the index finds it for each interest, in the rule's order."""
    thresholds, traffic = build_index(wanted), NO_TRAFFIC
    for event in log:
        after = traffic.fold(event)
        found = find_alerts(thresholds, wanted, TrafficChange(traffic, after))
        for interest in wanted:
            own = [alert for alert in found if alert.interest_id == interest.interest_id]
            assert own == list(compute_alerts(interest, traffic, after))
        traffic = after


@settings(max_examples=200, deadline=None)
@given(log=filled_logs_of_days)
def test_of_the_retained_time_is_known_what_was_ever_complete(log):
    """Also at the edge of the retained days; the watermark and the start of what is retained never move back."""
    known: dict[Direction, set[int]] = {part: set() for part in Direction.BOTH.parts}
    traffic = NO_TRAFFIC
    for event in log:
        (before,) = traffic.select_directions(event.direction)
        traffic = traffic.fold(event)
        (after,) = traffic.select_directions(event.direction)
        if event.coverage is Coverage.COMPLETE:
            known[event.direction].update(range(event.begin, event.end, LONG_SLOT_S))
        assert (after.watermark or 0) >= (before.watermark or 0)
        _require_known_time(after, known[event.direction])


def _require_known_time(traffic: DirectionTraffic, known: set[int]) -> None:
    """Assert that of the retained time of a direction only the slots that are in `known` are covered, without a gap."""
    if traffic.watermark is None or traffic.covered_from is None:
        assert not known
        return
    oldest = traffic.watermark // (DAY_HOURS * HOUR_S) * DAY_HOURS * HOUR_S - RETAINED_HOURS * HOUR_S
    assert traffic.covered_from >= oldest
    assert list(traffic.gaps) == sorted(traffic.gaps)
    first = -(-oldest // LONG_SLOT_S) * LONG_SLOT_S
    for slot in range(first, traffic.watermark, LONG_SLOT_S):
        is_covered = slot >= traffic.covered_from and not traffic.has_gap_in(slot, slot + LONG_SLOT_S)
        assert is_covered == (slot in known)
    for (_, end), (begin, _) in zip(traffic.gaps, traffic.gaps[1:], strict=False):
        assert end < begin, "adjacent gaps are one"
