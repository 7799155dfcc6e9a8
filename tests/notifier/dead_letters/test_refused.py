"""What `python -m notifier dead-letters` says when it is not understood, or has nobody to ask."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from notifier.__main__ import main
from notifier.dead_letters import commands
from tests.ports import free_port


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command logs to the standard error of its process, which here is pytest's, and of one test alone."""
    of_kafka = logging.getLogger("aiokafka")
    level = of_kafka.level
    yield
    of_kafka.setLevel(level)
    structlog.reset_defaults()


def test_a_broker_that_is_not_there_is_one_sentence(monkeypatch, capsys) -> None:
    """Soon, and with 1."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(commands, "UNREACHABLE_AFTER_S", 0.5)
    for arguments in (["list"], ["show", "0:0"], ["requeue", "--all"]):
        assert main(["dead-letters", *arguments]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("notifier: no Kafka broker at 127.0.0.1")
        assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bury"],
        ["list", "3:1"],
        ["list", "--limit", "0"],
        ["list", "--limit", "-1"],
        ["list", "--since", "yesterday"],
        ["list", "--topic", "alerts.raised"],
        ["show"],
        ["show", "17"],
        ["requeue"],
        ["requeue", "3:1", "--all"],
        ["requeue", "3:1", "--reason", "x"],
        ["requeue", "everything"],
        ["requeue", "--al"],
    ],
)
def test_what_is_not_understood_ends_with_2_and_the_usage(arguments: list[str], capsys) -> None:
    """And not with a worker, nor with anything done."""
    with pytest.raises(SystemExit) as end:
        main(["dead-letters", *arguments])
    assert end.value.code == 2
    assert "usage: python -m notifier" in capsys.readouterr().err


def test_a_setting_that_is_missing_is_named(monkeypatch, capsys) -> None:
    """With 2."""
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    with pytest.raises(SystemExit) as end:
        main(["dead-letters", "list"])
    assert end.value.code == 2
    assert "KAFKA_BOOTSTRAP_SERVERS" in capsys.readouterr().err
