"""gRPC channels and servers for all services: keepalive, retries, health, reflection, one table of errors."""

import errno
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from chassis.addresses import UNIX_SCHEME, join_host_and_port
from chassis.errors import CannotListenError
from chassis.grpc_health import PromptHealthCheck
from chassis.grpc_secret import AioSecretSender, SecretCheck, SecretSender
from chassis.listening import describe_refusal, find_listen_addresses, make_private_folder
from chassis.metrics import Metrics

log = structlog.get_logger()

_RETRIES = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],  # every method: all methods of the services are idempotent
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}

CHANNEL_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.enable_http_proxy", 0),  # the machine's proxy is for the internet, not for our own services
    ("grpc.address_http_proxy_enabled_addresses", ""),  # nor is GRPC_ADDRESS_HTTP_PROXY, which has a switch of its own
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_retries", 1),
    ("grpc.service_config", json.dumps(_RETRIES)),
)

MAX_CONNECTIONS: Final = 250
"""Connections that a server has at a time; each other service has one from each of its replicas."""

MAX_IDLE_MS: Final = 30_000
"""Milliseconds after which a server closes a connection without calls."""

SERVER_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    # Clients resolve names again only when a connection ends: without this, a new replica would get no calls.
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    # Without these whoever reaches the port uses up the process's files, HTTP's too; the secret is asked for later.
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", 10_000),
    # A connection without calls makes room; clients connect again for their next call, without an error.
    ("grpc.max_connection_idle_ms", MAX_IDLE_MS),
    ("grpc.max_concurrent_streams", 100),
    ("grpc.so_reuseport", 0),  # a port in use must be an error, not shared by two servers
)


def _build_uri(target: str) -> str:
    """Return the URI by which gRPC finds a target: `host:port`, or `unix:/path`."""
    return quote(target, safe=":/") if target.startswith(UNIX_SCHEME) else f"dns:///{target}"


def create_channel(target: str, secrets: Sequence[str] = ()) -> grpc.Channel:
    """Create a channel to the service at `host:port` or `unix:/path`.

    Behind a headless Service it spreads calls over the replicas.

    It connects at its first use, without TLS, and makes up to four attempts of a call while the service is
    unavailable. Its calls send the first of the secrets, if there is one (`chassis.grpc_secret`). The caller gives
    every call a timeout, and closes the channel.
    """
    channel = grpc.insecure_channel(_build_uri(target), options=CHANNEL_OPTIONS)
    return grpc.intercept_channel(channel, SecretSender(secrets[0])) if secrets else channel


def create_aio_channel(target: str, secrets: Sequence[str] = ()) -> grpc.aio.Channel:
    """Create a channel for asyncio, with the same options and duties of the caller as `create_channel`."""
    shown = [AioSecretSender(secrets[0])] if secrets else []
    return grpc.aio.insecure_channel(_build_uri(target), options=CHANNEL_OPTIONS, interceptors=shown)


class _ErrorStatusInterceptor(grpc.ServerInterceptor):  # type: ignore[misc, unused-ignore]
    """A server interceptor that measures calls, and maps a service's errors to gRPC statuses by the service's table.

    The error's text becomes the status' details. An error that is not in the table is logged, and answered as INTERNAL
    without its text. Calls are counted by method and code, and their durations are observed by method.
    """

    def __init__(self, statuses: Mapping[type[Exception], grpc.StatusCode], metrics: Metrics) -> None:
        self._statuses = statuses
        self._handled = metrics.counter("grpc_server_handled_total", "gRPC calls answered", "method", "code")
        self._seconds = metrics.histogram("grpc_server_handling_seconds", "Time to answer a gRPC call", "method")

    def intercept_service(self, continuation: Callable[..., Any], details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a call, wrapped to count and time the call and map its errors; gRPC calls this.

        The handler of a streaming call is returned as it is, and None for an unknown method.
        """
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            """Handle a call, abort it with a status if an error is raised, and count and time it in any case."""
            code = grpc.StatusCode.OK
            started = time.perf_counter()
            try:
                return handler.unary_unary(request, context)
            except tuple(self._statuses) as error:
                code = next(status for kind, status in self._statuses.items() if isinstance(error, kind))
                context.abort(code, str(error))
            except Exception as error:  # a bug in the service must not send a stack trace to its client
                code = grpc.StatusCode.INTERNAL
                log.error("grpc.unexpected_error", method=details.method, error=type(error).__name__, exc_info=error)
                context.abort(code, "Something went wrong on our side; it has been logged.")
            finally:
                self._handled.labels(method=details.method, code=code.name).inc()
                self._seconds.labels(method=details.method).observe(time.perf_counter() - started)

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


def _require_secrets_or_loopback(secrets: Sequence[str], address: str, port: int) -> None:
    """Raise CannotListenError for an address that other machines may reach, unless callers must show a secret."""
    if not secrets and not ip_address(address.partition("%")[0]).is_loopback:
        raise CannotListenError(
            f"gRPC does not listen on {join_host_and_port(address, port)} without a secret, because whoever reaches it "
            "could act as one of the services: give all services the same GRPC_SECRET, or set LISTEN_HOST=127.0.0.1."
        )


class GrpcServer:
    """A gRPC server of one service's servicers, the standard health service and reflection.

    It serves from `start` to `stop`, with 16 threads and without TLS, and measures and maps errors of all calls.
    """

    def __init__(
        self,
        host: str,
        port: int,
        add_servicers: Mapping[str, Callable[[grpc.Server], None]],
        statuses: Mapping[type[Exception], grpc.StatusCode],
        metrics: Metrics,
        secrets: Sequence[str] = (),
        socket_path: str = "",
    ) -> None:
        """Bind the port, and the socket if there is one, without serving yet.

        Raises CannotListenError, also for an address of others without secrets, and for a socket that others can reach.
        `add_servicers` maps the full name of each gRPC service to the function that registers its servicer. `statuses`
        maps the service's errors to gRPC statuses. Callers must send one of the `secrets`, if there are any.
        """
        self._health = health.HealthServicer()
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=16, thread_name_prefix="grpc"),
            options=SERVER_OPTIONS,
            interceptors=[PromptHealthCheck(), SecretCheck(secrets), _ErrorStatusInterceptor(statuses, metrics)],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for add in add_servicers.values():
            add(self._server)
        self._served = ("", *add_servicers)
        names = (*add_servicers, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        try:
            for address in find_listen_addresses(host, port, "gRPC"):
                _require_secrets_or_loopback(secrets, address, port)
                self._server.add_insecure_port(join_host_and_port(address, port))
        except RuntimeError:  # without a reason: another process took the port a moment ago
            where = join_host_and_port(host, port)
            raise CannotListenError(
                f"gRPC cannot listen on {where}: {describe_refusal(OSError(errno.EADDRINUSE, ''))}."
            ) from None
        if socket_path:
            self._bind_socket(socket_path)

    def _bind_socket(self, path: str) -> None:
        """Bind a Unix domain socket that only this process's user can reach, in place of one that is left over.

        gRPC bounds the connections of each listener: who uses up those of the port takes none of the socket's. Raises
        CannotListenError.
        """
        make_private_folder(Path(path).parent, "gRPC")
        try:
            self._server.add_insecure_port(_build_uri(UNIX_SCHEME + path))
        except RuntimeError:
            raise CannotListenError(f"gRPC cannot listen on {path}: choose another path for GRPC_SOCKET.") from None

    def start(self) -> None:
        """Begin to serve in threads, report all services as healthy, and return at once."""
        self._server.start()
        for name in self._served:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Report all services as not serving, finish the calls in flight (5 s at most), and return."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace=5).wait()
