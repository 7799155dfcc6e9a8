"""Fixtures for the replay: over real HTTP, with the real flights and a clock that the test sets."""

import asyncio
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from local.opensky import nycflights
from local.opensky.access import AccessControl, Credentials
from local.opensky.flights import Timetable, TimetableFlight
from local.opensky.nightly_record import NIGHTLY, RecordSchedule
from local.opensky.server import make_app
from tests.fakes.clock import FakeClock

CREDENTIALS = Credentials("towerwatch", "a secret of the tests")

Serve = Callable[..., httpx.Client]


@pytest.fixture(scope="session")
def cache_home(flights_cache: Path) -> Path:
    """An XDG_CACHE_HOME of the tests in which the flights are already cached."""
    nycflights.load(flights_cache)
    return flights_cache.parent


@pytest.fixture(scope="session")
def flights(cache_home: Path) -> list[TimetableFlight]:
    """All flights of the data set, in the source's order, read from the cache."""
    return nycflights.load(cache_home / "towerwatch")


@pytest.fixture(scope="session")
def timetable(flights: list[TimetableFlight]) -> Timetable:
    """The timetable of all flights."""
    return Timetable(flights)


@pytest.fixture
def clock() -> FakeClock:
    """The replay's clock, which the test moves."""
    return FakeClock()


@pytest.fixture
def serve(timetable: Timetable, clock: FakeClock) -> Iterator[Serve]:
    """A function that starts a replay, with `credits_per_day` if given, and returns a client of it.

    By default each day's record appears as a whole, at 02:40 of the next day, and positions are those of the sky over
    the timetable.
    """
    with ExitStack() as stack:

        def start(
            credits_per_day: int | None = None,
            credentials: Credentials | None = CREDENTIALS,
            schedule: RecordSchedule = NIGHTLY,
        ) -> httpx.Client:
            """Start a replay, and return a client of it."""
            app = make_app(timetable, clock, AccessControl(credentials, credits_per_day), schedule=schedule)
            return stack.enter_context(
                httpx.Client(verify=False, base_url=stack.enter_context(serve_app(app)), timeout=60)
            )

        yield start


@pytest.fixture
def client(serve: Serve) -> httpx.Client:
    """A client with enough credits for every request of a test."""
    return serve(credits_per_day=1_000_000)


@contextmanager
def serve_app(app: web.Application) -> Iterator[str]:
    """Serve the app from a thread, on a free port, for the block; yield its URL."""
    started: queue.Queue[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = queue.Queue()

    async def serve() -> None:
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        stop = asyncio.Event()
        started.put((asyncio.get_running_loop(), stop, runner.addresses[0][1]))
        await stop.wait()
        await runner.cleanup()

    with ThreadPoolExecutor(1) as threads:
        served = threads.submit(lambda: asyncio.run(serve()))
        loop, stop, port = started.get(timeout=60)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            loop.call_soon_threadsafe(stop.set)
            served.result(timeout=60)
