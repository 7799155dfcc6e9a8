"""Logs: one line an event, which says who speaks; in no form anything of what the code held in its hands."""

import json
import logging
import threading
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from chassis import logs


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_every_line_says_the_service_whatever_thread_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    """Servers log from threads of their own; libraries through the standard library."""
    logs.configure("example", "info", "json")
    for say in (structlog.get_logger().info, logging.getLogger("library").warning):
        thread = threading.Thread(target=say, args=("thing.happened",))
        thread.start()
        thread.join()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["service"], line["event"]) for line in lines] == [("example", "thing.happened")] * 2


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_exceptions_local_variables_are_not_shown(
    capsys: pytest.CaptureFixture[str], form: Literal["json", "console"]
) -> None:
    """They may be addresses and tokens."""
    logs.configure("example", "info", form)

    def fail(address: str) -> None:
        raise RuntimeError(f"it failed after {len(address)} characters")

    try:
        fail("ann" + "@example.org")
    except RuntimeError as error:
        structlog.get_logger().error("thing.failed", exc_info=error)
    said = capsys.readouterr().out
    assert "it failed after 15 characters" in said
    assert "ann@example.org" not in said


def test_a_library_that_repeats_itself_is_heard_once_in_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    """An outage makes ten lines a second in a client's log; ours stays readable. What we say is never left out."""
    logs.configure("example", "info", "json")
    for attempt in range(50):
        logging.getLogger("aiokafka.conn").error("cannot connect, attempt %d", attempt)
        structlog.get_logger().info("we.said")
    lines = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert lines.count("we.said") == 50
    assert lines.count("cannot connect, attempt 0") == 1
    assert len(lines) == 51
