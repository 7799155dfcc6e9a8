"""The alerting rules: promtool accepts them, each alert is tested, and the runbook has a paragraph for each."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.prometheus.rules import (
    ALERT_TESTS,
    DEPLOYED,
    ROOT,
    RULES,
    find_metrics,
    load_alerts,
    load_yaml,
    run_promtool,
)


def test_promtool_accepts_the_rules() -> None:
    assert len(RULES) == 2
    run_promtool("check", "rules", *RULES)


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    """The block of Kubernetes' discovery is compared as text, because Debian's build does not support it."""
    configuration = load_yaml(DEPLOYED / "prometheus.yml")
    (pods,) = configuration["scrape_configs"]
    assert pods.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"own_namespace": True}}]
    configuration["rule_files"] = [str(DEPLOYED / each) for each in configuration["rule_files"]]
    checked = tmp_path / "prometheus.yml"
    checked.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    run_promtool("check", "config", checked)


def test_each_alert_has_a_test_that_fires_and_one_that_does_not() -> None:
    """`promtool test rules` evaluates the alerts on invented time series."""
    run_promtool("test", "rules", ALERT_TESTS)
    cases: list[dict[str, Any]] = [case for test in load_yaml(ALERT_TESTS)["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(load_alerts())
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(load_alerts())


def test_each_alert_has_a_paragraph_in_the_runbook() -> None:
    """A paragraph contains the meaning, where to look, and what to do; the runbook has no other paragraphs."""
    runbook = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    paragraphs = dict(re.findall(r"^### (\w+)\n(.*?)(?=^#|\Z)", runbook, re.MULTILINE | re.DOTALL))
    assert set(paragraphs) == set(load_alerts())
    for name, rule in load_alerts().items():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
        for part in ("**People**", "**Look**", "**Do**"):
            assert part in paragraphs[name], f"{name}: {part}"


def test_names_of_metrics_are_found_in_expressions() -> None:
    """Functions, labels, strings, ranges and comments are no metrics."""
    expression = """
    # a comment says up
    sum by (service, reason) (increase({__name__=~"one_total|two_total"}[1h])) > 0
      unless on (pod) service:three:sum{status=~"5..", four="up"} offset 1h
    or histogram_quantile(0.95, sum by (le) (rate(five_seconds_bucket[5m]))) * 100 == 1e3
    """
    assert find_metrics(expression) == {"one_total", "two_total", "service:three:sum", "five_seconds_bucket"}
