"""Structured logs: each line contains the service's name, and never local variables."""

import json
import logging
import threading
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from chassis import logs
from chassis.db.database import Database
from tests.mariadb_fixture import DatabaseServer


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Restore the configuration of logging after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_every_line_contains_the_service_in_every_thread(capsys: pytest.CaptureFixture[str]) -> None:
    """Servers log from threads of their own, libraries through the standard library."""
    logs.configure("example", "info", "json")
    for write_log in (structlog.get_logger().info, logging.getLogger("library").warning):
        thread = threading.Thread(target=write_log, args=("thing.happened",))
        thread.start()
        thread.join()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["service"], line["event"]) for line in lines] == [("example", "thing.happened")] * 2


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_exceptions_local_variables_are_not_logged(
    capsys: pytest.CaptureFixture[str], form: Literal["json", "console"]
) -> None:
    """Local variables may be addresses and tokens."""
    logs.configure("example", "info", form)

    def fail(address: str) -> None:
        raise RuntimeError(f"it failed after {len(address)} characters")

    try:
        fail("ann" + "@example.org")
    except RuntimeError as error:
        structlog.get_logger().error("thing.failed", exc_info=error)
    printed = capsys.readouterr().out
    assert "it failed after 15 characters" in printed
    assert "ann@example.org" not in printed


def test_repeated_messages_of_noisy_libraries_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    """During an outage a client logs ten lines a second; the services' own messages are never dropped."""
    logs.configure("example", "info", "json")
    for attempt in range(50):
        logging.getLogger("aiokafka.conn").error("cannot connect, attempt %d", attempt)
        structlog.get_logger().info("own.message")
    lines = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert lines.count("own.message") == 50
    assert lines.count("cannot connect, attempt 0") == 1
    assert len(lines) == 51


@pytest.mark.mariadb
def test_a_connection_lost_before_its_return_to_the_pool_is_one_line(
    capsys: pytest.CaptureFixture[str], mariadb_server: DatabaseServer, mariadb_url: str
) -> None:
    """SQLAlchemy's pool logs a stack trace then; ours has its message and the error's class, and no driver's text."""
    logs.configure("example", "info", "json")
    database = Database(mariadb_url)
    connection = database.engine.raw_connection()
    cursor = connection.cursor()
    cursor.execute("SELECT CONNECTION_ID()")
    mariadb_server.execute(f"KILL {cursor.fetchone()[0]}")
    connection.close()
    database.close()
    (line,) = capsys.readouterr().out.splitlines()
    entry = json.loads(line)
    assert entry["event"] == "Exception during reset or similar: OperationalError"
    assert "exception" not in entry
