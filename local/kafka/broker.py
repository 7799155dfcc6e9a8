"""A real Apache Kafka as a child process: one node on this machine, with the catalogue's topics."""

import asyncio
import base64
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from chassis.topics import BrokerUnreachableError, TopicLike, ensure_topics
from local.kafka.errors import (
    BrokerDiedError,
    BrokerError,
    DataFolderError,
    JavaMissingError,
    NotReadyError,
    PortTakenError,
)
from local.kafka.jars import LOCK_FILE, ensure_jars, find_cache_folder, parse_lock
from local.kafka.java import MIN_JAVA_VERSION, Java, find_java
from local.kafka.node import (
    HOST,
    TOPICS_FOLDER,
    build_java_command,
    build_java_environment,
    find_last_error,
    render_server_properties,
)
from local.signals import signals_blocked, unblock_signals
from towerwatch.topics import CATALOGUE

_READY_WITHIN_S: Final = 60.0
_STOPPED_WITHIN_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.1
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def find_external_bootstrap_servers(environ: Mapping[str, str]) -> str | None:
    """The brokers that the user has set to be used in place of the local one, or None."""
    return environ.get("KAFKA_BOOTSTRAP_SERVERS", "").strip() or None


class Broker:
    """One Kafka node on 127.0.0.1, not started yet.

    `data` keeps everything between runs: topics, the node's configuration, and its log (`kafka.log`) unless `log` names
    another file. `port` None takes a free one, chosen at each start.

    The JVM is in a session of its own, so a Ctrl-C reaches it only through `stop`. On Linux it is killed as soon as the
    thread that started it is gone, even by kill -9: start the broker from a thread that lives as long as it shall.
    """

    def __init__(
        self, data: Path, port: int | None = None, log: Path | None = None, topics: Iterable[TopicLike] = CATALOGUE
    ) -> None:
        self.log = (log or data / "kafka.log").absolute()
        self._data = data.absolute()
        self._wanted_port = port
        self._port = port
        self._topics = tuple(topics)
        self._process: subprocess.Popen[bytes] | None = None
        self._data_lock: int | None = None
        self._log_begin = 0

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect. Without a wanted port, known once started."""
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The JVM's process id; only while started."""
        return self._running().pid

    def start(self, environ: Mapping[str, str] = os.environ) -> None:
        """Return when the broker answers and has every topic, each partition with a leader.

        Fetches the jars into the cache first where they are missing. May be called again after `stop`, or after the
        JVM was killed. Raises BrokerError, or ChassisError where the topics cannot be had; nothing then runs any more.
        Must not be called from an event loop.
        """
        java = find_java(environ)
        if java is None:
            raise JavaMissingError(
                f"Kafka needs Java {MIN_JAVA_VERSION} or newer, and there is none in JAVA_HOME or on the PATH: "
                "install one, or run `uv sync --group jre`"
            )
        jars = ensure_jars(find_cache_folder(environ), parse_lock(LOCK_FILE.read_text()))
        self.stop()
        try:
            self._take_data_folder()
            self._start_jvm(java, build_java_environment(environ, jars))
            asyncio.run(self._until_ready())
        except BaseException:
            self._kill()
            raise

    def stop(self) -> None:
        """Stop the JVM in an orderly way, or by force when that takes too long. Harmless when it does not run."""
        with signals_blocked():
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOPPED_WITHIN_S)
            self._kill()

    def wait(self) -> None:
        """Block for as long as the broker runs, then raise the BrokerDiedError that tells why it no longer does."""
        self._running().wait()
        raise self._died()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise BrokerError("the broker was not started")
        return self._process

    def _take_data_folder(self) -> None:
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            folder = os.open(self._data, os.O_RDONLY)
            self._data_lock = folder
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go by the kernel, however this process ends
        except BlockingIOError as error:
            raise DataFolderError(
                f"another broker already uses {self._data}: stop that one, or choose another data folder"
            ) from error
        except OSError as error:
            raise DataFolderError(
                f"{self._data} cannot be used ({error.strerror}): choose another data folder"
            ) from error

    def _start_jvm(self, java: Java, environment: Mapping[str, str]) -> None:
        self._port, controller_port = _ports(self._wanted_port)
        configuration = self._data / "server.properties"
        try:
            configuration.write_text(render_server_properties(self._port, controller_port))
            self.log.parent.mkdir(parents=True, exist_ok=True)
            log = self.log.open("ab")
        except OSError as error:
            raise DataFolderError(
                f"{error.filename or self._data} cannot be written ({error.strerror}): "
                "make room, or choose another data folder"
            ) from error
        with log:
            self._log_begin = log.seek(0, os.SEEK_END)
            # Kafka writes this file last, so a format that was interrupted is done again.
            if not (self._data / TOPICS_FOLDER / "meta.properties").exists():
                arguments = ("format", "--cluster-id", _new_cluster_id(), "--config", configuration.name)
                self._run(build_java_command(java, "kafka.tools.StorageTool", *arguments), environment, log.fileno())
                if self._running().wait() != 0:
                    raise self._died()
            self._run(build_java_command(java, "kafka.Kafka", configuration.name), environment, log.fileno())

    def _run(self, command: list[str], environment: Mapping[str, str], log: int) -> None:
        with signals_blocked():
            self._process = subprocess.Popen(
                command,
                cwd=self._data,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )

    async def _until_ready(self) -> None:
        ready = asyncio.create_task(ensure_topics(self.bootstrap_servers, self._topics, timeout_s=_READY_WITHIN_S))
        try:
            while not ready.done():
                if self._running().poll() is not None:
                    raise self._died()
                await asyncio.wait([ready], timeout=_LOOK_EVERY_S)
            ready.result()
        except BrokerUnreachableError as error:
            raise NotReadyError(
                f"Kafka did not get ready ({error}): the reason may be in its log, {self.log}"
            ) from error
        finally:
            ready.cancel()

    def _died(self) -> BrokerDiedError:
        with self.log.open("rb") as log:
            log.seek(self._log_begin)
            said = find_last_error(log.read().decode(errors="replace"))
        status = self._running().wait()
        return BrokerDiedError(f"Kafka ended with exit status {status} ({said}): its whole log is {self.log}")

    def _kill(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._data_lock is not None:
            os.close(self._data_lock)
            self._data_lock = None


@contextlib.contextmanager
def running_broker(
    data: Path, port: int | None = None, log: Path | None = None, topics: Iterable[TopicLike] = CATALOGUE
) -> Iterator[Broker]:
    """A broker that is ready, for as long as the block lasts. Raises what `Broker.start` raises."""
    broker = Broker(data, port, log, topics)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def _ports(wanted: int | None) -> tuple[int, int]:
    """The clients' port and a free one for the controller, which nobody but the node itself talks to."""
    with socket.socket() as clients, socket.socket() as controller:
        # As Kafka will: connections of a broker that was just stopped may linger, and do not count as taken.
        clients.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            clients.bind((HOST, wanted or 0))
        except OSError as error:
            raise PortTakenError(
                f"port {wanted} on {HOST} cannot be listened on ({error.strerror}): "
                "stop what listens there, or choose another port"
            ) from error
        controller.bind((HOST, 0))
        return clients.getsockname()[1], controller.getsockname()[1]


def _new_cluster_id() -> str:
    """A random UUID as Kafka writes them; its first letter is fixed, for a leading dash would be read as an option."""
    return "K" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


def _die_with_parent() -> Callable[[], None]:
    """What the child does before it becomes the JVM so as never (on Linux) to outlive this process."""
    libc = ctypes.CDLL(None)  # loaded here: between fork and exec it must not be
    if not hasattr(libc, "prctl"):
        return unblock_signals
    parent = os.getpid()

    def ask_kernel() -> None:
        unblock_signals()
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before the kernel was asked
            os.kill(os.getpid(), signal.SIGKILL)

    return ask_kernel
