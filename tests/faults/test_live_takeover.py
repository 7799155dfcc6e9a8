"""A live leader is killed with kill -9, and another collector takes over: real processes, a real broker and database.

The clocks of collectors and source run at a rate at which Kafka's session timeout of 10 s is five simulated minutes, so
that the outage is longer than what the detector bridges, and not by much.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final
from uuid import UUID

import httpx
import pytest
from multidict import MultiDict, MultiMapping
from sqlalchemy import func, select

from chassis.clock import ScaledClock
from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from collector.live.collection import STORE_EVERY
from collector.live.feed_state import WARM_UP_S, build_rules
from collector.live.movements import BRIDGED_PAUSE_S
from collector.live.region_planner import LONGEST_INTERVAL_S
from collector.model import LiveCoverageRow
from domain.alerts import Bound
from domain.interest_alerts import compute_alerts
from domain.interests import Direction, Interest
from domain.traffic import Traffic
from domain.windows import Window, seconds
from local.demo.judgement import count_movements
from local.demo.live_log import Target, build_live_log
from local.demo.topics import read_values
from local.kafka import Broker
from local.opensky.access import AccessControl, Caller
from local.opensky.flights import Timetable, TimetableFlight
from local.opensky.nightly_record import NIGHTLY
from local.opensky.server import make_app, make_sky
from local.opensky.state_encoding import Json
from local.opensky.state_requests import StateRequests
from streams.messages import decode_flights
from tests.collector.live.live_world import SKY
from tests.collector.process import CollectorProcess
from tests.fakes.authority import FakeAuthority
from tests.faults.test_collector import leads
from tests.local.opensky.conftest import CREDENTIALS, serve_app
from tests.ports import free_port
from tests.waiting import eventually
from towerwatch.flights.v1.events_pb2 import PROVENANCE_LIVE, FlightsObserved
from towerwatch.topics import FLIGHTS_OBSERVED

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(1_200)]

RATE: Final = 30.0
BEGIN: Final = datetime(2013, 2, 13, 12, 40, tzinfo=UTC)
HOUR: Final = datetime(2013, 2, 13, 13, tzinfo=UTC)
"""The hour in which the leader is killed."""
AFTER: Final = HOUR + timedelta(hours=1)
AIRPORTS: Final = ("KJFK", "KEWR")
TARGETS: Final[tuple[Target, ...]] = tuple((icao, part) for icao in AIRPORTS for part in Direction.BOTH.parts)
CREDITS_PER_DAY: Final = 4_000
"""A poll of one box in 22 s."""
_STEP_S: Final = 90
"""From one flight to the next."""
_SAME_WITHIN_S: Final = 300
"""An aircraft does not move again so soon: it would be the same movement twice."""
_ANN: Final = UUID(int=1)


def make_timetable() -> Timetable:
    """Return departures and arrivals of both airports, by turns, before and after the story."""
    flights = []
    begin = seconds(BEGIN) - 7_200
    for number, at in enumerate(range(begin, begin + 6 * 3_600, _STEP_S)):
        here, there = AIRPORTS[number % 2], ("KBOS", "KDCA")[number // 2 % 2]
        flights.append(TimetableFlight(at, at + 4_500, f"a{number:05x}", f"D{number}", here, there))
        flights.append(TimetableFlight(at - 4_500, at + 45, f"b{number:05x}", f"A{number}", there, here))
    return Timetable(flights)


class NotedRequests(StateRequests):
    """The requests for positions, with the times at which they were answered."""

    def __init__(self, timetable: Timetable, gives_past: bool) -> None:
        """`gives_past`: False if the source answers about now, whatever time it is asked for."""
        super().__init__(make_sky(timetable, NIGHTLY, SKY))
        self._gives_past = gives_past
        self.answered: list[int] = []

    def find_states(self, query: MultiMapping[str], now: int, caller: Caller) -> tuple[int, Json]:
        """Answer, and note the time."""
        if not self._gives_past:
            query = MultiDict((name, text) for name, text in query.items() if name != "time")
        found = super().find_states(query, now, caller)
        self.answered.append(now)
        return found


@dataclass
class Takeover:
    """Two collectors on one database and one broker, and a source of positions whose polls are known."""

    database_url: str
    broker: Broker
    requests: NotedRequests
    replicas: list[CollectorProcess] = field(default_factory=list)

    def find_leader(self) -> CollectorProcess | None:
        """Return the one replica that leads; None while there is none, or while two say so."""
        found = [each for each in self.replicas if each.popen.poll() is None and leads(each)]
        return found[0] if len(found) == 1 else None

    def is_covered(self, until: datetime) -> bool:
        """Return True if all airports and directions are covered live at an instant, or later."""
        database = Database(self.database_url)
        query = select(func.max(LiveCoverageRow.end_at)).group_by(LiveCoverageRow.airport, LiveCoverageRow.direction)
        try:
            with database.reading() as session:
                ends = session.scalars(query).all()
        except DatabaseUnavailableError:
            return False
        finally:
            database.close()
        return len(ends) == len(TARGETS) and min(ends) >= until

    def read_published(self) -> list[bytes]:
        """Return the messages of flights in the broker, each once, those of an airport in their order."""
        values = asyncio.run(read_values(self.broker.bootstrap_servers, FLIGHTS_OBSERVED))
        return list(dict.fromkeys(values))


@contextmanager
def running_takeover(folder: Path, database_url: str, timetable: Timetable, gives_past: bool) -> Iterator[Takeover]:
    """Yield two collectors that watch both airports live; at the end no log has a stack trace."""
    clock = ScaledClock(BEGIN, RATE, datetime.now(UTC))
    requests = NotedRequests(timetable, gives_past)
    app = make_app(timetable, clock, AccessControl(CREDENTIALS, 1_000_000), states=requests)
    broker = Broker(folder / "kafka", port=free_port())
    broker.start()
    try:
        with FakeAuthority().running() as authority, serve_app(app) as url:
            authority.users["anns"] = (_ANN, True)
            settings = {
                "DATABASE_URL": database_url,
                "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
                "USER_MANAGER_GRPC_TARGET": authority.target,
                "OPENSKY_URL": f"{url}/api",
                "OPENSKY_TOKEN_URL": f"{url}/auth/realms/opensky-network/protocol/openid-connect/token",
                "OPENSKY_CLIENT_ID": CREDENTIALS.client_id,
                "OPENSKY_CLIENT_SECRET": CREDENTIALS.client_secret,
                "LIVE": "auto",
                "LIVE_CREDITS_PER_DAY": str(CREDITS_PER_DAY),
                "CREDITS_PER_DAY": "1000000",
                "CLOCK_START": BEGIN.isoformat(),
                "CLOCK_RATE": str(RATE),
                "CLOCK_ANCHOR": clock.anchor.isoformat(),
            }
            takeover = Takeover(database_url, broker, requests)
            try:
                takeover.replicas += [CollectorProcess(folder, settings) for _ in range(2)]
                for each in takeover.replicas:
                    eventually(each.is_ready, "readiness", 300)
                _set_interests(takeover.replicas[0])
                yield takeover
            finally:
                for each in takeover.replicas:
                    each.kill()
            assert not [each for each in takeover.replicas if "Traceback" in each.log()]
    finally:
        broker.stop()


def _set_interests(replica: CollectorProcess) -> None:
    """Set an interest in each airport, in both directions."""
    for airport in AIRPORTS:
        wish = {"airport_icao": airport, "direction": "both", "window": "1h", "low_value": 3}
        headers = {"Authorization": "Bearer anns"}
        answer = httpx.post(f"{replica.base_url}/interests", json=wish, headers=headers, timeout=120)
        assert answer.status_code == 201, answer.text


def find_pauses(answered: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pauses between two polls that are longer than the detector bridges."""
    return [(one, next_) for one, next_ in pairwise(sorted(answered)) if next_ - one > BRIDGED_PAUSE_S]


def list_lows(timetable: Timetable, values: Sequence[bytes]) -> list[str]:
    """Return the lows that the rule says of any hour which had so many movements in truth that none was due."""
    found = []
    for airport, direction in TARGETS:
        true = len(count_movements(timetable, _build_interest(airport, direction, 1), HOUR, AFTER))
        interest = _build_interest(airport, direction, true - 2)
        traffic = Traffic()
        for value in values:
            observed = decode_flights(value)
            if observed.airport != airport:
                continue
            before, traffic = traffic, traffic.fold(observed.observation)
            found += [
                f"{airport} {direction}: {each.count} of {true} in the hour of {each.window_start}"
                for each in compute_alerts(interest, before, traffic)
                if each.bound is Bound.LOW and each.state.is_breach
            ]
    return found


def _build_interest(airport: str, direction: Direction, low: int) -> Interest:
    """Return an interest in hours with fewer movements than `low`."""
    return Interest(UUID(int=7), _ANN, airport, direction, Window.ONE_HOUR, None, low, 1, False, BEGIN, 1)


@pytest.mark.parametrize("gives_past", [True, False])
def test_a_killed_live_leader_leaves_a_gap_no_longer_than_its_outage(
    gives_past: bool, tmp_path: Path, database_url: str
) -> None:
    """None at all, if the source gives the polls that were missed meanwhile.

    Else no time without polls is covered, and around it no more is missing than the detector's delays. No movement is
    published twice, and no low is said of an hour that was as busy as the others.
    """
    timetable = make_timetable()
    with running_takeover(tmp_path, database_url, timetable, gives_past) as takeover:
        eventually(lambda: takeover.is_covered(HOUR), "live coverage", 600)
        leader = eventually(takeover.find_leader, "a leader", 300)
        assert leader is not None
        polls = len(takeover.requests.answered)
        leader.kill()
        eventually(lambda: len(takeover.requests.answered) > polls + 1, "polls of the next leader", 300)
        eventually(lambda: takeover.is_covered(AFTER), "live coverage after the outage", 900)
        last = next(each for each in takeover.replicas if each.popen.poll() is None)
        assert last.terminate() == 0
        values = takeover.read_published()
    live = [each for each in map(FlightsObserved.FromString, values) if each.provenance == PROVENANCE_LIVE]
    assert live
    pauses = find_pauses(takeover.requests.answered)
    log = build_live_log((each.SerializeToString() for each in live), ())
    assert pauses, "the outage was no longer than what is bridged: the rate is too low"
    for target in TARGETS:
        if gives_past:
            ((begin, end),) = log.covered_live[target]
            assert begin < pauses[0][0]
            assert end >= seconds(AFTER)
        else:
            _check_coverage(log.covered_live[target], pauses, takeover.requests.answered)
    _check_each_once(live)
    assert list_lows(timetable, values) == []


def _check_coverage(
    covered: Sequence[tuple[int, int]], pauses: Sequence[tuple[int, int]], answered: Sequence[int]
) -> None:
    """Assert that no pause is covered, and that each gap is one pause with what the detector needs around it."""
    for begin, end in covered:
        assert not [pause for pause in pauses if begin < pause[1] and pause[0] < end], (covered, pauses)
    step = max(later - one for one, later in pairwise(sorted(answered)) if later - one <= BRIDGED_PAUSE_S)
    before = max(build_rules(LONGEST_INTERVAL_S).turn_up_s.values()) + STORE_EVERY.total_seconds() + 2 * step
    after = WARM_UP_S + 2 * step
    for (_, begin), (end, _) in pairwise(covered):
        inside = [pause for pause in pauses if begin <= pause[0] and pause[1] <= end]
        assert inside, (covered, pauses)
        assert inside[0][0] - begin <= before, (covered, pauses)
        assert end - inside[-1][1] <= after, (covered, pauses)


def _check_each_once(live: Sequence[FlightsObserved]) -> None:
    """Assert that no aircraft moves twice at an airport, in one direction, within minutes."""
    times: dict[tuple[str, int, str], list[int]] = {}
    for each in live:
        for flight in each.flights:
            times.setdefault((each.airport, each.direction, flight.icao24), []).append(flight.first_seen.seconds)
    assert sum(map(len, times.values())) > 20
    twice = [key for key, found in times.items() if any(b - a < _SAME_WITHIN_S for a, b in pairwise(sorted(found)))]
    assert twice == []
