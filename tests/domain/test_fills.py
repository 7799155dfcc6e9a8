"""Tests of filled gaps: what becomes known late is judged late, and what was said and is untrue is withdrawn."""

from uuid import UUID

from hypothesis import given, settings

from domain.changes import NO_TRAFFIC, TrafficChange
from domain.interest_alerts import compute_alerts
from tests.domain.filled_logs import filled_logs, tell_filled_statements
from tests.domain.logs import interests
from tests.domain.test_threshold_index import build_index, find_alerts, interest_lists


@settings(max_examples=600, deadline=None)
@given(log=filled_logs, interest=interests)
def test_each_message_says_what_the_model_says(log, interest):
    """Each message raises exactly the model's statements, with the model's ids; who comes after sees the outcome.

    The model knows what was ever COMPLETE and what it told; the rule knows the gaps and the corrections alone.
    """
    told, outcome = tell_filled_statements(interest, log)
    traffic = NO_TRAFFIC
    for event, expected in zip(log, told, strict=True):
        after = traffic.fold(event)
        alerts = list(compute_alerts(interest, traffic, after))
        assert {alert.alert_id for alert in alerts} == expected
        assert len(alerts) == len(expected)
        traffic = after
    assert {alert.alert_id for alert in compute_alerts(interest, NO_TRAFFIC, traffic)} == outcome
    everything = set[UUID]().union(*told)
    assert len(everything) == sum(len(each) for each in told), "no id comes twice"
    assert outcome <= everything


@settings(max_examples=150, deadline=None)
@given(log=filled_logs, wanted=interest_lists)
def test_the_index_finds_what_the_rule_says_of_each_interest(log, wanted):
    """Whatever a fill withdraws or says late, the index finds it for each interest, in the rule's order."""
    thresholds, traffic = build_index(wanted), NO_TRAFFIC
    for event in log:
        after = traffic.fold(event)
        found = find_alerts(thresholds, wanted, TrafficChange(traffic, after))
        for interest in wanted:
            own = [alert for alert in found if alert.interest_id == interest.interest_id]
            assert own == list(compute_alerts(interest, traffic, after))
        traffic = after
