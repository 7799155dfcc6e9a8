"""The health check of gRPC servers for callers without a secret: those who send no message hold few threads."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc

from chassis.grpc_secret import HEALTH_CHECK

MAX_WAITING: Final = 4
"""Health checks whose message has not come that a server waits for; each of them holds a thread."""


class PromptHealthCheck(grpc.ServerInterceptor):  # type: ignore[misc, unused-ignore]
    """A server interceptor that bounds how many health checks wait for their message.

    One more cancels the one that has waited longest. A probe sends the message together with the call, so its check
    waits for microseconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[grpc.ServicerContext] = deque()

    def intercept_service(self, continuation: Callable[..., Any], details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a call, that of a health check with the bound; gRPC calls this."""
        handler = continuation(details)
        if details.method != HEALTH_CHECK or handler is None or handler.unary_unary is None:
            return handler

        def answer(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
            """Wait for the only message of a health check, and answer it; abort if the call ends without one."""
            self._begin_to_wait(context)
            try:
                request = next(requests, None)
            finally:
                self._end_to_wait(context)
            if request is None:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "A health check has one message.")
            return handler.unary_unary(request, context)

        return grpc.stream_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)

    def _begin_to_wait(self, context: grpc.ServicerContext) -> None:
        """Add a call to those that wait; cancel the oldest one if they are too many."""
        with self._lock:
            self._waiting.append(context)
            oldest = self._waiting.popleft() if len(self._waiting) > MAX_WAITING else None
        if oldest is not None:
            oldest.cancel()

    def _end_to_wait(self, context: grpc.ServicerContext) -> None:
        """Remove a call from those that wait, unless it was cancelled."""
        with self._lock:
            if context in self._waiting:
                self._waiting.remove(context)
