"""Structured logs: one event name, key–value pairs; no address, no token (who logs takes care of that)."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Final, Literal

import structlog

# Libraries whose "info" is about their own bookkeeping, and who say the same ten times a second during an outage.
_NOISY_LIBRARIES: Final = ("aiokafka", "apscheduler", "httpx", "httpcore", "waitress", "mode", "faust")

_REPEAT_AFTER_S: Final = 30.0
"""For how long a talkative library does not say the same again."""


class _RepeatFilter(logging.Filter):
    """Lets what a talkative library says through once in a while: an outage must not flood the log."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_NOISY_LIBRARIES):
            return True
        same = (record.name, str(record.msg))  # the text before its arguments are put in: one of a few
        now = self._now()
        if now - self._said.get(same, -_REPEAT_AFTER_S) < _REPEAT_AFTER_S:
            return False
        if len(self._said) > 1_000:  # a library that builds its texts itself
            self._said.clear()
        self._said[same] = now
        return True


def configure(service: str, level: str, form: Literal["console", "json"]) -> None:
    """Send all logs, ours and the libraries', to standard output in one form. Call once, in `__main__`."""

    def say_who(_logger: object, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
        # A processor and not a context variable: servers' threads do not inherit the main thread's context.
        entry["service"] = service
        return entry

    shared: list[structlog.typing.Processor] = [
        say_who,
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
        # Plain, because the default shows local variables where `rich` is installed: addresses and tokens.
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
    handler.addFilter(_RepeatFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _NOISY_LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
