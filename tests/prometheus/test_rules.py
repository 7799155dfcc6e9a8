"""The rules, by Prometheus' own tools; and that nothing is left untested or without words for who is woken by it."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.prometheus.rules import ALERT_TESTS, DEPLOYED, ROOT, RULES, alerts, loaded, metrics_in, promtool


def test_promtool_accepts_the_rules() -> None:
    assert len(RULES) == 2
    promtool("check", "rules", *RULES)


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    """All but discovery by Kubernetes, which Debian's build leaves out: that block is what Prometheus documents."""
    configuration = loaded(DEPLOYED / "prometheus.yml")
    (pods,) = configuration["scrape_configs"]
    assert pods.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"own_namespace": True}}]
    configuration["rule_files"] = [str(DEPLOYED / each) for each in configuration["rule_files"]]
    checked = tmp_path / "prometheus.yml"
    checked.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    promtool("check", "config", checked)


def test_each_alert_fires_and_does_not() -> None:
    """By `promtool test rules`, on series that are made up: some that set an alert off, some that must not."""
    promtool("test", "rules", ALERT_TESTS)
    cases: list[dict[str, Any]] = [case for test in loaded(ALERT_TESTS)["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(alerts())
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(alerts())


def test_each_alert_has_its_paragraph_in_the_runbook() -> None:
    """Under its name, with what it means, where to look, and what to do; and the runbook has no other."""
    runbook = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    paragraphs = dict(re.findall(r"^### (\w+)\n(.*?)(?=^#|\Z)", runbook, re.MULTILINE | re.DOTALL))
    assert set(paragraphs) == set(alerts())
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
        for part in ("**People**", "**Look**", "**Do**"):
            assert part in paragraphs[name], f"{name}: {part}"


def test_names_of_metrics_are_found_in_expressions() -> None:
    """The reader that other tests lean on: functions, labels, strings, ranges and comments are no metrics."""
    expression = """
    # a comment says up
    sum by (service, reason) (increase({__name__=~"one_total|two_total"}[1h])) > 0
      unless on (pod) service:three:sum{status=~"5..", four="up"} offset 1h
    or histogram_quantile(0.95, sum by (le) (rate(five_seconds_bucket[5m]))) * 100 == 1e3
    """
    assert metrics_in(expression) == {"one_total", "two_total", "service:three:sum", "five_seconds_bucket"}
