"""Tests of the routing between workers, with real HTTP on free ports."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from aiohttp import ClientSession, web
from yarl import URL

from streams import routing
from streams.routing import ASKED_BY, Workers, worker_name
from tests.ports import HOST, free_port
from towerwatch.topics import FLIGHTS_OBSERVED, INTERESTS_CHANGED, partition_of

OWN, LEFT, RIGHT = (f"http://10.0.0.{number}:8080" for number in (1, 2, 3))


def make_workers(partitions: dict[str, list[int]], own: str = OWN, client: ClientSession | None = None) -> Workers:
    """Return the workers of a group whose partitions Faust's assignor reports like this."""
    metadata = {
        url: {FLIGHTS_OBSERVED.name: numbers, INTERESTS_CHANGED.name: numbers, "streams-airports-changelog": numbers}
        for url, numbers in partitions.items()
    }
    assignor = SimpleNamespace(external_topics_metadata=lambda: metadata)
    return Workers(SimpleNamespace(conf=SimpleNamespace(canonical_url=URL(own)), assignor=assignor, http_client=client))


def test_the_owner_of_an_airport_is_the_worker_with_its_partition() -> None:
    """The partition of the airport's flights decides."""
    workers = make_workers({OWN: [0, 1, 2, 3], LEFT: [4, 5, 6, 7], RIGHT: [8, 9, 10, 11]})
    for airport in ("KJFK", "LICC", "EGLL", "KBOS", "ZZZ9"):
        expected = (OWN, LEFT, RIGHT)[partition_of(airport, FLIGHTS_OBSERVED) // 4]
        assert workers.find_owner(airport) == URL(expected)
    assert workers.list_others() == (URL(LEFT), URL(RIGHT))
    assert workers.list_partitions()[URL(LEFT)] == (4, 5, 6, 7)


def test_an_airport_may_have_no_owner() -> None:
    """No worker owns an airport before the first assignment and during a rebalance."""
    assert make_workers({}).find_owner("KJFK") is None
    assert make_workers({}).list_others() == ()


@asynccontextmanager
async def running_server(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]):
    """Run a server that answers every GET with `handler`, and yield its URL."""
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield URL(f"http://{HOST}:{port}")
    finally:
        await runner.cleanup()


def test_a_request_names_the_requesting_worker_and_keeps_its_query() -> None:
    """The other worker then answers for itself alone, and answers the same query."""
    requests = []

    async def answer(request: web.Request) -> web.Response:
        requests.append((request.path_qs, request.headers[ASKED_BY]))
        return web.Response(status=404, text="none such", content_type="text/html")

    async def request():
        async with running_server(answer) as url, ClientSession() as client:
            workers = make_workers({OWN: [], str(url): []}, client=client)
            return await workers.request(url, "/airports/KJFK?window=6h&x=%2F")

    found = asyncio.run(request())
    assert requests == [("/airports/KJFK?window=6h&x=%2F", worker_name(URL(OWN)))]
    assert (found.status, found.content_type, found.body) == (404, "text/html; charset=utf-8", b"none such")


def test_a_worker_without_a_response_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped worker and a hanging one give None, a redirect is not followed, and other responses still arrive."""
    monkeypatch.setattr(routing, "REQUEST_TIMEOUT_S", 4.0)  # only the worker that hangs waits for so long
    release = asyncio.Event()

    async def hangs(_request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async def redirects(_request: web.Request) -> web.Response:
        raise web.HTTPFound("http://elsewhere.invalid/")

    async def answers(_request: web.Request) -> web.Response:
        return web.Response(text="well")

    async def request():
        stopped = URL(f"http://{HOST}:{free_port()}")
        async with (
            running_server(hangs) as slow,
            running_server(redirects) as redirecting,
            running_server(answers) as good,
            ClientSession() as client,
        ):
            workers = make_workers(
                {OWN: [], **{str(each): [] for each in (stopped, slow, redirecting, good)}}, client=client
            )
            found = await workers.request_others("/api/airports")
            release.set()
            return [found[each] for each in (stopped, slow, redirecting, good)]

    stopped, slow, redirecting, good = asyncio.run(request())
    assert stopped is None
    assert slow is None
    assert redirecting.status == 302
    assert (good.status, good.body) == (200, b"well")
