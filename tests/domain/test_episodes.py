"""What an alert carries of what came before it: the beginning of its breach, and earlier counts."""

from datetime import timedelta

from hypothesis import given, settings

from domain.alerts import AlertState, Bound, compute_alert_id
from domain.changes import NO_TRAFFIC, TrafficChange, compute_alerts
from domain.episodes import MAX_EARLIER_COUNTS
from domain.interests import Direction
from domain.traffic import Coverage, Traffic
from domain.windows import Window
from tests.domain.logs import BASE, an_interest, facts, interests, interleaved, to_be_said
from tests.domain.test_rule import seen

HOUR = timedelta(hours=1)


def folded(log) -> Traffic:
    traffic = NO_TRAFFIC
    for event in log:
        traffic = traffic.fold(event)
    return traffic


@settings(max_examples=400, deadline=None)
@given(log=interleaved(), interest=interests)
def test_an_episode_is_the_last_firing_that_the_model_says(log, interest):
    """Of all that the brute-force model has to say: each alert belongs to the last FIRING of its bound until then."""
    said = sorted((start, bound) for bound, state, start in to_be_said(interest, log) if state == "FIRING")
    for alert in compute_alerts(interest, NO_TRAFFIC, folded(log)):
        began = [start for start, bound in said if bound == alert.bound and start <= alert.window_start][-1]
        assert alert.episode_id == compute_alert_id(
            interest.interest_id, interest.version, alert.bound, began, AlertState.FIRING
        )
        assert (alert.episode_id == alert.alert_id) == (alert.state is AlertState.FIRING)


@settings(max_examples=250, deadline=None)
@given(log=interleaved(), interest=interests)
def test_the_episode_does_not_depend_on_where_the_log_was_cut(log, interest):
    """Told event by event, or all at once: the same alert is of the same episode."""
    at_once = {each.alert_id: each.episode_id for each in compute_alerts(interest, NO_TRAFFIC, folded(log))}
    traffic = NO_TRAFFIC
    for event in log:
        after = traffic.fold(event)
        for alert in compute_alerts(interest, traffic, after):
            assert at_once[alert.alert_id] == alert.episode_id
        traffic = after


@settings(max_examples=250, deadline=None)
@given(log=interleaved(), interest=interests)
def test_earlier_counts_are_those_of_the_model(log, interest):
    """Counted flight by flight: the windows right before, from the first that is known on, and none that is not."""
    length = interest.window.length
    kept = facts(log, interest.direction)

    def known(start):
        return all(
            each.covered is not None
            and each.covered[0] <= start
            and start + length <= each.covered[1]
            and not any(begin < start + length and end > start for begin, end in each.gaps)
            for each in kept
        )

    for alert in compute_alerts(interest, NO_TRAFFIC, folded(log)):
        starts = [alert.window_start - back * length for back in range(MAX_EARLIER_COUNTS, 0, -1)]
        counts = [
            sum(start <= flight < start + length for each in kept for flight in each.flights) if known(start) else None
            for start in starts
        ]
        while counts and counts[0] is None:
            counts.pop(0)
        assert alert.earlier == tuple(counts)


def test_a_withdrawn_alert_belongs_to_what_it_takes_back():
    """FIRING is withdrawn in its own episode, STILL in that of the FIRING before it."""
    before = folded([seen(-1, 0), seen(0, 1, (0.5,)), seen(1, 2), seen(2, 3)])
    told = {
        repeat: an_interest(high=None, low=1, repeat=repeat, effective_from=BASE - HOUR) for repeat in (False, True)
    }

    def id_of(hour, state=AlertState.FIRING):
        return compute_alert_id(told[True].interest_id, 1, Bound.LOW, BASE + hour * HOUR, state)

    late = before.fold(seen(3, 4, (1.5,)))
    taken_back = [a for a in compute_alerts(told[False], before, late) if a.state is AlertState.WITHDRAWN]
    assert [(each.window_start, each.episode_id) for each in taken_back] == [(BASE + HOUR, id_of(1))]
    later = before.fold(seen(3, 4, (2.5,)))
    taken_back = [a for a in compute_alerts(told[True], before, later) if a.state is AlertState.WITHDRAWN]
    assert [(each.window_start, each.episode_id) for each in taken_back] == [(BASE + 2 * HOUR, id_of(1))]


def test_what_is_not_known_is_not_counted():
    """A gap stands as such between counts; what was before the first coverage is left out."""
    log = [seen(-3, -1, (-2.5, -1.5, -1.4)), seen(-1, 0, coverage=Coverage.GAP), seen(0, 2, (0.1, 1.1, 1.2, 1.3))]
    [alert] = compute_alerts(an_interest(effective_from=BASE), NO_TRAFFIC, folded(log))
    assert (alert.count, alert.earlier) == (3, (1, 2, None, 1))


def test_all_who_are_told_share_what_came_before():
    """A batch that alerts everybody looks back once for each window, not once for each person."""
    traffic = folded([seen(hour, hour + 1, (hour + 0.5,) * 3) for hour in range(20)])
    change = TrafficChange(NO_TRAFFIC, traffic)
    _, now = change.get_lookbacks(Direction.DEPARTURES, Window.ONE_HOUR)
    assert now.list_earlier_counts(19) is now.list_earlier_counts(19)
    assert now is change.get_lookbacks(Direction.DEPARTURES, Window.ONE_HOUR)[1]
    assert [now.find_run_start(Bound.HIGH, threshold, 10**6) for threshold in (2, 3)] == [10**6, 10**6]
    begin = int(BASE.timestamp()) // 3600
    assert [now.find_run_start(Bound.HIGH, threshold, begin + 19) - begin for threshold in (2, 3)] == [0, 19]
