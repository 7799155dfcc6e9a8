"""compose.yaml conforms to the Compose Specification, and its parts are those that run elsewhere."""

import copy
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest
import yaml

from chassis.settings import Settings, load_settings
from collector.settings import CollectorSettings
from local.compose import GIVEN_BY_OTHERS, make_secrets
from local.gateway.__main__ import NAME as GATEWAY
from local.kafka.jars import KAFKA_VERSION
from local.processes import ROOT
from notifier.settings import NotifierSettings
from streams.settings import JoinSettings
from user_manager.settings import UserManagerSettings

_SETTINGS: Final[dict[str, type[Settings]]] = {
    "user-manager": UserManagerSettings,
    "collector": CollectorSettings,
    "streams": JoinSettings,
    "notifier": NotifierSettings,
}
_DOT_ENV: Final = {
    "PUBLIC_URL": "https://towerwatch.example.org",
    "SMTP_HOST": "smtp.example.org",
    "MAIL_FROM": "Towerwatch <alerts@example.org>",
}
_VARIABLE: Final = re.compile(r"\$(?:\$|\{([A-Z_]+)(?::([-?])([^}]*))?\})")

_Compose = dict[str, Any]


@pytest.fixture(scope="module")
def text() -> str:
    return (ROOT / "compose.yaml").read_text()


@pytest.fixture(scope="module")
def compose(text: str) -> _Compose:
    """Return compose.yaml as compose reads it with the variables of .env that are needed."""
    return dict(_fill_in(yaml.safe_load(text), _DOT_ENV))


def _fill_in(value: Any, variables: dict[str, str]) -> Any:
    """Return a value with all variables replaced, as compose does: `${NAME:-default}`, `${NAME:?reason}`, `$$`."""
    if isinstance(value, dict):
        return {key: _fill_in(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [_fill_in(each, variables) for each in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        if match[1] in variables:
            return variables[match[1]]
        assert match[2] == "-", f"{match[1]} is needed, and not in .env"
        return match[3]

    return _VARIABLE.sub(replace, value)


def _list_violations(content: _Compose) -> list[str]:
    """Return how a file violates the specification, whose schema is in this folder."""
    schema = json.loads((ROOT / "tests" / "compose" / "compose-spec.json").read_text())
    return [error.message for error in jsonschema_rs.validator_for(schema).iter_errors(content)]


def test_the_file_conforms_to_the_specification(compose: _Compose, text: str) -> None:
    """With its variables replaced, and as it is written."""
    assert _list_violations(compose) == []
    assert _list_violations(yaml.safe_load(text)) == []


def test_the_check_finds_what_compose_would_refuse(compose: _Compose) -> None:
    """One misspelt key, and one condition that does not exist."""
    broken = copy.deepcopy(compose)
    broken["services"]["streams"]["healthchek"] = broken["services"]["streams"].pop("healthcheck")
    broken["services"]["notifier"]["depends_on"]["kafka"]["condition"] = "service_ready"
    assert len(_list_violations(broken)) >= 2


def test_what_is_needed_is_said(text: str) -> None:
    """compose itself ends with the sentence of a variable that .env lacks."""
    needed = {match[1] for match in _VARIABLE.finditer(text) if match[2] == "?"}
    assert needed == set(_DOT_ENV)
    for name in needed:
        assert any(match[3] for match in _VARIABLE.finditer(text) if match[1] == name), name


def _build_environment(compose: _Compose, name: str) -> dict[str, str]:
    """Return a service's environment: its env files, then its own variables."""
    service = compose["services"][name]
    environment: dict[str, str] = {}
    for file in service.get("env_file", ()):
        lines = (ROOT / file).read_text().splitlines()
        environment |= dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return environment | service["environment"]


def _list_faults(compose: _Compose, name: str) -> Iterator[str]:
    """Yield the variables that a service does not read, and the required ones that are missing."""
    given, settings = set(_build_environment(compose, name)), _SETTINGS[name]
    readable = {field.upper() for field in settings.model_fields}
    for variable in sorted(given - readable - {f"{each}_FILE" for each in readable}):
        yield f"{variable} is set, and {settings.__name__} does not read it"
    for field, info in settings.model_fields.items():
        if info.is_required() and not given & {field.upper(), f"{field.upper()}_FILE"}:
            yield f"{field.upper()} is needed and not set"


@pytest.mark.parametrize("name", _SETTINGS)
def test_a_service_accepts_its_environment(
    compose: _Compose, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each variable is one of its settings, each required one is set, and all values are valid, with made secrets."""
    assert list(_list_faults(compose, name)) == []
    make_secrets(tmp_path)
    for settings in _SETTINGS.values():
        for field in settings.model_fields:
            monkeypatch.delenv(field.upper(), raising=False)
            monkeypatch.delenv(f"{field.upper()}_FILE", raising=False)
    mounted = {f"/run/secrets/{secret}" for secret in compose["services"][name]["secrets"]}
    for variable, value in _build_environment(compose, name).items():
        if variable.endswith("_FILE"):
            assert value in mounted, f"{variable} is {value}, which is not there"
            mounted.discard(value)
        monkeypatch.setenv(variable, value.replace("/run/secrets", str(tmp_path)))
    assert mounted == set(), "a secret that nobody reads"
    load_settings(_SETTINGS[name])


def test_the_check_finds_a_variable_that_nobody_reads(compose: _Compose) -> None:
    broken = copy.deepcopy(compose)
    environment = broken["services"]["streams"]["environment"]
    environment["ADVERTISED_URI"] = environment.pop("ADVERTISED_URL")
    assert list(_list_faults(broken, "streams")) == ["ADVERTISED_URI is set, and JoinSettings does not read it"]


def test_every_secret_is_a_file_that_the_command_makes(compose: _Compose, tmp_path: Path) -> None:
    """None is an environment variable, and a second call changes none: the databases have these passwords."""
    made = make_secrets(tmp_path)
    assert set(made) == set(compose["secrets"])
    contents = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {name for name, content in contents.items() if not content} == set(GIVEN_BY_OTHERS)
    random = [content for content in contents.values() if content]
    assert len(set(random)) == len(random)
    for name, secret in compose["secrets"].items():
        assert secret == {"file": f"./.towerwatch/compose/{name}"}
    assert make_secrets(tmp_path) == []
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == contents
    for database in ("user_db", "data_db"):
        assert contents[f"{database}_password"] in contents[f"{database}_url"]
        (tmp_path / f"{database}_url").unlink()
    assert make_secrets(tmp_path) == ["user_db_url", "data_db_url"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == contents


def test_the_secrets_folder_is_closed_and_ignored_by_git(tmp_path: Path) -> None:
    """Containers read the files as users of their own, so that the folder alone keeps others out."""
    make_secrets(tmp_path / "compose")
    assert (tmp_path / "compose").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o444 for path in (tmp_path / "compose").iterdir()} == {0o444}
    ignored = subprocess.run(
        ["git", "check-ignore", "--quiet", ".towerwatch/compose/signing_key"], cwd=ROOT, check=False
    )
    assert ignored.returncode == 0


def test_the_images_are_those_of_kubernetes(compose: _Compose, text: str) -> None:
    """A version is raised at one place or a test says where else."""
    mysql = re.search(r"image: (mysql:\S+)", (ROOT / "manifests/base/mysql/mysql.yaml").read_text())
    assert mysql is not None
    images = {name: service["image"] for name, service in compose["services"].items()}
    assert images["user-db"] == images["data-db"] == mysql[1]
    assert images["kafka"] == f"apache/kafka:{KAFKA_VERSION}"
    assert {images[name] for name in (*_SETTINGS, GATEWAY)} == {"towerwatch:compose"}
    # local/, with the gateway, is in this target alone.
    assert compose["services"][GATEWAY]["build"]["target"] == "kind"


def test_whoever_is_needed_is_waited_for_by_what_the_application_says(compose: _Compose) -> None:
    """Each service has a healthcheck, none of which is only an open port, and each dependency waits for it."""
    services = compose["services"]
    for name, service in services.items():
        test = " ".join(service["healthcheck"]["test"])
        assert any(each in test for each in ("/health/ready", "SELECT 1", "probe.sh in-step")), name
        assert {each["condition"] for each in service.get("depends_on", {}).values()} <= {"service_healthy"}
    assert {name: set(service.get("depends_on", ())) for name, service in services.items()} == {
        "user-db": set(),
        "data-db": set(),
        "kafka": set(),
        "user-manager": {"user-db", "kafka"},
        "collector": {"data-db", "kafka"},
        "streams": {"kafka"},
        "notifier": {"kafka", "user-manager"},
        "gateway": {"user-manager", "collector"},
    }


def test_the_environment_of_kafka_is_enough_for_its_scripts(compose: _Compose, tmp_path: Path) -> None:
    """start.sh writes the properties of the one node, whose quorum is named as the network names it."""
    kafka = compose["services"]["kafka"]
    script = (ROOT / "manifests/base/kafka/start.sh").read_text()
    for path, here in (
        ("/tmp", str(tmp_path)),
        ("/etc/towerwatch", str(ROOT / "manifests/base/kafka")),
    ):  # may be in /tmp
        script = script.replace(path, here)
    (tmp_path / "start.sh").write_text(
        script.replace("/opt/kafka/bin/kafka-storage.sh", "true").replace(
            "exec /opt/kafka/bin/kafka-server-start.sh", "cat"
        )
    )
    done = subprocess.run(
        ["bash", str(tmp_path / "start.sh")],
        env={"PATH": os.environ["PATH"], "HOSTNAME": kafka["hostname"], **kafka["environment"]},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = dict(line.partition("=")[::2] for line in done.stdout.splitlines() if line and line[0] != "#")
    assert (lines["node.id"], lines["advertised.listeners"]) == ("0", "CLIENTS://kafka:9092")
    voter = lines["controller.quorum.voters"].partition("@")[2].partition(":")[0]
    assert voter in kafka["networks"]["log"]["aliases"]


def _list_neighbours(compose: _Compose, name: str) -> set[str]:
    """Return the services that share a network with one, and their other names."""
    own = set(compose["services"][name]["networks"])
    found = set()
    for other, service in compose["services"].items():
        networks = service["networks"]
        if other != name and own & set(networks):
            found.add(other)
            if isinstance(networks, dict):
                shared = (settings for network, settings in networks.items() if network in own and settings)
                found |= {alias for settings in shared for alias in settings["aliases"]}
    return found


def test_a_service_reaches_what_its_settings_name_and_no_other_database(compose: _Compose) -> None:
    """As the NetworkPolicies have it: a service has no way to the other one's database."""
    for name in _SETTINGS:
        environment = _build_environment(compose, name)
        named = {
            value.partition(":")[0]
            for variable, value in environment.items()
            if variable.endswith("_GRPC_TARGET") or variable == "KAFKA_BOOTSTRAP_SERVERS"
        }
        assert named <= _list_neighbours(compose, name), name
    databases = {name: _list_neighbours(compose, name) & {"user-db", "data-db"} for name in compose["services"]}
    assert {name: found for name, found in databases.items() if found} == {
        "user-manager": {"user-db"},
        "collector": {"data-db"},
    }
    asks_the_world = {name for name, each in compose["services"].items() if "outside" in each["networks"]}
    assert asks_the_world == {"collector", "notifier", GATEWAY}
    for network, settings in compose["networks"].items():
        assert settings.get("internal", False) == (network != "outside")


def test_only_the_gateway_is_reachable_and_from_this_server_alone(compose: _Compose) -> None:
    ports = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert ports == {GATEWAY: ["127.0.0.1:8080:8080"]}


def test_no_container_has_rights_that_it_does_not_need(compose: _Compose) -> None:
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged", False)
        # Kafka's image writes beside its data.
        assert service.get("read_only", False) == (name != "kafka"), name


def test_all_that_the_readme_promises_for_compose_is_documented() -> None:
    """The commands and variables are in docs/deployment.md."""
    docs = (ROOT / "docs" / "deployment.md").read_text()
    for word in ("docker compose up", "python -m local.compose", *_DOT_ENV):
        assert word in docs, word
    assert "compose.yaml" in (ROOT / "README.md").read_text()
