"""What the manifests tell a service is what its settings class reads, no less and no more."""

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
    """What a pod's environment has that its settings do not read, and what it lacks."""
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
def test_what_is_set_is_read_and_what_is_needed_is_set(rendered: Rendered, name: str) -> None:
    """Computed from the settings class, so that a new setting is asked for here."""
    assert list(_faults(rendered, name)) == []


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_class_takes_the_environment(
    rendered: Rendered, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the names: each value is one that the service would start with."""
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


def test_a_variable_that_nobody_reads_is_found(overlays: dict[str, Rendered]) -> None:
    """The check itself: one ConfigMap with a misspelt name."""
    broken = overlays["kind"].copy()
    data = broken.find_resource("ConfigMap", "streams")["data"]
    data["WEBPORT"] = data.pop("WEB_PORT")
    assert list(_faults(broken, "streams")) == [
        "WEBPORT is set, and StreamsSettings does not read it",
        "WEB_PORT is needed and not set",
    ]


def test_a_secret_that_is_not_mounted_is_found(overlays: dict[str, Rendered]) -> None:
    """The check itself: a key that the Secret does not have."""
    broken = overlays["production"].copy()
    del broken.find_resource("Secret", "notifier")["data"]["SMTP_PASSWORD"]
    assert list(_faults(broken, "notifier")) == [
        "SMTP_PASSWORD_FILE is /run/secrets/towerwatch/SMTP_PASSWORD, which is not there"
    ]


def test_what_a_setting_says_of_ports_is_what_the_container_says(rendered: Rendered) -> None:
    """The port that is listened on is the one that is named, probed and advertised."""
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
    """They are files, which no child process inherits and no `kubectl describe` shows."""
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


def test_every_replica_reads_the_secrets_that_it_must_share(overlays: dict[str, Rendered]) -> None:
    """The operator's token is one for both services, and each database's password is the one in its URL."""
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


def test_settings_of_a_cluster_are_not_those_of_one_machine(rendered: Rendered) -> None:
    """What is left to its default for a laptop is said for a cluster."""
    for name, settings in SETTINGS.items():
        environment = build_environment(rendered, rendered.pod(name))
        assert environment["LISTEN_HOST"] == "0.0.0.0"
        assert environment["LOG_FORMAT"] == "json"
        if issubclass(settings, StreamSettings):
            assert environment["STORE"] == "rocksdb"
        copies = 3 if rendered.overlay == "production" else 1
        assert int(environment["KAFKA_REPLICATION_FACTOR"]) == copies == rendered.pod("kafka").owner["spec"]["replicas"]


def test_git_takes_examples_and_no_secret(manifests: Path) -> None:
    """What is made below secrets/, and the story's clock, cannot be committed by mistake."""
    made = [path.relative_to(manifests) for path in (manifests / "overlays").glob("*/secrets/*")]
    made.append(Path("overlays/kind/clock.env"))
    assert len(made) > 12
    for path in made:
        ignored = subprocess.run(["git", "check-ignore", "--quiet", f"manifests/{path}"], cwd=ROOT, check=False)
        assert ignored.returncode == 0, path
        if "production" in path.parts:
            example = (ROOT / "manifests" / path).with_name(f"{path.name}.example")
            assert subprocess.run(["git", "check-ignore", "--quiet", str(example)], cwd=ROOT, check=False).returncode
