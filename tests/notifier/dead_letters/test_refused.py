"""Errors of `python -m notifier dead-letters`: wrong arguments, a missing setting, an unreachable broker."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from notifier.__main__ import main
from notifier.dead_letters import commands
from tests.ports import free_port


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Undo the command's logging configuration, which writes to the standard error of one test alone."""
    of_kafka = logging.getLogger("aiokafka")
    level = of_kafka.level
    yield
    of_kafka.setLevel(level)
    structlog.reset_defaults()


def test_an_unreachable_broker_is_reported_in_one_sentence(monkeypatch, capsys) -> None:
    """The command fails after its timeout, with exit status 1."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(commands, "UNREACHABLE_AFTER_S", 0.5)
    for arguments in (["list"], ["show", "0:0"], ["requeue", "--all"]):
        assert main(["dead-letters", *arguments]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("notifier: no Kafka broker at 127.0.0.1")
        assert printed.err.count("\n") == 1


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
def test_wrong_arguments_end_with_2_and_the_usage(arguments: list[str], capsys) -> None:
    """Neither a worker nor a command is started."""
    with pytest.raises(SystemExit) as end:
        main(["dead-letters", *arguments])
    assert end.value.code == 2
    assert "usage: python -m notifier" in capsys.readouterr().err


def test_a_missing_setting_is_named(monkeypatch, capsys) -> None:
    """The exit status is 2."""
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    with pytest.raises(SystemExit) as end:
        main(["dead-letters", "list"])
    assert end.value.code == 2
    assert "KAFKA_BOOTSTRAP_SERVERS" in capsys.readouterr().err
