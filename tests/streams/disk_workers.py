"""Workers with tables on disk, which tests start, stop, kill and start again."""

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from local.kafka import Broker
from tests.streams.process import StreamsProcess, started_worker
from tests.waiting import eventually


class DiskWorkers:
    """Workers of one broker, by name, each with a directory of its own that outlives its process."""

    def __init__(self, folder: Path, broker: Broker, stack: ExitStack) -> None:
        self._folder = folder
        self._broker = broker
        self._stack = stack
        self.running: dict[str, StreamsProcess] = {}

    def start(self, name: str) -> StreamsProcess:
        """Start a worker, for the first time or again. Returns before the worker is ready."""
        worker = started_worker(
            self._folder, self._broker.bootstrap_servers, STORE="rocksdb", DATA_DIR=str(self.directory(name))
        )
        self.running[name] = self._stack.enter_context(worker)
        return self.running[name]

    def wait_for_crash(self, name: str) -> None:
        """Wait until a worker has ended by itself with an error."""
        worker = self.running.pop(name)
        assert worker.process.wait(60) == 1, worker.log()

    def directory(self, name: str) -> Path:
        return self._folder / name

    def kill(self, name: str) -> None:
        """Kill a worker with SIGKILL."""
        self.running.pop(name).kill()

    def delete_directory(self, name: str) -> None:
        """Delete the directory of a worker that has ended."""
        assert name not in self.running
        shutil.rmtree(self.directory(name), ignore_errors=True)
        assert not self.directory(name).exists()

    def terminate(self, name: str) -> None:
        """Wait until a worker is ready, then stop it with SIGTERM, and require exit code 0."""
        worker = self.running.pop(name)
        eventually(worker.is_ready)
        assert worker.terminate() == 0, worker.log()

    def wait_random_time(self, chance: random.Random, longest_s: float) -> None:
        """Wait up to `longest_s` seconds. Fails if one of the workers ends meanwhile."""
        worker = next(iter(self.running.values()))
        try:
            worker.process.wait(chance.uniform(0, longest_s))
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(worker.log())


@contextmanager
def running_disk_workers(folder: Path, broker: Broker, *names: str) -> Iterator[DiskWorkers]:
    """Start workers for the block; all are killed at its end."""
    with ExitStack() as stack:
        workers = DiskWorkers(folder, broker, stack)
        for name in names:
            workers.start(name)
        yield workers
