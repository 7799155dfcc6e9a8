"""The node's configuration and the search for errors in its log."""

import pytest

from local.kafka.node import find_last_error, render_server_properties
from local.processes import ROOT
from towerwatch.topics import CATALOGUE

BIND = """\
2026-11-23T04:59:45,948 WARN  [QuorumController id=1] Performing controller activation. (org.apache.kafka.Controller)
2026-11-23T04:59:46,001 ERROR [BrokerServer id=1] Fatal error during startup. (kafka.server.BrokerServer)
org.apache.kafka.common.KafkaException: Socket server failed to bind to 127.0.0.1:9092: Address already in use.
\tat kafka.network.DataPlaneAcceptor.openServerSocket(SocketServer.scala)
"""


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            BIND,
            "[BrokerServer id=1] Fatal error during startup: org.apache.kafka.common.KafkaException: "
            "Socket server failed to bind to 127.0.0.1:9092: Address already in use.",
        ),
        ("2026-11-23T04:59:46,001 ERROR Exiting Kafka (kafka.Kafka$)\n", "Exiting Kafka"),
        ("Unrecognized VM option 'Foo'\nError: Could not create the VM.\n\n", "Error: Could not create the VM."),
        ("", "it said nothing"),
    ],
)
def test_reason_is_the_last_error(log: str, reason: str) -> None:
    """The reason is the log's last error with its exception, never a stack trace; without an error, the last line."""
    assert find_last_error(log) == reason


def test_nobody_outside_can_connect() -> None:
    """Every listener is bound to the loopback address, and unknown topics are not created."""
    properties = render_server_properties(19092, 19093).splitlines()
    assert "listeners=CLIENTS://127.0.0.1:19092,CONTROLLER://127.0.0.1:19093" in properties
    assert "auto.create.topics.enable=false" in properties


def test_the_offsets_of_groups_outlive_every_topic_on_a_machine_as_in_a_cluster() -> None:
    """A worker that was away for longer than its group's offsets are kept would begin anew, and mail what it mailed."""
    [here] = [each for each in render_server_properties(1, 2).splitlines() if each.startswith("offsets.retention.")]
    manifest = (ROOT / "manifests" / "base" / "kafka" / "server.properties").read_text(encoding="utf-8").splitlines()
    assert here in manifest
    longest = max(int(topic.config.get("retention.ms", 0)) for topic in CATALOGUE)
    assert int(here.partition("=")[2]) * 60_000 >= 2 * longest
