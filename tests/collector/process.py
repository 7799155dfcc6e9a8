"""A real `python -m collector`, for tests."""

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
    """What any process needs, and no setting."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


class Process:
    """`python -m collector` with an environment of its own; nobody is where its settings point to."""

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
        return self._log.read_text()

    def get(self, path: str, **headers: str) -> httpx.Response | None:
        """The answer to a GET, or None while nothing answers."""
        assert self.popen.poll() is None, self.log()
        try:
            return httpx.get(f"{self.base_url}{path}", headers=headers, timeout=10)
        except httpx.TransportError:
            return None

    def answers(self, path: str, status: int = 200) -> bool:
        answer = self.get(path)
        return answer is not None and answer.status_code == status

    def metric(self, name: str) -> float | None:
        """The value of a series without labels of its own; None while nothing answers."""
        answer = self.get("/metrics")
        lines = answer.text.splitlines() if answer else []
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{")), None)

    def end(self) -> int:
        """SIGTERM; the exit code, which must come soon."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout=10)

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        self.popen.kill()
        self.popen.wait()
