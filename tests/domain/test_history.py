"""Tests of history: days that are told for what is usual alone are never judged, whenever they come."""

from dataclasses import replace
from random import Random

from hypothesis import given, settings, strategies as st

from domain.changes import NO_TRAFFIC, TrafficChange
from domain.interest_alerts import compute_alerts
from domain.interests import Direction
from domain.traffic import Coverage, Observation
from domain.windows import HOUR_S, Window, instant, seconds
from tests.domain.filled_logs import filled_logs, tell_filled_statements
from tests.domain.logs import an_interest, interests
from tests.domain.test_corrections import message
from tests.domain.test_percents import DAYTIME, a_percent, at_hours, busy_weeks, check_log, draw_interest, hours, tell
from tests.domain.test_rule import raise_alerts
from tests.domain.test_threshold_index import build_index, find_alerts, interest_lists
from tests.domain.test_usual import MONDAY, check_usual, fold_all, usual_logs
from tests.domain.usual_logs import DAY_S, UsualLog


def as_history(observation: Observation) -> Observation:
    """Return the same observation, told as history."""
    return replace(observation, is_history=True)


def quiet_day(day: int) -> Observation:
    """Return a COMPLETE day (numbered from BASE) with one departure, which breaches `low=5`."""
    return message(24 * day, 24 * day + 24, (24 * day + 9,))


def test_a_long_breach_whose_days_come_newest_first_is_told_once():
    """Its first day that was collected when due is FIRING; the days before it, which come as history, say nothing."""
    interest = an_interest(window=Window.ONE_DAY, high=None, low=5, effective_from=instant((MONDAY - 100) * DAY_S))
    due, history = quiet_day(20), [as_history(quiet_day(day)) for day in range(19, 0, -1)]
    assert len(raise_alerts(interest, [due])) == 1
    assert raise_alerts(interest, [due, *history]) == raise_alerts(interest, [due])
    end = replace(quiet_day(21), event_times=tuple(quiet_day(21).begin + n for n in range(9)), fingerprints=())
    fired, resolved = raise_alerts(interest, [due, *history, end])
    assert (fired.state.value, resolved.state.value) == ("FIRING", "RESOLVED")
    assert resolved.episode_id == fired.alert_id


def test_a_gap_that_history_fills_is_not_judged_either():
    """Its flights do not even make an early high: the window counts as none for those after it."""
    busy = message(1, 2, (1.1, 1.2, 1.3))
    log = [message(0, 1), replace(busy, coverage=Coverage.GAP, event_times=(), fingerprints=()), as_history(busy)]
    assert raise_alerts(an_interest(), log) == []
    assert [alert.state.value for alert in raise_alerts(an_interest(), [*log, message(2, 3, (2.1, 2.2, 2.3))])] == [
        "FIRING"
    ]


def test_what_was_told_as_history_is_never_judged_also_if_it_is_covered_later():
    """Else its alerts would depend on what came first; what is covered already stays covered."""
    busy = message(1, 2, (1.1, 1.2, 1.3))
    log = [message(0, 1), message(2, 3), as_history(busy), replace(busy, event_times=(), fingerprints=())]
    assert raise_alerts(an_interest(), log) == []
    assert len(raise_alerts(an_interest(), [message(0, 1), busy, as_history(message(1, 2)), message(2, 3)])) == 2


def test_history_is_known_for_the_base_of_what_is_usual():
    """The weeks before come as history alone, newest first: the next day is judged by percent."""
    weeks = [as_history(each) for each in reversed(busy_weeks(50, DAYTIME))]
    traffic = fold_all([hours(49, DAYTIME), *weeks])
    alerts, _ = tell(a_percent(), [hours(50, DAYTIME | {12: 4})], traffic)
    assert at_hours(alerts) == [("FIRING", 12, 4), ("RESOLVED", 13, 10)]


def mark_history(log: list[Observation], seed: int) -> list[Observation]:
    """Return the log with some of its messages told as history."""
    chance = Random(seed)
    return [replace(each, is_history=chance.random() < 0.4 and each.coverage is not Coverage.GAP) for each in log]


marked_logs = st.builds(mark_history, filled_logs, st.integers(0, 2**32))


@settings(max_examples=200, deadline=None)
@given(log=marked_logs, interest=interests)
def test_history_says_what_the_model_says(log, interest):
    """With history before the coverage, in gaps, across both, and corrected later, message by message."""
    told, outcome = tell_filled_statements(interest, log)
    traffic = NO_TRAFFIC
    for event, expected in zip(log, told, strict=True):
        after = traffic.fold(event)
        assert {alert.alert_id for alert in compute_alerts(interest, traffic, after)} == expected
        traffic = after
    assert {alert.alert_id for alert in compute_alerts(interest, NO_TRAFFIC, traffic)} == outcome


@settings(max_examples=100, deadline=None)
@given(log=marked_logs, wanted=interest_lists)
def test_the_index_finds_what_the_rule_says_of_each_interest(log, wanted):
    """Also of windows that history hides."""
    thresholds, traffic = build_index(wanted), NO_TRAFFIC
    for event in log:
        after = traffic.fold(event)
        found = find_alerts(thresholds, wanted, TrafficChange(traffic, after))
        for interest in wanted:
            own = [alert for alert in found if alert.interest_id == interest.interest_id]
            assert own == list(compute_alerts(interest, traffic, after))
        traffic = after


@settings(max_examples=200, deadline=None)
@given(log=filled_logs, interest=interests, seed=st.integers(0, 2**32))
def test_history_before_the_coverage_changes_no_alert(log, interest, seed):
    """Whoever else wants percents there: the days that come for them are of no account for thresholds in flights."""
    chance = Random(seed)
    first = min(each.begin for each in log) - HOUR_S
    days = [
        Observation(part, first - (n + 1) * HOUR_S, first - n * HOUR_S, (first - 5,) * n, Coverage.COMPLETE)
        for n in range(1, 9)
        for part in Direction.BOTH.parts
    ]
    mixed = list(log)
    for day in days:
        mixed.insert(chance.randint(0, len(mixed)), as_history(day))
    assert [alert.alert_id for alert in raise_alerts(interest, mixed)] == [
        alert.alert_id for alert in raise_alerts(interest, log)
    ]


def tell_as_history(log: UsualLog, seed: int) -> UsualLog:
    """Return a log of weeks in which some days of the past come as history, newest first, when others were covered."""
    chance = Random(seed)
    cut = chance.choice((7, 14, 21, 28))
    begin = seconds(log.begin) - cut * DAY_S
    history = [as_history(each) for each in log.past if each.end <= begin and each.coverage is Coverage.COMPLETE]
    past = [each for each in log.past if each.end > begin]
    present = [
        as_history(each) if each.end <= begin and each.coverage is Coverage.COMPLETE else each for each in log.present
    ]
    place = chance.randint(0, min(3, len(present)))
    late = chance.randint(0, len(history))
    history.reverse()
    return replace(log, past=(*past, *history[:late]), present=(*present[:place], *history[late:], *present[place:]))


history_logs = st.builds(tell_as_history, usual_logs, st.integers(0, 2**32))


@settings(max_examples=25, deadline=None)
@given(log=history_logs)
def test_what_is_usual_follows_from_history_as_its_text_says(log: UsualLog):
    """Whenever the weeks come, before or amid the hours that are judged, and in whatever order."""
    check_usual(log)


@settings(max_examples=20, deadline=None)
@given(log=history_logs, seed=st.integers(0, 2**32))
def test_percents_with_history_say_what_the_model_says(log, seed):
    """Message by message, under the ids of the model."""
    check_log(log, draw_interest(Random(seed), log), seed)
