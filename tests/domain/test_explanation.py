"""Why something was said or not: the same as what was said."""

from datetime import timedelta

from hypothesis import given, settings

from domain.changes import NO_TRAFFIC
from domain.explanation import Knowledge, judge_windows
from domain.interests import Direction
from domain.traffic import Coverage
from tests.domain.logs import BASE, an_interest, interests, interleaved, to_be_said
from tests.domain.test_rule import seen

HOUR = timedelta(hours=1)


@settings(max_examples=250, deadline=None)
@given(log=interleaved(), interest=interests)
def test_it_explains_all_that_is_to_be_said_and_nothing_else(log, interest):
    """The states by window are those of the brute-force model."""
    traffic = NO_TRAFFIC
    for event in log:
        traffic = traffic.fold(event)
    explained = {
        (bound, state.value, verdict.start)
        for verdict in judge_windows(interest, traffic)
        for bound, state in (("high", verdict.high), ("low", verdict.low))
        if state is not None and (state.value != "STILL" or interest.repeat)
    }
    assert explained == to_be_said(interest, log)


def test_each_window_says_what_is_known_of_it():
    """From before the first that is judged to the one that is open."""
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
    """Of both, one half is no count."""
    traffic = NO_TRAFFIC.fold(seen(0, 5, (1.5,)))
    assert list(judge_windows(an_interest(direction=Direction.BOTH), traffic)) == []
