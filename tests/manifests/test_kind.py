"""The cluster on this machine: its configuration, its secrets, and the commands that create it."""

import os
import re
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from chassis.clock import ScaledClock
from chassis.settings import Settings, load_settings
from local.kind import clock, cluster, secrets
from local.kind.__main__ import _print_addresses
from local.processes import ROOT
from tests.manifests.rendering import Rendered
from tests.service_process import bare_environment


def _kind_yaml() -> dict[str, object]:
    return dict(yaml.safe_load((ROOT / "kind.yaml").read_text()))


def test_the_gateway_is_reachable_from_this_machine_only(overlays: dict[str, Rendered]) -> None:
    """The node's mapped ports are the gateway's, and listen on 127.0.0.1."""
    (control_plane, *workers) = _kind_yaml()["nodes"]  # type: ignore[misc]
    mapped = {each["hostPort"]: each["containerPort"] for each in control_plane["extraPortMappings"]}
    assert {each["listenAddress"] for each in control_plane["extraPortMappings"]} == {"127.0.0.1"}
    (proxy,) = overlays["kind"].resources_of("NginxProxy", None)
    service = proxy["spec"]["kubernetes"]["service"]
    assert service["type"] == "NodePort"
    assert {each["listenerPort"]: each["port"] for each in service["nodePorts"]} == mapped
    (gateway,) = overlays["kind"].resources_of("Gateway", None)
    assert {each["port"] for each in gateway["spec"]["listeners"]} == set(mapped) == {80, 443}
    # The port is mapped on the control plane, and nginx may be on any node.
    assert service["externalTrafficPolicy"] == "Cluster"
    assert [control_plane["role"], *(each["role"] for each in workers)] == ["control-plane", "worker", "worker"]


def test_the_nodes_are_pinned_and_in_different_zones() -> None:
    """All nodes have one image with a digest, and the workers have different zones."""
    nodes: list[dict[str, object]] = _kind_yaml()["nodes"]  # type: ignore[assignment]
    (image,) = {str(each["image"]) for each in nodes}
    assert re.fullmatch(r"kindest/node:v1\.[0-9]+\.[0-9]+@sha256:[0-9a-f]{64}", image)
    zones = [each["labels"]["topology.kubernetes.io/zone"] for each in nodes if each["role"] == "worker"]  # type: ignore[index]
    assert len(set(zones)) == 2


def test_the_schemas_have_the_versions_of_the_cluster() -> None:
    """The tests check against the installed versions of Kubernetes and of Gateway API."""
    tools = (ROOT / "manifests" / "tools.sh").read_text()
    image = str(_kind_yaml()["nodes"][0]["image"])  # type: ignore[index]
    assert f"KUBERNETES_VALIDATE={re.search(r':v(1[.][0-9]+)', image)[1]}." in tools  # type: ignore[index]
    assert f"GATEWAY_API={cluster.GATEWAY_API} " in tools


def test_secrets_are_created_once(tmp_path: Path) -> None:
    """They are random and readable by their owner only; existing ones are kept, as the databases use them."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert secrets.make_secrets(first)
    assert secrets.make_secrets(second)
    before = {path.name: path.read_text() for path in first.iterdir()}
    assert not secrets.make_secrets(first)
    assert {path.name: path.read_text() for path in first.iterdir()} == before
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in first.iterdir())
    for name, content in before.items():
        assert (second / name).read_text() != content, name


def test_the_certificate_is_for_localhost_and_valid_for_a_year(tmp_path: Path) -> None:
    """TLS accepts it with its key, and it cannot sign other certificates."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    secrets.make_secrets(tmp_path, now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    certificate = x509.load_pem_x509_certificate((tmp_path / "tls.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert certificate.not_valid_before_utc < now < certificate.not_valid_after_utc == now + timedelta(days=365)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_services_read_the_clock_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings describe the same clock as the one that was written to the file."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    now = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
    begin, end = datetime(2013, 2, 8, tzinfo=UTC), datetime(2013, 2, 11, tzinfo=UTC)
    for written in (
        clock.make_daily_clock(now),
        clock.make_scenario_clock(begin, end, timedelta(minutes=10), now, 180.0),
    ):
        clock.write_clock(tmp_path / "clock.env", written)
        for line in (tmp_path / "clock.env").read_text().splitlines():
            name, _, value = line.partition("=")
            monkeypatch.setenv(name, value)
        assert load_settings(Settings).build_clock() == written
    assert written == ScaledClock(begin, 1440.0, now, end + timedelta(minutes=10))


def _kind(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m local.kind` with only the programs in `path`."""
    environment = bare_environment() | {"PATH": str(path), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}"}
    return subprocess.run(
        [sys.executable, "-m", "local.kind", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _program(folder: Path, name: str, does: str = "") -> None:
    """Write a program that records its arguments in the file `said`, and then runs the shell commands `does`."""
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name} $@" >>"{folder}/said"\n{does}\n')
    path.chmod(0o755)


@pytest.mark.parametrize("command", ["up", "demo", "down"])
def test_missing_programs_are_reported_before_anything_is_run(tmp_path: Path, command: str) -> None:
    """The error contains each missing program with its web site; installed programs are not run."""
    _program(tmp_path, "docker")
    done = _kind(tmp_path, command)
    assert done.returncode == 2
    assert "kind: https://kind.sigs.k8s.io" in done.stderr
    assert ("kubectl: https://kubernetes.io" in done.stderr) == (command != "down")
    assert "docker:" not in done.stderr
    assert not (tmp_path / "said").exists()


def test_an_engine_that_does_not_run_is_reported(tmp_path: Path) -> None:
    """The exit code is 2."""
    for name in ("kind", "kubectl"):
        _program(tmp_path, name)
    _program(tmp_path, "docker", "exit 1")
    done = _kind(tmp_path, "up")
    assert done.returncode == 2
    assert "its engine does not answer" in done.stderr


def test_the_demo_does_not_use_an_existing_cluster(tmp_path: Path) -> None:
    """A cluster may have data, so the demo requires the option --empty to delete it."""
    for name in ("docker", "kubectl"):
        _program(tmp_path, name)
    _program(tmp_path, "kind", "echo towerwatch")
    done = _kind(tmp_path, "demo")
    assert done.returncode == 2
    assert "--empty" in done.stderr
    assert "delete" not in (tmp_path / "said").read_text()


def test_a_cluster_is_created_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The order is cluster, image, gateway, secrets, manifests; kubectl always gets the context of this cluster."""
    for name in ("docker", "kind", "kubectl"):
        _program(tmp_path, name)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(cluster, "SECRETS", tmp_path / "secrets")
    monkeypatch.setattr(cluster, "CLOCK", tmp_path / "clock.env")
    cluster.bring_up()
    assert capfd.readouterr().err == ""
    said = (tmp_path / "said").read_text().splitlines()
    steps = [
        "kind create cluster --config",
        "docker build --target kind",
        "kind load docker-image towerwatch:kind",
        "standard-install.yaml",
        "nginx-gateway-fabric/" + cluster.GATEWAY_FABRIC + "/deploy/crds.yaml",
        # The API server rejects resources of a kind whose definition it does not have yet.
        "wait --for=condition=Established customresourcedefinitions --all",
        "/deploy/default/deploy.yaml",
        "apply --kustomize",
        "job/topics --timeout",
        "deployment/notifier --timeout",
    ]
    positions = [next(number for number, line in enumerate(said) if step in line) for step in steps]
    assert positions == sorted(positions)
    assert all(line.startswith("kubectl --context kind-towerwatch ") for line in said if line.startswith("kubectl"))
    assert not [line for line in said if "restart" in line], "a new cluster's pods have the new image"
    assert (tmp_path / "clock.env").exists()
    assert (tmp_path / "secrets" / "tls.key").exists()


def test_every_deployment_is_waited_for(overlays: dict[str, Rendered]) -> None:
    """Each Deployment with the services' image is restarted when a new image has the same name."""
    ours = {pod.name for pod in overlays["kind"].pods() if pod.container["image"] == cluster.IMAGE}
    assert ours == {*cluster.OURS, "topics"}


def test_the_addresses_of_people_and_of_the_mailbox_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Who has just brought the cluster up sees where people come in, and where their mails are."""
    _print_addresses()
    said = capsys.readouterr().out
    assert re.search(r"people +https://localhost/$", said, re.M)
    assert re.search(
        r"mails +http://127\.0\.0\.1:8026/, after: kubectl .*port-forward service/mailbox 8026$", said, re.M
    )
