"""The WSGI server: waitress in a thread of the service's own process, beside gRPC and the background tasks.

One process a replica keeps one set of metrics and one relay; more replicas are how a service scales.
"""

import socket
import threading
import time
from functools import partial
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server

from chassis.errors import CannotListenError

DRAIN_S = 5.0
"""How long requests in flight may take once the server stops."""


class HttpServer:
    """Serves a Flask app from `start` to `stop`."""

    def __init__(self, app: Flask, host: str, port: int, threads: int = 8) -> None:
        self._port = port
        self._map: dict[int, Any] = {}
        try:
            self._server = create_server(
                app,
                map=self._map,
                host=host,
                port=port,
                threads=threads,
                ident="towerwatch",
                connection_limit=1000,
                channel_timeout=60,
                max_request_body_size=1 << 20,
                clear_untrusted_proxy_headers=True,
            )
        except (OSError, socket.gaierror) as error:
            raise CannotListenError(f"HTTP cannot listen on {host}:{port}: {error.strerror}.") from None
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take no new connection, finish the requests in flight (5 s at most), and return.

        The loop runs on meanwhile, as it is what sends the answers, and closes everything itself. (waitress' own
        close() ends the pipe by which workers wake the loop; they would write to whatever file got its number next.)
        """
        listeners = [each for each in self._map.values() if isinstance(each, BaseWSGIServer)]
        for listener in listeners:
            listener.trigger.pull_trigger(partial(wasyncore.dispatcher.close, listener))
        deadline = time.monotonic() + DRAIN_S
        dispatcher = self._server.task_dispatcher
        dispatcher.shutdown(cancel_pending=False, timeout=DRAIN_S)
        while self._unsent() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not dispatcher.threads:
            listeners[0].trigger.pull_trigger(partial(wasyncore.close_all, self._map))
            self._thread.join(timeout=1)

    def _unsent(self) -> bool:
        """Whether a part of an answer waits for its reader."""
        return any(isinstance(each, HTTPChannel) and each.total_outbufs_len for each in list(self._map.values()))
