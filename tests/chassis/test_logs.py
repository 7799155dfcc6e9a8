"""Structured logs: each line contains the service's name, and never local variables."""

import asyncio
import gc
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NodeNotReadyError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    TopicAuthorizationFailedError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata

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


@pytest.mark.parametrize(
    "error",
    [
        NodeNotReadyError("node 1"),
        NotCoordinatorForGroupError(),
        UnknownMemberIdError("group"),
        RebalanceInProgressError("group"),
    ],
)
def test_an_error_of_kafka_that_passes_is_one_line(capsys: pytest.CaptureFixture[str], error: KafkaError) -> None:
    """Faust logs one, with its stack, when it stops because of it; a warning with the error's class says the same."""
    logs.configure("example", "info", "json")
    try:
        raise error
    except KafkaError:
        logging.getLogger("faust").exception("[^_Worker]: Error: %s", "it failed")
    (entry,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert entry["event"] == f"[^_Worker]: Error: it failed: {type(error).__name__}"
    assert entry["level"] == "warning"
    assert "exception" not in entry


def test_a_commit_that_fails_after_its_caller_gave_up_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """aiokafka shields a commit's request from the cancellation of its caller, and then nobody awaits it.

    The collector gives a confirmation of its leadership up after some seconds; the broker may refuse it later.
    """
    logs.configure("example", "info", "json")

    async def scenario() -> None:
        sent, is_refused = asyncio.Event(), asyncio.Event()

        async def send(_request: object) -> None:
            """Wait until the test refuses the request, and fail as a broker does that is not the coordinator."""
            sent.set()
            await is_refused.wait()
            raise NotCoordinatorForGroupError

        async def know_coordinator() -> None:
            """Return at once, as if the coordinator were known."""

        coordinator: Any = object.__new__(GroupCoordinator)
        vars(coordinator).update(
            group_id="g", generation=1, member_id="m", coordinator_id=1, _commit_lock=asyncio.Lock(),
            _send_req=send, ensure_coordinator_known=know_coordinator,
        )  # fmt: skip
        offsets = {TopicPartition("topic", 0): OffsetAndMetadata(1, "")}
        commit = asyncio.create_task(coordinator.commit_offsets(None, offsets))
        await sent.wait()
        commit.cancel()
        await asyncio.gather(commit, return_exceptions=True)
        is_refused.set()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
        gc.collect()

    asyncio.run(scenario())
    (entry,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert entry["event"] == "Task exception was never retrieved: NotCoordinatorForGroupError"
    assert "exception" not in entry


@pytest.mark.parametrize(
    "error", [RuntimeError("a defect"), TopicAuthorizationFailedError("topic"), IllegalStateError()]
)
def test_other_errors_of_libraries_keep_their_stack(capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    """Somebody must look at a defect, or at what the broker refuses for good."""
    logs.configure("example", "info", "json")
    try:
        raise error
    except type(error):
        logging.getLogger("faust").exception("Error")
    (entry,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (entry["event"], entry["level"]) == ("Error", "error")
    assert "Traceback" in entry["exception"]


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
