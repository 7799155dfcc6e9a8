"""The client of the collector's sources, against a real gRPC server: bounded, cached, and harmless without answers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event

import pytest

from chassis.metrics import Metrics, ServiceIdentity
from chassis.rpc import GrpcServer
from streams.source_client import (
    AGREEMENT_CACHE_S,
    AGREEMENT_KEPT_S,
    PAUSE_AFTER_FAILURE_S,
    SOURCES_CACHE_S,
    SOURCES_KEPT_S,
    SourceClient,
    Unknown,
)
from tests.ports import free_port
from towerwatch.collection.v1.source_service_pb2 import GetAgreementResponse, GetSourcesResponse
from towerwatch.collection.v1.source_service_pb2_grpc import (
    SourceServiceServicer,
    add_SourceServiceServicer_to_server,
)

SECRET = "a secret of the tests"


class CountingSources(SourceServiceServicer):
    """A collector that counts its calls, and can be made to keep its caller waiting."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.may_answer = Event()
        self.may_answer.set()
        self.may_agree = Event()
        self.may_agree.set()

    def GetSources(self, request, context):  # noqa: N802 - the contract's name
        """Reply with the number of calls so far as the credits that are left."""
        self.calls.append("sources")
        self.may_answer.wait(120)
        answer = GetSourcesResponse()
        answer.record.credits.left = len(self.calls)
        return answer

    def GetAgreement(self, request, context):  # noqa: N802 - the contract's name
        """Reply with an empty agreement."""
        self.calls.append(request.airport)
        self.may_agree.wait(120)
        return GetAgreementResponse()


class FailingSources(CountingSources):
    """A collector with a bug."""

    def GetSources(self, request, context):  # noqa: N802 - the contract's name
        """Raise an error that is in no table."""
        self.calls.append("sources")
        raise ValueError("10.0.0.7 is away")


class ManualTime:
    """A monotonic time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def serving(servicer: SourceServiceServicer | None, port: int) -> Iterator[None]:
    """Serve a collector for the block; None: one of before, which does not have the service."""
    add = {} if servicer is None else {"sources": partial(add_SourceServiceServicer_to_server, servicer)}
    server = GrpcServer("127.0.0.1", port, add, {}, Metrics(ServiceIdentity("collector", "local")), [SECRET])
    server.start()
    try:
        yield
    finally:
        server.stop()


def run(
    port: int,
    use: Callable[[SourceClient, ManualTime], Awaitable[None]],
    secret: str = SECRET,
    deadline_s: float = 60.0,
) -> None:
    """Run a coroutine function with a client of the port, whose time stands still until the function moves it."""

    async def run_and_close() -> None:
        at = ManualTime()
        client = SourceClient(f"127.0.0.1:{port}", [secret], at, (deadline_s, deadline_s))
        try:
            await use(client, at)
        finally:
            await client.close()

    asyncio.run(run_and_close())


def read_left(answer: GetSourcesResponse | Unknown) -> int:
    """Return which call an answer came from. Fails if there is none."""
    assert not isinstance(answer, Unknown), answer
    return answer.record.credits.left


def test_many_people_who_look_make_one_call() -> None:
    """Answers are used for some seconds, those about an airport for a minute, each airport by itself."""
    collector, port = CountingSources(), free_port()

    async def use(client: SourceClient, at: ManualTime) -> None:
        answers = await asyncio.gather(*(client.find_sources() for _ in range(20)))
        assert [read_left(each) for each in answers] == [1] * 20
        for _ in range(3):
            await client.find_agreement("KJFK")
            await client.find_agreement("LICC")
        assert collector.calls == ["sources", "KJFK", "LICC"]
        at.now = SOURCES_CACHE_S
        assert read_left(await client.find_sources()) == 4
        at.now = AGREEMENT_CACHE_S
        await client.find_agreement("KJFK")
        assert collector.calls[3:] == ["sources", "KJFK"]

    with serving(collector, port):
        run(port, use)


def test_a_collector_that_is_away_is_not_asked_for_a_while_and_then_again() -> None:
    """The pages say why nothing is known; they do not wait for it each time, and it comes back by itself."""
    collector, port = CountingSources(), free_port()

    async def use(client: SourceClient, at: ManualTime) -> None:
        unknown = await client.find_sources()
        assert isinstance(unknown, Unknown)
        assert unknown.reason.startswith("the collector ")
        assert str(port) not in unknown.reason
        with serving(collector, port):
            assert await client.find_sources() == unknown == await client.find_agreement("KJFK")
            assert collector.calls == []
            for _ in range(100):  # the channel connects again within two seconds
                at.now += PAUSE_AFTER_FAILURE_S
                if not isinstance(await client.find_sources(), Unknown):
                    break
            assert collector.calls == ["sources"]

    run(port, use)


def test_the_last_answer_is_shown_for_less_than_a_minute_while_calls_fail() -> None:
    """A call that fails now and then changes no light; an agreement, which changes once a night, is kept for longer."""
    collector, port = CountingSources(), free_port()

    async def use(client: SourceClient, at: ManualTime) -> None:
        with serving(collector, port):
            assert read_left(await client.find_sources()) == 1
            assert not isinstance(await client.find_agreement("KJFK"), Unknown)
        at.now = SOURCES_KEPT_S - 1
        assert read_left(await client.find_sources()) == 1
        at.now = SOURCES_KEPT_S
        assert isinstance(await client.find_sources(), Unknown)
        at.now = AGREEMENT_KEPT_S - 1
        assert not isinstance(await client.find_agreement("KJFK"), Unknown)
        at.now = AGREEMENT_KEPT_S
        assert isinstance(await client.find_agreement("KJFK"), Unknown)
        assert SOURCES_KEPT_S + SOURCES_CACHE_S < 60

    run(port, use)


def test_a_collector_that_does_not_answer_keeps_no_page_waiting() -> None:
    """The call is given up at its deadline."""
    collector, port = CountingSources(), free_port()
    collector.may_answer.clear()

    async def use(client: SourceClient, at: ManualTime) -> None:
        answer = await asyncio.wait_for(client.find_sources(), 20)
        assert answer == Unknown("the collector does not answer in time")

    with serving(collector, port):
        try:
            run(port, use, deadline_s=0.2)
        finally:
            collector.may_answer.set()


def test_an_airports_page_does_not_wait_for_the_overview() -> None:
    """A call about an airport is answered while one about all sources is in flight: each has its own deadline."""
    collector, port = CountingSources(), free_port()
    collector.may_answer.clear()

    async def use(client: SourceClient, at: ManualTime) -> None:
        overview = asyncio.create_task(client.find_sources())
        async with asyncio.timeout(60):
            while "sources" not in collector.calls:
                await asyncio.sleep(0.01)
            assert not isinstance(await client.find_agreement("KJFK"), Unknown)
        assert not overview.done()
        collector.may_answer.set()
        assert read_left(await overview) == 2, "of two calls by then"

    with serving(collector, port):
        try:
            run(port, use)
        finally:
            collector.may_answer.set()


def test_a_call_that_succeeds_ends_no_pause_of_one_that_failed_meanwhile() -> None:
    """Else each page would wait for the whole deadline of the call that fails, as long as the other succeeds."""
    collector, port = FailingSources(), free_port()
    collector.may_agree.clear()

    async def use(client: SourceClient, at: ManualTime) -> None:
        agreement = asyncio.create_task(client.find_agreement("KJFK"))
        async with asyncio.timeout(60):
            while "KJFK" not in collector.calls:
                await asyncio.sleep(0.01)
            assert isinstance(await client.find_sources(), Unknown)
            collector.may_agree.set()
            assert not isinstance(await agreement, Unknown)
        assert isinstance(await client.find_sources(), Unknown)
        assert collector.calls == ["KJFK", "sources"]
        at.now = PAUSE_AFTER_FAILURE_S
        await client.find_sources()
        assert collector.calls == ["KJFK", "sources", "sources"]

    with serving(collector, port):
        try:
            run(port, use)
        finally:
            collector.may_agree.set()


@pytest.mark.parametrize(
    ("servicer", "secret", "reason"),
    [
        (None, SECRET, "of an older version"),
        (CountingSources(), "another secret of the tests", "give all services the same GRPC_SECRET"),
    ],
)
def test_what_is_wrong_is_said(servicer, secret, reason) -> None:
    """A collector of before, and one with another secret."""
    port = free_port()

    async def use(client: SourceClient, at: ManualTime) -> None:
        answer = await client.find_sources()
        assert isinstance(answer, Unknown)
        assert reason in answer.reason

    with serving(servicer, port):
        run(port, use, secret)


def test_without_a_target_nothing_is_asked() -> None:
    """The sentence names the setting."""

    async def use() -> None:
        client = SourceClient(None)
        for answer in (await client.find_sources(), await client.find_agreement("KJFK")):
            assert isinstance(answer, Unknown)
            assert "COLLECTOR_GRPC_TARGET" in answer.reason
        await client.close()

    asyncio.run(use())


def test_any_other_status_is_named() -> None:
    """An error that nobody expected is no stack trace and no address."""
    port = free_port()

    async def use(client: SourceClient, at: ManualTime) -> None:
        assert await client.find_sources() == Unknown("the collector answers INTERNAL")

    with serving(FailingSources(), port):
        run(port, use)
