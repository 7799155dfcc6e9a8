"""The `flights_cache` fixture: one cache of the real flights for all workers of a run.

`tests/conftest.py` names this module among its `pytest_plugins`.
"""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def flights_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which `nycflights.load` caches the flights: their source takes it several times as long.

    It is Towerwatch's folder in an XDG_CACHE_HOME.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers of this run; what one of them writes, it writes atomically
    cache = folder / "cache" / "towerwatch"
    cache.mkdir(parents=True, exist_ok=True)
    return cache
