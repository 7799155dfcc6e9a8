"""Work that is done again and again, for as long as the process lives."""

import asyncio
from collections.abc import Callable

import structlog

from chassis.errors import ChassisError

log = structlog.get_logger()

MAX_PAUSE_S = 30.0


async def run_periodically(seconds: float, work: Callable[[], object], name: str) -> None:
    """Call `work` in a thread, rest `seconds` (real ones), and so on until cancelled.

    What it raises for its surroundings (ChassisError) is logged, and it is called again after a pause that grows
    while it keeps failing; anything else is a bug and leaves.
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
