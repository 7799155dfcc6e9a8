"""The environments in the manifests contain exactly the settings that the services' classes read."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.faust.settings import StreamSettings
from chassis.settings import load_settings
from local.processes import ROOT
from tests.manifests.environment import (
    SETTINGS,
    build_environment,
    build_mounted_files,
    find_referenced_variables,
    write_files,
)
from tests.manifests.rendering import Rendered


def _faults(rendered: Rendered, name: str) -> Iterator[str]:
    """Yield the variables of a pod that its settings class does not read, and the required ones that are missing."""
    pod, settings = rendered.pod(name), SETTINGS[name]
    given = set(build_environment(rendered, pod))
    files = build_mounted_files(rendered, pod)
    readable = {field.upper() for field in settings.model_fields}
    readable |= {f"{field}_FILE" for field in readable}
    for variable in sorted(given - readable - find_referenced_variables(pod)):
        yield f"{variable} is set, and {settings.__name__} does not read it"
    for field, info in settings.model_fields.items():
        variable = field.upper()
        if info.is_required() and not given & {variable, f"{variable}_FILE"}:
            yield f"{variable} is needed and not set"
    for variable, path in build_environment(rendered, pod).items():
        if variable.endswith("_FILE") and path not in files:
            yield f"{variable} is {path}, which is not there"


@pytest.mark.parametrize("name", SETTINGS)
def test_all_variables_are_read_and_all_required_ones_are_set(rendered: Rendered, name: str) -> None:
    """The expectation is computed from the settings class, so that a new setting is checked too."""
    assert list(_faults(rendered, name)) == []


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_class_accepts_the_environment(
    rendered: Rendered, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All values are valid, not only the names."""
    for variable in _all_variables():
        monkeypatch.delenv(variable, raising=False)
    pod = rendered.pod(name)
    environment = write_files(build_environment(rendered, pod), build_mounted_files(rendered, pod), tmp_path)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    load_settings(SETTINGS[name])


def _all_variables() -> set[str]:
    names = {field.upper() for settings in SETTINGS.values() for field in settings.model_fields}
    return names | {f"{name}_FILE" for name in names}


def test_the_check_finds_a_variable_that_is_not_read(overlays: dict[str, Rendered]) -> None:
    """One name in a ConfigMap is misspelt."""
    broken = overlays["kind"].copy()
    data = broken.find_resource("ConfigMap", "streams")["data"]
    data["WEBPORT"] = data.pop("WEB_PORT")
    assert list(_faults(broken, "streams")) == [
        "WEBPORT is set, and JoinSettings does not read it",
        "WEB_PORT is needed and not set",
    ]


def test_the_check_finds_a_secret_that_is_not_mounted(overlays: dict[str, Rendered]) -> None:
    """One key is missing in a Secret."""
    broken = overlays["production"].copy()
    del broken.find_resource("Secret", "notifier")["data"]["SMTP_PASSWORD"]
    assert list(_faults(broken, "notifier")) == [
        "SMTP_PASSWORD_FILE is /run/secrets/towerwatch/SMTP_PASSWORD, which is not there"
    ]


def test_the_ports_of_settings_and_containers_are_the_same(rendered: Rendered) -> None:
    """A service listens on the port that its container names, probes and advertises."""
    for name in SETTINGS:
        pod = rendered.pod(name)
        environment = build_environment(rendered, pod)
        told = {
            name: int(value) for name, value in environment.items() if name.endswith("_PORT") and name != "SMTP_PORT"
        }
        ports = {"HTTP_PORT": "http", "WEB_PORT": "http", "GRPC_PORT": "grpc"}
        assert {ports[variable]: port for variable, port in told.items()} == pod.ports
        if issubclass(SETTINGS[name], StreamSettings):
            assert environment["ADVERTISED_URL"] == f"http://127.0.0.1:{pod.ports['http']}"


def test_no_secret_is_in_an_environment_or_a_config_map(rendered: Rendered, manifests: Path) -> None:
    """Secrets are files, which child processes do not inherit and `kubectl describe` does not show."""
    for pod in rendered.pods():
        assert not [each for each in pod.container.get("envFrom", ()) if "secretRef" in each]
        assert not [each for each in pod.container.get("env", ()) if "secretKeyRef" in each.get("valueFrom", {})]
    secrets = {
        line.partition("=")[2]
        for file in (manifests / "overlays" / rendered.overlay / "secrets").glob("*.env")
        for line in file.read_text().splitlines()
        if "=" in line and not line.startswith("#")
    } - {"", "towerwatch"}
    assert secrets
    texts = [str(each) for each in rendered.resources if each["kind"] != "Secret"]
    assert not [secret for secret in secrets if any(secret in text for text in texts)]


def test_shared_secrets_are_the_same_everywhere(overlays: dict[str, Rendered]) -> None:
    """Both services have the same operator's token, and each database has the password in its service's URL."""
    for rendered in overlays.values():
        files = {name: build_mounted_files(rendered, rendered.pod(name)) for name in ("user-manager", "collector")}
        tokens = {each["/run/secrets/towerwatch/OPERATOR_TOKEN"] for each in files.values()}
        assert len(tokens) == 1
        for service, database in (("user-manager", "user-db"), ("collector", "data-db")):
            pod = rendered.pod(database)
            made = build_environment(rendered, pod)
            password = build_mounted_files(rendered, pod)[made["MYSQL_PASSWORD_FILE"]]
            url = f"mysql+pymysql://{made['MYSQL_USER']}:{password}@{database}/{made['MYSQL_DATABASE']}"
            assert files[service]["/run/secrets/towerwatch/DATABASE_URL"] == url


def test_the_cluster_overrides_the_defaults_for_one_machine(rendered: Rendered) -> None:
    """Several defaults suit a single machine only."""
    for name, settings in SETTINGS.items():
        environment = build_environment(rendered, rendered.pod(name))
        assert environment["LISTEN_HOST"] == "0.0.0.0"
        assert environment["LOG_FORMAT"] == "json"
        if issubclass(settings, StreamSettings):
            assert environment["STORE"] == "rocksdb"
        copies = 3 if rendered.overlay == "production" else 1
        assert int(environment["KAFKA_REPLICATION_FACTOR"]) == copies == rendered.pod("kafka").owner["spec"]["replicas"]


def test_git_ignores_secrets_and_not_their_examples(manifests: Path) -> None:
    """The generated files below secrets/, and the demo's clock, cannot be committed by mistake."""
    made = [path.relative_to(manifests) for path in (manifests / "overlays").glob("*/secrets/*")]
    made.append(Path("overlays/kind/clock.env"))
    assert len(made) > 12
    for path in made:
        ignored = subprocess.run(["git", "check-ignore", "--quiet", f"manifests/{path}"], cwd=ROOT, check=False)
        assert ignored.returncode == 0, path
        if "production" in path.parts:
            example = (ROOT / "manifests" / path).with_name(f"{path.name}.example")
            assert subprocess.run(["git", "check-ignore", "--quiet", str(example)], cwd=ROOT, check=False).returncode
