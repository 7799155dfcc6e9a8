"""Workers with tables on disk, to which things happen."""

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from local.kafka import Broker
from tests.streams.process import Worker, begun_worker
from tests.waiting import eventually


class Crew:
    """Workers of one broker, by name, each with a directory of its own that outlives its process."""

    def __init__(self, folder: Path, broker: Broker, stack: ExitStack) -> None:
        self._folder = folder
        self._broker = broker
        self._stack = stack
        self.running: dict[str, Worker] = {}

    def begin(self, name: str) -> Worker:
        """Begin a worker, or one that was ended again; it need not be ready when this returns."""
        worker = begun_worker(
            self._folder, self._broker.bootstrap_servers, STORE="rocksdb", DATA_DIR=str(self.directory(name))
        )
        self.running[name] = self._stack.enter_context(worker)
        return self.running[name]

    def await_crash(self, name: str) -> None:
        """Return when a worker has ended by itself, with an error."""
        worker = self.running.pop(name)
        assert worker.process.wait(60) == 1, worker.log()

    def directory(self, name: str) -> Path:
        return self._folder / name

    def kill(self, name: str) -> None:
        """kill -9."""
        self.running.pop(name).kill()

    def wipe(self, name: str) -> None:
        """Lose what an ended worker had on disk."""
        assert name not in self.running
        shutil.rmtree(self.directory(name), ignore_errors=True)
        assert not self.directory(name).exists()

    def let_go(self, name: str) -> None:
        """SIGTERM, which it must obey in an orderly way; it is let come to its work before."""
        worker = self.running.pop(name)
        eventually(worker.is_ready)
        assert worker.terminate() == 0, worker.log()

    def work_on(self, chance: random.Random, longest_s: float) -> None:
        """Let a random time pass, in which none of them may end."""
        some = next(iter(self.running.values()))
        try:
            some.process.wait(chance.uniform(0, longest_s))
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(some.log())


@contextmanager
def a_crew(folder: Path, broker: Broker, *names: str) -> Iterator[Crew]:
    """Workers that were just begun; killed at the end of the block."""
    with ExitStack() as stack:
        crew = Crew(folder, broker, stack)
        for name in names:
            crew.begin(name)
        yield crew
