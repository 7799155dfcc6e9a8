"""Real service processes for tests: start `python -m SERVICE`, query it over HTTP, and stop it."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx

from tests import plain_http

ROOT: Final = Path(__file__).parents[1]
"""The root folder of the repository."""

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def bare_environment() -> dict[str, str]:
    """Return the environment variables that any process needs, without any setting of ours."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


def kill_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends (Linux only).

    To be called in the child process: pass this function as `preexec_fn`.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ServiceProcess:
    """A running service with an environment of its own. To be started on the main thread, whose end kills it."""

    def __init__(self, program: Sequence[str], settings: Mapping[str, str], log_path: Path) -> None:
        """Start Python with the arguments `program`; `settings` holds at least HTTP_PORT and GRPC_PORT."""
        self.base_url = f"http://127.0.0.1:{settings['HTTP_PORT']}"
        self.grpc_target = f"127.0.0.1:{settings['GRPC_PORT']}"
        self._log_path = log_path
        with log_path.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, *program],
                cwd=ROOT, env={**bare_environment(), **settings}, start_new_session=True, preexec_fn=kill_with_parent,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    def log(self) -> str:
        """Return everything that the process has logged so far."""
        return self._log_path.read_text()

    def get(self, path: str, **headers: str) -> httpx.Response | None:
        """Send a GET request; return the response, or None if the process does not respond. Fails if it has ended."""
        assert self.popen.poll() is None, self.log()
        try:
            return plain_http.get(f"{self.base_url}{path}", headers=headers, timeout=10)
        except httpx.TransportError:
            return None

    def status(self, path: str) -> int | None:
        """Send a GET request; return the status of the response, or None if the process does not respond."""
        response = self.get(path)
        return None if response is None else response.status_code

    def answers(self, path: str, status: int = 200) -> bool:
        """Return True if a GET request of `path` gets this status, False if another one or no response."""
        return self.status(path) == status

    def is_ready(self) -> bool:
        return self.answers("/health/ready")

    def metric(self, name: str) -> float | None:
        """Return the value of the first series with this metric name; None if no such series is served."""
        response = self.get("/metrics")
        lines = response.text.splitlines() if response else []
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{")), None)

    def terminate(self) -> int:
        """Send SIGTERM and return the exit code. Fails if the process does not end within two minutes."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout=120)

    def kill(self) -> None:
        """Send SIGKILL, if the process still runs, and wait for its end."""
        self.popen.kill()
        self.popen.wait()
