"""Tests of the history that an alert carries: the start of its breach, and earlier counts."""

from datetime import timedelta

from hypothesis import given, settings

from domain.alerts import AlertState, Bound, compute_alert_id
from domain.changes import NO_TRAFFIC, TrafficChange
from domain.episodes import MAX_EARLIER_COUNTS
from domain.interest_alerts import compute_alerts
from domain.interests import Direction
from domain.traffic import Coverage, Traffic
from domain.windows import Window
from tests.domain.logs import BASE, an_interest, build_model_logs, compute_expected_alerts, interests, interleaved
from tests.domain.test_rule import seen

HOUR = timedelta(hours=1)


def fold_log(log) -> Traffic:
    """Return the traffic after all observations of a log."""
    traffic = NO_TRAFFIC
    for event in log:
        traffic = traffic.fold(event)
    return traffic


@settings(max_examples=400, deadline=None)
@given(log=interleaved(), interest=interests)
def test_an_episode_is_the_last_firing_of_the_model(log, interest):
    """The episode of an alert is the last FIRING of its bound until then, among the alerts of the brute-force model."""
    firing = sorted(
        (start, bound) for bound, state, start in compute_expected_alerts(interest, log) if state == "FIRING"
    )
    for alert in compute_alerts(interest, NO_TRAFFIC, fold_log(log)):
        began = [start for start, bound in firing if bound == alert.bound and start <= alert.window_start][-1]
        assert alert.episode_id == compute_alert_id(
            interest.interest_id, interest.version, alert.bound, began, AlertState.FIRING
        )
        assert (alert.episode_id == alert.alert_id) == (alert.state is AlertState.FIRING)


@settings(max_examples=250, deadline=None)
@given(log=interleaved(), interest=interests)
def test_the_episode_does_not_depend_on_where_the_log_was_cut(log, interest):
    """An alert has the same episode whether the log is folded event by event or at once."""
    at_once = {each.alert_id: each.episode_id for each in compute_alerts(interest, NO_TRAFFIC, fold_log(log))}
    traffic = NO_TRAFFIC
    for event in log:
        after = traffic.fold(event)
        for alert in compute_alerts(interest, traffic, after):
            assert at_once[alert.alert_id] == alert.episode_id
        traffic = after


@settings(max_examples=250, deadline=None)
@given(log=interleaved(), interest=interests)
def test_earlier_counts_are_those_of_the_model(log, interest):
    """Earlier counts are the model's counts of the windows before, from the first known one on; None if unknown."""
    length = interest.window.length
    logs = build_model_logs(log, interest.direction)

    def known(start):
        return all(
            each.covered is not None
            and each.covered[0] <= start
            and start + length <= each.covered[1]
            and not any(begin < start + length and end > start for begin, end in each.gaps)
            for each in logs
        )

    for alert in compute_alerts(interest, NO_TRAFFIC, fold_log(log)):
        starts = [alert.window_start - back * length for back in range(MAX_EARLIER_COUNTS, 0, -1)]
        counts = [
            sum(start <= flight < start + length for each in logs for flight in each.flights) if known(start) else None
            for start in starts
        ]
        while counts and counts[0] is None:
            counts.pop(0)
        assert alert.earlier == tuple(counts)


def test_a_withdrawn_alert_belongs_to_the_episode_of_the_alert_it_withdraws():
    """A withdrawn FIRING belongs to its own episode, a withdrawn STILL to the episode of the FIRING before it."""
    before = fold_log([seen(-1, 0), seen(0, 1, (0.5,)), seen(1, 2), seen(2, 3)])
    interests_by_repeat = {
        repeat: an_interest(high=None, low=1, repeat=repeat, effective_from=BASE - HOUR) for repeat in (False, True)
    }

    def id_of(hour, state=AlertState.FIRING):
        return compute_alert_id(interests_by_repeat[True].interest_id, 1, Bound.LOW, BASE + hour * HOUR, state)

    late = before.fold(seen(3, 4, (1.5,)))
    withdrawn = [a for a in compute_alerts(interests_by_repeat[False], before, late) if a.state is AlertState.WITHDRAWN]
    assert [(each.window_start, each.episode_id) for each in withdrawn] == [(BASE + HOUR, id_of(1))]
    later = before.fold(seen(3, 4, (2.5,)))
    withdrawn = [a for a in compute_alerts(interests_by_repeat[True], before, later) if a.state is AlertState.WITHDRAWN]
    assert [(each.window_start, each.episode_id) for each in withdrawn] == [(BASE + 2 * HOUR, id_of(1))]


def test_an_unknown_window_has_no_count():
    """A window in a gap is None between counts; windows before the first coverage are left out."""
    log = [seen(-3, -1, (-2.5, -1.5, -1.4)), seen(-1, 0, coverage=Coverage.GAP), seen(0, 2, (0.1, 1.1, 1.2, 1.3))]
    [alert] = compute_alerts(an_interest(effective_from=BASE), NO_TRAFFIC, fold_log(log))
    assert (alert.count, alert.earlier) == (3, (1, 2, None, 1))


def test_all_alerts_of_a_window_share_their_history():
    """A batch that alerts many interests computes the history once for each window, not once for each interest."""
    traffic = fold_log([seen(hour, hour + 1, (hour + 0.5,) * 3) for hour in range(20)])
    change = TrafficChange(NO_TRAFFIC, traffic)
    _, now = change.get_lookbacks(Direction.DEPARTURES, Window.ONE_HOUR)
    assert now.list_earlier_counts(19) is now.list_earlier_counts(19)
    assert now is change.get_lookbacks(Direction.DEPARTURES, Window.ONE_HOUR)[1]
    assert [now.find_run_start(Bound.HIGH, threshold, 10**6) for threshold in (2, 3)] == [10**6, 10**6]
    begin = int(BASE.timestamp()) // 3600
    assert [now.find_run_start(Bound.HIGH, threshold, begin + 19) - begin for threshold in (2, 3)] == [0, 19]
