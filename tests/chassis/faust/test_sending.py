"""Tests of `chassis.faust.sending`."""

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError

from chassis.faust import sending
from chassis.faust.sending import retry_until_sent


def run_with_failures(monkeypatch: pytest.MonkeyPatch, *failures: Exception) -> list[float]:
    """Send with these failures before the success, and return the pauses in between."""
    pauses: list[float] = []

    async def record_pause(seconds: float) -> None:
        pauses.append(seconds)

    left = list(failures)

    async def send() -> None:
        if left:
            raise left.pop(0)

    monkeypatch.setattr(sending.asyncio, "sleep", record_pause)
    asyncio.run(retry_until_sent(send, "example.refused"))
    assert not left
    return pauses


def test_sending_is_repeated_with_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause doubles from 0.1 s to 10 s, and there is no limit."""
    pauses = run_with_failures(monkeypatch, *[KafkaConnectionError()] * 12)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10, 10, 10]


def test_another_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug must not be repeated for ever."""
    with pytest.raises(ZeroDivisionError):
        run_with_failures(monkeypatch, KafkaConnectionError(), ZeroDivisionError())
