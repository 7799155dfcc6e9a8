"""Periodic work: a function that is called again and again for as long as the process lives."""

import asyncio
from collections.abc import Callable

import structlog

from chassis.errors import ChassisError

log = structlog.get_logger()

MAX_PAUSE_S = 30.0


async def run_periodically(seconds: float, work: Callable[[], object], name: str) -> None:
    """Call `work` in a thread, pause `seconds` of real time, and repeat until cancelled.

    The first call is at once. A ChassisError of `work` is logged, and `work` is called again after a pause that doubles
    with each failure in a row, up to 30 s (or `seconds` if that is longer). Any other error is a bug and is raised.
    """
    pause = seconds
    while True:
        try:
            await asyncio.to_thread(work)
            pause = seconds
        except ChassisError as error:
            pause = min(max(2 * pause, seconds), max(MAX_PAUSE_S, seconds))
            log.warning("periodic.failed", work=name, reason=str(error), again_in_s=pause)
        await asyncio.sleep(pause)
