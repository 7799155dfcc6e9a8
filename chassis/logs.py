"""Structured logs: one event name, key–value pairs; no address, no token (who logs takes care of that)."""

import logging
import sys
from typing import Literal

import structlog

# Libraries whose "info" is about their own bookkeeping.
_TALKATIVE = ("aiokafka", "apscheduler", "httpx", "httpcore", "waitress", "mode", "faust")


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
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
