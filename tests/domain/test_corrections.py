"""Tests of corrections: late and retracted flights, what they withdraw, and the ids of what comes again."""

from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings

from domain.alerts import AlertState, Bound, compute_alert_id
from domain.changes import NO_TRAFFIC, TrafficChange
from domain.corrections import MAX_CORRECTIONS_A_DAY
from domain.interest_alerts import compute_alerts
from domain.interests import Direction
from domain.traffic import Coverage, Observation
from domain.windows import Window, seconds
from tests.domain.corrected_logs import corrected_logs, tell_statements
from tests.domain.logs import BASE, an_interest, interests
from tests.domain.test_rule import HOUR, raise_alerts
from tests.domain.test_threshold_index import build_index, find_alerts, interest_lists


def message(begin, end, flights=(), retracted=(), coverage=Coverage.COMPLETE) -> Observation:
    """Return a message of departures; all times are hours after BASE, and a flight is told apart by its time alone."""
    at = [seconds(BASE) + round(hour * 3600) for hour in (begin, end)]
    times, taken = ([seconds(BASE) + round(hour * 3600) for hour in each] for each in (flights, retracted))
    return Observation(
        Direction.DEPARTURES, at[0], at[1], tuple(times), coverage, tuple(times), tuple((each, each) for each in taken)
    )


def describe(alerts) -> list[tuple[str, ...]]:
    """Return state, window (hours after BASE) and counts of each alert; WITHDRAWN with the state that it withdraws."""
    return [
        (f"{each.state}", (each.window_start - BASE) // HOUR, each.count)
        if each.withdrawn_state is None
        else (
            f"{each.state} {each.withdrawn_state}",
            (each.window_start - BASE) // HOUR,
            each.count,
            each.withdrawn_count,
        )
        for each in alerts
    ]


THREE = message(0, 1, (0.1, 0.2, 0.3))


def test_a_high_that_a_retraction_makes_untrue_is_withdrawn_with_both_counts():
    """High is withdrawn as low is: by the count after the correction and the one before."""
    log = [THREE, message(1, 2, (1.1,)), message(0, 1, (), (0.2,))]
    assert describe(raise_alerts(an_interest(), log)) == [
        ("FIRING", 0, 3),
        ("RESOLVED", 1, 1),
        ("WITHDRAWN FIRING", 0, 2, 3),
    ]


def test_a_high_in_an_open_window_is_withdrawn_too():
    """An early high was said of the flights that were seen by then: one of them may have been none."""
    log = [
        message(-1, 0),
        message(0, 1, (0.1, 0.2, 0.3), coverage=Coverage.PARTIAL),
        message(0, 1, (), (0.1, 0.2, 0.3)),
    ]
    assert describe(raise_alerts(an_interest(), log)) == [("FIRING", 0, 3), ("WITHDRAWN FIRING", 0, 0, 3)]


def test_a_low_that_a_retraction_makes_true_is_said_late():
    """A count that falls below a low threshold after its window closed fires, and the window after is resolved."""
    log = [THREE, message(1, 2, (1.1, 1.2, 1.3)), message(0, 1, (), (0.2,))]
    assert describe(raise_alerts(an_interest(high=None, low=3), log)) == [("FIRING", 0, 2), ("RESOLVED", 1, 3)]


def test_an_end_that_was_none_is_withdrawn():
    """Who was told that traffic is back to normal, and it was not, is told so."""
    log = [THREE, message(1, 2, (1.1, 1.2)), message(2, 3), message(1, 2, (1.3,))]
    assert describe(raise_alerts(an_interest(), log)) == [
        ("FIRING", 0, 3),
        ("RESOLVED", 1, 2),
        ("WITHDRAWN RESOLVED", 1, 3, 2),
        ("RESOLVED", 2, 0),
    ]


def test_the_end_of_a_breach_that_never_was_is_not_withdrawn_but_said_again_when_the_breach_comes_again():
    """The window was calm and is: nobody has to be told. Another breach before it has another end, with its own id."""
    log = [THREE, message(1, 2), message(0, 1, (), (0.2,)), message(0, 1, (0.4,))]
    alerts = raise_alerts(an_interest(), log)
    assert describe(alerts) == [
        ("FIRING", 0, 3),
        ("RESOLVED", 1, 0),
        ("WITHDRAWN FIRING", 0, 2, 3),
        ("FIRING", 0, 3),
        ("RESOLVED", 1, 0),
    ]
    assert len({alert.alert_id for alert in alerts}) == len(alerts)


def test_what_comes_again_has_an_id_of_its_own_and_what_was_never_withdrawn_the_id_of_always():
    """The revision counts withdrawals: the first time has the id from before there were revisions."""
    log = [THREE, message(0, 1, (), (0.1,)), message(0, 1, (0.4,)), message(0, 1, (), (0.4,)), message(0, 1, (0.5,))]
    ids = [alert.alert_id for alert in raise_alerts(an_interest(), log)]
    start = BASE
    assert ids == [
        compute_alert_id(UUID(int=1), 1, Bound.HIGH, start, state, withdrawn, revision)
        for state, withdrawn, revision in (
            (AlertState.FIRING, None, 0),
            (AlertState.WITHDRAWN, AlertState.FIRING, 0),
            (AlertState.FIRING, None, 1),
            (AlertState.WITHDRAWN, AlertState.FIRING, 1),
            (AlertState.FIRING, None, 2),
        )
    ]
    # Thresholds that the same corrections did not cross: nothing is said again, and later ids are plain.
    for high in (0, 1):
        (alert,) = raise_alerts(an_interest(high=high), log)
        assert alert.alert_id == compute_alert_id(UUID(int=1), 1, Bound.HIGH, start, AlertState.FIRING)
    later = raise_alerts(an_interest(high=3), [*log, message(0, 1, (0.6, 0.7))])
    assert [alert.alert_id for alert in later] == [
        compute_alert_id(UUID(int=1), 1, Bound.HIGH, start, AlertState.FIRING)
    ]


def test_ids_from_before_there_were_revisions_are_minted_still():
    """A replay of a log from before recognises what was said; the ids are written down here, as bytes."""
    interest_id = UUID("5d2f0f2e-1b1a-4c55-9d5e-3f1f0a6d7c01")
    arguments = interest_id, 7, Bound.LOW, BASE
    assert str(compute_alert_id(*arguments, AlertState.FIRING)) == "7eb44649-63e0-5555-afb7-0f9d30460969"
    assert (
        str(compute_alert_id(*arguments, AlertState.WITHDRAWN, AlertState.STILL))
        == "d517a971-a404-5e30-bea9-30ff05425efc"
    )


@pytest.mark.parametrize(
    ("flights", "retracted"),
    [
        ((), (0.9,)),  # was never seen
        ((), (0.1, 0.1, 0.1)),  # one flight, which is there once
        ((0.4, 0.5), (0.2, 0.3, 0.4)),  # 0.4 comes with this message, after what it takes back
    ],
)
def test_only_known_flights_can_be_retracted(flights, retracted):
    """Another flight, a second time, or one that comes later: nothing is taken away for it."""
    after = NO_TRAFFIC.fold(THREE).fold(message(0, 1, flights, retracted))
    known = {0.1, 0.2, 0.3} - set(retracted) | set(flights)
    assert after.departures.counts.total(seconds(BASE) // 3600, 1) == len(known)


def test_a_flight_that_is_retracted_before_it_is_seen_counts_when_it_is_seen():
    """The order is that of the log: the collector takes back what it told, and not what it will tell."""
    after = NO_TRAFFIC.fold(message(0, 1, (), (0.5,))).fold(message(0, 1, (0.5,)))
    assert after.departures.counts.total(seconds(BASE) // 3600, 1) == 1
    assert not after.departures.corrections or after.departures.corrections[-1].changes[0][1] == 1


def test_a_flight_that_is_no_longer_retained_cannot_be_retracted():
    """Past the retained hours nothing is counted, so nothing is taken away, and nothing is said."""
    days = [message(24 * day, 24 * (day + 1), [24 * day + 1 + n / 60 for n in range(3)]) for day in range(50)]
    traffic = NO_TRAFFIC
    for each in days:
        traffic = traffic.fold(each)
    after = traffic.fold(message(24 * 49, 24 * 50, (), (1, 1 + 1 / 60)))
    assert after == traffic


def test_a_gap_hides_flights_and_a_retraction_undoes_them():
    """A high that was said of a window with a gap is withdrawn when its flights are retracted (ADR 3)."""
    log = [
        message(0, 0.5, (0.1, 0.2, 0.3)),
        message(0.5, 1, coverage=Coverage.GAP),
        message(0, 0.5, (), (0.1,)),
    ]
    assert describe(raise_alerts(an_interest(), log)) == [("FIRING", 0, 3), ("WITHDRAWN FIRING", 0, 2, 3)]
    assert describe(raise_alerts(an_interest(high=None, low=5), log)) == []


def test_who_comes_after_a_correction_sees_only_its_outcome():
    """An interest that is set later gets what stands, under the ids of one that was there from the beginning."""
    log = [THREE, message(0, 1, (), (0.1,)), message(0, 1, (0.4,))]
    traffic = NO_TRAFFIC
    for each in log:
        traffic = traffic.fold(each)
    (late,) = compute_alerts(an_interest(), NO_TRAFFIC, traffic)
    assert late.alert_id == raise_alerts(an_interest(), log)[-1].alert_id


def test_a_firing_that_becomes_still_is_withdrawn_when_it_is_untrue_also_without_repeat():
    """It was told, and not as STILL: whether it is taken back depends on what was told, not on the last state."""
    hours = [message(0, 1), message(1, 2, (1.1, 1.2, 1.3))]
    log = [*hours, message(0, 1, (0.1, 0.2, 0.3)), message(1, 2, (), (1.1,))]
    assert describe(raise_alerts(an_interest(), log)) == [
        ("FIRING", 1, 3),
        ("FIRING", 0, 3),
        ("WITHDRAWN STILL", 1, 2, 3),
        ("RESOLVED", 1, 2),
    ]
    # Another person was told nothing of 01:00, for it was STILL from the beginning.
    log = [THREE, *hours[1:], message(1, 2, (), (1.1,))]
    assert describe(raise_alerts(an_interest(), log)) == [("FIRING", 0, 3), ("RESOLVED", 1, 2)]


def test_a_firing_is_not_told_twice_when_the_breach_before_it_is_withdrawn():
    """FIRING 01:00 was told and stands, whatever was said of 00:00 in between."""
    log = [message(0, 1), message(1, 2, (1.1, 1.2, 1.3)), message(0, 1, (0.1, 0.2, 0.3)), message(0, 1, (), (0.1,))]
    assert describe(raise_alerts(an_interest(), log)) == [
        ("FIRING", 1, 3),
        ("FIRING", 0, 3),
        ("WITHDRAWN FIRING", 0, 2, 3),
    ]


def test_a_correction_near_the_end_of_the_retained_hours_says_nothing_of_a_run_that_is_not_retained_whole():
    """The counts of a run's first days are gone: whether it was in breach is not known any more."""
    interest = an_interest(window=Window.ONE_DAY, high=0, for_windows=30)
    days = [message(24 * day, 24 * (day + 1), (24 * day + 1,)) for day in range(60)]
    log = [*days, message(24 * 59, 24 * 60, (), (24 * 21 + 1,))]
    alerts = raise_alerts(interest, log)
    assert describe(alerts)[0] == ("FIRING", 24 * 29, 1)
    withdrawn = [alert for alert in alerts if alert.state is AlertState.WITHDRAWN]
    assert all(alert.window_start - BASE >= timedelta(days=50) for alert in withdrawn)


def test_a_day_that_is_corrected_for_ever_takes_no_more_than_its_share_of_the_state():
    """Old records are dropped, and their number is kept, so that still no id comes twice."""
    log = [THREE]
    for number in range(MAX_CORRECTIONS_A_DAY + 20):
        log.append(message(0, 1, (), (0.1,)) if number % 2 == 0 else message(0, 1, (0.1,)))
    alerts = raise_alerts(an_interest(), log)
    assert len({alert.alert_id for alert in alerts}) == len(alerts) == len(log)
    traffic = NO_TRAFFIC
    for each in log:
        traffic = traffic.fold(each)
    assert len(traffic.departures.corrections) == MAX_CORRECTIONS_A_DAY


# Properties of any log.


@settings(max_examples=500, deadline=None)
@given(log=corrected_logs, interest=interests)
def test_each_message_says_what_the_model_says(log, interest):
    """Each message raises exactly the model's statements, with the model's ids; who comes after sees the outcome.

    The model keeps every flight and what it told; the rule knows counts and corrections alone. Nothing is said twice.
    """
    told, outcome = tell_statements(interest, log)
    traffic = NO_TRAFFIC
    for event, expected in zip(log, told, strict=True):
        after = traffic.fold(event)
        alerts = list(compute_alerts(interest, traffic, after))
        assert {alert.alert_id for alert in alerts} == expected
        assert len(alerts) == len(expected)
        traffic = after
    assert {alert.alert_id for alert in compute_alerts(interest, NO_TRAFFIC, traffic)} == outcome
    assert len(set[UUID]().union(*told)) == sum(len(each) for each in told), "no id comes twice"


@settings(max_examples=100, deadline=None)
@given(log=corrected_logs, wanted=interest_lists)
def test_the_index_finds_what_the_rule_says_of_each_interest(log, wanted):
    """Whatever a correction withdraws or says anew, the index finds it for each interest, in the rule's order."""
    thresholds, traffic = build_index(wanted), NO_TRAFFIC
    for event in log:
        after = traffic.fold(event)
        found = find_alerts(thresholds, wanted, TrafficChange(traffic, after))
        for interest in wanted:
            own = [alert for alert in found if alert.interest_id == interest.interest_id]
            assert own == list(compute_alerts(interest, traffic, after))
        traffic = after
