"""Tests of the alert rule: examples, and comparison with the brute-force model for any log."""

from datetime import timedelta

from hypothesis import given, settings, strategies as st

from domain.alerts import Alert, AlertState, Bound, compute_alert_id
from domain.changes import NO_TRAFFIC, TrafficChange
from domain.interest_alerts import compute_alerts
from domain.interests import MAX_FOR_WINDOWS, Direction, Interest
from domain.traffic import LONGEST_INTERVAL_S, RETAINED_HOURS, Coverage, Observation, Traffic
from domain.windows import HOUR_S, Window, seconds
from tests.domain.corrected_logs import tell_statements
from tests.domain.logs import BASE, an_interest, compute_expected_alerts, interests, interleaved, with_late_flights

HOUR = timedelta(hours=1)


def seen(begin, end, times=(), coverage=Coverage.COMPLETE, direction=Direction.DEPARTURES) -> Observation:
    """Return an observation; `begin`, `end` and the event times `times` are hours after BASE."""
    at = [seconds(BASE + timedelta(hours=hour)) for hour in (begin, end, *times)]
    return Observation(direction, at[0], at[1], tuple(at[2:]), coverage)


def raise_alerts(interest: Interest, log: list[Observation]) -> list[Alert]:
    """Return the alerts of an interest that was set before the first event, in the order of the events."""
    traffic, alerts = NO_TRAFFIC, []
    for event in log:
        after = traffic.fold(event)
        alerts += compute_alerts(interest, traffic, after)
        traffic = after
    return alerts


def summarize(alerts: list[Alert]) -> list[tuple[str, str, int, int]]:
    """Return bound, state, window (hours after BASE) and count of each alert."""
    return [(a.bound.value, a.state.value, (a.window_start - BASE) // HOUR, a.count) for a in alerts]


def test_high_fires_before_the_window_closes_and_resolves_when_the_next_one_does():
    """A count above the threshold fires at once; the end of the breach is known only when a window closes."""
    log = [seen(0, 0.5, (0.1, 0.2, 0.3)), seen(0.5, 1, (0.6,)), seen(1, 1.5, (1.1,)), seen(1.5, 2)]
    assert summarize(raise_alerts(an_interest(), log)) == [("high", "FIRING", 0, 3), ("high", "RESOLVED", 1, 1)]


def test_high_waits_until_the_window_before_is_closed():
    """A high alert waits for the window before: else FIRING or STILL would depend on timing."""
    partial = seen(0, 2, (1.1, 1.2, 1.3), Coverage.PARTIAL)
    first = seen(-1, 0)
    assert summarize(raise_alerts(an_interest(), [first, partial])) == []
    assert summarize(raise_alerts(an_interest(), [first, partial, seen(0, 2, (0.1,))])) == [("high", "FIRING", 1, 3)]


def test_low_fires_only_for_a_closed_window_and_zero_flights_under_coverage_is_zero():
    """An open window without flights does not fire low; a covered window with zero flights does."""
    low = an_interest(high=None, low=1)
    assert summarize(raise_alerts(low, [seen(0, 0.9)])) == []
    assert summarize(raise_alerts(low, [seen(0, 1), seen(1, 2, (1.5,))])) == [
        ("low", "FIRING", 0, 0),
        ("low", "RESOLVED", 1, 1),
    ]


def test_both_directions_close_with_the_smaller_watermark():
    """A window of both directions is open until arrivals are covered too, which come a night later."""
    both = an_interest(direction=Direction.BOTH, high=None, low=3)
    departures = seen(0, 2, (0.1, 0.2, 1.5))
    assert summarize(raise_alerts(both, [departures])) == []
    arrivals = seen(0, 2, (0.5,), direction=Direction.ARRIVALS)
    assert summarize(raise_alerts(both, [departures, arrivals])) == [("low", "FIRING", 1, 1)]


def test_the_first_coverage_of_one_direction_judges_all_windows_of_the_other():
    """Windows after a gap do not depend on later events, so their alerts are raised when both are covered."""
    both = an_interest(direction=Direction.BOTH)
    arrivals = [
        seen(0, 1, direction=Direction.ARRIVALS),
        seen(1, 3, coverage=Coverage.GAP, direction=Direction.ARRIVALS),
        seen(3, 4, (3.1, 3.2, 3.3), direction=Direction.ARRIVALS),
    ]
    assert summarize(raise_alerts(both, [*arrivals, seen(0, 1)])) == [("high", "FIRING", 3, 3)]


def test_a_window_before_effective_from_is_no_breach_before():
    """A breach that began before effective_from is FIRING, not STILL: the interest has had no alert of it."""
    log = [seen(0, 1, (0.1, 0.2, 0.3)), seen(1, 2, (1.1, 1.2, 1.3))]
    late = an_interest(effective_from=BASE + HOUR)
    assert summarize(raise_alerts(late, log)) == [("high", "FIRING", 1, 3)]
    assert summarize(raise_alerts(an_interest(), log)) == [("high", "FIRING", 0, 3)]


def test_a_gap_is_no_breach_and_breaks_a_run():
    """A window in a gap does not fire low, and a breach after the gap is a new FIRING."""
    log = [seen(0, 1), seen(1, 2, coverage=Coverage.GAP), seen(2, 3)]
    assert summarize(raise_alerts(an_interest(high=None, low=1), log)) == [
        ("low", "FIRING", 0, 0),
        ("low", "FIRING", 2, 0),
    ]


def test_a_gap_hides_flights_but_cannot_undo_them():
    """Counted flights above the threshold fire although a gap touches the window (the example of ADR 0003)."""
    many = [13 + n / 60 for n in range(25)]
    more = [14.4 + n / 60 for n in range(30)]
    log = [seen(13, 13.67, many), seen(13.67, 14.34, coverage=Coverage.GAP), seen(14.34, 15, more)]
    said = raise_alerts(an_interest(high=20, effective_from=BASE + 13 * HOUR), log)
    assert summarize(said) == [("high", "FIRING", 13, 21), ("high", "FIRING", 14, 21)]


def test_for_windows_requires_a_run():
    """One window that breaches the threshold is not a breach yet if for_windows = 2."""
    log = [seen(h, h + 1, [h + 0.1] * n) for h, n in enumerate((3, 1, 3, 3, 3, 0))]
    two = an_interest(for_windows=2)
    assert summarize(raise_alerts(two, log)) == [("high", "FIRING", 3, 3), ("high", "RESOLVED", 5, 0)]
    again = an_interest(for_windows=2, repeat=True)
    assert summarize(raise_alerts(again, log))[1] == ("high", "STILL", 4, 3)


def test_a_late_flight_may_fire_high_and_withdraws_low_with_both_counts():
    """Counts only grow: a high that a late flight reaches fires late, a low that is no longer true is withdrawn."""
    log = [seen(0, 1, (0.5, 0.6)), seen(1, 2, (1.1, 1.2)), seen(0, 1, (0.7,))]
    alerts = raise_alerts(an_interest(high=2), log)
    assert summarize(alerts) == [("high", "FIRING", 0, 3), ("high", "RESOLVED", 1, 2)]
    withdrawn = raise_alerts(an_interest(high=None, low=3), log)[-1:]
    assert summarize(withdrawn) == [("low", "FIRING", 1, 2)]  # the window after is now the first in breach
    first = [a for a in raise_alerts(an_interest(high=None, low=3), log) if a.state is AlertState.WITHDRAWN]
    assert [(a.bound, a.count, a.withdrawn_count) for a in first] == [(Bound.LOW, 3, 2)]


def test_discarding_old_hours_raises_no_alert():
    """Discarding the counts before the retained hours raises no alert."""
    long_ago = [seen(24 * day, 24 * (day + 1), [24 * day + 1] * 3) for day in range(50)]
    alerts = raise_alerts(an_interest(window=Window.ONE_DAY), long_ago)
    assert summarize(alerts) == [("high", "FIRING", 0, 3)]


def test_a_window_was_known_before_a_message_if_it_was_covered_to_its_end_without_a_gap():
    """Neither an open window, nor one that a gap touches, nor one before the first coverage was known."""
    log = [seen(1, 2.5), seen(2.5, 3.5, coverage=Coverage.GAP), seen(3.5, 5.5), seen(5.5, 8)]
    traffic = NO_TRAFFIC
    for event in log[:-1]:
        traffic = traffic.fold(event)
    change = TrafficChange(traffic, traffic.fold(log[-1]))

    def list_known(direction: Direction) -> list[int]:
        """Return the hours, counted from BASE, whose windows were known before the last message."""
        hours = range(9)
        return [n for n in hours if change.was_window_known(direction, Window.ONE_HOUR, BASE + n * HOUR)]

    assert list_known(Direction.DEPARTURES) == [1, 4]
    assert list_known(Direction.BOTH) == list_known(Direction.ARRIVALS) == []


# Properties of any log.


@settings(max_examples=400, deadline=None)
@given(log=interleaved(), interest=interests, position=st.integers(0, 40))
def test_the_alerts_are_the_models_wherever_the_interest_is_set(log, interest, position):
    """An interest that is set before, between or after the flights has the alerts of the model, in any interleaving."""
    position = min(position, len(log))
    traffic = NO_TRAFFIC
    for event in log[:position]:
        traffic = traffic.fold(event)
    alerts = list(compute_alerts(interest, NO_TRAFFIC, traffic))
    for event in log[position:]:
        after = traffic.fold(event)
        alerts += compute_alerts(interest, traffic, after)
        traffic = after
    assert {(a.bound.value, a.state.value, a.window_start) for a in alerts} == compute_expected_alerts(interest, log)
    assert len({a.alert_id for a in alerts}) == len(alerts), "no alert is raised twice"


@settings(max_examples=200, deadline=None)
@given(log=interleaved(longest=10).flatmap(with_late_flights), interest=interests)
def test_each_event_adds_the_alerts_that_the_model_adds(log, interest):
    """An event, also with late flights, raises what the model says for the log so far, and with its ids."""
    traffic = NO_TRAFFIC
    for event, expected in zip(log, tell_statements(interest, log)[0], strict=True):
        after = traffic.fold(event)
        alerts = list(compute_alerts(interest, traffic, after))
        assert {alert.alert_id for alert in alerts} == expected
        assert len(alerts) == len(expected)
        traffic = after


@settings(max_examples=100, deadline=None)
@given(log=interleaved(longest=10).flatmap(with_late_flights), interest=interests)
def test_flights_that_only_come_late_give_every_statement_its_plain_id(log, interest):
    """A log from before flights could be retracted has the ids of that time: nothing in it comes a second time."""
    for alert in raise_alerts(interest, log):
        assert alert.alert_id == compute_alert_id(
            interest.interest_id, interest.version, alert.bound, alert.window_start, alert.state, alert.withdrawn_state
        )


@given(log=interleaved())
def test_a_traffic_is_the_sum_of_its_log(log):
    """The hourly counts are those of the log's flights, however these were cut into batches."""
    traffic = Traffic()
    for event in log:
        traffic = traffic.fold(event)
    for flow, direction in ((traffic.arrivals, Direction.ARRIVALS), (traffic.departures, Direction.DEPARTURES)):
        times = [at // 3600 for event in log if event.direction is direction for at in event.event_times]
        for hour in set(times):
            assert flow.counts.total(hour, 1) == times.count(hour)
        assert flow.counts.total(0, 10**7) == len(times)


def test_the_retained_hours_are_enough_for_the_longest_run():
    """RETAINED_HOURS hold MAX_FOR_WINDOWS + 1 of the longest windows before the longest interval."""
    assert (MAX_FOR_WINDOWS + 1) * Window.ONE_DAY.hours + LONGEST_INTERVAL_S // HOUR_S <= RETAINED_HOURS


@settings(max_examples=30, deadline=None)
@given(
    days=st.lists(st.integers(0, 3), min_size=45, max_size=70),
    step=st.integers(1, 7),
    for_windows=st.integers(1, MAX_FOR_WINDOWS),
    repeat=st.booleans(),
    longest=st.booleans(),
)
def test_discarding_old_hours_changes_no_alert(days, step, for_windows, repeat, longest):
    """A log longer than the retained hours, with runs up to the longest, has the alerts of the model."""
    if longest:
        for_windows = MAX_FOR_WINDOWS
    log = [
        seen(
            24 * day,
            24 * (day + step),
            [24 * (day + i) + 1 for i, n in enumerate(days[day : day + step]) for _ in range(n)],
        )
        for day in range(0, len(days), step)
    ]
    interest = an_interest(window=Window.ONE_DAY, high=0, for_windows=for_windows, repeat=repeat)
    alerts = raise_alerts(interest, log)
    assert {(a.bound.value, a.state.value, a.window_start) for a in alerts} == compute_expected_alerts(interest, log)


def test_a_run_longer_than_the_retained_hours_fires_once():
    """The days after the thirtieth still have the counts of the days before, so no day fires again."""
    log = [seen(24 * day, 24 * (day + 1), [24 * day + 1] * 3) for day in range(60)]
    alerts = raise_alerts(an_interest(window=Window.ONE_DAY, for_windows=MAX_FOR_WINDOWS), log)
    assert summarize(alerts) == [("high", "FIRING", 24 * (MAX_FOR_WINDOWS - 1), 3)]
