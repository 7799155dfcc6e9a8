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
from tests.manifests.kafka_probes import ask_node
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
        assert ask_node(rendered, "kafka", "startupProbe", clients).returncode != 0, "it does not listen yet"
        eventually(
            lambda: ask_node(rendered, "kafka", "startupProbe", clients).returncode == 0,
            "the node's start",
            within_s=400,
        )
        for _ in range(2):
            made = _topics(rendered, tmp_path / "job", servers)
            assert made.returncode == 0, made.stderr + log.read_text()
            assert made.stdout.splitlines()[-1] == f"topics: all {len(CATALOGUE)} are there"
        assert asyncio.run(_read_partition_counts(servers)) == {topic.name: topic.partitions for topic in CATALOGUE}
        ready = ask_node(rendered, "kafka", "readinessProbe", clients)
        assert ready.returncode == 0, ready.stdout + ready.stderr
        # This node is a controller, too: it answers what the controllers of production are asked.
        leader = ask_node(overlays["production"], "kafka-controller", "readinessProbe", controller, node_id=0)
        assert leader.returncode == 0, leader.stdout + leader.stderr
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
