"""How the one Kafka node is configured: its server properties, its JVM, and what its log says of a failure."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from local.kafka.java import Java

HOST: Final = "127.0.0.1"

TOPICS_FOLDER: Final = "topics"
"""Where the node keeps its topics, below the data folder that it runs in."""

_JVM_FLAGS: Final = (
    "-Xms64m",
    "-Xmx512m",
    # Measured on two cores, Kafka 4.4.0: from 2.2 s to 1.4 s until the broker answers, from 330 MB to 170 MB resident,
    # and half the CPU for 20,000 acknowledged sends. The optimising compiler and G1 pay only on bigger brokers.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)


def build_java_command(java: Java, main_class: str, *arguments: str) -> list[str]:
    """The command that runs one of Kafka's classes, with the environment of `build_java_environment`."""
    log4j = Path(__file__).with_name("log4j2.properties")
    return [str(java.executable), *_JVM_FLAGS, f"-Dlog4j2.configurationFile={log4j.as_uri()}", main_class, *arguments]


def build_java_environment(environ: Mapping[str, str], jars: Sequence[Path]) -> dict[str, str]:
    """`environ` with `jars` as the class path, and nothing that lies beside them.

    Not as an argument: there it would fill four screens of every process list.
    """
    return {**environ, "CLASSPATH": os.pathsep.join(map(str, jars))}


def render_server_properties(port: int, controller_port: int) -> str:
    """A node that is broker and controller in one, for clients of this machine.

    https://kafka.apache.org/44/configuration/broker-configs/ has every name.
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
        # A topic that the catalogue does not know is a mistake, and its partition count would be a guess.
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # After a kill -9 the node cannot register again until its former session has run out: 9 s by default.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # The cleaner takes this much at start; the default is 128 MB.
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def find_last_error(log: str) -> str:
    """What Kafka's log gives as the reason of its end: its last error with the exception's line, else its last line."""
    lines = [line for line in log.splitlines() if line.strip()]
    for number in range(len(lines) - 1, -1, -1):
        if said := re.match(r"\S+ (?:ERROR|FATAL) (.*?)(?: \([\w.$]+\))?$", lines[number]):
            cause = lines[number + 1] if number + 1 < len(lines) else ""
            is_cause = re.match(r"[\w.$]+(?:Exception|Error)\b", cause)
            return f"{said[1].rstrip('.:')}: {cause}" if is_cause else said[1]
    return lines[-1] if lines else "it said nothing"
