"""Tests of the free ports that tests use: workers of one run never get each other's."""

import pytest

from tests.ports import free_port, free_ports


def test_no_two_workers_are_given_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ports of each worker lie in a part of the range that is its own."""
    given = {}
    for worker in ("gw0", "gw1", "gw7", "gw9"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        given[worker] = {free_port() for _ in range(200)}
    for one, ports in given.items():
        assert all(ports.isdisjoint(others) for worker, others in given.items() if worker != one)
        assert all(10_000 <= port < 32_000 for port in ports)


def test_a_port_is_not_given_out_twice_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that nobody listens on yet is not given to the next who asks, however random numbers are seeded."""
    monkeypatch.setattr("random.randrange", _draw_from(12_000, 12_000, 11_999, 12_001))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    assert free_port() == 12_000
    assert free_ports(2) == 12_001  # neither 12,000 itself, nor 11,999 with 12,000 after it


def _draw_from(*numbers: int) -> object:
    """Return a function like `random.randrange` that returns these numbers in turn."""
    remaining = iter(numbers)
    return lambda begin, end: next(remaining)
