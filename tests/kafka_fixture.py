"""The `kafka` fixture: one real broker for the whole test session, on a free port, in a folder of its own.

`tests/conftest.py` names this module among its `pytest_plugins`. Topics that a test creates stay until the session
ends, so tests give theirs names of their own.
"""

from collections.abc import Iterator

import pytest

from local.kafka import Broker, running_broker


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that is ready and has the catalogue's topics; killed with the test process, however that ends."""
    with running_broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker
