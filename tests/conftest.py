"""Fixtures, Hypothesis profiles and the closing sentence of all tests."""

import os
import random
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.proxies import leave_this_machine_direct
from tests.skips import summarize_skips

pytest_plugins = ["tests.flights_fixture", "tests.kafka_fixture", "tests.mariadb_fixture"]

# No deadline: a timed assertion on a shared machine tests the machine. Each run draws new examples; where CI is set
# they are the same for the same code, which profiles inherit, unless the run asks for others. `.ci/run` asks for those
# of the day (ADR 68): `--hypothesis-profile=fresh --hypothesis-seed=N` repeats it.
settings.register_profile("fresh", deadline=None, print_blob=True, derandomize=False)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "fresh")

leave_this_machine_direct()

# The product draws its pauses from `random`. Each test has a seed of its own for it, so that a failure can be repeated:
# the workers of a run inherit this variable.
_SEED = os.environ.setdefault("TOWERWATCH_TEST_SEED", "0" if os.environ.get("CI") else str(random.getrandbits(32)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Seed `random` for the test, and print with its failure how to have the same numbers again."""
    item.add_report_section("call", "seed", f"Repeat the pauses of this run with TOWERWATCH_TEST_SEED={_SEED}")
    random.seed(f"{_SEED} {item.nodeid}")
    umask = os.umask(0o022)
    os.umask(umask)
    try:
        return (yield)
    finally:
        os.umask(umask)  # a command that runs in the test's process makes files private: not those of later tests


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """Print what was skipped, and how to run it, below all that pytest prints."""
    yield
    skipped = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()) if report.longrepr]
    sentence = summarize_skips(skipped, sum(len(terminalreporter.stats.get(each, ())) for each in _OUTCOMES))
    if sentence is not None:
        terminalreporter.write_line(sentence)


_OUTCOMES = ("passed", "failed", "skipped", "error", "xfailed", "xpassed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the slowest files first, the slowest of them at the front, so that no worker ends a run alone with one.

    `make test` tells xdist to keep this order; by itself it would start the files with the most tests first, which are
    the quick ones.
    """

    def find_rank(item: pytest.Item) -> int:
        return next((at for at, name in enumerate(_SLOWEST) if item.nodeid.startswith(name)), len(_SLOWEST))

    items.sort(key=find_rank)


# Files that start whole stacks stand between others, for they would begin together and slow each other down.
_SLOWEST = (
    "tests/image/",
    "tests/e2e/test_demo.py",
    "tests/user_manager/rest/test_openapi",
    "tests/web/test_home",
    "tests/notifier/test_process",
    "tests/e2e/test_demo_truth",
    "tests/web/test_watch",
    "tests/collector/settled/test_collection",
    "tests/manifests/test_services",
    "tests/web/test_account.py",
    "tests/manifests/test_schemas",
    "tests/collector/rest/test_openapi",
    "tests/prometheus/",
    "tests/chassis/db/test_outbox_relay",
    "tests/streams/replay/",
    "tests/e2e/",
    "tests/chassis/faust/",
    "tests/web/",
    "tests/streams/",
    "tests/local/kafka/",
    "tests/user_manager/test_",
    "tests/notifier/dead_letters/",
    "tests/collector/settled/",
    "tests/notifier/delivery/",
)
