"""Tests of explanations: they agree with the alerts that were raised."""

from datetime import timedelta

from hypothesis import given, settings

from domain.changes import NO_TRAFFIC
from domain.explanation import Knowledge, judge_windows
from domain.interests import Direction
from domain.traffic import Coverage
from tests.domain.logs import BASE, an_interest, compute_expected_alerts, interests, interleaved
from tests.domain.test_rule import seen

HOUR = timedelta(hours=1)


@settings(max_examples=250, deadline=None)
@given(log=interleaved(), interest=interests)
def test_the_explained_states_are_the_expected_alerts(log, interest):
    """The states of all windows are the alerts of the brute-force model, and no other."""
    traffic = NO_TRAFFIC
    for event in log:
        traffic = traffic.fold(event)
    explained = {
        (bound, state.value, verdict.start)
        for verdict in judge_windows(interest, traffic)
        for bound, state in (("high", verdict.high), ("low", verdict.low))
        if state is not None and (state.value != "STILL" or interest.repeat)
    }
    assert explained == compute_expected_alerts(interest, log)


def test_each_window_has_its_count_and_how_much_is_known():
    """Verdicts reach from the windows before the first judged one to the open window, each with its knowledge."""
    log = [seen(-2, 1, (0.5,)), seen(1, 2, coverage=Coverage.GAP), seen(2, 3.5, (2.5, 3.1, 3.2, 3.3))]
    traffic = NO_TRAFFIC
    for event in log:
        traffic = traffic.fold(event)
    found = list(judge_windows(an_interest(), traffic))
    assert [((each.start - BASE) // HOUR, each.knowledge, each.count, each.high) for each in found] == [
        (-1, Knowledge.EARLY, 0, None),
        (0, Knowledge.CLOSED, 1, None),
        (1, Knowledge.GAP, 0, None),
        (2, Knowledge.CLOSED, 1, None),
        (3, Knowledge.OPEN, 3, "FIRING"),
    ]
    first = next(judge_windows(an_interest(effective_from=BASE - 9 * HOUR), traffic))
    assert (first.start - BASE, first.knowledge) == (-3 * HOUR, Knowledge.UNCOVERED)


def test_before_all_directions_are_covered_there_is_nothing_to_explain():
    """An interest in both directions has no verdicts while only one direction is covered."""
    traffic = NO_TRAFFIC.fold(seen(0, 5, (1.5,)))
    assert list(judge_windows(an_interest(direction=Direction.BOTH), traffic)) == []
