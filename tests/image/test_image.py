"""The images: their content, and their behaviour in containers with the rights that Kubernetes grants."""

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

from tests import plain_http
from tests.image.conftest import Image
from tests.image.container import DATA, Container, run_container
from tests.image.standin import ROOT
from tests.ports import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(900)  # the first test waits for the build

SERVICES: Final = ("user_manager", "collector", "streams", "notifier")
STOPPED_WITHIN_S: Final = 100.0
"""Seconds for a stop on an overloaded machine; otherwise it takes less than 25 s, and Kubernetes kills after 30 s."""

TIMEOUT_S: Final = 60.0
"""Seconds for a request on an overloaded machine."""


def build_settings(service: str, port: int) -> dict[str, str]:
    """Return the required settings of a service; all servers that it depends on are unavailable."""
    unused = f"127.0.0.1:{free_port()}"
    common = {"KAFKA_BOOTSTRAP_SERVERS": unused, "HTTP_PORT": str(port), "GRPC_PORT": str(free_port())}
    operator = {"OPERATOR_TOKEN": "the-operators-own-token", "DATABASE_URL": f"sqlite:///{DATA}/{service}.db"}
    stream = {"KAFKA_BOOTSTRAP_SERVERS": unused, "WEB_PORT": str(port), "STORE": "rocksdb", "DATA_DIR": DATA}
    match service:
        case "user_manager":
            signing = {"SIGNING_KEY": "the-signing-key-of-tests", "PUBLIC_URL": "https://towerwatch.example"}
            return common | operator | signing | {"COLLECTOR_GRPC_TARGET": unused}
        case "collector":
            return common | operator | {"USER_MANAGER_GRPC_TARGET": unused}
        case "notifier":
            mail = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(free_port()), "MAIL_FROM": "alerts@example.org"}
            return stream | mail | {"USER_MANAGER_GRPC_TARGET": unused}
        case _:
            return stream


def build_command(name: str, *arguments: str) -> list[str]:
    return ["python", "-m", name, *arguments]


@contextmanager
def run_service(image: Image, folder: Path, service: str) -> Iterator[tuple[Container, str]]:
    """Run a service in a container during the block, which gets the container and the service's URL."""
    port = free_port()
    given = build_settings(service, port)
    with run_container(image.rootfs, folder, build_command(service), image.environment, **given) as container:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: is_answering(container, f"{url}/health/live"), f"an answer of {service}", 180)
        yield container, url


def is_answering(container: Container, url: str) -> bool:
    """Return True if a URL answers with 200, False if not; fail if the container has ended."""
    assert container.is_running(), container.log()
    try:
        return plain_http.get(url, timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def run_command(image: Image, folder: Path, *command: str) -> tuple[int, str]:
    """Run a command that ends by itself, and return its exit code and output."""
    with run_container(image.rootfs, folder, command, image.environment) as container:
        return container.wait_for_exit(300), container.log()


def test_the_image_runs_as_an_unprivileged_user_without_a_health_check(production: Image) -> None:
    """The user is numeric, as runAsNonRoot requires; Python is process 1, so signals reach it; Kubernetes probes it."""
    assert production.config["User"] == "10001:10001"
    assert "Healthcheck" not in production.config
    assert "Entrypoint" not in production.config
    assert production.config["Cmd"][0] == "python"


def test_the_image_has_the_labels_of_the_oci_specification(production: Image) -> None:
    """Version and description are the project's."""
    labels = production.config["Labels"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert labels["org.opencontainers.image.version"] == project["version"]
    assert labels["org.opencontainers.image.description"] == project["description"]
    assert {f"org.opencontainers.image.{name}" for name in ("title", "revision")} <= set(labels)


def test_the_image_contains_no_build_tools(production: Image, kind: Image) -> None:
    """The image contains no compiler, and only the installers of its base image."""
    for image in (production, kind):
        found = {path.name for folder in ("usr/bin", "usr/local/bin") for path in (image.rootfs / folder).iterdir()}
        assert found & {"cc", "gcc", "g++", "clang", "make", "ld", "as", "rustc", "go", "uv"} == set()
        packages = {path.name for path in (image.rootfs / "opt/towerwatch/lib/python3.11/site-packages").iterdir()}
        assert packages & {"pip", "setuptools", "grpc_tools", "uv", "pytest", "mypy", "pandas"} == set()
        assert not (image.rootfs / "etc/pip.conf").exists()


def test_the_image_contains_the_code_of_the_checkout_and_nothing_else(production: Image, kind: Image) -> None:
    """The image contains no settings, secrets or leftovers of the work tree; only kind's image contains local/."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    services = {*SERVICES, "chassis", "domain", "web"}
    expected = {each for each in listed if each.split("/")[0] in services and (ROOT / each).is_file()}
    for image, packages in ((production, services), (kind, services | {"local"})):
        inside = {str(path.relative_to(image.rootfs / "app")) for path in iter_source_files(image.rootfs / "app")}
        of_packages = {each for each in inside if each.split("/")[0] != "towerwatch"}
        assert {each.split("/")[0] for each in of_packages} == packages
        assert {each for each in of_packages if not each.startswith("local/")} == expected
        generated = {each for each in inside if each.endswith(("_pb2.py", "_pb2_grpc.py"))}
        protos = {each.removeprefix("proto/").removesuffix(".proto") for each in listed if each.endswith(".proto")}
        assert generated == {f"{each}{end}.py" for each in protos for end in ("_pb2", "_pb2_grpc")}
        assert not list((image.rootfs / "app").rglob(".env"))


def iter_source_files(folder: Path) -> Iterator[Path]:
    """Yield all files except compiled ones."""
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def test_all_code_in_the_images_is_compiled(production: Image, kind: Image) -> None:
    """The root file system is read-only, so a module without bytecode would be compiled at every start."""
    for path in (each for image in (production, kind) for each in iter_modules(image)):
        assert (path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc").exists(), path


def iter_modules(image: Image) -> Iterator[Path]:
    """Yield the modules of the services and of all packages that they import."""
    for folder in ("app", "opt/towerwatch/lib/python3.11/site-packages"):
        yield from (image.rootfs / folder).rglob("*.py")


def test_the_dependencies_are_those_of_the_lock(production: Image, tmp_path: Path) -> None:
    """The image contains each package in the version that the tests have used."""
    shown = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    code, output = run_command(production, tmp_path, "python", "-I", "-c", shown)
    assert code == 0, output
    inside: dict[str, str] = json.loads(output.splitlines()[-1])
    here = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    expected: dict[str, str] = json.loads(here.stdout)
    assert len(inside) > 50
    assert {name: version for name, version in inside.items() if expected.get(name) != version} == {}


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_prints_its_usage(production: Image, tmp_path: Path, service: str) -> None:
    """`--help` exits with 0, and requires no setting."""
    code, output = run_command(production, tmp_path, *build_command(service, "--help"))
    assert (code, output.startswith(f"usage: python -m {service}")) == (0, True), output


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_serves_and_stops(production: Image, tmp_path: Path, service: str) -> None:
    """This holds with a read-only root, no capabilities and no servers around; SIGTERM ends process 1 with code 0."""
    with run_service(production, tmp_path, service) as (container, url):
        metrics = plain_http.get(f"{url}/metrics", timeout=TIMEOUT_S).text
        assert f'service="{service}"' in metrics
        container.signal("TERM")
        assert container.wait_for_exit(STOPPED_WITHIN_S) == 0, container.log()
        assert "Read-only file system" not in container.log()


@pytest.mark.parametrize("service", ["user_manager", "collector"])
def test_a_service_that_needs_only_a_database_becomes_ready(production: Image, tmp_path: Path, service: str) -> None:
    """The image contains the schema's migrations too, and the people's pages."""
    with run_service(production, tmp_path, service) as (container, url):
        eventually(lambda: is_answering(container, f"{url}/health/ready"), f"{service} is ready", 180)
        if service == "user_manager":
            assert '<form class="sign-in"' in plain_http.get(f"{url}/", timeout=TIMEOUT_S).text


def test_without_a_command_the_image_lists_the_services(production: Image, tmp_path: Path) -> None:
    """The exit code is 1."""
    code, output = run_command(production, tmp_path, *production.config["Cmd"])
    assert (code, output.strip()) == (
        1,
        "Choose a service: python -m user_manager, collector, streams or notifier.",
    )


def test_the_image_for_kind_runs_the_opensky_replay_and_the_mail_server(kind: Image, tmp_path: Path) -> None:
    """Both listen on the given addresses, and exit with 0 after SIGTERM."""
    mail, page, flights = free_port(), free_port(), free_port()
    ports = ("--port", str(mail), "--web-port", str(page))
    mailbox = build_command("local.mailbox", "--host", "0.0.0.0", *ports, "--maildir", f"{DATA}/mail")
    replay = build_command("local.opensky", "--host", "0.0.0.0", "--port", str(flights))
    clock = {"CLOCK_START": "2013-02-13T00:00:00Z"}
    with (
        run_container(kind.rootfs, tmp_path, mailbox, kind.environment) as sink,
        run_container(kind.rootfs, tmp_path, replay, kind.environment, **clock) as source,
    ):
        eventually(lambda: "taking mail" in read_log_while_running(sink), "the mailbox")
        eventually(lambda: "OpenSky replay:" in read_log_while_running(source), "the replay")
        for container in (sink, source):
            container.signal("TERM")
            assert container.wait_for_exit(STOPPED_WITHIN_S) == 0, container.log()


def read_log_while_running(container: Container) -> str:
    """Return a container's log; fail if the container has ended."""
    assert container.is_running(), container.log()
    return container.log()
