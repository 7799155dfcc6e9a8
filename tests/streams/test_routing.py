"""Finding the worker that owns an airport, and asking it: over real HTTP, on free ports."""

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


def workers_of(partitions: dict[str, list[int]], own: str = OWN, client: ClientSession | None = None) -> Workers:
    """As Faust's assignor tells of a group."""
    told = {
        url: {FLIGHTS_OBSERVED.name: numbers, INTERESTS_CHANGED.name: numbers, "streams-airports-changelog": numbers}
        for url, numbers in partitions.items()
    }
    assignor = SimpleNamespace(external_topics_metadata=lambda: told)
    return Workers(SimpleNamespace(conf=SimpleNamespace(canonical_url=URL(own)), assignor=assignor, http_client=client))


def test_an_airport_is_with_the_worker_that_has_its_partition() -> None:
    """By the partition of its flights."""
    workers = workers_of({OWN: [0, 1, 2, 3], LEFT: [4, 5, 6, 7], RIGHT: [8, 9, 10, 11]})
    for airport in ("KJFK", "LICC", "EGLL", "KBOS", "ZZZ9"):
        expected = (OWN, LEFT, RIGHT)[partition_of(airport, FLIGHTS_OBSERVED) // 4]
        assert workers.find_owner(airport) == URL(expected)
    assert workers.list_others() == (URL(LEFT), URL(RIGHT))
    assert workers.list_partitions()[URL(LEFT)] == (4, 5, 6, 7)


def test_an_airport_may_be_with_nobody() -> None:
    """Before the first assignment, and amid rebalances."""
    assert workers_of({}).find_owner("KJFK") is None
    assert workers_of({}).list_others() == ()


@asynccontextmanager
async def served(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]):
    """The URL of a server that answers every GET so."""
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield URL(f"http://{HOST}:{port}")
    finally:
        await runner.cleanup()


def test_a_question_says_who_asks_and_keeps_its_query() -> None:
    """So that the other answers for itself alone, and the same."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.path_qs, request.headers[ASKED_BY]))
        return web.Response(status=404, text="none such", content_type="text/html")

    async def request():
        async with served(answer) as url, ClientSession() as client:
            workers = workers_of({OWN: [], str(url): []}, client=client)
            return await workers.request(url, "/airports/KJFK?window=6h&x=%2F")

    found = asyncio.run(request())
    assert asked == [("/airports/KJFK?window=6h&x=%2F", worker_name(URL(OWN)))]
    assert (found.status, found.content_type, found.body) == (404, "text/html; charset=utf-8", b"none such")


def test_who_does_not_answer_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is gone, one that hangs, one that sends elsewhere; and the others are heard all the same."""
    monkeypatch.setattr(routing, "REQUEST_TIMEOUT_S", 4.0)  # only the worker that hangs waits for so long
    release = asyncio.Event()

    async def hangs(_request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async def redirects(_request: web.Request) -> web.Response:
        raise web.HTTPFound("http://elsewhere.invalid/")

    async def answers(_request: web.Request) -> web.Response:
        return web.Response(text="well")

    async def ask():
        gone = URL(f"http://{HOST}:{free_port()}")
        async with served(hangs) as slow, served(redirects) as sly, served(answers) as good, ClientSession() as client:
            workers = workers_of({OWN: [], **{str(each): [] for each in (gone, slow, sly, good)}}, client=client)
            found = await workers.request_others("/api/airports")
            release.set()
            return [found[each] for each in (gone, slow, sly, good)]

    gone, slow, sly, good = asyncio.run(ask())
    assert gone is None
    assert slow is None
    assert sly.status == 302
    assert (good.status, good.body) == (200, b"well")
