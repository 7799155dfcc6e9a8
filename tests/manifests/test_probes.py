"""The table of probes in docs/deployment.md says the seconds of the manifests, and every pod is in it."""

import re
from typing import Any, Final

from local.processes import ROOT
from tests.manifests.rendering import Pod, Rendered

_SECONDS: Final = re.compile(r"\b(\d+) s\b")


def _read_table() -> dict[str, list[str]]:
    """Return the cells of each pod's row, without its name."""
    text = (ROOT / "docs" / "deployment.md").read_text().partition("## Probes:")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    return {
        re.sub(r" \(.*\)", "", name): [cell.strip() for cell in cells]
        for names, *cells in rows[1:]
        for name in names.strip().split(", ")
    }


def _compute_failure_time(probe: dict[str, Any]) -> int:
    """Return the seconds after which Kubernetes acts on a probe that always fails."""
    return int(probe["periodSeconds"] * probe.get("failureThreshold", 3))


def _has_probes(pod: Pod) -> bool:
    return bool(pod.owner["kind"] != "Job")


def test_the_documented_seconds_are_those_of_the_manifests(rendered: Rendered) -> None:
    """Each cell names the time after which its probe acts; startup first, then readiness, then liveness."""
    table = _read_table()
    for pod in filter(_has_probes, rendered.pods()):
        cells = table[pod.name]
        for cell, kind in zip(cells, ("startup", "readiness", "liveness"), strict=True):
            named = [int(each) for each in _SECONDS.findall(cell)]
            expected = _compute_failure_time(pod.container[f"{kind}Probe"])
            assert expected in named, f"{pod.name}: {kind} acts after {expected} s, and the table says {named}"


def test_every_pod_is_in_the_table(overlays: dict[str, Rendered]) -> None:
    """And nothing else is."""
    names = {pod.name for rendered in overlays.values() for pod in filter(_has_probes, rendered.pods())}
    assert set(_read_table()) == names


def test_readiness_is_asked_more_often_than_liveness_acts(rendered: Rendered) -> None:
    """A pod leaves its Services long before it is begun anew, and a start may take longer than either."""
    for pod in filter(_has_probes, rendered.pods()):
        startup, ready, live = (
            _compute_failure_time(pod.container[f"{kind}Probe"]) for kind in ("startup", "readiness", "liveness")
        )
        assert startup > live > ready, pod.name
