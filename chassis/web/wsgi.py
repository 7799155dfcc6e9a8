"""The WSGI server: waitress in a thread of the service's own process, beside gRPC and the background tasks.

One process a replica keeps one set of metrics and one relay; more replicas are how a service scales.
"""

import json
import logging
import socket
import threading
import time
from functools import partial
from typing import Any, Final

from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server
from waitress.task import ErrorTask

from chassis.errors import CannotListenError
from chassis.web.http import Problem

DRAIN_S = 5.0
"""How long requests in flight may take once the server stops."""

LARGEST_BODY = 1 << 20
"""Bytes of the largest request body that is received at all; the app reads less."""

_UNREADABLE: Final = {
    413: "The body is larger than anything that this service reads.",
    431: "The header of the request is too large.",
    500: "Something went wrong on our side; it has been logged.",
    501: "This transfer coding is not known here.",
}


class _ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """Answers what never reaches the app, as the app would: with problem details, and without the server's own text."""

    def execute(self) -> None:
        status = self.request.error.code
        problem = Problem(status, _UNREADABLE.get(status, "This is not a request that can be read."))
        body = json.dumps(problem.build_details()).encode()
        self.status = f"{status} {problem.build_details()['title']}"
        self.response_headers.append(("Content-Type", "application/problem+json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


def _remove_path(record: logging.LogRecord) -> bool:
    """waitress says which path it served when a client hung up; a path may hold an address."""
    record.msg, record.args = str(record.msg).partition(" while serving ")[0], ()
    return True


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    error_task_class = _ProblemTask
    logger = logging.getLogger("waitress.channel")
    logger.addFilter(_remove_path)


class HttpServer:
    """Serves a Flask app from `start` to `stop`."""

    def __init__(self, app: Flask, host: str, port: int, *, threads: int = 8, trusted_proxy: str | None = None) -> None:
        """`trusted_proxy` is the address of the one proxy in front, or `*` where nobody else can connect.

        What it says in X-Forwarded-For (the last one there) and X-Forwarded-Proto is taken for the client's. Without
        it, and from others, such headers are dropped. `threads` requests are worked on at once, the others wait.
        """
        self._port = port
        self._map: dict[int, Any] = {}
        proxy: dict[str, object] = {}
        if trusted_proxy is not None:
            proxy = {
                "trusted_proxy": trusted_proxy,
                "trusted_proxy_count": 1,
                "trusted_proxy_headers": "x-forwarded-for x-forwarded-proto",
            }
        try:
            self._server = create_server(
                app,
                map=self._map,
                host=host,
                port=port,
                threads=threads,
                ident="towerwatch",
                connection_limit=1000,
                asyncore_use_poll=True,  # select() fails on file numbers above 1023
                channel_timeout=75,  # longer than proxies keep idle connections (60 s): they must be the first to close
                max_request_body_size=LARGEST_BODY,
                clear_untrusted_proxy_headers=True,
                **proxy,
            )
        except (OSError, socket.gaierror) as error:
            raise CannotListenError(f"HTTP cannot listen on {host}:{port}: {error.strerror}.") from None
        for listener in self._list_listeners():
            listener.channel_class = _Channel
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take no new connection, finish the requests in flight (5 s at most), and return.

        The loop runs on meanwhile, as it is what sends the answers, and closes everything itself. (waitress' own
        close() ends the pipe by which workers wake the loop; they would write to whatever file got its number next.)
        """
        listeners = self._list_listeners()
        for listener in listeners:
            listener.trigger.pull_trigger(partial(wasyncore.dispatcher.close, listener))
        deadline = time.monotonic() + DRAIN_S
        dispatcher = self._server.task_dispatcher
        dispatcher.shutdown(cancel_pending=False, timeout=DRAIN_S)
        while self._has_unsent_data() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not dispatcher.threads:
            trigger = listeners[0].trigger
            # Not pull_trigger: it writes to the pipe after it has said what to do, when the pipe may be closed already.
            with trigger.lock:
                trigger._physical_pull()
                trigger.thunks.append(partial(wasyncore.close_all, self._map))
            self._thread.join(timeout=1)

    def _list_listeners(self) -> list[BaseWSGIServer]:
        return [each for each in self._map.values() if isinstance(each, BaseWSGIServer)]

    def _has_unsent_data(self) -> bool:
        """Whether a part of an answer waits for its reader."""
        return any(isinstance(each, HTTPChannel) and each.total_outbufs_len for each in list(self._map.values()))
