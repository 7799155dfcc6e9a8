"""The `kafka` fixture: one real broker for each test module, on a free port, in a folder of its own.

`tests/conftest.py` names this module among its `pytest_plugins`. What a test writes stays until its module ends: tests
of one module use keys of their own, and need not mind what another module's leave on the catalogue's topics.
"""

from collections.abc import Iterator

import pytest

from local.kafka import Broker, running_broker


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that is ready and has the catalogue's topics; killed with the test process, however that ends."""
    with running_broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker
