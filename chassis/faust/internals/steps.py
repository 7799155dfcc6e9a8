"""Coroutines that mostly need not wait, begun here and now instead of by a task of the event loop.

A task costs some 10 µs: more than most of what Faust does with a message.
"""

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class EagerCoroutine(Generic[T]):
    """A coroutine that ran as far as it could without waiting.

    Where it is not done by then, it goes on once it is awaited, by any task; or it is closed. It must not ask for the
    task that runs it before it waits (`asyncio.timeout` does), because that one may be another.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        """Raises what the coroutine raises before it waits."""
        self.is_done = False
        self._coroutine = coroutine
        self._waits_for: object = None
        self._result: T | None = None
        self._advance(coroutine.send, None)

    @property
    def result(self) -> T:
        """What it returned, once it is done."""
        return cast(T, self._result)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, T]:
        while not self.is_done:
            try:
                given = yield self._waits_for
            except BaseException as error:  # noqa: BLE001 - to be raised in the coroutine, as `await` does
                self._advance(self._coroutine.throw, error)
            else:
                self._advance(self._coroutine.send, given)
        return self.result

    def _advance(self, go_on: Callable[[Any], object], given: object) -> None:
        try:
            self._waits_for = go_on(given)
        except StopIteration as end:
            self.is_done, self._result = True, end.value
