"""Kafka with the manifests' configuration: a node starts, the Job creates the topics, and the readiness probe works."""

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from local.kafka.jars import LOCK_FILE, ensure_jars, find_cache_folder, parse_lock
from local.kafka.java import find_java
from local.kafka.node import build_java_environment
from local.processes import ROOT
from tests.manifests.environment import build_environment, build_mounted_files, write_files
from tests.manifests.rendering import Rendered
from tests.ports import free_port
from tests.service_process import bare_environment
from tests.waiting import eventually
from towerwatch.topics import CATALOGUE


def _scripts(folder: Path) -> dict[str, str]:
    """Write replacements of the image's scripts, which start the same programs with the same options.

    Return the environment that they need.
    """
    java = find_java(os.environ)
    assert java is not None, "Kafka needs Java"
    folder.mkdir(parents=True)
    options = "$KAFKA_HEAP_OPTS $KAFKA_OPTS $KAFKA_LOG4J_OPTS"
    for script, program in (("kafka-storage.sh", "kafka.tools.StorageTool"), ("kafka-server-start.sh", "kafka.Kafka")):
        path = folder / script
        path.write_text(f'#!/bin/bash\nexec {shlex.quote(str(java.executable))} {options} {program} "$@"\n')
        path.chmod(0o755)
    jars = ensure_jars(find_cache_folder(os.environ), parse_lock(LOCK_FILE.read_text()))
    return build_java_environment(bare_environment(), jars)


def _node(rendered: Rendered, name: str, folder: Path, moved: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment of a StatefulSet's first pod, with its paths below `folder`.

    `moved` maps further texts of the files, such as host names, to their replacements on this machine.
    """
    pod = rendered.pod(name)
    replacements = {
        "/etc/towerwatch": str(folder / "etc"),
        "/opt/kafka/bin": str(folder / "bin"),
        "/tmp": str(folder),
        "/var/lib/kafka/data": str(folder / "data"),
        **moved,
    }
    anything = re.compile("|".join(map(re.escape, replacements)))

    def here(text: str) -> str:
        return anything.sub(lambda match: replacements[match[0]], text)

    for path, content in build_mounted_files(rendered, pod).items():
        Path(here(path)).parent.mkdir(parents=True, exist_ok=True)
        Path(here(path)).write_text(here(content))
    environment = _scripts(folder / "bin") | {"HOSTNAME": f"{name}-0"}
    environment |= {
        key: here(value) for key, value in build_environment(rendered, pod, metadata_name=f"{name}-0").items()
    }
    return [here(part) for part in pod.container["command"]], environment


@contextmanager
def _run_process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process during the block, with its output in a log; kill its process group afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _topics(rendered: Rendered, folder: Path, servers: str) -> subprocess.CompletedProcess[str]:
    """Run the Job's program with the Job's environment, except for the brokers' address."""
    pod = rendered.pod("topics")
    files = build_mounted_files(rendered, pod)
    environment = write_files(build_environment(rendered, pod), files, folder) | {"KAFKA_BOOTSTRAP_SERVERS": servers}
    (program,) = (folder / path.lstrip("/") for path in files)
    assert pod.container["command"] == ["python", next(iter(files))]
    python_path = f"{ROOT}{os.pathsep}{ROOT / 'proto'}"
    return subprocess.run(
        [sys.executable, str(program)],
        env=bare_environment() | environment | {"PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.timeout(900)
def test_a_node_starts_and_the_job_creates_the_catalogues_topics(overlays: dict[str, Rendered], tmp_path: Path) -> None:
    """Kafka accepts the start script, the properties and the log configuration; the Job may run several times.

    The node runs on this machine, so its host name, ports and folders are replaced; everything else is as rendered.
    """
    rendered = overlays["kind"]
    clients, controller = free_port(), free_port()
    command, environment = _node(
        rendered,
        "kafka",
        tmp_path,
        {
            "kafka-0.kafka": "127.0.0.1",
            "//:9092": f"//127.0.0.1:{clients}",
            "//:9093": f"//127.0.0.1:{controller}",
            ":9092": f":{clients}",
            ":9093": f":{controller}",
        },
    )
    log = tmp_path / "kafka.log"
    servers = f"127.0.0.1:{clients}"
    with _run_process(command, environment, log) as node:
        for _ in range(2):
            made = _topics(rendered, tmp_path / "job", servers)
            assert made.returncode == 0, made.stderr + log.read_text()
            assert made.stdout.splitlines()[-1] == f"topics: all {len(CATALOGUE)} are there"
        assert asyncio.run(_read_partition_counts(servers)) == {topic.name: topic.partitions for topic in CATALOGUE}
        os.kill(node.pid, signal.SIGTERM)
        # SIGTERM reaches the JVM itself, not a shell, so that Kafka shuts down in order.
        eventually(lambda: node.poll() is not None, within_s=180)
        assert node.returncode in (0, 143)
        # Kafka writes this file when it has closed its logs; without it the next start recovers them all.
        assert (tmp_path / "data" / "log" / ".kafka_cleanshutdown").exists()


async def _read_partition_counts(servers: str) -> dict[str, int]:
    """Return the partition counts of the catalogue's topics on the broker."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        names = {topic.name for topic in CATALOGUE}
        return {
            each["topic"]: len(each["partitions"]) for each in await admin.describe_topics() if each["topic"] in names
        }
    finally:
        await admin.close()


@pytest.mark.parametrize(("name", "node_id"), [("kafka", 0), ("kafka-controller", 100)])
def test_kafka_accepts_the_properties_of_production(
    overlays: dict[str, Rendered], tmp_path: Path, name: str, node_id: int
) -> None:
    """Each role formats its disk, for which Kafka checks all properties; this test does not start the six nodes."""
    rendered = overlays["production"]
    command, environment = _node(rendered, name, tmp_path, {})
    (tmp_path / "bin" / "kafka-server-start.sh").write_text("#!/bin/bash\ncat $1\n")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    properties = dict(line.partition("=")[::2] for line in done.stdout.splitlines() if "=" in line and line[0] != "#")
    assert properties["node.id"] == str(node_id)
    voters = dict(voter.split("@") for voter in properties["controller.quorum.voters"].split(","))
    controllers = rendered.pod("kafka-controller")
    first = int(build_environment(rendered, controllers)["FIRST_NODE_ID"])
    assert voters == {
        str(first + number): f"kafka-controller-{number}.kafka-controller:{controllers.ports['controller']}"
        for number in range(controllers.owner["spec"]["replicas"])
    }
    assert (properties["default.replication.factor"], properties["min.insync.replicas"]) == ("3", "2")
    if name == "kafka":
        assert properties["advertised.listeners"] == "CLIENTS://kafka-0.kafka:9092"
        assert properties["offsets.topic.replication.factor"] == "3"
    meta = (tmp_path / "data" / "log" / "meta.properties").read_text()
    assert f"cluster.id={build_environment(rendered, rendered.pod(name))['CLUSTER_ID']}" in meta


def test_all_nodes_belong_to_one_cluster(overlays: dict[str, Rendered]) -> None:
    rendered = overlays["production"]
    ids = {build_environment(rendered, rendered.pod(name))["CLUSTER_ID"] for name in ("kafka", "kafka-controller")}
    assert len(ids) == 1


def test_a_zone_becomes_a_rack(overlays: dict[str, Rendered], tmp_path: Path) -> None:
    """Kafka places the replicas of a partition in different zones, if the nodes have zones."""
    rendered = overlays["production"]
    command, environment = _node(rendered, "kafka", tmp_path, {})
    for script in ("kafka-storage.sh", "kafka-server-start.sh"):
        (tmp_path / "bin" / script).write_text('#!/bin/bash\ncat "${@: -1}"\n')
    for zone, lines in (("", []), ("zone-a", ["broker.rack=zone-a"])):
        done = subprocess.run(command, env=environment | {"RACK": zone}, capture_output=True, text=True, check=True)
        racks = [line for line in done.stdout.splitlines() if line.startswith("broker.rack")]
        assert racks[: len(lines)] == lines
        assert bool(racks) == bool(zone)


_LAGS = "\tTopic: flights.observed.v1\tPartition: {}\tLeader: 1\tReplicas: {}\tIsr: {}\tElr: \tLastKnownElr: "


@pytest.mark.parametrize(
    ("host", "said", "ready"),
    [
        ("kafka-0", [], True),
        ("kafka-0", [_LAGS.format(3, "1,2,0", "1,2")], False),
        # Another broker lags: this broker stays ready, otherwise two of three brokers would be unready at once.
        ("kafka-1", [_LAGS.format(3, "1,2,0", "1,2")], True),
        ("kafka-2", [_LAGS.format(3, "1,12", "1"), _LAGS.format(4, "2,1", "1")], False),
        # The replica of broker 12 lags, not that of broker 2.
        ("kafka-2", [_LAGS.format(3, "1,12", "1")], True),
        ("kafka-0", [_LAGS.format(3, "0", "")], False),
        ("kafka-0", ["2026-01-01T00:00:00,000 INFO  AdminClientConfig values: (org.apache.kafka)"], True),
    ],
)
def test_a_broker_is_ready_when_its_replicas_are_in_sync(
    overlays: dict[str, Rendered], tmp_path: Path, host: str, said: list[str], ready: bool
) -> None:
    """A rollout waits for it before it restarts the next broker: two lagging brokers would stop every producer."""
    ran = _run_readiness_probe(overlays["production"], tmp_path, host, "cat <<'END'\n" + "\n".join(said) + "\nEND")
    assert (ran.returncode == 0) == ready, ran.stdout + ran.stderr


def test_a_broker_that_does_not_answer_is_not_ready(overlays: dict[str, Rendered], tmp_path: Path) -> None:
    failing = "echo 'Error while executing topic command' >&2; exit 1"
    ran = _run_readiness_probe(overlays["kind"], tmp_path, "kafka-0", failing)
    assert ran.returncode != 0


def _run_readiness_probe(rendered: Rendered, folder: Path, host: str, topics: str) -> subprocess.CompletedProcess[str]:
    """Run the readiness probe of a broker, with the shell commands `topics` in place of `kafka-topics.sh`."""
    _, environment = _node(rendered, "kafka", folder, {})
    program = folder / "bin" / "kafka-topics.sh"
    program.write_text(f'#!/bin/bash\n[ "$KAFKA_HEAP_OPTS" = -Xmx64m ] || exit 9\n{topics}\n')
    program.chmod(0o755)
    command = rendered.pod("kafka").container["readinessProbe"]["exec"]["command"]
    return subprocess.run(
        [part.replace("/etc/towerwatch", str(folder / "etc")) for part in command],
        env=environment | {"HOSTNAME": host},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_brokers_and_controllers_have_the_same_settings_of_topics(overlays: dict[str, Rendered]) -> None:
    """Controllers create the topics and elect the leaders, so settings of the brokers alone would have no effect."""
    rendered = overlays["production"]
    files = {name: build_mounted_files(rendered, rendered.pod(name)) for name in ("kafka", "kafka-controller")}
    own = {name: _properties(files[name][f"/etc/towerwatch/{name}.properties"]) for name in files}
    for key in ("default.replication.factor", "min.insync.replicas", "controller.quorum.voters"):
        assert own["kafka"][key] == own["kafka-controller"][key], key
    assert own["kafka-controller"]["unclean.leader.election.enable"] == "false"


def _properties(text: str) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in text.splitlines() if line and not line.startswith("#"))
