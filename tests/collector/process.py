"""A real `python -m collector` as a child process, for tests."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import httpx

from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]
OPERATOR_TOKEN: Final = "the-operators-own-token"


def bare_environment() -> dict[str, str]:
    """Return the environment variables that any process needs, without any setting."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


class Process:
    """A running `python -m collector` with its own environment; by default all of its dependencies are unavailable."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        environment = {
            "DATABASE_URL": f"sqlite:///{folder}/collector.db",
            "HTTP_PORT": str(free_port()),
            "GRPC_PORT": str(free_port()),
            "USER_MANAGER_GRPC_TARGET": f"127.0.0.1:{free_port()}",
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "OPENSKY_URL": f"http://127.0.0.1:{free_port()}/api",
            "OPENSKY_TOKEN_URL": f"http://127.0.0.1:{free_port()}/token",
            "OPERATOR_TOKEN": OPERATOR_TOKEN,
            **settings,
        }
        self.base_url = f"http://127.0.0.1:{environment['HTTP_PORT']}"
        self.grpc_target = f"127.0.0.1:{environment['GRPC_PORT']}"
        self._log = folder / f"log-{environment['HTTP_PORT']}"
        with self._log.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "collector"],
                cwd=ROOT,
                env=bare_environment() | environment,
                stdout=output,
                stderr=output,
            )

    def log(self) -> str:
        """Return the whole log so far."""
        return self._log.read_text()

    def get(self, path: str, **headers: str) -> httpx.Response | None:
        """Return the response to a GET, or None while the process does not answer."""
        assert self.popen.poll() is None, self.log()
        try:
            return httpx.get(f"{self.base_url}{path}", headers=headers, timeout=10)
        except httpx.TransportError:
            return None

    def answers(self, path: str, status: int = 200) -> bool:
        """Return True if a GET is answered with this status, False if with another or not at all."""
        answer = self.get(path)
        return answer is not None and answer.status_code == status

    def metric(self, name: str) -> float | None:
        """Return the value of a metric without own labels; None while the process does not answer."""
        answer = self.get("/metrics")
        lines = answer.text.splitlines() if answer else []
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{")), None)

    def end(self) -> int:
        """Send SIGTERM and return the exit code, which must come within Kubernetes' grace period of 45 s."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout=45)

    def kill(self) -> None:
        """Send SIGKILL if the process still runs, and wait for its end."""
        self.popen.kill()
        self.popen.wait()
