"""A group of real notifier workers that tests start, stop and kill."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.notifier.process import NotifierProcess, started_notifier
from tests.waiting import eventually


class WorkerGroup:
    """Workers by name; each has a directory of its own that outlives its process."""

    def __init__(
        self, folder: Path, broker: str, user_manager: str, smtp_port: int, settings: dict[str, str], stack: ExitStack
    ) -> None:
        self._folder = folder
        self._address = broker, user_manager, smtp_port
        self._settings = settings
        self._stack = stack
        self.running: dict[str, NotifierProcess] = {}
        self.kills = 0

    def start(self, name: str) -> None:
        """Start a worker, also one that was ended before; it may not be ready when this returns."""
        broker, user_manager, smtp_port = self._address
        worker = started_notifier(self._folder / name, broker, user_manager, smtp_port, **self._settings)
        self.running[name] = self._stack.enter_context(worker)

    def kill(self, name: str) -> None:
        """Kill a worker with SIGKILL."""
        self.kills += 1
        self.running.pop(name).kill()

    def stop(self, name: str) -> None:
        """Stop a worker with SIGTERM, once it is ready; it must exit with status 0."""
        worker = self.running.pop(name)
        eventually(worker.is_ready)
        assert worker.terminate() == 0, worker.log()

    def are_ready(self) -> bool:
        """Return True if all running workers are ready."""
        return all(worker.is_ready() for worker in self.running.values())

    def assert_alive(self) -> None:
        """Assert that no worker has exited by itself."""
        for worker in self.running.values():
            assert not worker.has_ended(), worker.log()


@contextmanager
def running_workers(
    folder: Path, broker: str, user_manager: str, smtp_port: int, *names: str, **settings: str
) -> Iterator[WorkerGroup]:
    """Start workers with these names, wait until they are ready, and kill them at the end of the block."""
    with ExitStack() as stack:
        workers = WorkerGroup(folder, broker, user_manager, smtp_port, settings, stack)
        for name in names:
            workers.start(name)
        eventually(workers.are_ready, "the workers' readiness")
        yield workers
