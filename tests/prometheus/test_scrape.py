"""A real Prometheus on the deployed configuration, beside the real services: what it finds, and under which labels."""

from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from local.stack import SERVICES
from tests.prometheus.conftest import NODE, Prometheus, Stack
from tests.prometheus.rules import alerts, dashboard_queries, metrics_in, rules
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
"""What the report of the original system names, with the labels beside `service` and `node`."""


def test_every_service_is_one_target_with_its_name_node_and_pod(prometheus: Prometheus) -> None:
    """Whatever ports its pod has; and no pod is a target that did not ask, or has ended."""
    labels = [each["labels"] for each in prometheus.targets()]
    assert sorted(each["service"] for each in labels) == sorted(SERVICES)
    for each in labels:
        assert (each["node"], each["pod"]) == (NODE, f"{each['service'].replace('_', '-')}-0")


@pytest.mark.parametrize("name", ORIGINAL)
def test_what_the_original_report_names_is_found_with_its_labels(prometheus: Prometheus, name: str) -> None:
    """By query, of the service that counts it, and once: not beside what the service itself says of its name."""
    found = eventually(lambda: prometheus.series(name), name)
    for series in found:
        assert ORIGINAL[name] | {"service", "node", "pod", "instance", "job"} <= set(series)
        assert series["node"] == NODE
        assert series["service"] in SERVICES
        assert not {label for label in series if label.startswith("exported_")}


def test_mails_calls_and_accounts_have_the_values_that_the_report_shows(prometheus: Prometheus) -> None:
    """Successes are told from failures, and the gauge of accounts has the one that registered."""
    for expression in (
        'sum(emails_sent_total{service="notifier", status="success"}) >= 2',
        'sum(opensky_api_calls_total{service="collector", status="success"}) >= 1',
        'sum(http_requests_total{service="user_manager", method="POST", endpoint="/users", status="201"}) == 1',
        'active_users_total{service="user_manager"} == 1',
    ):
        eventually(lambda expression=expression: prometheus.series(expression), expression)


def test_every_metric_of_rules_and_dashboard_is_exported(stack: Stack) -> None:
    """By a service that runs, under that very name; else an alert is silent for ever, and nobody notices."""
    exported = {name for service in SERVICES for name in exported_names(stack.exposition(service))}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    expressions = [*(rule["expr"] for rule in rules()), *dashboard_queries()]
    read = {name for expression in expressions for name in metrics_in(expression)}
    assert len(read) > 30
    assert read - exported - recorded == {"up"}


def exported_names(exposition: str) -> set[str]:
    """The names of all series that a service may export, also of those that nothing was counted in yet."""
    names = set()
    for family in text_string_to_metric_families(exposition):
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
        names |= {f"{family.name}{end}" for end in ends.get(family.type, ("",))}
    return names


def test_the_rules_are_evaluated_and_all_is_well(prometheus: Prometheus) -> None:
    """On what the services really export no rule ends in an error, and no alert is even on its way."""
    eventually(lambda: set(prometheus.rules().values()) == {"ok"}, "every rule is evaluated")
    assert set(alerts()) <= set(prometheus.rules())
    eventually(lambda: prometheus.series("service:up:sum"), "what is recorded")
    eventually(lambda: not prometheus.alerts(), "an end of the alerts that the start has caused")
