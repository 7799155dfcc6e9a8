"""Sending that repeats until the broker has the records."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final

import structlog
from aiokafka.errors import KafkaError
from faust.exceptions import FaustError

log = structlog.get_logger()

_FIRST_PAUSE_S: Final = 0.1
_MAX_PAUSE_S: Final = 10.0


async def retry_until_sent(
    send: Callable[[], Awaitable[None]],
    log_event: str,
    errors: tuple[type[Exception], ...] = (KafkaError, FaustError),
) -> None:
    """Call `send` until it succeeds, with backoff (0.1 s to 10 s) and without a limit, also across rebalances.

    Each of `errors` is logged as `log_event` and retried, because without the broker a worker cannot continue. Other
    errors are raised.
    """
    for attempt in count(1):
        pause = min(_FIRST_PAUSE_S * 2.0 ** min(attempt - 1, 10), _MAX_PAUSE_S)
        try:
            await send()
            return
        except errors as error:
            log.warning(log_event, error=type(error).__name__, attempt=attempt, again_in_s=pause)
        await asyncio.sleep(pause)
