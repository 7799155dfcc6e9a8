"""The probes of Kafka's nodes understand each answer that a node may give."""

import shutil
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from aiokafka.protocol.metadata import MetadataRequest_v4, MetadataResponse_v4
from hypothesis import given, settings, strategies as st

from tests.manifests.kafka_probes import ask_node
from tests.manifests.rendering import Rendered
from tests.skips import skip_unless_required

_REQUEST_ID: Final = struct.pack(">i", 1)

_Partition = tuple[Sequence[int], Sequence[int]]
"""The brokers with a copy, and those of them in step."""


@contextmanager
def answering_node(answer: Callable[[bytes], bytes | None]) -> Iterator[tuple[int, list[bytes]]]:
    """Run a server that answers each request by `answer`, with its size before it; None closes the connection.

    Yield its port and the list of the requests so far, without their sizes.
    """
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            """Serve one connection after the other, until the socket is closed."""
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, suppress(OSError):
                        (size,) = struct.unpack(">i", _receive(connection, 4))
                        requests.append(_receive(connection, size))
                        content = answer(requests[-1])
                        if content is not None:
                            connection.sendall(content)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1], requests
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _receive(connection: socket.socket, size: int) -> bytes:
    """Receive exactly `size` bytes. Raises OSError if the connection ends before."""
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            raise OSError("half a request")
        received += piece
    return received


def _with_size(content: bytes) -> bytes:
    return struct.pack(">i", len(content)) + content


def _metadata(brokers: Sequence[int], topics: dict[str, list[_Partition]]) -> bytes:
    """Return the answer to a request of metadata, as aiokafka encodes it."""
    encoded = MetadataResponse_v4(
        throttle_time_ms=0,
        brokers=[(broker, f"kafka-{broker}.kafka", 9092, "zone-a" if broker else None) for broker in brokers],
        cluster_id="dG93ZXJ3YXRjaC0wMDAwMQ",
        controller_id=100,
        topics=[
            (0, name, name.startswith("__"), [
                (0, number, copies[0] if copies else -1, list(copies), list(in_step))
                for number, (copies, in_step) in enumerate(partitions)
            ])
            for name, partitions in topics.items()
        ],
    ).encode()  # fmt: skip
    return _with_size(_REQUEST_ID + encoded)


_IN_STEP: Final[_Partition] = ((0, 1, 2), (2, 0, 1))


@pytest.mark.parametrize(
    ("broker", "partitions", "ready"),
    [
        (0, [], True),
        (0, [_IN_STEP], True),
        (0, [_IN_STEP, ((1, 2, 0), (1, 2))], False),
        # Another broker lags: this broker stays ready, otherwise two of three brokers would be unready at once.
        (1, [((1, 2, 0), (1, 2))], True),
        (2, [((1, 12), (1,)), ((2, 1), (1,))], False),
        # The copy of broker 12 lags, not that of broker 2.
        (2, [((1, 12), (1,))], True),
        (0, [((0,), ())], False),
    ],
)
def test_a_broker_is_ready_when_its_copies_are_in_step(
    overlays: dict[str, Rendered], broker: int, partitions: list[_Partition], ready: bool
) -> None:
    """A rollout waits for it before it restarts the next broker: two lagging brokers would stop every producer."""
    answer = _metadata([0, 1, 2, 12], {"alerts.raised.v1": [_IN_STEP], "flights.observed.v1": partitions})
    with answering_node(lambda _: answer) as (port, requests):
        asked = ask_node(overlays["production"], "kafka", "readinessProbe", port, node_id=broker)
    assert (asked.returncode == 0) == ready, asked.stdout + asked.stderr
    assert ("not in step: partition" in asked.stdout) == (not ready)
    # Of all topics, and none is to be made by the question.
    assert requests[0][:8] == struct.pack(">hhi", 3, 4, 1)
    assert requests[0][15:] == MetadataRequest_v4(topics=None, allow_auto_topic_creation=False).encode()


_IDS: Final = st.lists(st.integers(0, 130), unique=True, max_size=4)
_TOPICS: Final = st.dictionaries(
    st.from_regex(r"[a-zA-Z0-9._-]{1,60}", fullmatch=True), st.lists(st.tuples(_IDS, _IDS), max_size=13), max_size=5
)


@settings(max_examples=30)
@given(brokers=_IDS, topics=_TOPICS, broker=st.integers(0, 130))
def test_every_answer_is_read_to_its_end(
    overlays: dict[str, Rendered], brokers: list[int], topics: dict[str, list[_Partition]], broker: int
) -> None:
    """Names of any length, any number of copies: the probe says what a look at the lists says."""
    lags = any(broker in copies and broker not in in_step for parts in topics.values() for copies, in_step in parts)
    with answering_node(lambda _: _metadata(brokers, topics)) as (port, _):
        asked = ask_node(overlays["production"], "kafka", "readinessProbe", port, node_id=broker)
    assert (asked.returncode == 0) == (broker in brokers and not lags), asked.stdout + asked.stderr


def test_a_start_is_over_when_the_broker_is_among_the_brokers(overlays: dict[str, Rendered]) -> None:
    """Its own copies may still lag: that is readiness, and no reason to restart it."""
    lagging = {"flights.observed.v1": [((0, 1), (1,))]}
    for brokers, started in (([0, 1], True), ([1, 2], False), ([], False)):
        answer = _metadata(brokers, lagging)
        with answering_node(lambda _, answer=answer: answer) as (port, requests):
            asked = ask_node(overlays["production"], "kafka", "startupProbe", port)
        assert (asked.returncode == 0) == started, asked.stdout + asked.stderr
        assert requests[0][15:] == MetadataRequest_v4(topics=[], allow_auto_topic_creation=False).encode()


def _describe_cluster(leader: int, error: int = 0) -> bytes:
    """Return a controller's answer to DescribeCluster, version 1 (https://kafka.apache.org/protocol)."""
    text = b"dG93ZXJ3YXRjaC0wMDAwMQ"
    message = bytes([6]) + b"wrong" if error else b"\0"
    body = struct.pack(">ih", 0, error) + message + b"\2" + bytes([len(text) + 1]) + text + struct.pack(">i", leader)
    return _with_size(_REQUEST_ID + b"\0" + body + b"\1" + struct.pack(">i", 0) + b"\0")


@pytest.mark.parametrize(
    ("leader", "error", "ready"), [(100, 0, True), (102, 0, True), (0, 0, True), (-1, 0, False), (100, 35, False)]
)
def test_a_controller_is_ready_when_it_knows_the_leader(
    overlays: dict[str, Rendered], leader: int, error: int, ready: bool
) -> None:
    """Whoever leads; 35 is the protocol's UNSUPPORTED_VERSION."""
    for probe in ("startupProbe", "readinessProbe"):
        with answering_node(lambda _: _describe_cluster(leader, error)) as (port, requests):
            asked = ask_node(overlays["production"], "kafka-controller", probe, port)
        assert (asked.returncode == 0) == ready, asked.stdout + asked.stderr
        assert requests[0][:8] == struct.pack(">hhi", 60, 1, 1)


@pytest.mark.parametrize("name", ["kafka", "kafka-controller"])
@pytest.mark.parametrize(
    "answer",
    [None, b"", b"\0\0", _with_size(b""), _with_size(_REQUEST_ID), struct.pack(">i", 300) + b"\0" * 200,
     _with_size(b"HTTP/1.1 400 Bad Request\r\n\r\n"), _with_size(b"\0" * 40), _metadata([0], {"a": [_IN_STEP]})[:70]],
)  # fmt: skip
def test_what_is_no_answer_is_not_ready(overlays: dict[str, Rendered], name: str, answer: bytes | None) -> None:
    """Half an answer and another protocol's fail the probe, and end it."""
    with answering_node(lambda _: answer) as (port, _):
        asked = ask_node(overlays["production"], name, "readinessProbe", port)
    assert asked.returncode != 0


@pytest.mark.parametrize("name", ["kafka", "kafka-controller"])
def test_a_node_that_does_not_listen_is_not_ready(overlays: dict[str, Rendered], name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    assert ask_node(overlays["production"], name, "readinessProbe", port).returncode != 0


def test_the_probe_needs_only_what_the_image_has(overlays: dict[str, Rendered], tmp_path: Path) -> None:
    """The image is Alpine's with bash: each other program is BusyBox, which buffers and prints in its own way."""
    busybox = shutil.which("busybox")
    if busybox is None:
        skip_unless_required("BUSYBOX", "busybox is not installed (apt-get install busybox)")
    for program in ("awk", "dd", "head", "od", "timeout"):
        (tmp_path / program).symlink_to(busybox)
    for in_step, ready in (((0, 1), True), ((1,), False)):
        many = {f"topic-{number}": [((0, 1, 2), (0, 1, 2))] * 40 for number in range(60)} | {"z": [((0, 1), in_step)]}
        answer = _metadata([0, 1, 2], many)
        with answering_node(lambda _, answer=answer: answer) as (port, _):
            asked = ask_node(overlays["production"], "kafka", "readinessProbe", port, programs=tmp_path)
        assert (asked.returncode == 0) == ready, asked.stdout + asked.stderr
        assert asked.stderr == ""
    with answering_node(lambda _: _describe_cluster(100)) as (port, _):
        asked = ask_node(overlays["production"], "kafka-controller", "readinessProbe", port, programs=tmp_path)
    assert (asked.returncode, asked.stdout + asked.stderr) == (0, "")


def test_no_probe_starts_a_virtual_machine(rendered: Rendered) -> None:
    """Each tool of Kafka does, for seconds of CPU at each question."""
    names = {pod.name for pod in rendered.pods()} & {"kafka", "kafka-controller"}
    for name in names:
        for kind in ("startup", "readiness", "liveness"):
            probe = rendered.pod(name).container[f"{kind}Probe"]
            assert "/opt/kafka" not in str(probe), (name, kind)
