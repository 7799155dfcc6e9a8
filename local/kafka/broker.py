"""A real Apache Kafka broker as a child process: one node on this machine, with the catalogue's topics."""

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

_READY_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 15.0
_POLL_INTERVAL_S: Final = 0.1
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def find_external_bootstrap_servers(environ: Mapping[str, str]) -> str | None:
    """Return the external brokers of KAFKA_BOOTSTRAP_SERVERS, which replace the local broker.

    None if the variable is not set, or blank.
    """
    return environ.get("KAFKA_BOOTSTRAP_SERVERS", "").strip() or None


class Broker:
    """A Kafka node on 127.0.0.1; `start` starts it.

    `data` keeps everything between runs: topics, the node's configuration, and its log (`kafka.log`) unless `log` names
    another file. `port` None: a free port, chosen at each start.

    The JVM is in a session of its own, so a Ctrl-C reaches it only through `stop`. On Linux it is killed as soon as the
    thread that started it ends, even by kill -9: start the broker from a thread that lives as long as the broker shall.
    """

    def __init__(
        self, data: Path, port: int | None = None, log: Path | None = None, topics: Iterable[TopicLike] = CATALOGUE
    ) -> None:
        self.log = (log or data / "kafka.log").absolute()
        self._data = data.absolute()
        self._requested_port = port
        self._port = port
        self._topics = tuple(topics)
        self._process: subprocess.Popen[bytes] | None = None
        self._data_lock: int | None = None
        self._log_begin = 0

    @property
    def bootstrap_servers(self) -> str:
        """The address that clients connect to; without a requested port, known after `start` only."""
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The JVM's process id. Raises BrokerError before `start`."""
        return self._require_process().pid

    def start(self, environ: Mapping[str, str] = os.environ) -> None:
        """Start the JVM, and wait until the broker answers and has every topic, each partition with a leader.

        Downloads missing jars into the cache first, and stops a JVM that this object has started before. May be called
        again after `stop`, or after the JVM was killed. Must not be called from an event loop. Raises BrokerError, or
        ChassisError if the topics cannot be made; then no JVM is left running.
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
            self._lock_data_folder()
            self._start_jvm(java, build_java_environment(environ, jars))
            asyncio.run(self._wait_until_ready())
        except BaseException:
            self._kill()
            raise

    def stop(self) -> None:
        """Stop the JVM by SIGTERM, or by SIGKILL after a timeout, and release the data folder's lock.

        Does nothing if the JVM was not started or is stopped already. Signals that request an end are blocked
        meanwhile.
        """
        with signals_blocked():
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOP_TIMEOUT_S)
            self._kill()

    def wait(self) -> None:
        """Wait until the broker's process ends, and raise BrokerDiedError with the reason. Never returns.

        Raises BrokerError if the broker was not started.
        """
        self._require_process().wait()
        raise self._build_death_error()

    def _require_process(self) -> subprocess.Popen[bytes]:
        """Return the JVM's process. Raises BrokerError if it was not started."""
        if self._process is None:
            raise BrokerError("the broker was not started")
        return self._process

    def _lock_data_folder(self) -> None:
        """Make the data folder and take its lock, so that no other broker uses it; `_kill` releases the lock.

        Raises DataFolderError if another broker holds the lock, or if the folder cannot be made.
        """
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            folder = os.open(self._data, os.O_RDONLY)
            self._data_lock = folder
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released by the kernel, however this process ends
        except BlockingIOError as error:
            raise DataFolderError(
                f"another broker already uses {self._data}: stop that one, or choose another data folder"
            ) from error
        except OSError as error:
            raise DataFolderError(
                f"{self._data} cannot be used ({error.strerror}): choose another data folder"
            ) from error

    def _start_jvm(self, java: Java, environment: Mapping[str, str]) -> None:
        """Choose the ports, write the configuration, format the storage if it is new, and start Kafka.

        Waits for the end of the format, not until Kafka is ready. Raises PortTakenError, DataFolderError, or
        BrokerDiedError if the format fails.
        """
        self._port, controller_port = _choose_ports(self._requested_port)
        configuration = self._data / "server.properties"
        try:
            configuration.write_text(self._render_properties(self._port, controller_port))
            self.log.parent.mkdir(parents=True, exist_ok=True)
            log = self.log.open("ab")
        except OSError as error:
            raise DataFolderError(
                f"{error.filename or self._data} cannot be written ({error.strerror}): "
                "make room, or choose another data folder"
            ) from error
        with log:
            self._log_begin = log.seek(0, os.SEEK_END)
            # Kafka writes this file last, so an interrupted format is repeated.
            if not (self._data / TOPICS_FOLDER / "meta.properties").exists():
                fixed = ("format", "--cluster-id", _make_cluster_id(), "--config", configuration.name)
                arguments = (*fixed, *self._list_format_arguments())
                self._spawn(build_java_command(java, "kafka.tools.StorageTool", *arguments), environment, log.fileno())
                if self._require_process().wait() != 0:
                    raise self._build_death_error()
            self._spawn(build_java_command(java, "kafka.Kafka", configuration.name), environment, log.fileno())

    def _render_properties(self, port: int, controller_port: int) -> str:
        """Render the node's properties. A subclass may add some."""
        return render_server_properties(port, controller_port)

    def _list_format_arguments(self) -> tuple[str, ...]:
        """Return more arguments for the format of a new storage: none. A subclass may add some."""
        return ()

    def _spawn(self, command: list[str], environment: Mapping[str, str], log: int) -> None:
        """Start a command as the broker's process, in the data folder, with its output in the log (a file descriptor).

        The process is a session of its own, and is killed with this process (on Linux).
        """
        with signals_blocked():
            self._process = subprocess.Popen(
                command,
                cwd=self._data,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_make_child_hook(),
            )

    async def _wait_until_ready(self) -> None:
        """Make the topics once the broker answers, and wait until all partitions have leaders.

        Raises BrokerDiedError if the JVM ends meanwhile, NotReadyError if the broker does not answer in time, or
        ChassisError if the topics cannot be made.
        """
        ready = asyncio.create_task(ensure_topics(self.bootstrap_servers, self._topics, timeout_s=_READY_TIMEOUT_S))
        try:
            while not ready.done():
                if self._require_process().poll() is not None:
                    raise self._build_death_error()
                await asyncio.wait([ready], timeout=_POLL_INTERVAL_S)
            ready.result()
        except BrokerUnreachableError as error:
            raise NotReadyError(
                f"Kafka did not get ready ({error}): the reason may be in its log, {self.log}"
            ) from error
        finally:
            ready.cancel()

    def _build_death_error(self) -> BrokerDiedError:
        """Build the error for a JVM that has ended, with its exit status and the last error in its log since its start.

        Waits for the end if the JVM still runs.
        """
        with self.log.open("rb") as log:
            log.seek(self._log_begin)
            last_error = find_last_error(log.read().decode(errors="replace"))
        status = self._require_process().wait()
        return BrokerDiedError(f"Kafka ended with exit status {status} ({last_error}): its whole log is {self.log}")

    def _kill(self) -> None:
        """Kill the JVM's session if the JVM still runs, wait for its end, and release the data folder's lock."""
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
    """Start a broker, run the block once it is ready, and stop the broker after the block, also after an error.

    The parameters are those of `Broker`. Raises what `Broker.start` raises.
    """
    broker = Broker(data, port, log, topics)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def _choose_ports(requested: int | None) -> tuple[int, int]:
    """Return the clients' port (None: a free one) and a free port for the controller, which only the node itself uses.

    Raises PortTakenError if the requested port cannot be bound. The ports are released again, not reserved.
    """
    with socket.socket() as clients, socket.socket() as controller:
        # As Kafka does: lingering connections of a broker that was just stopped do not count as a port in use.
        clients.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            clients.bind((HOST, requested or 0))
        except OSError as error:
            raise PortTakenError(
                f"port {requested} on {HOST} cannot be listened on ({error.strerror}): "
                "stop what listens there, or choose another port"
            ) from error
        controller.bind((HOST, 0))
        return clients.getsockname()[1], controller.getsockname()[1]


def _make_cluster_id() -> str:
    """Return a random UUID in Kafka's format. Its first letter is fixed: a leading dash would be read as an option."""
    return "K" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


def _make_child_hook() -> Callable[[], None]:
    """Return the hook that the child runs between fork and exec: it unblocks signals and, on Linux, binds its life.

    The kernel then kills the JVM as soon as the thread that started it ends, so it never outlives this process.
    """
    libc = ctypes.CDLL(None)  # loaded here, for loading it between fork and exec is not safe
    if not hasattr(libc, "prctl"):
        return unblock_signals
    parent = os.getpid()

    def request_death_signal() -> None:
        unblock_signals()
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the request
            os.kill(os.getpid(), signal.SIGKILL)

    return request_death_signal
