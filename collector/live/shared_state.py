"""State that the feeds of one term share: the wanted airports, the states of all feeds, and the clock's trust."""

import asyncio
from datetime import timedelta
from typing import Final

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from collector.live.airfields import AirfieldIndex
from collector.live.clock_trust import ClockTrust
from collector.live.feed_state import FeedState
from collector.live.live_store import Expectation, LiveStore
from collector.live.poll_summaries import AirportGrid
from collector.live.publication import add_stretch
from collector.live.snapshots import Stretch
from collector.live.wanted import NOTHING_WANTED, Target, WantedAirports, load_wanted

READ_WANTED_EVERY: Final = timedelta(seconds=30)
"""Age at which the interests are read again."""


class SharedState:
    """State that the feeds of one term share: the wanted airports, the states of all feeds, and the lock of both."""

    def __init__(
        self, database: Database, clock: Clock, store: LiveStore, index: AirfieldIndex, trust: ClockTrust
    ) -> None:
        self._database = database
        self._clock = clock
        self.store = store
        self.index = index
        self.lock = asyncio.Lock()
        """Held while a state is changed or stored: one feed's transaction publishes what others cover, too."""
        self.states: dict[str, FeedState] = {}
        self.trust = trust
        self.wanted: WantedAirports = NOTHING_WANTED
        self.grid = AirportGrid(())
        self._read_at: timedelta | None = None

    async def refresh_wanted(self) -> WantedAirports:
        """Return the wanted airports, read again if they are old; those of before while the database is unavailable."""
        elapsed = self._clock.elapsed()
        if self._read_at is None or elapsed - self._read_at >= READ_WANTED_EVERY:
            self._read_at = elapsed
            try:
                wanted = await asyncio.to_thread(self._load_wanted)
            except DatabaseUnavailableError:
                return self.wanted
            if wanted != self.wanted:
                async with self.lock:
                    self.wanted, self.grid = wanted, AirportGrid(wanted.airfields.values())
                    for state in self.states.values():
                        state.forget_unwanted(wanted.codes, wanted.targets)
        return self.wanted

    def _load_wanted(self) -> WantedAirports:
        """Read the wanted airports, and whether the clock may be trusted; store once an hour that it was not set."""
        with self._database.reading() as session:
            self.trust.read(session)
            wanted = load_wanted(session, self.index)
        if self.trust.must_keep():
            with self._database.transaction() as session:
                self.trust.keep(session)
        return wanted

    def gather_expectation(self) -> Expectation:
        """Return what all feeds cover and have not published, and what they will cover if they go on."""
        stretches: dict[Target, tuple[Stretch, ...]] = {}
        expected: dict[Target, float] = {}
        now = self._clock.now().timestamp()
        for state in self.states.values():
            for target, found in state.stretches.items():
                for begin, end in found if target in self.wanted.targets else ():
                    stretches[target] = add_stretch(stretches.get(target, ()), begin, end)
            for target, begin in state.find_expected(now).items():
                expected[target] = min(expected.get(target, begin), begin)
        return Expectation(stretches, expected)
