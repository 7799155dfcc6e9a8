"""Workers of the notifier, to which things happen."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.notifier.process import NotifierProcess, started_notifier
from tests.waiting import eventually


class WorkerGroup:
    """Workers by name, each with a directory of its own that outlives its process."""

    def __init__(
        self, folder: Path, broker: str, user_manager: str, smtp_port: int, settings: dict[str, str], stack: ExitStack
    ) -> None:
        self._folder = folder
        self._address = broker, user_manager, smtp_port
        self._settings = settings
        self._stack = stack
        self.running: dict[str, NotifierProcess] = {}
        self.kills = 0

    def begin(self, name: str) -> None:
        """Begin a worker, or one that was ended again; it need not be ready when this returns."""
        broker, user_manager, smtp_port = self._address
        worker = started_notifier(self._folder / name, broker, user_manager, smtp_port, **self._settings)
        self.running[name] = self._stack.enter_context(worker)

    def kill(self, name: str) -> None:
        """kill -9."""
        self.kills += 1
        self.running.pop(name).kill()

    def let_go(self, name: str) -> None:
        """SIGTERM, which it must obey in an orderly way; it is let come to its work before."""
        worker = self.running.pop(name)
        eventually(worker.is_ready)
        assert worker.terminate() == 0, worker.log()

    def is_at_work(self) -> bool:
        """Whether all are ready."""
        return all(worker.is_ready() for worker in self.running.values())

    def assert_alive(self) -> None:
        """None of them has ended by itself."""
        for worker in self.running.values():
            assert not worker.has_ended(), worker.log()


@contextmanager
def running_workers(
    folder: Path, broker: str, user_manager: str, smtp_port: int, *names: str, **settings: str
) -> Iterator[WorkerGroup]:
    """Workers that are ready; killed at the end of the block."""
    with ExitStack() as stack:
        crew = WorkerGroup(folder, broker, user_manager, smtp_port, settings, stack)
        for name in names:
            crew.begin(name)
        eventually(crew.is_at_work, "the workers' readiness")
        yield crew
