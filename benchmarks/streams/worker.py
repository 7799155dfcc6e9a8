"""The stream's worker as benchmarks run it: `python -m streams`, deployed with other settings."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.week.processes import read_cpu_s
from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]

_DIRECTLY: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens URLs of this machine, whatever proxy it has."""


class BenchmarkWorker:
    """A running worker process of the stream, in a process group of its own, with its web port and its log file."""

    def __init__(self, process: subprocess.Popen[bytes], web_port: int, log: Path) -> None:
        self.process = process
        self._web_port = web_port
        self._log = log

    def is_ready(self) -> bool:
        """Return True if the worker is in its consumer group and its tables are recovered.

        Return False if not, or if the worker does not answer.
        """
        try:
            with _DIRECTLY.open(f"http://127.0.0.1:{self._web_port}/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def count_folded_flights(self) -> int:
        """Return the number of flights whose batches are done since the worker's start; 0 without a response."""
        return self.sum_metrics("stream_flights_total")[0]

    def sum_metrics(self, *names: str) -> tuple[int, ...]:
        """Return the present sum of each metric over its labels, from one response; zeros without a response."""
        try:
            with _DIRECTLY.open(f"http://127.0.0.1:{self._web_port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            lines = []
        return tuple(
            sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(f"{name}{{")) for name in names
        )

    def read_cpu_s(self) -> float:
        """Return the processor seconds that the worker, with all its threads, has used since its start."""
        return read_cpu_s(self.process.pid)

    def wait_until(
        self, condition: Callable[[], bool], what: str, within_s: float = 180.0, every_s: float = 0.05
    ) -> None:
        """Wait until a condition is true, which is checked every `every_s` seconds.

        Ends the benchmark, with the end of the worker's log, after `within_s` seconds or when the worker has ended.
        `what` describes the condition in the message.
        """
        deadline = time.monotonic() + within_s
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the worker did not come to {what}:\n{self._log.read_text()[-4000:]}")
            time.sleep(every_s)


@contextmanager
def running_stream_worker(folder: Path, bootstrap_servers: str, store: str) -> Iterator[BenchmarkWorker]:
    """Start a worker of the stream, and yield it at once; it is stopped with SIGTERM at the end of the block.

    Its tables and its log are below `folder`; `store` is "memory" or "rocksdb". If it does not end within 20 s, its
    process group is killed.
    """
    web_port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    log_path = folder / "streams.log"
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "WEB_PORT": str(web_port),
        "DATA_DIR": str(folder / "data"),
        "STORE": store,
        "LISTEN_HOST": "127.0.0.1",
    }
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield BenchmarkWorker(process, web_port, log_path)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
