"""The processes of a storm: how each is started, ended, stopped for a while and restarted by a supervisor."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx

from local.kafka import Broker
from local.kafka.errors import BrokerError
from local.stack import REPLAY_BEACONS
from tests import plain_http
from tests.faults.storm.clocks import NO_STORY, RATE, StoryClock, WrongClock
from tests.faults.storm.sink import WELL
from tests.mariadb_fixture import INSTALLED, MariaDbProcess
from tests.ports import HOST, free_ports
from tests.service_process import ROOT, bare_environment, kill_with_parent

SERVICES: Final = ("user_manager", "collector", "streams", "notifier")
REPLICAS: Final = tuple(f"{service}_{number}" for service in SERVICES for number in (1, 2))
DATABASES: Final = ("user_manager", "collector")
OPERATOR_TOKEN: Final = "the-operators-own-token"
BARRIER_OF_ALL: Final = date(2014, 1, 2)

_PORTS_OF: Final = {"user_manager": 2, "collector": 2, "streams": 1, "notifier": 1}
_RESTART_AFTER_S: Final = 0.5
_END_WITHIN_S: Final = 120.0
_STARTS_OF_BROKER: Final = 5


@dataclass
class StackProcess:
    """A process with its log, which outlives its restarts. Start it on the main thread, whose end kills it."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    log: Path
    popen: subprocess.Popen[bytes] | None = None
    is_held: bool = False
    """True: the storm has ended it, and the supervisor does not start it."""
    ends: list[str] = field(default_factory=list)
    """How it ended when nobody had asked it to."""
    ended_at: float = 0.0

    def start(self) -> None:
        """Start the process, with its output at the end of its log."""
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=ROOT, env={**bare_environment(), **self.environment}, start_new_session=True,
                preexec_fn=kill_with_parent, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self.popen is not None and self.popen.poll() is None:
            self.popen.send_signal(number)

    def end(self, number: signal.Signals) -> None:
        """End the process by a signal, and wait for its end; it stays away until it is started again."""
        self.begin_end(number)
        self.wait_for_end(number)

    def begin_end(self, number: signal.Signals) -> None:
        """Send the signal that is to end the process, also if it is frozen; it stays away from now on."""
        self.is_held = True
        self.send(signal.SIGCONT)
        self.send(number)

    def wait_for_end(self, number: signal.Signals) -> None:
        """Wait until the process has ended by a signal; note it if that takes too long, or if its status is wrong."""
        if self.popen is None:
            return
        try:
            status = self.popen.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.ends.append(f"did not end within {_END_WITHIN_S:.0f} s of SIGTERM")
            self.popen.kill()
            self.popen.wait()
            return
        if number is signal.SIGTERM and status not in (0, -signal.SIGTERM):
            self.ends.append(f"ended with status {status} after SIGTERM")

    def supervise(self) -> None:
        """Start the process again if it has ended by itself, and note how."""
        if self.popen is None or self.is_held:
            return
        status = self.popen.poll()
        if status is None:
            self.ended_at = 0.0
        elif not self.ended_at:
            self.ended_at = time.monotonic()
            self.ends.append(f"ended by itself with status {status}")
        elif time.monotonic() - self.ended_at > _RESTART_AFTER_S:
            self.ended_at = 0.0
            self.start()

    def resume(self) -> None:
        """Start the process after `end`."""
        self.is_held = False
        self.start()


class Stack:
    """All processes of a storm, with their ports, databases and clocks, in one folder."""

    def __init__(self, folder: Path, start: datetime, end: datetime, on_mariadb: bool, settings: dict[str, str],
                 source_seed: int, source_rate: float) -> None:  # fmt: skip
        """`start`: the story's first instant; `end`: the midnight after the last day that the source has."""
        self.folder = folder
        self.broker_port = free_ports(16)
        ports = iter(range(self.broker_port + 1, self.broker_port + 16))
        self.ports: dict[str, int] = {}
        for name in REPLICAS:
            for kind in ("http", "grpc")[: _PORTS_OF[name[:-2]]]:
                self.ports[f"{name}_{kind}"] = next(ports)
        self.ports |= {"source": next(ports), "sink": next(ports)}
        self.broker = Broker(folder / "kafka", self.broker_port)
        self.mariadb = (
            # What a killed process has committed stays: its server did not lose its memory.
            MariaDbProcess(_made(folder / "mariadb"), "--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=1")
            if on_mariadb
            else None
        )
        _made(folder / "clocks")
        self.story = StoryClock(folder / "clocks" / "story", start)
        self.mood = folder / "mood"
        self.barrier = folder / "barrier"
        self.maildir = folder / "mail"
        self.set_mood(WELL)
        self.processes: dict[str, StackProcess] = {}
        self._settings = settings
        first_day, last_day = (start - timedelta(days=1)).date(), (end - timedelta(days=1)).date()
        self._source = (str(source_seed), repr(source_rate), first_day.isoformat(), last_day.isoformat())

    def set_mood(self, mood: str) -> None:
        """Change the mail server's mood."""
        part = self.mood.with_suffix(".part")
        part.write_text(mood)
        part.replace(self.mood)

    def set_barrier(self, day: date) -> None:
        """Let the source have no record of this day or a later one, until this is called with a later day."""
        part = self.barrier.with_suffix(".part")
        part.write_text(day.isoformat())
        part.replace(self.barrier)

    def set_clock(self, name: str, clock: WrongClock) -> None:
        """Make the wall clock of a process wrong, or right again."""
        clock.write(self.folder / "clocks" / name)

    def database_url(self, service: str) -> str:
        """Return the URL of a service's database."""
        if self.mariadb is None:
            return f"sqlite:///{self.folder}/{service}.db"
        return self.mariadb.server.url.set(database=service).render_as_string(hide_password=False)

    def url(self, name: str) -> str:
        """Return the base URL of the REST interface or the pages of a replica."""
        return f"http://{HOST}:{self.ports[f'{name}_http']}"

    @contextmanager
    def running(self) -> Iterator["Stack"]:
        """Start everything, without waiting until the services are ready, and kill what still runs at the end."""
        try:
            if self.mariadb is not None:
                self.mariadb.start()
                for service in DATABASES:
                    self.mariadb.server.execute(f"CREATE DATABASE {service} CHARACTER SET utf8mb4")
            self.start_broker()
            for name in ("source", "sink", *REPLICAS):
                self.set_clock(name, WrongClock())
                self.processes[name] = StackProcess(
                    name, self._build_command(name), self._build_environment(name), self.folder / f"{name}.log"
                )
                self.processes[name].start()
            yield self
        finally:
            for process in self.processes.values():
                process.send(signal.SIGKILL)
            self.broker.stop()
            if self.mariadb is not None:
                self.mariadb.kill()

    def start_broker(self) -> None:
        """Start the broker, with patience: it takes a minute at most by itself, which a busy machine may exceed."""
        for attempt in range(_STARTS_OF_BROKER):
            try:
                self.broker.start()
            except BrokerError:
                if attempt == _STARTS_OF_BROKER - 1:
                    raise
            else:
                return

    def supervise(self) -> None:
        """Start again what has ended by itself."""
        for process in self.processes.values():
            process.supervise()

    def is_ready(self, name: str) -> bool:
        """Return True if a replica says that it is ready."""
        try:
            return plain_http.get(f"{self.url(name)}/health/ready", timeout=3).status_code == 200
        except httpx.TransportError:
            return False

    def _build_command(self, name: str) -> tuple[str, ...]:
        """Build the arguments of Python."""
        if name == "sink":
            return ("-m", "tests.faults.storm.sink", str(self.ports["sink"]), str(self.maildir), str(self.mood))
        has_story = name.startswith(("source", "collector"))
        clocks = str(self.folder / "clocks" / "story") if has_story else NO_STORY
        program = ("-m", "tests.faults.storm.clocks", clocks, str(self.folder / "clocks" / name))
        if name == "source":
            return (*program, "tests.faults.storm.source", str(self.ports["source"]), str(self.barrier), *self._source)
        return (*program, name[:-2])

    def _build_environment(self, name: str) -> dict[str, str]:
        """Build the settings of a process; the replicas of one number talk to each other."""
        common = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}", "PYTHONUNBUFFERED": "1"}
        common |= {
            each: os.environ[each] for each in ("XDG_CACHE_HOME", "COVERAGE_PROCESS_START") if each in os.environ
        }
        if name in ("source", "sink"):
            return common | self.story.build_environment()
        service, number = name[:-2], name[-1]
        common |= {
            "KAFKA_BOOTSTRAP_SERVERS": f"{HOST}:{self.broker_port}",
            "GRPC_SECRET": "the-secret-of-all-services-in-the-storm",
            "OPERATOR_TOKEN": OPERATOR_TOKEN,
            "USER_MANAGER_GRPC_TARGET": f"{HOST}:{self.ports[f'user_manager_{number}_grpc']}",
            "COLLECTOR_GRPC_TARGET": f"{HOST}:{self.ports[f'collector_{number}_grpc']}",
        }
        if service in DATABASES:
            common |= {
                "DATABASE_URL": self.database_url(service),
                "HTTP_PORT": str(self.ports[f"{name}_http"]),
                "GRPC_PORT": str(self.ports[f"{name}_grpc"]),
            }
        else:
            common |= {
                "WEB_PORT": str(self.ports[f"{name}_http"]),
                "DATA_DIR": str(self.folder / f"{name}-data"),
                "SESSION_TIMEOUT_S": "6",
            }
        return common | self._build_own_settings(service) | self._settings

    def _build_own_settings(self, service: str) -> dict[str, str]:
        """Build the settings that one service alone has."""
        match service:
            case "user_manager":
                return {
                    "PUBLIC_URL": self.url("user_manager_1"),
                    "SIGNING_KEY": "the-signing-key-of-the-storm",
                    "ALLOW_TEST_ADDRESSES": "true",
                    "MAILS_PER_CLIENT": "1000000",
                }
            case "collector":
                return self.story.build_environment() | {
                    "OPENSKY_URL": f"http://{HOST}:{self.ports['source']}/api",
                    "OPENSKY_TOKEN_URL": f"http://{HOST}:{self.ports['source']}/token",
                    "OPENSKY_TIMEOUT": "5",
                    "CREDITS_PER_DAY": "1000000",
                    "BEACON_AIRPORTS": REPLAY_BEACONS,
                    "POLL_INTERVAL": f"PT{0.4 * RATE:.0f}S",
                    "LOG_CHECKED_EVERY": "PT1S",  # of real time; the interests are compared at each tenth
                }
            case "notifier":
                return {
                    "SMTP_HOST": HOST,
                    "SMTP_PORT": str(self.ports["sink"]),
                    "SMTP_SECURITY": "plaintext",
                    "MAIL_FROM": "Towerwatch <alerts@example.org>",
                    "CONTACT_CACHE_S": "0",
                    "PERSON_MAILS_PER_HOUR": "0",
                    "RETRY_BASE_S": "0.2",
                }
            case _:
                return {}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def can_run_mariadb() -> bool:
    """Return True if a MariaDB server is installed."""
    return INSTALLED is not None
