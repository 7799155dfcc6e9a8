"""The alert rule, against the brute-force model and by its own laws."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings, strategies as st

from domain.alerts import Alert, AlertState, Bound
from domain.changes import NO_TRAFFIC, compute_alerts
from domain.interests import MAX_FOR_WINDOWS, Direction, Interest
from domain.traffic import LONGEST_INTERVAL_S, RETAINED_HOURS, Coverage, Observation, Traffic
from domain.windows import HOUR_S, Window, seconds
from tests.domain.logs import BASE, an_interest, interests, interleaved, to_be_said, with_late_flights

HOUR = timedelta(hours=1)


def seen(begin, end, times=(), coverage=Coverage.COMPLETE, direction=Direction.DEPARTURES) -> Observation:
    """An observation; times in hours after BASE."""
    at = [seconds(BASE + timedelta(hours=hour)) for hour in (begin, end, *times)]
    return Observation(direction, at[0], at[1], tuple(at[2:]), coverage)


def told(interest: Interest, log: list[Observation]) -> list[Alert]:
    """What an interest that was set first is told, event by event."""
    traffic, alerts = NO_TRAFFIC, []
    for event in log:
        after = traffic.fold(event)
        alerts += compute_alerts(interest, traffic, after)
        traffic = after
    return alerts


def brief(alerts: list[Alert]) -> list[tuple[str, str, int, int]]:
    return [(a.bound.value, a.state.value, (a.window_start - BASE) // HOUR, a.count) for a in alerts]


def test_high_fires_before_the_window_closes_and_resolves_when_the_next_one_does():
    """More than the threshold fires at once; the end of it is known only on close."""
    log = [seen(0, 0.5, (0.1, 0.2, 0.3)), seen(0.5, 1, (0.6,)), seen(1, 1.5, (1.1,)), seen(1.5, 2)]
    assert brief(told(an_interest(), log)) == [("high", "FIRING", 0, 3), ("high", "RESOLVED", 1, 1)]


def test_high_waits_until_the_window_before_is_closed():
    """An early high would be FIRING or STILL depending on timing, if the window before could still change."""
    partial = seen(0, 2, (1.1, 1.2, 1.3), Coverage.PARTIAL)
    first = seen(-1, 0)
    assert brief(told(an_interest(), [first, partial])) == []
    assert brief(told(an_interest(), [first, partial, seen(0, 2, (0.1,))])) == [("high", "FIRING", 1, 3)]


def test_low_is_said_only_of_a_closed_window_and_zero_flights_under_coverage_is_zero():
    """Silence is not zero; zero under full coverage is."""
    low = an_interest(high=None, low=1)
    assert brief(told(low, [seen(0, 0.9)])) == []
    assert brief(told(low, [seen(0, 1), seen(1, 2, (1.5,))])) == [("low", "FIRING", 0, 0), ("low", "RESOLVED", 1, 1)]


def test_both_directions_close_with_the_smaller_watermark():
    """Arrivals come a night later; until then a window of both is open."""
    both = an_interest(direction=Direction.BOTH, high=None, low=3)
    departures = seen(0, 2, (0.1, 0.2, 1.5))
    assert brief(told(both, [departures])) == []
    arrivals = seen(0, 2, (0.5,), direction=Direction.ARRIVALS)
    assert brief(told(both, [departures, arrivals])) == [("low", "FIRING", 1, 1)]


def test_the_first_coverage_of_one_direction_brings_all_that_the_other_has_made_sure():
    """Beyond a gap nothing depends on what is still to come, so what lies there is said at once, and not never."""
    both = an_interest(direction=Direction.BOTH)
    arrivals = [
        seen(0, 1, direction=Direction.ARRIVALS),
        seen(1, 3, coverage=Coverage.GAP, direction=Direction.ARRIVALS),
        seen(3, 4, (3.1, 3.2, 3.3), direction=Direction.ARRIVALS),
    ]
    assert brief(told(both, [*arrivals, seen(0, 1)])) == [("high", "FIRING", 3, 3)]


def test_a_window_before_effective_from_is_none_before():
    """What was already so when a person came is said as FIRING, for it is news to them."""
    log = [seen(0, 1, (0.1, 0.2, 0.3)), seen(1, 2, (1.1, 1.2, 1.3))]
    late = an_interest(effective_from=BASE + HOUR)
    assert brief(told(late, log)) == [("high", "FIRING", 1, 3)]
    assert brief(told(an_interest(), log)) == [("high", "FIRING", 0, 3)]


def test_a_gap_is_no_breach_and_breaks_a_run():
    """A stretch that the source never gives neither fires low nor lets a breach go on."""
    log = [seen(0, 1), seen(1, 2, coverage=Coverage.GAP), seen(2, 3)]
    assert brief(told(an_interest(high=None, low=1), log)) == [("low", "FIRING", 0, 0), ("low", "FIRING", 2, 0)]


def test_a_gap_hides_flights_but_cannot_undo_them():
    """The example of ADR 0003: what was counted is past the threshold, whatever the gap hides."""
    many = [13 + n / 60 for n in range(25)]
    more = [14.4 + n / 60 for n in range(30)]
    log = [seen(13, 13.67, many), seen(13.67, 14.34, coverage=Coverage.GAP), seen(14.34, 15, more)]
    said = told(an_interest(high=20, effective_from=BASE + 13 * HOUR), log)
    assert brief(said) == [("high", "FIRING", 13, 21), ("high", "FIRING", 14, 21)]


def test_for_windows_asks_for_a_run():
    """With for_windows = 2 one window past the threshold is not yet a breach."""
    log = [seen(h, h + 1, [h + 0.1] * n) for h, n in enumerate((3, 1, 3, 3, 3, 0))]
    two = an_interest(for_windows=2)
    assert brief(told(two, log)) == [("high", "FIRING", 3, 3), ("high", "RESOLVED", 5, 0)]
    again = an_interest(for_windows=2, repeat=True)
    assert brief(told(again, log))[1] == ("high", "STILL", 4, 3)


def test_a_late_flight_may_fire_high_and_withdraws_low_with_both_counts():
    """Counts only grow: a high that is reached late fires late, a low that was wrong is taken back."""
    log = [seen(0, 1, (0.5, 0.6)), seen(1, 2, (1.1, 1.2)), seen(0, 1, (0.7,))]
    alerts = told(an_interest(high=2), log)
    assert brief(alerts) == [("high", "FIRING", 0, 3), ("high", "RESOLVED", 1, 2)]
    withdrawn = told(an_interest(high=None, low=3), log)[-1:]
    assert brief(withdrawn) == [("low", "FIRING", 1, 2)]  # the window after is now the first in breach
    first = [a for a in told(an_interest(high=None, low=3), log) if a.state is AlertState.WITHDRAWN]
    assert [(a.bound, a.count, a.withdrawn_count) for a in first] == [(Bound.LOW, 3, 2)]


def test_forgetting_old_hours_says_nothing():
    """Counts older than the retention leave no trace in what is said."""
    long_ago = [seen(24 * day, 24 * (day + 1), [24 * day + 1] * 3) for day in range(50)]
    alerts = told(an_interest(window=Window.ONE_DAY), long_ago)
    assert brief(alerts) == [("high", "FIRING", 0, 3)]


# The laws, for any log.


@settings(max_examples=400, deadline=None)
@given(log=interleaved(), interest=interests, position=st.integers(0, 40))
def test_what_is_said_is_the_brute_force_models_wherever_the_interest_came(log, interest, position):
    """Set before, amid or after the flights, in any interleaving: the same alerts, those of the plain model."""
    position = min(position, len(log))
    traffic = NO_TRAFFIC
    for event in log[:position]:
        traffic = traffic.fold(event)
    alerts = list(compute_alerts(interest, NO_TRAFFIC, traffic))
    for event in log[position:]:
        after = traffic.fold(event)
        alerts += compute_alerts(interest, traffic, after)
        traffic = after
    assert {(a.bound.value, a.state.value, a.window_start) for a in alerts} == to_be_said(interest, log)
    assert len({a.alert_id for a in alerts}) == len(alerts), "nothing is said twice"


@settings(max_examples=400, deadline=None)
@given(log=interleaved().flatmap(with_late_flights), interest=interests)
def test_what_each_event_adds_is_what_the_brute_force_model_adds(log, interest):
    """Late flights too: after each event what the plain model says of the log so far and did not say before; and of a
    low breach that it no longer says, that it is withdrawn."""
    traffic, before = NO_TRAFFIC, set()
    everything = replace(interest, repeat=True)
    for number, event in enumerate(log, start=1):
        after = traffic.fold(event)
        alerts = list(compute_alerts(interest, traffic, after))
        now = to_be_said(everything, log[:number])
        in_breach = {start for bound, state, start in now if bound == "low" and state != "RESOLVED"}
        expected = {
            ("low", "WITHDRAWN", start)
            for bound, state, start in before
            if bound == "low" and start not in in_breach
            if state == "FIRING" or (state == "STILL" and interest.repeat)
        }
        expected |= {each for each in now - before if each[1] != "STILL" or interest.repeat}
        assert {(a.bound.value, a.state.value, a.window_start) for a in alerts} == expected
        assert len(alerts) == len(expected)
        traffic, before = after, now


@given(log=interleaved())
def test_a_traffic_is_the_sum_of_its_log(log):
    """Counts by hour are those of the flights, however they were cut into batches."""
    traffic = Traffic()
    for event in log:
        traffic = traffic.fold(event)
    for flow, direction in ((traffic.arrivals, Direction.ARRIVALS), (traffic.departures, Direction.DEPARTURES)):
        times = [at // 3600 for event in log if event.direction is direction for at in event.event_times]
        for hour in set(times):
            assert flow.counts.total(hour, 1) == times.count(hour)
        assert flow.counts.total(0, 10**7) == len(times)


def test_what_is_remembered_is_enough_for_the_longest_run():
    """A new window looks back at MAX_FOR_WINDOWS of the longest, from the beginning of the longest interval."""
    assert (MAX_FOR_WINDOWS + 1) * Window.ONE_DAY.hours + LONGEST_INTERVAL_S // HOUR_S <= RETAINED_HOURS


@settings(max_examples=30, deadline=None)
@given(
    days=st.lists(st.integers(0, 3), min_size=45, max_size=70),
    step=st.integers(1, 7),
    for_windows=st.integers(1, MAX_FOR_WINDOWS),
    repeat=st.booleans(),
    longest=st.booleans(),
)
def test_forgetting_changes_nothing_of_what_is_said(days, step, for_windows, repeat, longest):
    """A log that is longer than what is remembered, with runs up to the longest, says what the plain model says."""
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
    alerts = told(interest, log)
    assert {(a.bound.value, a.state.value, a.window_start) for a in alerts} == to_be_said(interest, log)


def test_a_run_that_outlasts_the_memory_is_said_once():
    """The thirtieth day and all after it find the days before remembered: no FIRING every morning."""
    log = [seen(24 * day, 24 * (day + 1), [24 * day + 1] * 3) for day in range(60)]
    alerts = told(an_interest(window=Window.ONE_DAY, for_windows=MAX_FOR_WINDOWS), log)
    assert brief(alerts) == [("high", "FIRING", 24 * (MAX_FOR_WINDOWS - 1), 3)]
