"""The fixture of the tests that run the notifier's process: a user_manager."""

from collections.abc import Iterator

import pytest

from tests.fakes.user_service import FakeUserService


@pytest.fixture
def users() -> Iterator[FakeUserService]:
    """Yield a user_manager without users, which answers by gRPC."""
    with FakeUserService().running() as service:
        yield service
