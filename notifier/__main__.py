"""Towerwatch's notifier: alerts become mail.

Without a command: one worker, until SIGTERM; run as many as there is work for. The commands are for an operator, while
workers run or not, and need KAFKA_BOOTSTRAP_SERVERS alone.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

import structlog
from aiokafka.errors import KafkaError

from chassis import logs
from chassis.clock import SystemClock
from chassis.errors import ChassisError
from chassis.faust.app import run_worker
from chassis.process import load_settings_or_exit
from chassis.settings import Settings
from notifier.app import SERVICE, create_app
from notifier.dead_letters.commands import list_dead_letters, requeue_dead_letters, show_dead_letter
from notifier.dead_letters.dead_letter import DeadLetterFilter, parse_moment, parse_record_id
from notifier.dead_letters.decoding import SOURCES
from notifier.settings import NotifierSettings
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RAISED, CATALOGUE, NOTICES_RAISED

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker, or the command that the arguments name; return the command's exit status.

    A worker does not return. A command writes its result to standard output, logs and errors to standard error. The
    status is also 1 if the broker or the reader of the output fails, and 130 after Ctrl-C. Invalid options or settings
    end the program with status 2.
    """
    now = SystemClock().now()
    parser = _build_parser(now)
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        _run_worker()
    if chosen.action == "requeue" and bool(chosen.ids) == chosen.all:
        parser.error("requeue needs letters: either their ids, or --all")
    if chosen.action == "requeue" and chosen.ids and _build_filter(chosen) != DeadLetterFilter():
        parser.error("requeue: --reason, --topic, --since and --until go with --all, not with ids")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # what is printed is the answer
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of an outage it says ten lines a second, we one in all
    settings = load_settings_or_exit(SERVICE, Settings)
    try:
        status = asyncio.run(_run_command(settings.kafka_bootstrap_servers, chosen, now))
        sys.stdout.flush()
    except ChassisError as error:
        return _print_error(str(error))
    except KafkaError as error:
        return _print_error(f"the broker did not do what was asked ({type(error).__name__}): try again when it is well")
    except BrokenPipeError:  # who read the answer has seen enough of it; nor may the interpreter's end complain of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _run_worker() -> None:
    """Read the settings, configure the logs and run a worker until SIGTERM; does not return."""
    settings = load_settings_or_exit(SERVICE, NotifierSettings)
    logs.configure(SERVICE, settings.log_level, settings.log_format)
    run_worker(create_app(settings), settings, CATALOGUE)


async def _run_command(bootstrap_servers: str, chosen: argparse.Namespace, now: datetime) -> int:
    """Run the chosen dead-letters action (show, requeue or list) against the broker; return its exit status.

    `requeue` takes the dead letters with the given ids; without ids, those that match the filter options.
    """
    if chosen.action == "show":
        return await show_dead_letter(bootstrap_servers, chosen.id)
    if chosen.action == "requeue":
        return await requeue_dead_letters(
            bootstrap_servers, chosen.ids or _build_filter(chosen), now, dry_run=chosen.dry_run
        )
    return await list_dead_letters(
        bootstrap_servers, _build_filter(chosen), chosen.limit, only_summary=chosen.summary, as_json=chosen.json
    )


def _build_filter(chosen: argparse.Namespace) -> DeadLetterFilter:
    """Return the filter of dead letters that the options --reason, --topic, --since and --until describe."""
    return DeadLetterFilter(chosen.reason, chosen.topic, chosen.since, chosen.until)


def _print_error(sentence: str) -> int:
    """Print an error message, after the service's name, to standard error; return the exit status 1."""
    print(f"{SERVICE}: {sentence}", file=sys.stderr)
    return 1


def _build_parser(now: datetime) -> argparse.ArgumentParser:
    """Return the parser of the command line: no command (a worker), or dead-letters with list, show or requeue.

    `now` resolves relative times such as "2h".
    """
    whole = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m notifier", description=__doc__, formatter_class=whole, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    letters = commands.add_parser(
        "dead-letters",
        help="look at events that were put aside, and have alerts and notices mailed after all",
        description=f"Events that stream or notifier gave up are on {ALERTS_DEAD_LETTER.name}, for 30 days.",
        epilog="Exit status: 0 when done; 1 when something of it was not, or the broker does not answer; 2 when the "
        "command is not understood. What is wrong is said on standard error.",
        allow_abbrev=False,
    )
    actions = letters.add_subparsers(dest="action", metavar="ACTION", required=True)
    filters = _build_filter_parser(now)
    listing = actions.add_parser(
        "list",
        parents=[filters],
        help="one line for each letter, the oldest first, and a summary",
        description="A line tells a letter's id, when it was put aside (UTC), the topic that it comes from, the reason "
        "and what it is about; [requeued WHEN] if it was; [again in ID] if an alert or notice of it is in a later one.",
        allow_abbrev=False,
    )
    listing.add_argument(
        "--limit", type=_with_error_text(_parse_positive_number), metavar="N", help="not more lines than that"
    )
    listing.add_argument("--summary", action="store_true", help="only how many there are for which reason")
    listing.add_argument("--json", action="store_true", help="one JSON object a line, and no summary beside them")
    showing = actions.add_parser("show", help="everything about one letter", allow_abbrev=False)
    showing.add_argument(
        "id", type=_with_error_text(parse_record_id), metavar="ID", help="partition:offset, as `list` shows it"
    )
    requeuing = actions.add_parser(
        "requeue",
        parents=[filters],
        help="have the alerts and notices of letters mailed after all",
        description=f"Sends the alerts to {ALERTS_RAISED.name}, and the notices to {NOTICES_RAISED.name}, once more, "
        "as if they were new. What was mailed meanwhile is not mailed again: the command may be repeated. Other events "
        "cannot be requeued; why is said for each.",
        allow_abbrev=False,
    )
    requeuing.add_argument(
        "ids", nargs="*", type=_with_error_text(parse_record_id), metavar="ID", help="partition:offset"
    )
    requeuing.add_argument("--all", action="store_true", help="all that were not yet, and that the options name")
    requeuing.add_argument("--dry-run", action="store_true", help="only say what would be done")
    return parser


def _build_filter_parser(now: datetime) -> argparse.ArgumentParser:
    """Return the parser of the filter options that `list` and `requeue` share: --reason, --topic, --since, --until.

    `now` resolves relative times such as "2h".
    """
    filters = argparse.ArgumentParser(add_help=False)
    when = _with_error_text(lambda text: parse_moment(text, now))
    filters.add_argument("--reason", default="", metavar="TEXT", help="whose reason holds this, in whatever case")
    filters.add_argument("--topic", choices=SOURCES, help="that come from this topic")
    filters.add_argument(
        "--since", type=when, metavar="WHEN", help="put aside since: how long ago (90s, 30m, 2h, 7d), or date and time"
    )
    filters.add_argument("--until", type=when, metavar="WHEN", help="put aside before")
    return filters


def _with_error_text(read: Callable[[str], T]) -> Callable[[str], T]:
    """Return a function that calls `read` and raises the text of its ValueError as an ArgumentTypeError.

    argparse shows the text of an ArgumentTypeError to the user, but not that of a ValueError.
    """

    def read_or_explain(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read_or_explain


def _parse_positive_number(text: str) -> int:
    """Parse an integer from 1 to 999,999,999 in ASCII digits, without sign. Raises ValueError for other text."""
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 9 and int(text)):
        raise ValueError(f"{text!r} is no number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
