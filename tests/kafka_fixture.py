"""The `kafka` fixture: one real broker for each test module, on a free port, in a folder of its own.

`tests/conftest.py` names this module among its `pytest_plugins`. Records stay until the end of the module: the
tests of one module use different keys, and never see the records of another module.
"""

from collections.abc import Iterator

import pytest

from local.kafka import Broker, running_broker


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Yield a broker that is ready and has the catalogue's topics; killed with the test process, even on a crash."""
    with running_broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker
