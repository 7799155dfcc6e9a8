"""Structured logs: one event name and key–value pairs. Callers must not log e-mail addresses or tokens."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Final, Literal

import structlog
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    KafkaTimeoutError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

# Libraries whose "info" is about their own bookkeeping, and which log the same ten times a second during an outage.
_NOISY_LIBRARIES: Final = (
    "aiokafka",
    "apscheduler",
    "httpx",
    "httpcore",
    "waitress",
    "mode",
    "faust",
    "sqlalchemy.pool",
)

_ERRORS_OF_REBALANCES: Final = (
    CommitFailedError,
    IllegalGenerationError,
    KafkaTimeoutError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
"""Errors of Kafka's clients that aiokafka does not call retriable: the group has to be joined again, or time is up."""

_REPEAT_AFTER_S: Final = 30.0
"""Seconds for which a noisy library's message is not logged again."""


class _RepeatFilter(logging.Filter):
    """A log filter that drops noisy libraries' repeated messages for 30 s each, so that an outage floods no log."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._last_logged: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False, so that it is not logged, for a noisy library's message that was logged less than 30 s ago.

        Return True for all others. Messages are compared before their arguments are filled in. At most about a thousand
        are remembered; then all are forgotten.
        """
        if not record.name.startswith(_NOISY_LIBRARIES):
            return True
        message = (record.name, str(record.msg))  # the text before its arguments are filled in: one of a few
        now = self._now()
        if now - self._last_logged.get(message, -_REPEAT_AFTER_S) < _REPEAT_AFTER_S:
            return False
        if len(self._last_logged) > 1_000:  # a library that fills in the arguments itself
            self._last_logged.clear()
        self._last_logged[message] = now
        return True


def _shorten_expected_error(record: logging.LogRecord) -> bool:
    """Replace the stack trace of a library's message by the error's class if it is expected; return True: it is logged.

    Expected is what each outage of a server brings: an error of SQLAlchemy's pool, which logs one whenever a connection
    was lost before its return, and a transient error of Kafka. Faust logs the latter when it stops because of one;
    asyncio logs it of a task that aiokafka has left alone, such as a commit whose caller gave up. The message keeps
    its first line. Kafka's errors become warnings: what to do about an outage is not in the client's log.
    """
    error = record.exc_info[1] if record.exc_info else None
    is_of_kafka = isinstance(error, KafkaError) and _is_transient(error)
    if record.exc_info and (is_of_kafka or record.name.startswith("sqlalchemy.pool")):
        first_line, *_ = record.getMessage().splitlines() or [""]
        kind = type(error).__name__ if error else "unknown error"
        record.msg = first_line if kind in first_line else f"{first_line}: {kind}"
        record.args, record.exc_info, record.exc_text = (), None, None
        if is_of_kafka:
            record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def _is_transient(error: KafkaError) -> bool:
    """Return True if an error of Kafka ends by itself, with an outage or a rebalance; False if somebody must act."""
    return error.retriable or isinstance(error, _ERRORS_OF_REBALANCES)


def configure(service: str, level: str, form: Literal["console", "json"]) -> None:
    """Send all logs, the services' and the libraries', to standard output in one form. Call once, in `__main__`.

    `level` is the lowest level that is logged; noisy libraries log warnings and errors alone, each at most every 30 s.
    Each entry holds the service, the level, the time in UTC and the context variables of structlog.
    """

    def add_service(_logger: object, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
        # A processor and not a context variable: servers' threads do not inherit the main thread's context.
        entry["service"] = service
        return entry

    shared: list[structlog.typing.Processor] = [
        add_service,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: structlog.typing.Processor
    if form == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        # Plain tracebacks, because the default shows local variables where `rich` is installed: addresses and tokens.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_shorten_expected_error)
    handler.addFilter(_RepeatFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _NOISY_LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
