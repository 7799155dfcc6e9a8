"""Towerwatch's stream: flight events meet interests, and alerts are raised.

Without a command: one worker, until SIGTERM; run as many as there is work for. The commands look at what workers did,
or do it again; they change nothing that a worker reads. All need KAFKA_BOOTSTRAP_SERVERS.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

import structlog
from aiokafka.errors import KafkaError

from chassis import logs
from chassis.errors import ChassisError
from chassis.faust.app import run_worker
from chassis.process import load_settings_or_exit
from chassis.settings import Settings
from streams.app import SERVICE, create_app
from streams.replay.replay import build_group_name, build_output_topic, replay
from streams.replay.verify import compare
from streams.settings import JoinSettings
from towerwatch.topics import ALERTS_RAISED, CATALOGUE, FLIGHTS_OBSERVED, INTERESTS_CHANGED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen command and return its exit status; without a command run a worker, which ends the process.

    While a command runs, logs go to standard error. A ChassisError or KafkaError is printed there in one sentence, with
    the status 2; Ctrl-C gives 130. Invalid arguments end the program as argparse does (status 2).
    """
    chosen = _build_parser().parse_args(arguments)
    if chosen.command is None:
        _run_worker()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # the standard output is the result
    try:
        return _run_verify(chosen) if chosen.command == "verify" else _run_replay(chosen)
    except ChassisError as error:
        return _print_error(str(error))
    except KafkaError as error:
        return _print_error(f"the broker did not do what was asked ({type(error).__name__}): try again when it is well")
    except KeyboardInterrupt:
        return 130


def _run_worker() -> None:
    """Load the settings, configure the logs, and run one worker until SIGTERM. Never returns: the process exits.

    The process exits with status 2 if the settings are invalid.
    """
    settings = load_settings_or_exit(SERVICE, JoinSettings)
    logs.configure(SERVICE, settings.log_level, settings.log_format)
    run_worker(create_app(settings), settings, CATALOGUE)


def _run_replay(chosen: argparse.Namespace) -> int:
    """Replay the log to the output topic of the arguments, print the counts, and return the exit status 0.

    Without `--group` the group has its default name. Raises ChassisError or KafkaError if the replay cannot be done.
    Invalid settings end the process.
    """
    output = build_output_topic(chosen.output)
    group = chosen.group or build_group_name(output.name)
    settings = load_settings_or_exit(SERVICE, Settings)
    counts = asyncio.run(replay(settings.kafka_bootstrap_servers, output, group, settings.kafka_replication_factor))
    print(counts)
    print(f"{counts.alerts:,} alerts sent to {output.name} in {counts.took_s:.1f} s, by the consumer group {group}")
    return 0


def _run_verify(chosen: argparse.Namespace) -> int:
    """Compare the published alerts with the log's, print the comparison, and return 0 when equal, 1 when different.

    The comparison is printed as text, or with `--json` as one JSON object. Raises ChassisError or KafkaError if the
    comparison cannot be done. Invalid settings end the process.
    """
    against = build_output_topic(chosen.against) if chosen.against is not None else None
    settings = load_settings_or_exit(SERVICE, Settings)
    comparison = asyncio.run(compare(settings.kafka_bootstrap_servers, against, chosen.group))
    print(json.dumps(comparison.as_json(), indent=1) if chosen.json else comparison)
    return 0 if comparison.is_equal else 1


def _print_error(sentence: str) -> int:
    """Print an error's sentence on standard error, after the service's name, and return the exit status 2."""
    print(f"{SERVICE}: {sentence}", file=sys.stderr)
    return 2


def _build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line: the commands `replay` and `verify` with their options, or no command.

    The parser stores the command's name as `command` (None: no command).
    """
    keep_layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m streams", description=__doc__, formatter_class=keep_layout, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    replay_command = commands.add_parser(
        "replay",
        help="compute every alert once more, to another topic",
        description=f"Reads {FLIGHTS_OBSERVED.name} and {INTERESTS_CHANGED.name} from their beginning to their end as "
        "of now, computes every alert and sends it to a topic of your choice, then ends. Nobody is mailed. "
        "The same log gives the same alert ids, however often.",
        epilog="Exit status: 0 when done; 2 when it cannot be done, with one sentence on standard error.",
        allow_abbrev=False,
    )
    replay_command.add_argument(
        "--from-beginning", action="store_true", required=True, help="to be said: a replay has no other beginning"
    )
    replay_command.add_argument(
        "--output", required=True, metavar="TOPIC", help="where the alerts go; made if missing, else it must be empty"
    )
    replay_command.add_argument(
        "--group", metavar="NAME", help="a new consumer group, which commits what was read (default: replay-of-TOPIC)"
    )
    verify_command = commands.add_parser(
        "verify",
        help="compare what was raised with what the log says",
        description=f"Computes every alert once more, in memory, and compares the ids with those on "
        f"{ALERTS_RAISED.name}. What cannot be compared, because the topics do not keep everything for ever, is "
        "counted, with the reason. Workers may go on meanwhile.",
        epilog="Exit status: 0 when equal, 1 when different, 2 when it cannot be told, with one sentence on standard "
        "error.",
        allow_abbrev=False,
    )
    verify_command.add_argument("--against", metavar="TOPIC", help="compare with what an earlier replay sent to TOPIC")
    verify_command.add_argument(
        "--group", metavar="NAME", help="with --against: the replay's consumer group (default: replay-of-TOPIC)"
    )
    verify_command.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
