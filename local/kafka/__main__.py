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
from chassis.process import keep_files_private
from chassis.topics import ensure_topics
from local.arguments import parse_port
from local.kafka import BrokerError, find_external_bootstrap_servers, running_broker
from local.kafka.jars import LOCK_FILE, render_lock, resolve_lock
from towerwatch.topics import CATALOGUE

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 0 once the lock file is written, 1 if the broker cannot serve.

    Before 1, one sentence on standard error gives the reason. SIGTERM or SIGINT stops the broker, and ends the program
    with status 0.
    """
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    options = _build_parser().parse_args(arguments)
    keep_files_private()
    try:
        if options.command == "lock":
            LOCK_FILE.write_text(render_lock(resolve_lock()))
            print(f"wrote {LOCK_FILE}")
            return 0
        for number in STOP_SIGNALS:
            signal.signal(number, _exit_on_signal)
        run_broker(options.data, options.port, options.log)
        return 0
    except (BrokerError, ChassisError) as error:
        print(f"kafka: {error}", file=sys.stderr)
        return 1


def run_broker(data: Path, port: int, log: Path | None) -> None:
    """Run the broker until a signal ends the process; with KAFKA_BOOTSTRAP_SERVERS set, only make the topics there.

    Then, too, it waits for the signal. Prints `ready <bootstrap servers>` once the topics exist. Raises BrokerError or
    ChassisError if the broker cannot be started or the topics cannot be made, and BrokerDiedError if the broker ends by
    itself.
    """
    if external := find_external_bootstrap_servers(os.environ):
        asyncio.run(ensure_topics(external, CATALOGUE))
        _print_ready(external)
        while True:
            signal.pause()
    with running_broker(data, port, log) as broker:
        _print_ready(broker.bootstrap_servers)
        broker.wait()


def _print_ready(bootstrap_servers: str) -> None:
    print(f"ready {bootstrap_servers}", flush=True)


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    """Handle a signal: exit with status 0, and ignore further signals during the orderly stop."""
    for each in STOP_SIGNALS:  # a second Ctrl-C must not interrupt the orderly stop
        signal.signal(each, signal.SIG_IGN)
    sys.exit(0)


def _build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m local.kafka", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run the broker until SIGTERM or Ctrl-C")
    running.add_argument("--data", type=Path, required=True, help="the folder that keeps everything between runs")
    running.add_argument(
        "--port", type=parse_port, default=9092, help="where clients connect, on 127.0.0.1 (default: %(default)s)"
    )
    running.add_argument("--log", type=Path, help="Kafka's log (default: kafka.log in the data folder)")
    commands.add_parser("lock", help="resolve Kafka's jars on Maven Central and write jars.lock")
    return parser


if __name__ == "__main__":
    sys.exit(main())
