"""The image is built from a clean checkout, on a stand-in for its base, and run with what Kubernetes would allow it."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.image.conftest import Image
from tests.image.container import DATA, Container, running
from tests.image.standin import ROOT
from tests.ports import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(900)  # the first test waits for the build

SERVICES: Final = ("user_manager", "collector", "streams", "notifier")
STOPPED_WITHIN_S: Final = 25.0
"""Kubernetes kills after 30 s, where it is told nothing else."""


def settings(service: str, port: int) -> dict[str, str]:
    """What a service must be told, of surroundings that are all away."""
    nobody = f"127.0.0.1:{free_port()}"
    common = {"KAFKA_BOOTSTRAP_SERVERS": nobody, "HTTP_PORT": str(port), "GRPC_PORT": str(free_port())}
    operator = {"OPERATOR_TOKEN": "the-operators-own-token", "DATABASE_URL": f"sqlite:///{DATA}/{service}.db"}
    stream = {"KAFKA_BOOTSTRAP_SERVERS": nobody, "WEB_PORT": str(port), "STORE": "rocksdb", "DATA_DIR": DATA}
    match service:
        case "user_manager":
            signing = {"SIGNING_KEY": "the-signing-key-of-tests", "PUBLIC_URL": "https://towerwatch.example"}
            return common | operator | signing | {"COLLECTOR_GRPC_TARGET": nobody}
        case "collector":
            return common | operator | {"USER_MANAGER_GRPC_TARGET": nobody}
        case "notifier":
            mail = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(free_port()), "MAIL_FROM": "alerts@example.org"}
            return stream | mail | {"USER_MANAGER_GRPC_TARGET": nobody}
        case _:
            return stream


def module(name: str, *arguments: str) -> list[str]:
    return ["python", "-m", name, *arguments]


@contextmanager
def listening(image: Image, folder: Path, service: str) -> Iterator[tuple[Container, str]]:
    """A service in a container, once it answers, and where."""
    port = free_port()
    given = settings(service, port)
    with running(image.rootfs, folder, module(service), image.environment, **given) as container:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: answers(container, f"{url}/health/live"), f"an answer of {service}")
        yield container, url


def answers(container: Container, url: str) -> bool:
    assert container.is_running(), container.log()
    try:
        return httpx.get(url, timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def said(image: Image, folder: Path, *command: str) -> tuple[int, str]:
    """The exit code and the output of a command that ends by itself."""
    with running(image.rootfs, folder, command, image.environment) as container:
        return container.ended(60), container.log()


def test_it_runs_as_a_user_without_rights_and_leaves_probing_to_kubernetes(production: Image) -> None:
    """A numeric user, because runAsNonRoot cannot judge a name; Python is the command, so signals reach it."""
    assert production.config["User"] == "10001:10001"
    assert "Healthcheck" not in production.config
    assert "Entrypoint" not in production.config
    assert production.config["Cmd"][0] == "python"


def test_its_labels_say_what_it_is(production: Image) -> None:
    """In the names of the OCI's image specification; the version is the project's."""
    labels = production.config["Labels"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert labels["org.opencontainers.image.version"] == project["version"]
    assert labels["org.opencontainers.image.description"] == project["description"]
    assert {f"org.opencontainers.image.{name}" for name in ("title", "revision")} <= set(labels)


def test_nothing_that_builds_is_left_inside(production: Image, kind: Image) -> None:
    """No compiler, and of the installers and generators only what the base itself brings."""
    for image in (production, kind):
        found = {path.name for folder in ("usr/bin", "usr/local/bin") for path in (image.rootfs / folder).iterdir()}
        assert found & {"cc", "gcc", "g++", "clang", "make", "ld", "as", "rustc", "go", "uv"} == set()
        packages = {path.name for path in (image.rootfs / "opt/towerwatch/lib/python3.11/site-packages").iterdir()}
        assert packages & {"pip", "setuptools", "grpc_tools", "uv", "pytest", "mypy", "pandas"} == set()
        assert not (image.rootfs / "etc/pip.conf").exists()


def test_it_has_the_code_of_the_checkout_and_nothing_else(production: Image, kind: Image) -> None:
    """No settings, secrets or leftovers of the machine that builds; local/ only where a cluster is played on one."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    services = {*SERVICES, "chassis", "domain"}
    expected = {each for each in listed if each.split("/")[0] in services and (ROOT / each).is_file()}
    for image, packages in ((production, services), (kind, services | {"local"})):
        inside = {str(path.relative_to(image.rootfs / "app")) for path in files(image.rootfs / "app")}
        of_packages = {each for each in inside if each.split("/")[0] != "towerwatch"}
        assert {each.split("/")[0] for each in of_packages} == packages
        assert {each for each in of_packages if not each.startswith("local/")} == expected
        generated = {each for each in inside if each.endswith(("_pb2.py", "_pb2_grpc.py"))}
        protos = {each.removeprefix("proto/").removesuffix(".proto") for each in listed if each.endswith(".proto")}
        assert generated == {f"{each}{end}.py" for each in protos for end in ("_pb2", "_pb2_grpc")}
        assert not list((image.rootfs / "app").rglob(".env"))


def files(folder: Path) -> Iterator[Path]:
    """All files but compiled ones."""
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def test_all_of_it_is_compiled(production: Image) -> None:
    """The root filesystem is read-only: what is not compiled now is compiled at every start."""
    for path in (production.rootfs / "app").rglob("*.py"):
        assert (path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc").exists(), path


def test_the_dependencies_are_those_of_the_lock(production: Image, tmp_path: Path) -> None:
    """Each package in the version that the tests have run with."""
    shown = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    code, output = said(production, tmp_path, "python", "-I", "-c", shown)
    assert code == 0, output
    inside: dict[str, str] = json.loads(output.splitlines()[-1])
    here = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    expected: dict[str, str] = json.loads(here.stdout)
    assert len(inside) > 50
    assert {name: version for name, version in inside.items() if expected.get(name) != version} == {}


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_says_how_it_is_used(production: Image, tmp_path: Path, service: str) -> None:
    """`--help` ends with 0, and needs no setting."""
    code, output = said(production, tmp_path, *module(service, "--help"))
    assert (code, output.startswith(f"usage: python -m {service}")) == (0, True), output


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_serves_and_ends_in_time(production: Image, tmp_path: Path, service: str) -> None:
    """On a read-only root, without a capability, as process 1, with nobody around; SIGTERM ends it with 0."""
    with listening(production, tmp_path, service) as (container, url):
        metrics = httpx.get(f"{url}/metrics", timeout=10).text
        assert f'service="{service}"' in metrics
        container.signal("TERM")
        assert container.ended(STOPPED_WITHIN_S) == 0, container.log()
        assert "Read-only file system" not in container.log()


@pytest.mark.parametrize("service", ["user_manager", "collector"])
def test_what_needs_only_a_database_is_ready(production: Image, tmp_path: Path, service: str) -> None:
    """The schema's migrations are in the image too."""
    with listening(production, tmp_path, service) as (container, url):
        eventually(lambda: answers(container, f"{url}/health/ready"), f"{service} is ready")


def test_without_a_command_it_says_what_to_choose(production: Image, tmp_path: Path) -> None:
    code, output = said(production, tmp_path, *production.config["Cmd"])
    assert (code, output.strip()) == (
        1,
        "Choose a service: python -m user_manager, collector, streams or notifier.",
    )


def test_the_image_for_kind_plays_opensky_and_the_mail_server(kind: Image, tmp_path: Path) -> None:
    """Both listen where they are told to, and end with 0."""
    mail, flights = free_port(), free_port()
    mailbox = module("local.mailbox", "--host", "0.0.0.0", "--port", str(mail), "--maildir", f"{DATA}/mail")
    replay = module("local.opensky", "--host", "0.0.0.0", "--port", str(flights))
    clock = {"CLOCK_START": "2013-02-13T00:00:00Z"}
    with (
        running(kind.rootfs, tmp_path, mailbox, kind.environment) as sink,
        running(kind.rootfs, tmp_path, replay, kind.environment, **clock) as source,
    ):
        eventually(lambda: "taking mail" in alive(sink), "the mailbox")
        eventually(lambda: "OpenSky replay:" in alive(source), "the replay")
        for container in (sink, source):
            container.signal("TERM")
            assert container.ended(STOPPED_WITHIN_S) == 0, container.log()


def alive(container: Container) -> str:
    """Its log, while it runs."""
    assert container.is_running(), container.log()
    return container.log()
