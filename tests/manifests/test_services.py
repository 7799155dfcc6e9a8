"""The services with the manifests' configuration: two replicas each, and the demo through the gateway's routes.

Each pod has an address of its own on this machine (127.x.y.z), so that all ports are those of the manifests. Only these
addresses differ: the database is SQLite, Kafka is a node on this machine, and a Service's name is replaced by the
address of its first pod.
"""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from local.demo.expected import compute_expected_alerts
from local.demo.options import DEFAULT_INTERESTS, parse_interest
from local.demo.screen import Screen
from local.kafka import Broker, running_broker
from local.kind import clock, story
from local.kind.mails import encode_mails
from local.opensky import nycflights
from local.opensky.flights import Timetable
from local.processes import ROOT
from tests import plain_http
from tests.manifests.environment import SETTINGS, build_environment, build_mounted_files, write_files
from tests.manifests.rendering import SERVICES, Pod, Rendered
from tests.manifests.test_routes import route_request
from tests.service_process import bare_environment, kill_with_parent
from tests.waiting import eventually

BEGIN, END = datetime(2013, 2, 8, tzinfo=UTC), datetime(2013, 2, 10, tzinfo=UTC)
STORY_S = 50.0
START_UP_S = 20.0


@dataclass
class Replica:
    """A running process that stands for a pod."""

    pod: Pod
    address: str
    log: Path
    process: subprocess.Popen[bytes]

    def probe(self, name: str) -> bool:
        """Return True if a probe of the pod succeeds now, False if not; the request is that of a node."""
        probe = self.pod.container[name]
        if "httpGet" not in probe:
            raise AssertionError(f"{name} is of a kind that this test cannot ask")
        port = self.pod.ports[probe["httpGet"]["port"]]
        try:
            answer = plain_http.get(
                f"http://{self.address}:{port}{probe['httpGet']['path']}", timeout=probe.get("timeoutSeconds", 1)
            )
        except httpx.TransportError:
            return False
        return answer.status_code == 200


@dataclass
class SimulatedCluster:
    """All replicas of the services, with their addresses."""

    rendered: Rendered
    folder: Path
    kafka: Broker
    network: str
    stack: ExitStack
    replicas: dict[str, list[Replica]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = count(1)
        self._reserved: dict[str, list[str]] = {}
        for name in (*SERVICES, "opensky", "mailbox"):
            copies = self.rendered.pod(name).owner["spec"]["replicas"]
            self._reserved[name] = [f"{self.network}.{next(self._numbers)}" for _ in range(copies)]

    def start(self, name: str) -> None:
        """Start every replica of a Deployment."""
        pod = self.rendered.pod(name)
        for number, address in enumerate(self._reserved[name]):
            folder = self.folder / f"{name}-{number}"
            folder.mkdir()
            environment, command = self._build_process(pod, folder, address)
            log = folder / "log"
            process = self.stack.enter_context(_run_process(command, environment, log, folder))
            self.replicas.setdefault(name, []).append(Replica(pod, address, log, process))

    def _build_process(self, pod: Pod, folder: Path, address: str) -> tuple[dict[str, str], list[str]]:
        """Return the environment and command of a pod; its empty volumes are folders below `folder`."""
        files = build_mounted_files(self.rendered, pod)
        database = "/run/secrets/towerwatch/DATABASE_URL"
        if database in files:
            files[database] = f"sqlite:///{self.folder}/{pod.name}.db"
        volumes = {each["name"] for each in pod.spec["volumes"] if "emptyDir" in each}
        empty = [each["mountPath"] for each in pod.container["volumeMounts"] if each["name"] in volumes]

        def here(value: str) -> str:
            for path in empty:
                if value == path or value.startswith(f"{path}/"):
                    return f"{folder}{value}"
            return value

        for path in empty:
            (folder / path.lstrip("/")).mkdir(parents=True)
        given = {
            name: here(value) for name, value in build_environment(self.rendered, pod, status_podIP=address).items()
        }
        environment = write_files(given, files, folder)
        if pod.name in SETTINGS:
            environment |= {"LISTEN_HOST": address, "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers}
            environment |= {
                name: self._replace_service_name(value) for name, value in environment.items() if _is_address(name)
            }
        python = {"python": sys.executable, "0.0.0.0": address}
        command = [python.get(part) or here(part) for part in pod.container["command"]]
        python_path = f"{ROOT}{os.pathsep}{ROOT / 'proto'}"
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        extra = {"XDG_CACHE_HOME": cache} if "XDG_CACHE_HOME" in environment else {}
        return bare_environment() | environment | extra | {"PYTHONPATH": python_path}, command

    def _replace_service_name(self, value: str) -> str:
        """Return an address with a Service's name replaced by the address of the Service's first pod."""
        for service in self.rendered.resources_of("Service"):
            name, selected = service["metadata"]["name"], service["metadata"]["labels"]["app.kubernetes.io/name"]
            if selected in self._reserved and name in (value, value.partition(":")[0], httpx.URL(value).host):
                return value.replace(name, self._reserved[selected][0], 1)
        return value


def _is_address(name: str) -> bool:
    return name.endswith(("_GRPC_TARGET", "SMTP_HOST")) or name in ("OPENSKY_URL", "OPENSKY_TOKEN_URL")


@contextmanager
def _run_process(
    command: list[str], environment: dict[str, str], log: Path, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process during the block, with its output in a log; kill its process group afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=kill_with_parent,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Gateway(httpx.BaseTransport):
    """A transport that routes requests as the gateway does, to the replicas of a Service in turn."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._inner = httpx.HTTPTransport()
        self._turn = 0
        self.asked: set[str] = set()
        """The addresses of the replicas that got requests."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the replica that its route determines, or answer 404."""
        there = route_request(self._cluster.rendered, request.url.path)
        if there is None or there.service is None:
            return httpx.Response(404)
        replicas = self._cluster.replicas[there.service]
        self._turn += 1
        replica = replicas[self._turn % len(replicas)]
        service = self._cluster.rendered.find_resource("Service", there.service)
        (port,) = (replica.pod.ports[each["targetPort"]] for each in service["spec"]["ports"])
        self.asked.add(replica.address)
        url = request.url.copy_with(scheme="http", host=replica.address, port=port, path=there.path)
        return self._inner.handle_request(
            httpx.Request(request.method, url, headers=request.headers, content=request.read())
        )


@pytest.fixture(scope="module")
def cluster(overlays: dict[str, Rendered], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedCluster]:
    """Start the services of kind's overlay, and wait until all replicas are ready."""
    rendered = overlays["kind"].copy()
    folder = tmp_path_factory.mktemp("pods")
    told = clock.make_scenario_clock(
        BEGIN, END, timedelta(hours=16), datetime.now(UTC) + timedelta(seconds=START_UP_S), STORY_S
    )
    clock.write_clock(folder / "clock.env", told)
    lines = (folder / "clock.env").read_text().splitlines()
    rendered.find_resource("ConfigMap", "clock")["data"] = dict(line.split("=", 1) for line in lines)
    # A random network, which probably no other process uses; a clash is an error and no wrong result.
    network = f"127.{secrets.randbelow(250) + 2}.{secrets.randbelow(250) + 2}"
    with ExitStack() as stack:
        kafka = stack.enter_context(running_broker(folder / "kafka"))
        started = SimulatedCluster(rendered, folder, kafka, network, stack)
        for name in ("opensky", "mailbox", *SERVICES):
            started.start(name)
        for name in SERVICES:
            for replica in started.replicas[name]:

                def ready(replica: Replica = replica) -> bool:
                    assert replica.process.poll() is None, replica.log.read_text()
                    return replica.probe("readinessProbe")

                eventually(ready, f"{name} at {replica.address}", within_s=400)
        yield started


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SERVICES)
def test_every_probe_succeeds(cluster: SimulatedCluster, name: str) -> None:
    """Both replicas answer at the manifests' paths and ports, and gRPC's health service answers too."""
    assert len(cluster.replicas[name]) == 2
    for replica in cluster.replicas[name]:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            eventually(lambda replica=replica, probe=probe: replica.probe(probe), f"{probe} of {name}")
        if "grpc" in replica.pod.ports:
            with grpc.insecure_channel(f"{replica.address}:{replica.pod.ports['grpc']}") as channel:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SERVICES)
def test_every_scraped_path_is_served(cluster: SimulatedCluster, name: str) -> None:
    """The annotations contain the port and path for Prometheus."""
    for replica in cluster.replicas[name]:
        annotations = replica.pod.template["metadata"]["annotations"]
        url = f"http://{replica.address}:{annotations['prometheus.io/port']}{annotations['prometheus.io/path']}"
        text = plain_http.get(url, timeout=60).raise_for_status().text
        assert f'service="{name.replace("-", "_")}"' in text
        assert 'node="worker-1"' in text


@pytest.mark.timeout(900)
def test_the_demo_sends_exactly_the_expected_mails(cluster: SimulatedCluster) -> None:
    """Its requests go through the gateway's routes to the replicas in turn."""
    interests = [parse_interest(text, BEGIN) for text in DEFAULT_INTERESTS]
    timetable = Timetable(nycflights.load(nycflights.find_cache_directory(os.environ)))
    expected = [alert for interest in interests for alert in compute_expected_alerts(timetable, interest, END)]
    assert len(expected) > 5
    mailbox = cluster.folder / "mailbox-0" / "var/lib/mailbox/mail"
    gateway = Gateway(cluster)
    worker = cluster.replicas["streams"][1]

    def airports() -> str:
        return plain_http.get(f"http://{worker.address}:8080/api/airports", timeout=60).raise_for_status().text

    with httpx.Client(base_url="https://localhost", transport=gateway, timeout=60) as people:
        clients = story.ClusterClients(people, fetch_mails=lambda: encode_mails(mailbox), fetch_airports=airports)
        wrong = story.run_scenario(clients, interests, expected, Screen())
    assert not wrong, wrong
    routed = {each.address for name in ("user-manager", "collector") for each in cluster.replicas[name]}
    assert gateway.asked == routed
    for replicas in cluster.replicas.values():
        for replica in replicas:
            assert replica.process.poll() is None, replica.log.read_text()


@pytest.mark.timeout(900)
def test_every_replica_stops_after_sigterm(cluster: SimulatedCluster) -> None:
    """All replicas exit without an error. This test is the last one, because nothing runs after it.

    Here all replicas stop at once, on a machine that may be overloaded: each gets four times its grace period.
    """
    replicas = [replica for name in SERVICES for replica in cluster.replicas[name]]
    for replica in replicas:
        replica.process.terminate()
    for replica in replicas:
        within_s = 4 * replica.pod.spec["terminationGracePeriodSeconds"]
        assert replica.process.wait(within_s) == 0, replica.log.read_text()
