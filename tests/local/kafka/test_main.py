"""The command `python -m local.kafka`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.kafka import Broker
from tests.local.kafka.processes import children, runs, until
from tests.ports import free_port


@contextmanager
def command(*arguments: str | Path | int, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run `python -m local.kafka` with these arguments for the block, and kill it at the end if it still runs."""
    line = [sys.executable, "-m", "local.kafka", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"} | environ
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def ready_line(process: subprocess.Popen[str]) -> str:
    """Read the line that the command prints when it is ready."""
    assert process.stdout is not None
    return process.stdout.readline()


def test_serves_until_sigterm(tmp_path: Path) -> None:
    """The command prints one line `ready …`; SIGTERM stops the JVM too, and the exit status is 0."""
    port = free_port()
    with command("run", "--data", tmp_path, "--port", port) as process:
        assert ready_line(process) == f"ready 127.0.0.1:{port}\n"
        (jvm,) = children(process.pid)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=90)
    assert (process.returncode, out, err) == (0, "", "")
    assert not runs(jvm)


def test_jvm_does_not_outlive_the_command(tmp_path: Path) -> None:
    """Even kill -9 of the command ends the JVM."""
    with command("run", "--data", tmp_path, "--port", free_port()) as process:
        assert ready_line(process)
        (jvm,) = children(process.pid)
        process.kill()
        assert until(lambda: not runs(jvm))


def test_sigterm_during_start_up(tmp_path: Path) -> None:
    """SIGTERM before the broker is ready ends the command with status 0, and leaves no JVM."""
    with command("run", "--data", tmp_path, "--port", free_port()) as process:
        assert until(lambda: (tmp_path / "server.properties").exists() and bool(children(process.pid)))
        (jvm,) = children(process.pid)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=90)
    assert (process.returncode, out, err) == (0, "", "")
    # A signal that comes while the JVM is being started leaves it to the kernel, which kills it a moment later.
    assert until(lambda: not runs(jvm))


def test_broker_that_dies_ends_the_command(tmp_path: Path) -> None:
    """If the broker is killed, the command reports it in one sentence and ends with another status than 0."""
    with command("run", "--data", tmp_path, "--port", free_port()) as process:
        assert ready_line(process)
        (jvm,) = children(process.pid)
        os.kill(jvm, signal.SIGKILL)
        _, err = process.communicate(timeout=90)
    assert process.returncode == 1
    assert err.startswith("kafka: Kafka ended with exit status -9")
    assert len(err.splitlines()) == 1


def test_an_error_is_reported_in_one_sentence(tmp_path: Path, kafka: Broker) -> None:
    """A port in use ends the command with one line on standard error and no stack trace."""
    port = kafka.bootstrap_servers.rpartition(":")[2]
    with command("run", "--data", tmp_path, "--port", port) as process:
        out, err = process.communicate(timeout=90)
    assert (process.returncode, out) == (1, "")
    assert err.startswith(f"kafka: port {port} on 127.0.0.1 cannot be listened on")
    assert len(err.splitlines()) == 1


def test_a_missing_network_is_reported(tmp_path: Path) -> None:
    """The error, without jars and network, says what to do, and no incomplete jar is left behind."""
    dead = f"http://127.0.0.1:{free_port()}"
    with command("run", "--data", tmp_path / "data", XDG_CACHE_HOME=str(tmp_path), HTTPS_PROXY=dead) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "check the network, the proxy settings" in err.splitlines()[-1]
    assert len(err.splitlines()) == 2  # what is being fetched, and why it failed
    assert not list(tmp_path.rglob("*.jar"))


def test_external_brokers_are_used_if_they_are_set(tmp_path: Path, kafka: Broker) -> None:
    """KAFKA_BOOTSTRAP_SERVERS starts no JVM: the topics are made there, `ready` is printed, and SIGTERM ends it."""
    servers = kafka.bootstrap_servers
    with command("run", "--data", tmp_path / "data", KAFKA_BOOTSTRAP_SERVERS=servers) as process:
        assert ready_line(process) == f"ready {servers}\n"
        assert children(process.pid) == []
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=90)
    assert (process.returncode, err) == (0, "")
    assert not (tmp_path / "data").exists()
