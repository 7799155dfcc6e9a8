"""The configuration of the Kafka node: its server properties and its JVM; and the search for errors in its log."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from local.kafka.java import Java

HOST: Final = "127.0.0.1"

TOPICS_FOLDER: Final = "topics"
"""The folder of the node's topics, in the data folder, which is the node's working directory."""

_JVM_FLAGS: Final = (
    "-Xms24m",  # it grows as it is needed; what begins small keeps less of what the start leaves behind
    "-Xmx512m",
    "-XX:MaxNewSize=12m",  # all of it is written over and over, also by a node that does little
    "-XX:-UsePerfData",  # else a thread wakes twenty times a second for tools that nobody runs
    # Measured on two cores, Kafka 4.4.0: from 2.2 s to 1.4 s until the broker answers, from 330 MB to 170 MB resident,
    # and half the CPU for 20,000 acknowledged sends. The optimising compiler and G1 pay only on bigger brokers.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)


def build_java_command(java: Java, main_class: str, *arguments: str) -> list[str]:
    """Build the command that runs one of Kafka's classes, with our JVM flags and logging.

    It needs the environment of `build_java_environment`.
    """
    log4j = Path(__file__).with_name("log4j2.properties")
    return [str(java.executable), *_JVM_FLAGS, f"-Dlog4j2.configurationFile={log4j.as_uri()}", main_class, *arguments]


def build_java_environment(environ: Mapping[str, str], jars: Sequence[Path]) -> dict[str, str]:
    """Return `environ` with exactly the `jars` as the class path.

    The class path is no command line argument, for that would fill four screens of every process list.
    """
    return {**environ, "CLASSPATH": os.pathsep.join(map(str, jars))}


def render_server_properties(port: int, controller_port: int) -> str:
    """Render the properties of a node that is broker and controller in one, for clients of this machine only.

    Every name is documented at https://kafka.apache.org/44/configuration/broker-configs/.
    """
    properties = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"CLIENTS://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"CLIENTS://{HOST}:{port}",
        "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENTS",
        "controller.listener.names": "CONTROLLER",
        # Below the JVM's working directory: a full path with a comma or an umlaut would not survive this file's format.
        "log.dirs": TOPICS_FOLDER,
        # A topic outside of the catalogue is a mistake, and its partition count would be a guess.
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # The groups' offsets outlive an absence of 90 days: a worker without an offset would begin anew. 7 by default.
        "offsets.retention.minutes": str(90 * 24 * 60),
        # After a kill -9 the node cannot register again until its former session has run out: 9 s by default.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # The cleaner takes this much at start, for 150,000 keys in one pass; the default is 128 MB.
        "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),
        # By a record twice a second the brokers of a cluster see that its controller lives: here both are one process.
        # 0: no such records, which were half of what the node did at rest (ADR 52).
        "metadata.max.idle.interval.ms": "0",
        # Each of these threads looks for work three times a second: 8 and 3 by default, twice for the two listeners.
        "num.io.threads": "4",
        "num.network.threads": "2",
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def find_last_error(log: str) -> str:
    """Return the probable reason of Kafka's end, from the text of its log.

    That is the message of the last line of level ERROR or FATAL, followed by the next line if that names an exception;
    without such a line, the last line; for an empty log, a remark.
    """
    lines = [line for line in log.splitlines() if line.strip()]
    for number in range(len(lines) - 1, -1, -1):
        if error := re.match(r"\S+ (?:ERROR|FATAL) (.*?)(?: \([\w.$]+\))?$", lines[number]):
            cause = lines[number + 1] if number + 1 < len(lines) else ""
            is_cause = re.match(r"[\w.$]+(?:Exception|Error)\b", cause)
            return f"{error[1].rstrip('.:')}: {cause}" if is_cause else error[1]
    return lines[-1] if lines else "it said nothing"
