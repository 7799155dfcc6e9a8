"""The deployment of Prometheus: its configuration, its rules, its rights and its targets."""

import fnmatch
import subprocess
from pathlib import Path

import yaml

from local.processes import ROOT
from tests.chassis.promtool import find_program
from tests.manifests.environment import build_mounted_files
from tests.manifests.rendering import SERVICES, Rendered

_FOLDER = ROOT / "manifests" / "base" / "prometheus"
_MOUNTED = "/etc/prometheus"


def test_every_rule_is_mounted_where_the_configuration_looks(rendered: Rendered) -> None:
    """Prometheus would not read a rules file that is not mounted."""
    files = build_mounted_files(rendered, rendered.pod("prometheus"))
    rules = {f"rules/{path.name}": path.read_text() for path in (_FOLDER / "rules").glob("*.yml")}
    expected = {"prometheus.yml": (_FOLDER / "prometheus.yml").read_text(), **rules}
    assert files == {f"{_MOUNTED}/{path}": content for path, content in expected.items()}
    (patterns,) = (
        yaml.safe_load(content).get("rule_files", []) for path, content in files.items() if "rules" not in path
    )
    for path in rules:
        assert any(fnmatch.fnmatch(path, pattern) for pattern in patterns), path
    assert f"--config.file={_MOUNTED}/prometheus.yml" in rendered.pod("prometheus").container["args"]


def test_prometheus_accepts_its_configuration(overlays: dict[str, Rendered], tmp_path: Path) -> None:
    """`promtool check config` accepts the pod's mounted configuration and rules (except for the discovery)."""
    promtool = find_program("promtool")
    rendered = overlays["production"]
    for path, content in build_mounted_files(rendered, rendered.pod("prometheus")).items():
        target = tmp_path / Path(path).relative_to(_MOUNTED)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    config = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        # Debian's promtool is built without Kubernetes' discovery, and rejects its block.
        job.pop("kubernetes_sd_configs", None)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [promtool, "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_may_discover_targets_only_in_its_namespace(rendered: Rendered) -> None:
    """The rights of discovery are bound in one namespace, and the configuration uses no other."""
    (role,) = rendered.resources_of("ClusterRole", None)
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    resources = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert resources == {"pods", "services", "endpoints", "endpointslices"}
    assert not rendered.resources_of("ClusterRoleBinding", None)
    config = yaml.safe_load(build_mounted_files(rendered, rendered.pod("prometheus"))[f"{_MOUNTED}/prometheus.yml"])
    for job in config["scrape_configs"]:
        for discovery in job.get("kubernetes_sd_configs", ()):
            assert discovery["namespaces"] == {"own_namespace": True}


def test_every_service_is_scraped(rendered: Rendered) -> None:
    """No other pod is scraped."""
    scraped = {
        pod.name
        for pod in rendered.pods()
        if pod.template["metadata"].get("annotations", {}).get("prometheus.io/scrape") == "true"
    }
    assert scraped == set(SERVICES)


def test_the_time_series_fit_into_their_volume(rendered: Rendered) -> None:
    """Prometheus deletes old blocks before the volume is full."""
    (claim,) = rendered.resources_of("PersistentVolumeClaim")
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"
    assert "--storage.tsdb.retention.size=700MB" in rendered.pod("prometheus").container["args"]
