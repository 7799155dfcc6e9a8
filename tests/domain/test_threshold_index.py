"""Tests of the threshold index: it finds exactly the interests that have new alerts by the rule."""

from collections import Counter
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import Alert
from domain.changes import NO_TRAFFIC, TrafficChange
from domain.explanation import judge_windows
from domain.interest_alerts import build_alert, compute_alerts
from domain.interests import Direction, Interest
from domain.threshold_index import ThresholdIndex
from domain.windows import AlignedTo, Window
from tests.domain.logs import an_interest, interests, interleaved, with_late_flights
from tests.domain.test_rule import seen

interest_lists = st.lists(interests, min_size=1, max_size=12).map(
    lambda drawn: [replace(each, interest_id=UUID(int=number)) for number, each in enumerate(drawn)]
)


def build_index(wanted: list[Interest]) -> ThresholdIndex:
    """Return an index of some interests."""
    thresholds = ThresholdIndex()
    for interest in wanted:
        thresholds.add(interest)
    return thresholds


def find_alerts(thresholds: ThresholdIndex, wanted: list[Interest], change: TrafficChange) -> list[Alert]:
    """Return the alerts that an index of the wanted interests finds after a change."""
    by_id = {interest.interest_id: interest for interest in wanted}
    found = thresholds.find_alerts(change)
    return [build_alert(by_id[each.interest_id], change, each.range_alert, each.threshold) for each in found]


@settings(max_examples=250, deadline=None)
@given(log=interleaved().flatmap(with_late_flights), wanted=interest_lists)
def test_the_found_alerts_are_those_of_the_rule_for_each_interest(log, wanted):
    """The index finds, after each event, the same alerts in the same order as the rule for each interest alone."""
    thresholds, traffic = build_index(wanted), NO_TRAFFIC
    for event in log:
        after = traffic.fold(event)
        found = find_alerts(thresholds, wanted, TrafficChange(traffic, after))
        for interest in wanted:
            own = [alert for alert in found if alert.interest_id == interest.interest_id]
            assert own == list(compute_alerts(interest, traffic, after))
        assert [alert.window_start for alert in found] == sorted(alert.window_start for alert in found)
        traffic = after
    # And all at once, as for a log that was cut elsewhere.
    at_once = find_alerts(thresholds, wanted, TrafficChange(NO_TRAFFIC, traffic))
    assert Counter(alert.alert_id for alert in at_once) == Counter(
        alert.alert_id for interest in wanted for alert in compute_alerts(interest, NO_TRAFFIC, traffic)
    )


@given(wanted=interest_lists, data=st.data())
def test_a_removed_interest_leaves_no_trace(wanted, data):
    """An index from which interests were removed equals an index to which they were never added, in any order."""
    thresholds = build_index(wanted)
    removed = data.draw(st.lists(st.sampled_from(wanted), unique=True))
    for interest in removed:
        thresholds.remove(interest)
    remaining = [interest for interest in wanted if interest not in removed]
    assert thresholds == build_index(data.draw(st.permutations(remaining)))
    assert len(thresholds) == len(remaining)
    assert sum(each.interests for each in thresholds.list_in_force()) == sum(
        (interest.high is not None) + (interest.low is not None) for interest in remaining
    )
    assert thresholds.list_directions() == {part for interest in remaining for part in interest.direction.parts}


def test_an_unknown_interest_cannot_be_removed():
    """Removing an interest that was not added raises KeyError, because it is an error of the caller."""
    with pytest.raises(KeyError):
        build_index([an_interest()]).remove(an_interest(interest_id=UUID(int=9)))


def test_the_thresholds_in_force_are_counted_not_named():
    """The thresholds in force are listed in order, with the number of their interests and without ids."""
    wanted = [
        an_interest(interest_id=UUID(int=1), high=20, low=3),
        an_interest(interest_id=UUID(int=2), high=20, repeat=True),
        an_interest(interest_id=UUID(int=3), high=9, window=Window.ONE_DAY, direction=Direction.BOTH),
        an_interest(interest_id=UUID(int=4), high=None, low_percent=50, for_windows=2),
        an_interest(interest_id=UUID(int=5), high=9, window=Window.ONE_DAY, aligned_to=AlignedTo.AIRPORT),
    ]
    assert [tuple(each) for each in build_index(wanted).list_in_force()] == [
        ("both", "1d", 1, "high", 9, 1, "flights", "utc"),
        ("departures", "1d", 1, "high", 9, 1, "flights", "airport"),
        ("departures", "1h", 1, "high", 20, 2, "flights", "utc"),
        ("departures", "1h", 1, "low", 3, 1, "flights", "utc"),
        ("departures", "1h", 2, "low", 50, 1, "percent", "utc"),
    ]


@settings(max_examples=250, deadline=None)
@given(log=interleaved(), wanted=interest_lists)
def test_an_interest_in_breach_has_its_last_known_window_in_breach(log, wanted):
    """An interest is in breach by the last closed window, or, for the high bound, by the open window already."""
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
    assert build_index(wanted).count_in_breach(traffic) == expected


def test_only_crossed_thresholds_have_alerts():
    """Only the thresholds between the count before and the count now have alerts, of a thousand that are higher."""
    thresholds = build_index(
        [an_interest(interest_id=UUID(int=number), high=100 + number % 50) for number in range(1000)]
    )
    before = NO_TRAFFIC.fold(seen(0, 1, [0.5] * 99))
    after = before.fold(seen(1, 2, [1.5] * 101))
    found = thresholds.find_alerts(TrafficChange(before, after))
    assert {each.threshold for each in found} == {100}
    assert len(found) == 20


def test_a_low_alert_is_withdrawn_though_no_count_breaches_a_threshold_any_more():
    """The quick check that no count breaches a threshold is not used if the count of a closed window grows."""
    thresholds = build_index([an_interest(high=None, low=3)])
    before = NO_TRAFFIC.fold(seen(0, 1, (0.1, 0.2)))
    after = before.fold(seen(0, 1, (0.3,)))
    (found,) = thresholds.find_alerts(TrafficChange(before, after))
    assert (found.range_alert.state, found.range_alert.flights, found.range_alert.withdrawn_flights) == (
        "WITHDRAWN",
        3,
        2,
    )
