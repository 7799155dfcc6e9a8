"""The gateway's two servers: one for people, and one for its own health and metrics, which operators ask."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from chassis.aiohttp_server import BoundedAppRunner, create_host_check
from chassis.hosts import AllowedHosts
from chassis.listening import bind_listeners
from chassis.metrics import Metrics
from local.gateway.forwarding import Gateway

_DRAIN_S: Final = 5.0
"""Seconds that requests in flight may take once the server stops."""


@asynccontextmanager
async def serve_people(gateway: Gateway, host: str, port: int, trusted_proxy: str | None) -> AsyncIterator[None]:
    """Serve the gateway until the end of the block. Raises CannotListenError."""

    @web.middleware
    async def answer(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer a request by the gateway's routes; those of aiohttp do not match every form of a target."""
        return await gateway.handle(request)

    app = web.Application(middlewares=[answer])
    async with _serve(app, host, port, trusted_proxy):
        yield


@asynccontextmanager
async def serve_operators(metrics: Metrics, host: str, port: int) -> AsyncIterator[None]:
    """Serve the gateway's own health and metrics until the end of the block. Raises CannotListenError."""

    async def answer_health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def answer_metrics(_: web.Request) -> web.Response:
        body, content_type = metrics.format_exposition()
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application(middlewares=[create_host_check(AllowedHosts())])
    for path in ("/health/live", "/health/ready"):
        app.router.add_get(path, answer_health)
    app.router.add_get("/metrics", answer_metrics)
    async with _serve(app, host, port, None):
        yield


@asynccontextmanager
async def _serve(app: web.Application, host: str, port: int, trusted_proxy: str | None) -> AsyncIterator[None]:
    """Serve an app until the end of the block; a client that goes away cancels its request's handler."""
    listeners = bind_listeners(host, port, "HTTP")
    runner = BoundedAppRunner(
        app,
        trusted_proxy=trusted_proxy,
        answers_after_end=False,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=_DRAIN_S,
    )
    await runner.setup()
    try:
        for listener in listeners:
            await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()
