"""The sorted thresholds: they find whom the rule speaks of, all of them and nobody else."""

from collections import Counter
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import Alert
from domain.changes import NO_TRAFFIC, TrafficChange, build_alert, compute_alerts
from domain.explanation import judge_windows
from domain.interests import Direction, Interest
from domain.threshold_index import ThresholdIndex
from domain.windows import Window
from tests.domain.logs import an_interest, interests, interleaved, with_late_flights
from tests.domain.test_rule import seen

people = st.lists(interests, min_size=1, max_size=12).map(
    lambda wishes: [replace(wish, interest_id=UUID(int=number)) for number, wish in enumerate(wishes)]
)


def of(wanted: list[Interest]) -> ThresholdIndex:
    thresholds = ThresholdIndex()
    for interest in wanted:
        thresholds.add(interest)
    return thresholds


def told(thresholds: ThresholdIndex, wanted: list[Interest], change: TrafficChange) -> list[Alert]:
    by_id = {interest.interest_id: interest for interest in wanted}
    found = thresholds.find_alerts(change)
    return [build_alert(by_id[each.interest_id], change, each.range_alert, each.threshold) for each in found]


@settings(max_examples=250, deadline=None)
@given(log=interleaved().flatmap(with_late_flights), wanted=people)
def test_what_is_found_is_what_the_rule_says_to_each(log, wanted):
    """After each event: for every interest the same alerts in the same order, and for nobody another."""
    thresholds, traffic = of(wanted), NO_TRAFFIC
    for event in log:
        after = traffic.fold(event)
        found = told(thresholds, wanted, TrafficChange(traffic, after))
        for interest in wanted:
            mine = [alert for alert in found if alert.interest_id == interest.interest_id]
            assert mine == list(compute_alerts(interest, traffic, after))
        assert [alert.window_start for alert in found] == sorted(alert.window_start for alert in found)
        traffic = after
    # And all at once, as for a log that was cut elsewhere.
    whole = told(thresholds, wanted, TrafficChange(NO_TRAFFIC, traffic))
    assert Counter(alert.alert_id for alert in whole) == Counter(
        alert.alert_id for interest in wanted for alert in compute_alerts(interest, NO_TRAFFIC, traffic)
    )


@given(wanted=people, data=st.data())
def test_who_is_taken_out_leaves_no_trace(wanted, data):
    """In whatever order interests come and go, what is left is the same as if the others had never been."""
    thresholds = of(wanted)
    gone = data.draw(st.lists(st.sampled_from(wanted), unique=True))
    for interest in gone:
        thresholds.remove(interest)
    left = [interest for interest in wanted if interest not in gone]
    assert thresholds == of(data.draw(st.permutations(left)))
    assert len(thresholds) == len(left)
    assert sum(each.interests for each in thresholds.list_in_force()) == sum(
        (interest.high is not None) + (interest.low is not None) for interest in left
    )
    assert thresholds.list_directions() == {part for interest in left for part in interest.direction.parts}


def test_who_is_not_in_there_cannot_be_taken_out():
    """It would be a fault of whoever keeps the index, and must be seen."""
    with pytest.raises(KeyError):
        of([an_interest()]).remove(an_interest(interest_id=UUID(int=9)))


def test_the_thresholds_in_force_are_counted_not_named():
    """What is shown of them is how many interests have which, in order."""
    wanted = [
        an_interest(interest_id=UUID(int=1), high=20, low=3),
        an_interest(interest_id=UUID(int=2), high=20, repeat=True),
        an_interest(interest_id=UUID(int=3), high=9, window=Window.ONE_DAY, direction=Direction.BOTH),
    ]
    assert [tuple(each) for each in of(wanted).list_in_force()] == [
        ("both", "1d", 1, "high", 9, 1),
        ("departures", "1h", 1, "high", 20, 2),
        ("departures", "1h", 1, "low", 3, 1),
    ]


@settings(max_examples=250, deadline=None)
@given(log=interleaved(), wanted=people)
def test_those_in_breach_are_those_whose_last_known_window_is(log, wanted):
    """By the last closed window, or, of the high bound, already by the one that is open."""
    traffic = NO_TRAFFIC
    for event in log:
        traffic = traffic.fold(event)
    expected: Counter[tuple[str, str, str]] = Counter()
    for interest in wanted:
        flows = traffic.select_directions(interest.direction)
        if any(flow.watermark is None for flow in flows):
            continue
        length = interest.window.hours * 3600
        closed_until = min(flow.watermark for flow in flows) // length
        standing = {verdict.start.timestamp() // length: verdict for verdict in judge_windows(interest, traffic)}
        for bound in ("high", "low"):
            states = [getattr(standing.get(number), bound, None) for number in (closed_until - 1, closed_until)]
            if {"FIRING", "STILL"} & set(states):
                expected[interest.direction, interest.window, bound] += 1
    assert of(wanted).count_in_breach(traffic) == expected


def test_only_the_thresholds_that_were_crossed_are_met():
    """Of a thousand interests beyond the count of before, those below the count of now."""
    thresholds = of([an_interest(interest_id=UUID(int=number), high=100 + number % 50) for number in range(1000)])
    before = NO_TRAFFIC.fold(seen(0, 1, [0.5] * 99))
    after = before.fold(seen(1, 2, [1.5] * 101))
    found = thresholds.find_alerts(TrafficChange(before, after))
    assert {each.threshold for each in found} == {100}
    assert len(found) == 20


def test_what_was_low_is_withdrawn_though_no_count_is_past_a_threshold_any_more():
    """The quick answer, that nothing is past a threshold, is not enough where counts of closed windows grow."""
    thresholds = of([an_interest(high=None, low=3)])
    before = NO_TRAFFIC.fold(seen(0, 1, (0.1, 0.2)))
    after = before.fold(seen(0, 1, (0.3,)))
    (found,) = thresholds.find_alerts(TrafficChange(before, after))
    assert (found.range_alert.state, found.range_alert.flights, found.range_alert.withdrawn_flights) == (
        "WITHDRAWN",
        3,
        2,
    )
