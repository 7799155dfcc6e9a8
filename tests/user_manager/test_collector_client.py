"""The pivot of the deletion, against a real gRPC server that is up, down, slow or unwilling."""

import time
from collections.abc import Iterator
from uuid import uuid4

import grpc
import pytest

from tests.fakes.collector import FakeCollector
from user_manager.collector_client import CollectorClient
from user_manager.errors import CollectorRefusedError, CollectorUnavailableError


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    fake = FakeCollector()
    yield fake
    fake.stop()


@pytest.fixture
def client(collector: FakeCollector) -> Iterator[CollectorClient]:
    made = CollectorClient(collector.target, deadline_s=1.0)
    yield made
    made.close()


def test_the_collector_is_told_whose_interests_go(collector: FakeCollector, client: CollectorClient) -> None:
    """Twice is no error."""
    collector.start()
    user_id = uuid4()
    client.delete_interests(user_id)
    client.delete_interests(user_id)
    assert collector.deleted == [str(user_id)] * 2


def test_a_collector_that_is_down_is_away(client: CollectorClient) -> None:
    """Transient, and known within the deadline."""
    began = time.monotonic()
    with pytest.raises(CollectorUnavailableError) as caught:
        client.delete_interests(uuid4())
    assert caught.value.transient
    assert time.monotonic() - began < 3


def test_a_collector_that_comes_back_is_found_again(collector: FakeCollector, client: CollectorClient) -> None:
    """The channel reconnects by itself; nothing needs a restart."""
    with pytest.raises(CollectorUnavailableError):
        client.delete_interests(uuid4())
    collector.start()
    deadline = time.monotonic() + 10
    while not collector.deleted:
        try:
            client.delete_interests(uuid4())
        except CollectorUnavailableError:
            assert time.monotonic() < deadline


def test_a_collector_that_is_slow_is_away_once_the_deadline_has_passed(
    collector: FakeCollector, client: CollectorClient
) -> None:
    """A person waits for the answer."""
    collector.start()
    collector.prompt.clear()
    began = time.monotonic()
    with pytest.raises(CollectorUnavailableError):
        client.delete_interests(uuid4())
    assert 0.9 < time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, CollectorUnavailableError),
        (grpc.StatusCode.INTERNAL, CollectorUnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, CollectorUnavailableError),
        (grpc.StatusCode.INVALID_ARGUMENT, CollectorRefusedError),
        (grpc.StatusCode.UNIMPLEMENTED, CollectorRefusedError),
    ],
)
def test_a_failure_says_whether_to_come_back(
    collector: FakeCollector,
    client: CollectorClient,
    answer: grpc.StatusCode,
    error: type[CollectorUnavailableError | CollectorRefusedError],
) -> None:
    """Transient or permanent, never gRPC's own exception."""
    collector.start()
    collector.answer = answer
    with pytest.raises(error) as caught:
        client.delete_interests(uuid4())
    assert caught.value.transient is (error is CollectorUnavailableError)
