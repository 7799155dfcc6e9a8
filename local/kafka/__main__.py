"""`python -m local.kafka run`: the broker in the foreground. `python -m local.kafka lock`: pin Kafka's jars anew."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import structlog

from chassis.errors import ChassisError
from chassis.topics import ensure_topics
from local.kafka import BrokerError, find_external_bootstrap_servers, running_broker
from local.kafka.jars import LOCK_FILE, render_lock, resolve_lock
from towerwatch.topics import CATALOGUE

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 when stopped by SIGTERM or SIGINT, 1 with one sentence on standard error when it cannot serve."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "lock":
            LOCK_FILE.write_text(render_lock(resolve_lock()))
            print(f"wrote {LOCK_FILE}")
            return 0
        for number in STOP_SIGNALS:
            signal.signal(number, _stop)
        run(chosen.data, chosen.port, chosen.log)
        return 0
    except (BrokerError, ChassisError) as error:
        print(f"kafka: {error}", file=sys.stderr)
        return 1


def run(data: Path, port: int, log: Path | None) -> None:
    """Serve until a signal ends it, on the brokers of KAFKA_BOOTSTRAP_SERVERS where the user has set them.

    Prints `ready <bootstrap servers>` once the topics are there. Raises BrokerError or ChassisError.
    """
    if external := find_external_bootstrap_servers(os.environ):
        asyncio.run(ensure_topics(external, CATALOGUE))
        _say_ready(external)
        while True:
            signal.pause()
    with running_broker(data, port, log) as broker:
        _say_ready(broker.bootstrap_servers)
        broker.wait()


def _say_ready(bootstrap_servers: str) -> None:
    print(f"ready {bootstrap_servers}", flush=True)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    for each in STOP_SIGNALS:  # a second Ctrl-C must not break off the orderly stop
        signal.signal(each, signal.SIG_IGN)
    sys.exit(0)


def _port(text: str) -> int:
    number = int(text)
    if not 0 < number < 65536:
        raise argparse.ArgumentTypeError(f"{text} is not a port: 1 to 65535")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local.kafka", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run the broker until SIGTERM or Ctrl-C")
    running.add_argument("--data", type=Path, required=True, help="the folder that keeps everything between runs")
    running.add_argument(
        "--port", type=_port, default=9092, help="where clients connect, on 127.0.0.1 (default: %(default)s)"
    )
    running.add_argument("--log", type=Path, help="Kafka's log (default: kafka.log in the data folder)")
    commands.add_parser("lock", help="resolve Kafka's jars on Maven Central and write jars.lock")
    return parser


if __name__ == "__main__":
    sys.exit(main())
