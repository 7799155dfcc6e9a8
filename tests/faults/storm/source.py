"""The source of a storm: the replay of real flights with all faults that hide no flight, and a barrier.

`python -m tests.faults.storm.source PORT BARRIER SEED RATE FIRST_DAY LAST_DAY`, under `clocks`.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from aiohttp import web

from local.opensky import nycflights
from local.opensky.access import AccessControl
from local.opensky.fault_kinds import InjectedFault
from local.opensky.faults import DrawnFault, FaultInjector, SeededPlan
from local.opensky.flights import Timetable
from local.opensky.nightly_record import RecordSchedule
from local.opensky.server import make_app
from tests.faults.storm.clocks import build_story_clock

NOT_DRAWN: Final = (InjectedFault.LATE, InjectedFault.MALFORMED)
"""Faults that hide a flight in one answer: what is then mailed, and withdrawn, depends on which answer it was."""
STALL_S: Final = 8.0
"""Real seconds for which a slow answer stalls; longer than OPENSKY_TIMEOUT."""


@dataclass(frozen=True)
class BarrierSchedule(RecordSchedule):
    """A schedule in which no record of the barrier's day, or a later one, appears while the file names that day."""

    barrier: Path = Path()

    def find_first_part_time(self, day: date) -> int | None:
        """Return when the record of a day appears; None: not while the barrier stands, or never."""
        if day >= date.fromisoformat(self.barrier.read_text()):
            return None
        return RecordSchedule.find_first_part_time(self, day)


class StormPlan(SeededPlan):
    """The replay's own seeded plan, without the faults of NOT_DRAWN."""

    def draw(self, call: str, kinds: Sequence[InjectedFault]) -> DrawnFault:
        """Draw a fault of the kinds that hide no flight."""
        return SeededPlan.draw(self, call, [each for each in kinds if each not in NOT_DRAWN])


def main(port: str, barrier: str, seed: str, rate: str, first_day: str, last_day: str) -> None:
    """Serve until SIGTERM."""
    environment = dict(os.environ)
    timetable = Timetable(nycflights.load(nycflights.find_cache_directory(environment)))
    schedule = BarrierSchedule(
        first_day=date.fromisoformat(first_day), last_day=date.fromisoformat(last_day), barrier=Path(barrier)
    )
    faults = FaultInjector(StormPlan(int(seed), float(rate)), stall_s=STALL_S)
    app = make_app(timetable, build_story_clock(environment), AccessControl(None, 10_000_000), faults, schedule)
    web.run_app(app, host="127.0.0.1", port=int(port), access_log=None, shutdown_timeout=1.0, print=lambda _: None)


if __name__ == "__main__":
    main(*sys.argv[1:])
