"""`python -m local.gateway`: passes requests of people on to the services by their routes, until SIGTERM."""

import argparse
import asyncio
import resource
import signal
import sys
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from chassis.addresses import join_host_and_port, normalize_http_url, normalize_listen_host
from chassis.clients import check_trusted_proxy
from chassis.connections import MAX_CONNECTIONS
from chassis.errors import CannotListenError
from chassis.hosts import AllowedHosts, split_host_names
from chassis.metrics import Metrics, ServiceIdentity
from local.arguments import parse_port
from local.gateway.forwarding import Gateway
from local.gateway.metrics import RequestMetrics
from local.gateway.routes import ACCOUNTS, INTERESTS
from local.gateway.server import serve_operators, serve_people
from local.gateway.targets import UnreadableTargetError, parse_target
from local.gateway.upstreams import open_upstreams
from local.ports import HOST

NAME = "gateway"


def main() -> int:
    """Serve until SIGTERM or SIGINT, then return exit status 0; 2 if a port cannot be listened on.

    Before 2, one sentence on standard error gives the reason.
    """
    parser = argparse.ArgumentParser(prog="python -m local.gateway", description=__doc__)
    parser.add_argument("--host", type=_parse_host, default=HOST, help="address to listen on for people (%(default)s)")
    parser.add_argument("--port", type=parse_port, required=True, help="port for people")
    parser.add_argument("--web-port", type=parse_port, required=True, help=f"port of health and metrics, on {HOST}")
    parser.add_argument("--user-manager", required=True, help="where REST of user_manager is: host:port or unix:/path")
    parser.add_argument("--collector", required=True, help="where REST of the collector is")
    parser.add_argument("--public-url", type=_parse_url, help="where people reach the gateway: its host is allowed")
    parser.add_argument("--allowed-hosts", default="", help="further host names, separated by commas")
    parser.add_argument("--trusted-proxy", type=_parse_proxy, help="IP address of a proxy that names the clients")
    options = parser.parse_args()
    try:
        asyncio.run(_serve(options))
    except CannotListenError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight then have some seconds. Raises CannotListenError."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    _allow_files(2 * MAX_CONNECTIONS + 64)
    metrics = Metrics(ServiceIdentity(NAME, ""))
    async with AsyncExitStack() as opened:
        upstreams = await opened.enter_async_context(
            open_upstreams({ACCOUNTS: options.user_manager, INTERESTS: options.collector})
        )
        gateway = Gateway(
            upstreams,
            RequestMetrics(metrics),
            AllowedHosts((options.public_url, *split_host_names(options.allowed_hosts))),
            trusted_proxy=options.trusted_proxy,
            prefix=parse_target(urlsplit(options.public_url or "").path or "/").path.rstrip("/"),
        )
        await opened.enter_async_context(serve_people(gateway, options.host, options.port, options.trusted_proxy))
        await opened.enter_async_context(serve_operators(metrics, HOST, options.web_port))
        print(f"{NAME}: serving people at {join_host_and_port(options.host, options.port)}", flush=True)
        await stopping.wait()


def _parse_url(text: str) -> str | None:
    """Parse the public URL, as the services have it; an empty text is None. Raises ArgumentTypeError."""
    try:
        url = normalize_http_url(text) if text else None
        parse_target(urlsplit(url or "").path or "/")
    except (ValueError, UnreadableTargetError) as error:
        raise argparse.ArgumentTypeError(f"PUBLIC_URL: {error}") from None
    return url


def _parse_proxy(text: str) -> str | None:
    """Parse the address of a trusted proxy; an empty text is None. Raises ArgumentTypeError."""
    try:
        return check_trusted_proxy(text) if text else None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"TRUSTED_PROXY: {error}") from None


def _parse_host(text: str) -> str:
    """Parse the address to listen on. Raises ArgumentTypeError."""
    try:
        return normalize_listen_host(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"GATEWAY_HOST: {error}") from None


def _allow_files(count: int) -> None:
    """Let this process have so many files open, or as many as the system allows; each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    sys.exit(main())
