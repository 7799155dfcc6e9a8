"""Real `python -m user_manager` processes, and what a person asks of them."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]
SIGNING_KEY: Final = "the-signing-key-of-tests"
OPERATOR_TOKEN: Final = "the-operators-own-token"
PROGRAM: Final = ("-m", "user_manager")

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def bare_environment() -> dict[str, str]:
    """What any process needs, and no setting."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


class Process:
    """`python -m user_manager` with an environment of its own. To be begun on the main thread."""

    def __init__(self, environment: dict[str, str], log: Path, program: Sequence[str] = PROGRAM) -> None:
        self.log = log
        self.base_url = f"http://127.0.0.1:{environment['HTTP_PORT']}"
        self.grpc_target = f"127.0.0.1:{environment['GRPC_PORT']}"
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, *program],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, preexec_fn=_end_with_parent,
            )  # fmt: skip

    def status(self, path: str) -> int | None:
        """The status of a GET, or None while nothing answers."""
        answer = self._get(path)
        return None if answer is None else answer.status_code

    def is_ready(self) -> bool:
        return self.status("/health/ready") == 200

    def metric(self, name: str) -> float | None:
        """The value of a series without labels of its own; None while there is none."""
        answer = self._get("/metrics")
        lines = answer.text.splitlines() if answer else []
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{")), None)

    def log_lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def end(self) -> int:
        """SIGTERM; the exit code, which must come soon."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout=10)

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        self.popen.kill()
        self.popen.wait()

    def _get(self, path: str) -> httpx.Response | None:
        assert self.popen.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.base_url}{path}", timeout=10)
        except httpx.TransportError:
            return None


Start = Callable[..., Process]


@contextmanager
def starting(folder: Path, program: Sequence[str] = PROGRAM, **defaults: str) -> Iterator[Start]:
    """What begins a process with these settings, changed by its own arguments; all are killed when the block ends.

    Unless told otherwise they share a file in `folder` as their database, and nobody is where they look for others.
    """
    processes: list[Process] = []

    def begin(**settings: str) -> Process:
        environment = {
            **bare_environment(),
            "DATABASE_URL": f"sqlite:///{folder}/user_manager.db",
            "HTTP_PORT": str(free_port()),
            "GRPC_PORT": str(free_port()),
            "COLLECTOR_GRPC_TARGET": f"127.0.0.1:{free_port()}",
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "PUBLIC_URL": "https://towerwatch.example",
            "SIGNING_KEY": SIGNING_KEY,
            "OPERATOR_TOKEN": OPERATOR_TOKEN,
            "ALLOW_TEST_ADDRESSES": "true",
            **defaults,
            **settings,
        }
        process = Process(environment, folder / f"user_manager-{len(processes)}.log", program)
        processes.append(process)
        return process

    try:
        yield begin
    finally:
        for process in processes:
            process.kill()


def _end_with_parent() -> None:
    """In the child: ask the kernel to end it when the thread that started it is gone (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
