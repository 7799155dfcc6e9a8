"""The deployed rules and dashboard, and the tests of rules for promtool."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.chassis.promtool import find_program

ROOT: Final = Path(__file__).parents[2]
DEPLOYED: Final = ROOT / "manifests/base/prometheus"
RULES: Final = tuple(sorted((DEPLOYED / "rules").glob("*.yml")))
ALERT_TESTS: Final = ROOT / "tests/prometheus/alerts.yml"

_STRING: Final = re.compile(r'"[^"]*"')
_NAME: Final = re.compile(r"(?<![\w:.$])[a-zA-Z_:][\w:]*")
_LABEL_LISTS: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_MATCHERS: Final = re.compile(r"\{[^}]*\}")
_RANGES: Final = re.compile(r"\[[^\]]*\]")
_BY_NAME: Final = re.compile(r'__name__=~?"([^"]*)"')
_WORDS: Final = frozenset(
    (
        "abs",
        "absent",
        "and",
        "avg_over_time",
        "bool",
        "histogram_quantile",
        "increase",
        "max",
        "min",
        "or",
        "rate",
        "sum",
        "unless",
        "vector",
    )
)
"""The words of the query language that the rules use; any other word is taken for a metric's name."""


def run_promtool(*arguments: str | Path) -> None:
    """Run promtool, and fail with its output if it fails."""
    done = subprocess.run([find_program("promtool"), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def load_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def load_rules() -> list[Mapping[str, Any]]:
    """Return all rules, recording and alerting."""
    return [rule for path in RULES for group in load_yaml(path)["groups"] for rule in group["rules"]]


def load_alerts() -> dict[str, Mapping[str, Any]]:
    """Return the alerting rules, by name."""
    return {rule["alert"]: rule for rule in load_rules() if "alert" in rule}


def load_dashboard() -> Mapping[str, Any]:
    shown: Mapping[str, Any] = json.loads((DEPLOYED / "dashboard.json").read_text(encoding="utf-8"))
    return shown


def iter_dashboard_queries() -> Iterator[str]:
    """Yield the queries of the dashboard, with Grafana's own variables replaced."""
    for panel in load_dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "5m")
    for variable in load_dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"^label_values\((.*),[^,]*\)$", r"\1", variable["query"]["query"])


def find_metrics(expression: str) -> set[str]:
    """Return the names of the metrics in an expression."""
    by_name = {name for names in _BY_NAME.findall(expression) for name in names.split("|")}
    bare = "\n".join(line.partition("#")[0] for line in _STRING.sub('""', expression).splitlines())
    for left_out in (_MATCHERS, _RANGES, _LABEL_LISTS):
        bare = left_out.sub(" ", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    return by_name | {name for name in _NAME.findall(bare) if name not in _WORDS}
