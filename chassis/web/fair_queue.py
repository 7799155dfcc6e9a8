"""A fair queue of requests: clients take turns, and no client has more than half of the threads at once.

waitress answers requests in the order of their arrival: a client with sixty slow requests on sixty connections would
let everybody else wait for all of them. No request is refused; it only waits behind others of the same client.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from waitress.task import ThreadedTaskDispatcher

from chassis.clients import find_client_address, identify_client

_SHARE: Final = 2
"""The number of threads is divided by this for one client: it may use half of them at once."""


class Task(Protocol):
    """A request that waits for a thread of waitress."""

    def service(self) -> None:
        """Answer the request."""
        ...

    def cancel(self) -> None:
        """Discard the request without an answer."""
        ...


class FairQueue:
    """A queue that hands out one task of each client in turn, and bounds the unfinished ones of a client.

    Not thread-safe. It has the operations of a deque that waitress needs. Its length is the number of tasks that may be
    handed out now.
    """

    def __init__(self, most_at_work: int) -> None:
        """`most_at_work`: how many tasks of one client may be handed out and not finished."""
        self._most_at_work = most_at_work
        self._waiting: OrderedDict[str, deque[Task]] = OrderedDict()
        """The tasks by client; the client whose turn it is comes first."""
        self._at_work: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many tasks may be handed out now; those above the bound of their client do not count."""
        return sum(min(len(tasks), self._count_free(client)) for client, tasks in self._waiting.items())

    def append(self, task: "ClientTask") -> None:
        """Add a task behind the others of its client."""
        self._waiting.setdefault(task.client, deque()).append(task)

    def popleft(self) -> Task:
        """Remove and return the first task of the client whose turn it is, and count it as unfinished until `finish`.

        Raises IndexError if no task may be handed out.
        """
        client = next((each for each in self._waiting if self._count_free(each)), None)
        if client is None:
            raise IndexError("no task may be handed out")
        tasks = self._waiting.pop(client)
        task = tasks.popleft()
        if tasks:
            self._waiting[client] = tasks  # behind the other clients
        self._at_work[client] += 1
        return task

    def finish(self, client: str) -> None:
        """Count one unfinished task of a client less."""
        self._at_work[client] -= 1
        if not self._at_work[client]:
            del self._at_work[client]

    def _count_free(self, client: str) -> int:
        """Return how many more tasks of a client may be handed out."""
        return max(self._most_at_work - self._at_work[client], 0)


class ClientTask:
    """A task of a client that calls its dispatcher when it is finished."""

    def __init__(self, task: Task, client: str, finish: Callable[[str], None]) -> None:
        """`finish`: called with the client once the request is answered."""
        self._task = task
        self.client = client
        self._finish = finish

    def service(self) -> None:
        """Answer the request, then call `finish`, so that the next request of the client may be handed out."""
        try:
            self._task.service()
        finally:
            self._finish(self.client)

    def cancel(self) -> None:
        """Discard the request without an answer."""
        self._task.cancel()


class FairDispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress has no types
    """The thread pool of waitress with a fair queue: one client has half of the threads at most."""

    def __init__(self, threads: int) -> None:
        """Start `threads` threads."""
        super().__init__()
        self.queue = FairQueue(max(threads // _SHARE, 1))
        self.set_thread_count(threads)

    def add_task(self, channel: Any) -> None:
        """Queue the first request of a connection (`chassis.web.wsgi`); waitress calls this."""
        super().add_task(ClientTask(channel, _find_client(channel), self._finish))

    def _finish(self, client: str) -> None:
        """Count a request of a client as finished; the thread that answered it then takes the next task."""
        with self.lock:
            self.queue.finish(client)


def _find_client(channel: Any) -> str:
    """Return the client of a connection's first request: that of the connection, or the one that its proxy names."""
    if channel.client is not None:
        return str(channel.client)
    headers = {f"HTTP_{name}": value for name, value in channel.requests[0].headers.items()}
    return identify_client(find_client_address(headers) or str(channel.addr[0]))
