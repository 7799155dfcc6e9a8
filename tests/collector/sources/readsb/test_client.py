"""Tests of the client of readsb's JSON, over real HTTP and with real files."""

import asyncio
import json
import os
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import (
    BreakerOpenError,
    ForeignAnswer,
    ForeignAnswerError,
    SourceLimitedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from collector.sources.breaker_guard import POSITIONS_POLICY
from collector.sources.position_metrics import PositionMetrics
from collector.sources.readsb.addresses import parse_addresses
from collector.sources.readsb.client import ReadsbClient
from collector.sources.readsb.pace import HostPace, HostPaces
from collector.sources.regions import Circle
from collector.sources.state_vector import Poll
from tests.fakes.clock import FakeClock
from tests.fakes.position_server import NOW, PositionServer, answer, endless, zipped

T = TypeVar("T")

LONG_S: Final = 60.0
"""Real seconds that no answer of this machine takes."""
AIRCRAFT: Final = {"hex": "39de4f", "flight": "TVF12AB ", "lat": 49.01, "lon": 2.55, "seen_pos": 0.5, "seen": 0.1}
POLL: Final = {"now": NOW + 0.5, "aircraft": [AIRCRAFT]}
POINT_POLL: Final = {"now": (NOW + 1) * 1000, "ac": [AIRCRAFT], "msg": "No error", "total": 1}
PARIS: Final = Circle(48.9, 2.5, 60)
LYON: Final = Circle(45.7, 5.1, 60)


class Receivers:
    """The clients of a setting LIVE_URLS, on a clock that passes only while they wait for their turn."""

    def __init__(self, text: str) -> None:
        self.clock = FakeClock(datetime.fromtimestamp(NOW, UTC))
        self.metrics = Metrics(ServiceIdentity("collector", "local"))
        shared, paces = PositionMetrics(self.metrics), HostPaces(self.clock)
        self.clients = [ReadsbClient(each, self.clock, paces, shared, self._sleep) for each in parse_addresses(text)]
        self.waits: list[float] = []
        self._loop = asyncio.new_event_loop()

    async def _sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.waits.append(seconds)
        self.clock.advance(timedelta(seconds=seconds))

    def poll(self, region: Circle | None = None, within_s: float = LONG_S, client: int = 0) -> Poll:
        """Poll one of the clients."""
        return self.run(self.clients[client].fetch_poll(region, within_s))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the clients' loop."""
        return self._loop.run_until_complete(work)

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value, 0 if it has none."""
        return self.metrics.registry.get_sample_value(name, {**labels, "service": "collector", "node": "local"}) or 0

    def close(self) -> None:
        """Close the clients and the loop."""
        for client in self.clients:
            self._loop.run_until_complete(client.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture
def server() -> Iterator[PositionServer]:
    with PositionServer().running() as running:
        yield running


@pytest.fixture
def receiver(server: PositionServer) -> Iterator[Receivers]:
    """Yield the client of one receiver's `aircraft.json`."""
    receivers = Receivers(f"{server.url}/data/aircraft.json")
    yield receivers
    receivers.close()


@pytest.fixture
def service(server: PositionServer) -> Iterator[Receivers]:
    """Yield the clients of two services on one host that take regions."""
    address = f"{server.url}/v2/point/{{lat}}/{{lon}}/{{nm}}"
    receivers = Receivers(f"{address},{address}?other=1")
    yield receivers
    receivers.close()


def test_a_receiver_is_polled_by_its_url(receiver: Receivers, server: PositionServer) -> None:
    """The poll has the time that the receiver states, and the metrics the source's own name and not its address."""
    server.script.append(zipped(POLL))
    poll = receiver.poll()
    assert (poll.time, [each.icao24 for each in poll.states]) == (NOW + 0.5, ["39de4f"])
    assert server.requests[0].path == "/data/aircraft.json"
    assert receiver.metric("positions_aircraft", source="url-1") == 1
    assert receiver.metric("positions_polls_total", source="url-1", outcome="success") == 1
    assert b"127.0.0.1" not in receiver.metrics.format_exposition()[0]


def test_a_password_in_the_url_is_sent_to_the_receiver_alone(server: PositionServer) -> None:
    """As basic authentication; a redirect to somewhere else is an error, and not followed."""
    receivers = Receivers(server.url.replace("://", "://ann:hunter2@") + "/aircraft.json")
    server.script.extend([answer(200, POLL), answer(307, Location=f"{server.url}/elsewhere"), answer(401)])
    assert receivers.poll().states
    assert server.requests[0].headers["authorization"].startswith("Basic ")
    with pytest.raises(ForeignAnswerError) as redirected:
        receivers.poll()
    assert redirected.value.kind is ForeignAnswer.REDIRECT
    with pytest.raises(SourceRefusedError) as refused:
        receivers.poll()
    assert [each.path for each in server.requests] == ["/aircraft.json"] * 3
    for error in (redirected.value, refused.value):
        assert "LIVE_URLS" in str(error)
        assert "hunter2" not in str(error)
    receivers.close()


def test_a_service_is_asked_once_a_second_over_all_regions_of_its_host(
    service: Receivers, server: PositionServer
) -> None:
    """Also over two addresses of the host, and when the regions are asked for together."""
    server.script.extend([answer(200, POINT_POLL)] * 4)

    async def poll_all() -> list[Poll]:
        one, other = service.clients
        return await asyncio.gather(
            *(each.fetch_poll(region, LONG_S) for each in (one, other) for region in (PARIS, LYON))
        )

    polls = service.run(poll_all())
    assert [each.time for each in polls] == [NOW + 1] * 4
    assert service.clock.elapsed() >= timedelta(seconds=3)
    assert {each.path for each in server.requests} == {
        "/v2/point/48.9000/2.5000/60", "/v2/point/45.7000/5.1000/60"
    }  # fmt: skip


def test_turns_of_a_host_are_a_second_apart_whoever_asks() -> None:
    """Whoever cannot wait for its turn takes none from the others."""
    clock = FakeClock()
    pace = HostPace(clock)
    assert [pace.reserve_turn(LONG_S) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SourceLimitedError):
        pace.reserve_turn(within_s=3.0)
    assert pace.reserve_turn(LONG_S) == 3
    clock.advance(timedelta(seconds=3.5))
    assert pace.reserve_turn(LONG_S) == 0.5
    clock.advance(timedelta(hours=1))
    assert pace.reserve_turn(LONG_S) == 0


@pytest.mark.parametrize("limited", [answer(429, Retry_After="90"), answer(503, Retry_After="90")], ids=["429", "503"])
def test_a_pause_that_a_host_requires_is_for_all_its_regions(
    service: Receivers, server: PositionServer, limited: bytes
) -> None:
    """`Retry-After` counts with 429 and with 503; it is no failure of the source, so the breaker stays closed."""
    server.script.extend([limited, answer(200, POINT_POLL)])
    with pytest.raises(SourceLimitedError) as caught:
        service.poll(PARIS)
    assert caught.value.retry_after_s == 90
    for client in (0, 1):
        with pytest.raises(SourceLimitedError):
            service.poll(LYON, client=client)
    assert len(server.requests) == 1
    service.clock.advance(timedelta(seconds=90))
    assert service.poll(LYON).states
    assert service.metric("positions_breaker_state", source="url-1", state="closed") == 1


FOREIGN: Final[dict[str, tuple[bytes, ForeignAnswer]]] = {
    "page": (answer(200, b"<html>tar1090</html>"), ForeignAnswer.HTML),
    "null": (answer(200, None), ForeignAnswer.JSON),
    "no aircraft": (answer(200, {"now": NOW}), ForeignAnswer.JSON),
    "no time": (answer(200, {"aircraft": []}), ForeignAnswer.JSON),
    "empty": (answer(200), ForeignAnswer.UNREADABLE),
    "cut off": (answer(200, b'{"now": 1700000000.5, "aircraft": [{'), ForeignAnswer.UNREADABLE),
    "rows of another form": (answer(200, {"now": NOW, "aircraft": [["39de4f"]]}), ForeignAnswer.NO_IDENTITY),
    "404": (answer(404, b"not here"), ForeignAnswer.NOT_FOUND_WITH_BODY),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_poll_is_no_empty_sky(receiver: Receivers, server: PositionServer, case: str) -> None:
    """The operator is told which setting to check."""
    given, kind = FOREIGN[case]
    server.script.append(given)
    with pytest.raises(ForeignAnswerError) as caught:
        receiver.poll()
    assert caught.value.kind is kind
    assert "OPENSKY" not in str(caught.value)


def test_an_aircraft_without_an_icao_address_is_a_poll_without_aircraft(
    receiver: Receivers, server: PositionServer
) -> None:
    """A receiver may hear nothing else: its rows are whole."""
    server.script.append(answer(200, {"now": NOW, "aircraft": [AIRCRAFT | {"hex": "~2a4b6c"}]}))
    assert not receiver.poll().states


def test_a_body_without_end_and_slow_bytes_are_outages(receiver: Receivers, server: PositionServer) -> None:
    """Neither memory nor the time until the next poll is used up."""
    server.script.append(endless(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"[" * 1_000_000))
    with pytest.raises(SourceRefusedError, match="32000000 bytes, too many"):
        receiver.poll()
    server.script.append(server.trickle())
    with pytest.raises(SourceUnavailableError, match="no whole answer"):
        receiver.poll(within_s=1.5)


def test_the_breaker_of_a_source_opens_for_it_alone(service: Receivers, server: PositionServer) -> None:
    """The other address, of the same host, is still asked."""
    for _ in range(POSITIONS_POLICY.failures_to_open):
        with pytest.raises(SourceUnavailableError):
            service.poll(PARIS)
    with pytest.raises(BreakerOpenError):
        service.poll(PARIS)
    server.script.append(answer(200, POINT_POLL))
    assert service.poll(PARIS, client=1).states


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[Receivers, Path]]:
    """Yield the client of a file, and the file's path."""
    path = tmp_path / "aircraft.json"
    receivers = Receivers(f"file://{path}")
    yield receivers, path
    receivers.close()


def test_a_file_is_read_anew_for_each_poll(file: tuple[Receivers, Path]) -> None:
    """As often as it is asked for: it is this machine's own, and there is no host to be polite to."""
    receivers, path = file
    for later in range(3):
        path.write_text(json.dumps(POLL | {"now": NOW + later}))
        assert receivers.poll().time == NOW + later
    assert receivers.waits == []


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "device", "cut off", "page", "secret"])
def test_a_file_that_is_none_is_an_outage(file: tuple[Receivers, Path], kind: str) -> None:
    """A pipe or a device is not read, which might never end; the error does not show the path."""
    receivers, path = file
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "cut off":
            path.write_text(json.dumps(POLL)[:-5])
        case "page":
            path.write_text("<html>")
        case "secret":
            path.write_bytes(b"\xff\xfe\x00")
        case _:
            pass
    with pytest.raises(SourceUnavailableError) as caught:
        receivers.poll()
    assert str(path.parent) not in str(caught.value)
    path.unlink(missing_ok=True) if kind not in ("folder", "missing") else None
    if kind == "folder":
        path.rmdir()
    path.write_text(json.dumps(POLL))
    assert receivers.poll().states
