"""The WSGI server: waitress in a thread of the service's own process, beside gRPC and the background tasks.

Each replica is one process, with one set of metrics and one relay; a service scales by more replicas.
"""

import json
import logging
import socket
import threading
import time
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, UnixWSGIServer, create_server
from waitress.task import ErrorTask, WSGITask

from chassis.clients import identify_client, is_trusted_peer, take_addresses_from_proxy
from chassis.connections import IDLE_WITHIN_S, MAX_CONNECTIONS, TransferDeadlines, TransferState, make_room
from chassis.listening import bind_listeners, bind_private_socket
from chassis.web.fair_queue import FairDispatcher
from chassis.web.http import Problem

DRAIN_S = 5.0
"""Seconds that requests in flight may take once the server stops."""

LARGEST_BODY = 1 << 20
"""Bytes of the largest request body that the server receives; the app's own limit is lower."""

MOST_PIPELINED: Final = 16
"""Requests of one connection that are received before the first of them is answered (RFC 9112, 9.3.2). waitress reads
8 KiB at once, which may be two hundred: their answers fill the disk, and block a thread from 16 MiB on, if the client
reads none."""

_UNREADABLE: Final = {
    413: "The body is larger than anything that this service reads.",
    431: "The header of the request is too large.",
    500: "Something went wrong on our side; it has been logged.",
    501: "This transfer coding is not known here.",
}


class _ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """The waitress task that answers an unreadable or too large request, with problem details as the app does.

    The connection is closed after the answer.
    """

    def execute(self) -> None:
        """Write the response with the error's status and its problem details; waitress calls this."""
        status = self.request.error.code
        problem = Problem(status, _UNREADABLE.get(status, "This is not a request that can be read."))
        body = json.dumps(problem.build_details()).encode()
        self.status = f"{status} {problem.build_details()['title']}"
        self.response_headers.append(("Content-Type", "application/problem+json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Task(WSGITask):  # type: ignore[misc]  # waitress has no types
    """The waitress task that calls the app; the host of an absolute request target counts as the request's host."""

    def get_environment(self) -> dict[str, Any]:
        """Return the WSGI environment of the request; waitress calls this."""
        environ: dict[str, Any] = super().get_environment()
        if self.request.proxy_scheme and self.request.proxy_netloc:  # RFC 9112, 3.2.2: the header is ignored
            environ["HTTP_HOST"] = self.request.proxy_netloc
        return environ


def _remove_path(record: logging.LogRecord) -> bool:
    """Remove the request's path from a log record of waitress, since a path may contain an address. Return True.

    A logging filter: True means that the record is logged. waitress logs the path when a client disconnects.
    """
    record.msg, record.args = str(record.msg).partition(" while serving ")[0], ()
    return True


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """waitress' connection to a client, with problem details as error answers and without paths in the log.

    It closes itself when its client misses a deadline; waitress itself waits as long as a byte comes now and then, and
    for ever for one that reads no answer.
    """

    task_class = _Task
    error_task_class = _ProblemTask
    logger = logging.getLogger("waitress.channel")
    logger.addFilter(_remove_path)

    def __init__(self, client: str | None, *args: Any, **options: Any) -> None:
        """`client`: as `ClientConnection` has it; then the arguments of waitress."""
        self.client = client
        self.opened_at = time.monotonic()
        self._deadlines = TransferDeadlines(self.opened_at)
        self._answered = 0
        super().__init__(*args, **options)

    @property
    def is_waiting_for_client(self) -> bool:
        """True if there is no request to answer and no answer to send."""
        return self._get_state() in (TransferState.IDLE, TransferState.RECEIVING)

    def _get_state(self) -> TransferState:
        """Return what the connection waits for: the client (IDLE, RECEIVING, ANSWERING) or the service (HANDLING)."""
        if self.requests:
            return TransferState.ANSWERING if self.total_outbufs_len else TransferState.HANDLING
        if self.total_outbufs_len or self.close_when_flushed:
            return TransferState.ANSWERING
        return TransferState.IDLE if self.request is None and self._answered else TransferState.RECEIVING

    def readable(self) -> bool:
        """Return True if the loop should read from the client, else False; close it if a deadline is missed.

        The loop calls this at least once a second.
        """
        if self.connected and self._deadlines.detect_missed_deadline(
            time.monotonic(), self._get_state(), self._answered
        ):
            self.close_when_flushed = False
            self.handle_close()
            return False
        return bool(super().readable())

    def received(self, data: bytes) -> bool:
        """Take what the client has sent; waitress calls this.

        The answer to the last of too many requests closes the connection; the client sends what follows it again.
        """
        taken = bool(super().received(data))
        with self.requests_lock:
            for surplus in self.requests[MOST_PIPELINED:]:
                surplus.close()
            if len(self.requests) > MOST_PIPELINED:
                del self.requests[MOST_PIPELINED:]
                self.requests[-1].headers["CONNECTION"] = "close"
        return taken

    def service(self) -> None:
        """Answer the next request; a thread of waitress calls this."""
        super().service()
        self._answered += 1


class HttpServer:
    """The HTTP server of a Flask app, which serves in a thread of its own from `start` to `stop`."""

    def __init__(
        self,
        app: Flask,
        host: str,
        port: int,
        *,
        threads: int = 8,
        trusted_proxy: str | None = None,
        path_prefix: str = "",
        socket_path: str = "",
    ) -> None:
        """Bind the port, and the socket if there is one, without serving yet. Raises CannotListenError.

        `trusted_proxy` is the address of the one proxy in front, or `*` if only the proxy can connect. The client's
        address and scheme are taken from its headers X-Forwarded-For and X-Forwarded-Proto, or Forwarded, as
        `chassis/clients.py` says. From other clients, and if it is None, these headers are dropped. `socket_path` is a
        Unix domain socket for a proxy on this machine, which is trusted in the same way; empty: none. `threads`
        requests are processed at once, a half of them of one client; the others wait (`chassis.web.fair_queue`).
        `path_prefix` is the path under which people reach the service: links that it builds begin with it, and it is
        removed from requests that a proxy passes on with it.
        """
        self._port = port
        self._map: dict[int, Any] = {}
        trusting_app = take_addresses_from_proxy(app, trusted_proxy)
        self._server = create_server(
            trusting_app,
            map=self._map,
            sockets=bind_listeners(host, port, "HTTP"),
            _dispatcher=FairDispatcher(threads),
            ident="towerwatch",
            connection_limit=2 * MAX_CONNECTIONS,  # a bound of our own comes first, which lets new clients in
            asyncore_use_poll=True,  # select() fails on file numbers above 1023
            channel_timeout=2 * IDLE_WITHIN_S,  # by the wall clock; our own deadlines come first
            max_request_body_size=LARGEST_BODY,
            clear_untrusted_proxy_headers=False,  # waitress takes a mapped IPv4 address for an address with a port
            url_prefix=unquote(path_prefix, encoding="latin-1"),  # as WSGI has paths (PEP 3333)
        )
        if socket_path:  # waitress itself refuses sockets of both kinds, but its loop serves what is in the map
            UnixWSGIServer(
                trusting_app,
                map=self._map,
                _sock=bind_private_socket(socket_path, "HTTP"),
                dispatcher=self._server.task_dispatcher,
                adj=self._server.adj,
                bind_socket=False,
            )
        for listener in self._list_listeners():
            listener.channel_class = self._create_channel
        self._trusted_proxy = trusted_proxy
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

    def start(self) -> None:
        """Begin to serve in the server's thread, and return at once."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no new connections, finish the requests in flight and send their answers (5 s at most), and return.

        The server's loop runs on meanwhile, because it sends the answers; then the loop closes all connections itself.
        (waitress' own close() would close the pipe by which worker threads wake the loop, and the threads might then
        write to another file that got the same file number.)
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
            # Not pull_trigger: it writes to the pipe after it has added the function, when the pipe may be closed.
            with trigger.lock:
                trigger._physical_pull()
                trigger.thunks.append(partial(wasyncore.close_all, self._map))
            self._thread.join(timeout=1)

    def _create_channel(self, server: Any, sock: socket.socket, address: Any, *args: Any, **options: Any) -> None:
        """Create the channel of a new connection, or close the connection if its client has too many at work.

        waitress calls this; the channel registers itself. The trusted proxy's connections are of many clients.
        """
        peer = str(address[0])
        client = None if is_trusted_peer(peer, self._trusted_proxy) else identify_client(peer)
        others = [each for each in self._map.values() if isinstance(each, _Channel)]
        if make_room(client, others, lambda other: other.handle_close()):
            _Channel(client, server, sock, address, *args, **options)
        else:
            sock.close()

    def _list_listeners(self) -> list[BaseWSGIServer]:
        """Return waitress' listening servers: one for each address of the host."""
        return [server for server in self._map.values() if isinstance(server, BaseWSGIServer)]

    def _has_unsent_data(self) -> bool:
        """Return True if a part of an answer is not sent yet on any connection, False if everything is sent."""
        return any(isinstance(each, HTTPChannel) and each.total_outbufs_len for each in list(self._map.values()))
