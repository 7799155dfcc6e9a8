"""Coroutines that are run at once, without a task of the event loop, because most of them never wait.

A task costs some 10 µs: more than most of what Faust does with a message. (asyncio has eager tasks from Python 3.12.)
"""

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class EagerCoroutine(Generic[T]):
    """A coroutine that runs at once up to its first wait, and continues from there when it is awaited.

    Any task may await it; or `close` ends it. Before its first wait the coroutine must not ask for its current task
    (`asyncio.timeout` does), because another task may run the rest.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        """Run the coroutine up to its first wait. Raises what the coroutine raises before that."""
        self.is_done = False
        self._coroutine = coroutine
        self._waits_for: object = None
        self._result: T | None = None
        self._advance(coroutine.send, None)

    @property
    def result(self) -> T:
        """The coroutine's return value; valid only once `is_done`."""
        return cast(T, self._result)

    def close(self) -> None:
        """End the coroutine where it waits, without a result; its `finally` blocks run."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, T]:
        """Run the rest of the coroutine from its first wait on, and return its result.

        If the coroutine is done already, return its result at once. Raises what the coroutine raises. A cancellation of
        the awaiting task is raised in the coroutine.
        """
        while not self.is_done:
            try:
                sent = yield self._waits_for
            except BaseException as error:  # noqa: BLE001 - to be raised in the coroutine, as `await` does
                self._advance(self._coroutine.throw, error)
            else:
                self._advance(self._coroutine.send, sent)
        return self.result

    def _advance(self, resume: Callable[[Any], object], value: object) -> None:
        """Run the coroutine up to its next wait, and store the object that it waits for, or its result if it returns.

        `resume` is the coroutine's `send` or `throw`, and `value` its argument. Raises what the coroutine raises.
        """
        try:
            self._waits_for = resume(value)
        except StopIteration as end:
            self.is_done, self._result = True, end.value
