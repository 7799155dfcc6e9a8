"""A real Prometheus with the deployed configuration and the real services: its targets, time series and labels."""

from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from local.stack import SERVICES
from tests.prometheus.conftest import NODE, Prometheus, Stack
from tests.prometheus.rules import find_metrics, iter_dashboard_queries, load_alerts, load_rules
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(900)  # the first test waits for Kafka, which a fresh machine fetches first

ORIGINAL: Final = {
    "http_requests_total": {"method", "endpoint", "status"},
    "active_users_total": set(),
    "cache_cleanup_duration_seconds_count": set(),
    "cache_cleaned_entries_total": set(),
    "opensky_api_calls_total": {"status"},
    "flight_data_processing_seconds_count": set(),
    "emails_sent_total": {"status"},
    "last_email_sent_duration_seconds": set(),
}
"""The metrics in the report of the original system, with their labels besides `service` and `node`."""


def test_every_service_is_one_target_with_its_name_node_and_pod(prometheus: Prometheus) -> None:
    """A pod with several ports is one target; pods without the annotation and ended pods are no targets."""
    labels = [each["labels"] for each in prometheus.list_targets()]
    assert sorted(each["service"] for each in labels) == sorted(SERVICES)
    for each in labels:
        assert (each["node"], each["pod"]) == (NODE, f"{each['service'].replace('_', '-')}-0")


@pytest.mark.parametrize("name", ORIGINAL)
def test_the_metrics_of_the_original_report_have_their_labels(prometheus: Prometheus, name: str) -> None:
    """A query finds them without duplicates of the labels `service` and `node` (`exported_…`)."""
    found = eventually(lambda: prometheus.query_series(name), name)
    for series in found:
        assert ORIGINAL[name] | {"service", "node", "pod", "instance", "job"} <= set(series)
        assert series["node"] == NODE
        assert series["service"] in SERVICES
        assert not {label for label in series if label.startswith("exported_")}


def test_mails_calls_and_accounts_have_the_values_that_the_report_shows(prometheus: Prometheus) -> None:
    """Successes and failures are counted apart, and the gauge of accounts contains the registered one."""
    for expression in (
        'sum(emails_sent_total{service="notifier", status="success"}) >= 2',
        'sum(opensky_api_calls_total{service="collector", status="success"}) >= 1',
        'sum(http_requests_total{service="user_manager", method="POST", endpoint="/users", status="201"}) == 1',
        'active_users_total{service="user_manager"} == 1',
    ):
        eventually(lambda expression=expression: prometheus.query_series(expression), expression)


def test_every_metric_of_rules_and_dashboard_is_exported(stack: Stack) -> None:
    """A running service exports it under the same name; otherwise an alert would never fire."""
    exported = {name for service in SERVICES for name in exported_names(stack.exposition(service))}
    recorded = {rule["record"] for rule in load_rules() if "record" in rule}
    expressions = [*(rule["expr"] for rule in load_rules()), *iter_dashboard_queries()]
    read = {name for expression in expressions for name in find_metrics(expression)}
    assert len(read) > 30
    assert read - exported - recorded == {"up"}


def exported_names(exposition: str) -> set[str]:
    """Return the names of all time series that a service may export, also of those without a value yet."""
    names = set()
    for family in text_string_to_metric_families(exposition):
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
        names |= {f"{family.name}{end}" for end in ends.get(family.type, ("",))}
    return names


def test_all_rules_are_evaluated_without_errors_and_alerts(prometheus: Prometheus) -> None:
    """With the metrics of the running services no rule fails, and no alert is pending or firing."""
    eventually(lambda: set(prometheus.rules().values()) == {"ok"}, "every rule is evaluated", 180)
    assert set(load_alerts()) <= set(prometheus.rules())
    eventually(lambda: prometheus.query_series("service:up:sum"), "the recorded series", 180)
    eventually(lambda: not prometheus.alerts(), "an end of the alerts that the start has caused", 300)
