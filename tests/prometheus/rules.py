"""The deployed rules, the dashboard and promtool's tests, as values."""

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
    ("absent", "and", "bool", "histogram_quantile", "increase", "max", "min", "or", "rate", "sum", "unless", "vector")
)
"""Of the query language, as far as it is used; one that is missing here is taken for a metric that nobody exports."""


def promtool(*arguments: str | Path) -> None:
    """Fails with what promtool says, unless it has no complaint."""
    done = subprocess.run([find_program("promtool"), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules() -> list[Mapping[str, Any]]:
    """All of them, recording and alerting."""
    return [rule for path in RULES for group in loaded(path)["groups"] for rule in group["rules"]]


def alerts() -> dict[str, Mapping[str, Any]]:
    """The alerting rules, by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboard() -> Mapping[str, Any]:
    shown: Mapping[str, Any] = json.loads((DEPLOYED / "dashboard.json").read_text(encoding="utf-8"))
    return shown


def dashboard_queries() -> Iterator[str]:
    """Grafana's own variables replaced as it would."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "5m")
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"^label_values\((.*),[^,]*\)$", r"\1", variable["query"]["query"])


def metrics_in(expression: str) -> set[str]:
    """The names of metrics that an expression reads."""
    by_name = {name for names in _BY_NAME.findall(expression) for name in names.split("|")}
    bare = "\n".join(line.partition("#")[0] for line in _STRING.sub('""', expression).splitlines())
    for left_out in (_MATCHERS, _RANGES, _LABEL_LISTS):
        bare = left_out.sub(" ", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    return by_name | {name for name in _NAME.findall(bare) if name not in _WORDS}
