"""The whole collector as a process: the leader reads a receiver's file, and shows what it hears."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chassis.clock import SystemClock
from chassis.db.database import Database
from chassis.db.migrations import upgrade
from collector.interests import InterestStore
from domain.interests import Direction
from local.kafka import Broker
from tests import plain_http
from tests.collector.conftest import ANN, wish
from tests.collector.process import OPERATOR_TOKEN, CollectorProcess
from tests.waiting import eventually


@pytest.fixture
def receiver(tmp_path: Path) -> Path:
    """Return where a receiver writes its aircraft.json."""
    return tmp_path / "aircraft.json"


@pytest.fixture
def process(kafka: Broker, tmp_path: Path, receiver: Path) -> Iterator[CollectorProcess]:
    """Yield a collector with an interest at Kennedy, which reads the receiver's file."""
    database = Database(f"sqlite:///{tmp_path}/collector.db")
    upgrade(database, "collector:migrations")
    InterestStore(database, SystemClock()).set(ANN, wish("KJFK", Direction.BOTH))
    database.close()
    settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "LIVE_URLS": str(receiver)}
    with ExitStack() as stack:
        running = CollectorProcess(tmp_path, settings)
        stack.callback(running.kill)
        yield running


def test_the_leader_polls_a_receiver(process: CollectorProcess, receiver: Path) -> None:
    """Its report says which airports are heard; when it is stopped, it stores what it remembers."""

    def hear() -> bool:
        """Let an aircraft stand at Kennedy, and return True once the leader has heard it."""
        now = time.time()
        aircraft = {
            "hex": "abcdef",
            "lat": 40.6413,
            "lon": -73.7781,
            "alt_baro": "ground",
            "seen": 0.1,
            "seen_pos": 0.1,
        }
        part = receiver.with_suffix(".part")
        part.write_text(json.dumps({"now": now, "aircraft": [aircraft]}))
        part.replace(receiver)
        if not process.answers("/health/ready"):
            return False
        headers = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
        shown = plain_http.get(f"{process.base_url}/scheduler/status", headers=headers, timeout=60).json()["live"]
        (feed,) = shown["feeds"]
        return (shown["budget"], feed["name"], feed["aircraft"]) == (None, "receivers", 1)

    eventually(lambda: hear() and process.metric("live_aircraft") == 1)
    assert process.terminate() == 0
    assert "live.last_state_not_stored" not in process.log()
