"""Which rounds of polls count, and the pace of each feed."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import SourceError, SourceLimitedError, SourceRefusedError, SourceUnavailableError
from collector.leadership.terms import Term
from collector.live.airfields import load_airfields
from collector.live.feeds import Request, RoundCounter, RoundPlan, RoundResult, Wait, make_round
from collector.live.movements import BRIDGED_PAUSE_S
from collector.live.readsb_feeds import ReceiversFeed, ServicesFeed
from collector.live.wanted import NOTHING_WANTED, WantedAirports, build_wanted
from collector.sources.position_metrics import PositionMetrics
from collector.sources.readsb.addresses import parse_addresses
from collector.sources.readsb.client import ReadsbClient
from collector.sources.readsb.pace import HostPaces
from collector.sources.state_vector import Poll, Position, PositionSource, StateVector
from domain.interests import Direction
from tests.collector.live.skies import BEGIN
from tests.fakes.clock import FakeClock

DOWN: Final = SourceUnavailableError("it is down")
TERM: Final = Term(1)


def build_state(icao24: str, time: float) -> StateVector:
    """Return the state vector of an aircraft whose position is of a time."""
    position = Position(time, 50.0, 8.0)
    return StateVector(
        icao24, "", time, position, False, 900.0, None, 70.0, None, None, None, PositionSource.ADS_B
    )  # fmt: skip


def poll(at: float, *icao24: str, age: float = 0.0) -> Poll:
    """Return a poll with aircraft whose positions are so many seconds old."""
    return Poll(BEGIN + at, [build_state(each, BEGIN + at - age) for each in icao24])


class Judge:
    """A counter of rounds, with a clock that the test sets."""

    def __init__(self, empty_counts: bool = True, members: frozenset[str] = frozenset()) -> None:
        self.counter = RoundCounter(empty_counts, members)
        self.reasons: dict[str, SourceError] = {}
        self.begins_anew = False

    def judge(self, at: float, **answers: Poll | SourceError) -> set[str] | None:
        """Return the addresses of the aircraft of a round that counts; None if it does not. By source: its answer."""
        polls: Mapping[str, Mapping[str, Poll]] = {
            source: {source: each} for source, each in answers.items() if isinstance(each, Poll)
        }
        failures = {source: each for source, each in answers.items() if isinstance(each, SourceError)}
        counted, self.reasons = self.counter.judge(
            RoundResult(polls, failures), datetime.fromtimestamp(BEGIN + at, UTC), at
        )
        if counted is None:
            return None
        self.begins_anew = counted.begins_anew
        return {each.icao24 for each in counted.poll.states}


def test_sources_are_merged() -> None:
    """A round has the aircraft of all sources."""
    assert Judge().judge(0, one=poll(0, "aaaaaa"), two=poll(-1, "bbbbbb")) == {"aaaaaa", "bbbbbb"}


def test_a_round_without_a_source_that_had_a_part_does_not_count() -> None:
    """Aircraft that it alone hears would look as if they had landed; it counts again with all of them."""
    judge = Judge()
    assert judge.judge(0, one=poll(0, "aaaaaa"), two=poll(0, "bbbbbb"))
    assert judge.judge(10, one=poll(10, "aaaaaa"), two=DOWN) is None
    assert judge.reasons == {"two": DOWN}
    assert judge.judge(20, one=poll(20, "aaaaaa"), two=poll(20, "bbbbbb")) == {"aaaaaa", "bbbbbb"}
    assert not judge.begins_anew


def test_a_source_that_is_missing_for_too_long_is_given_up() -> None:
    """The others go on without it, and begin anew; once it answers again for a while, it takes part again."""
    judge = Judge()
    assert judge.judge(0, one=poll(0, "aaaaaa"), two=poll(0, "bbbbbb"))
    assert judge.judge(BRIDGED_PAUSE_S, one=poll(BRIDGED_PAUSE_S, "aaaaaa"), two=DOWN) is None
    assert judge.judge(130, one=poll(130, "aaaaaa"), two=DOWN) == {"aaaaaa"}
    assert judge.begins_anew
    assert judge.judge(140, one=poll(140, "aaaaaa"), two=DOWN) == {"aaaaaa"}
    assert not judge.begins_anew
    rounds = [judge.judge(at, one=poll(at, "aaaaaa"), two=poll(at, "bbbbbb")) for at in range(150, 210, 10)]
    assert rounds == [{"aaaaaa"}] * 5 + [{"aaaaaa", "bbbbbb"}]
    assert not judge.begins_anew


@pytest.mark.parametrize("answers_of", [1, 2, 3, 5, 7])
def test_a_source_that_comes_and_goes_does_not_stop_the_others(answers_of: int) -> None:
    """It answers in a few of 20 rounds, for half a day: all but a few minutes of the others' rounds count."""
    judge = Judge()
    missed = anew = 0
    for number in range(4_320):
        at = 10 * number
        two = poll(at, "bbbbbb") if 1 <= number % 20 <= answers_of else DOWN
        found = judge.judge(at, one=poll(at, "aaaaaa"), two=two)
        missed += found is None
        anew += found is not None and judge.begins_anew
    assert anew <= 2
    assert missed <= 2 * (BRIDGED_PAUSE_S / 10 + 1)


def test_a_new_source_takes_part_once_it_has_answered_for_a_while() -> None:
    """Its aircraft are left out until then: they must not look as if they had landed when it goes at once."""
    judge = Judge()
    assert judge.judge(0, one=poll(0, "aaaaaa"), two=DOWN) == {"aaaaaa"}
    rounds = [judge.judge(at, one=poll(at, "aaaaaa"), two=poll(at, "bbbbbb")) for at in (10, 20, 30)]
    assert rounds == [{"aaaaaa"}, {"aaaaaa"}, {"aaaaaa", "bbbbbb"}]


def test_the_next_leader_waits_for_the_same_sources() -> None:
    """It knows which had a part in the last round of the leader before."""
    judge = Judge(members=frozenset(("one", "two")))
    assert judge.judge(0, one=poll(0, "aaaaaa"), two=DOWN) is None
    assert judge.judge(10, one=poll(10, "aaaaaa"), two=poll(10)) is not None


def test_a_source_that_falls_silent_has_no_part() -> None:
    """A receiver without antenna answers, too: others must not speak for it. One that is alone may hear nothing."""
    judge = Judge()
    assert judge.judge(0, one=poll(0, "aaaaaa"), two=poll(0, "bbbbbb"))
    assert judge.judge(10, one=poll(10, "aaaaaa"), two=poll(10)) is None
    assert judge.judge(20, one=poll(20, "aaaaaa"), two=poll(20, "bbbbbb", age=61.0)) is None
    assert "fresh position" in str(judge.reasons["two"])
    alone = Judge()
    assert alone.judge(0, one=poll(0, "aaaaaa")) == {"aaaaaa"}
    assert alone.judge(10, one=poll(10)) == set()


def test_a_region_without_aircraft_counts_for_nothing() -> None:
    """A source that shows an empty sky would let all aircraft on final land."""
    judge = Judge(empty_counts=False)
    assert judge.judge(0, opensky=poll(0, "aaaaaa")) == {"aaaaaa"}
    assert judge.judge(30, opensky=poll(30)) is None
    assert judge.judge(60, opensky=poll(60, "aaaaaa", age=61.0)) is None
    assert Judge(empty_counts=False).judge(0, opensky=poll(0)) is None


@pytest.mark.parametrize(
    ("stated", "reason"),
    [(0.0, "stands still"), (-5.0, "stands still"), (41.0, "31 s ahead"), (-81.0, "stands still")],
)
def test_an_answer_of_another_time_counts_for_nothing(stated: float, reason: str) -> None:
    """Its movements would be told at wrong times, or again and again. The next one counts."""
    judge = Judge(empty_counts=False)
    assert judge.judge(0, opensky=poll(0, "aaaaaa"))
    assert judge.judge(10, opensky=poll(stated, "aaaaaa")) is None
    assert reason in str(judge.reasons["opensky"])
    assert judge.judge(50, opensky=poll(50, "aaaaaa"))


def test_a_clock_that_is_set_back_lets_no_time_stand_still() -> None:
    """The receiver's machine and ours were an hour ahead; a time that stands still afterwards is found again."""
    judge = Judge()
    assert judge.judge(3_600, one=poll(3_600, "aaaaaa")) == {"aaaaaa"}
    assert judge.judge(0, one=poll(0, "aaaaaa")) == {"aaaaaa"}
    assert judge.judge(10, one=poll(10, "aaaaaa")) == {"aaaaaa"}
    assert judge.judge(20, one=poll(10, "aaaaaa")) is None
    assert "stands still" in str(judge.reasons["one"])


def test_an_old_answer_counts_for_nothing() -> None:
    """As a file has it that nobody writes any more."""
    judge = Judge()
    assert judge.judge(200, one=poll(109, "aaaaaa")) is None
    assert "91 s behind" in str(judge.reasons["one"])


def test_one_request_after_another_stops_at_the_first_that_fails() -> None:
    """So that the rest costs nothing; a source has a part only with all its answers."""
    asked: list[str] = []

    async def answer(name: str) -> Poll:
        """Answer, or fail."""
        asked.append(name)
        if name == "second":
            raise DOWN
        return poll(0, "aaaaaa")

    requests = [Request("opensky", each, lambda each=each: answer(each)) for each in ("first", "second", "third")]  # type: ignore[misc]
    result = asyncio.run(make_round(RoundPlan(requests, 90.0, frozenset(), one_after_another=True)))
    assert asked == ["first", "second"]
    assert (result.polls, result.failures, result.unsent) == ({}, {"opensky": DOWN}, 1)
    asked.clear()
    result = asyncio.run(make_round(RoundPlan(requests, 90.0, frozenset())))
    assert asked == ["first", "second", "third"]
    assert (result.polls, result.failures, result.unsent) == ({}, {"opensky": DOWN}, 0)


def want(*airports: str) -> WantedAirports:
    """Return airports that are wanted."""
    directions = [(each, Direction.BOTH) for each in airports]
    people = dict.fromkeys(airports, 1)
    return build_wanted(directions, people, load_airfields())


@pytest.fixture
def clock() -> FakeClock:
    """A clock that shows the skies' begin."""
    return FakeClock(datetime.fromtimestamp(BEGIN, UTC))


def make_clients(clock: FakeClock, text: str) -> list[ReadsbClient]:
    """Return the clients of a setting LIVE_URLS."""
    shared = PositionMetrics(Metrics(ServiceIdentity("collector", "local")))
    paces = HostPaces(clock)
    return [ReadsbClient(each, clock, paces, shared) for each in parse_addresses(text)]


def test_a_file_is_read_every_ten_seconds(clock: FakeClock, tmp_path: Path) -> None:
    """By elapsed time of the service's clock: the wall clock may be set meanwhile."""
    file = tmp_path / "aircraft.json"
    file.write_text(f'{{"now": {BEGIN}, "aircraft": []}}')
    feed = ReceiversFeed(make_clients(clock, str(file)), clock)

    async def scenario() -> None:
        """Poll, wait, and poll again."""
        assert await feed.plan_round(TERM, NOTHING_WANTED) == Wait(60.0)
        planned = await feed.plan_round(TERM, want("EDDF"))
        assert isinstance(planned, RoundPlan)
        result = await make_round(planned)
        assert result.polls["url-1"]["url-1"].time == BEGIN
        clock.set_wall_clock(clock.now() + timedelta(days=3))
        clock.advance(timedelta(seconds=4))
        assert await feed.plan_round(TERM, want("EDDF")) == Wait(6.0)
        clock.advance(timedelta(seconds=6))
        assert isinstance(await feed.plan_round(TERM, want("EDDF")), RoundPlan)

    asyncio.run(scenario())


def test_a_receiver_that_refuses_is_left_alone_for_a_while(clock: FakeClock) -> None:
    """The other ones are asked as before; if all refuse, the feed says so."""
    feed = ReceiversFeed(make_clients(clock, "http://127.0.0.1/a.json,http://127.0.0.1/b.json"), clock)

    async def scenario() -> None:
        """Note refusals, and look who is asked."""
        planned = await feed.plan_round(TERM, want("EDDF"))
        assert isinstance(planned, RoundPlan)
        await feed.note_result(TERM, planned, RoundResult({}, {"url-1": SourceRefusedError("a password")}))
        clock.advance(timedelta(seconds=10))
        again = await feed.plan_round(TERM, want("EDDF"))
        assert isinstance(again, RoundPlan)
        assert [each.source for each in again.requests] == ["url-2"]
        await feed.note_result(TERM, again, RoundResult({}, {"url-2": SourceLimitedError(3_600.0)}))
        clock.advance(timedelta(seconds=10))
        waiting = await feed.plan_round(TERM, want("EDDF"))
        assert isinstance(waiting, Wait)
        assert waiting.seconds == 280.0
        assert waiting.reason

    asyncio.run(scenario())


def test_a_service_is_asked_by_region(clock: FakeClock) -> None:
    """Airports far from each other take a request each; a round without any answer is made again at once."""
    feed = ServicesFeed(make_clients(clock, "http://127.0.0.1/v2/point/{lat}/{lon}/{nm}"), clock)
    wanted = want("KJFK", "LICC")

    async def scenario() -> None:
        """Plan a round."""
        planned = await feed.plan_round(TERM, wanted)
        assert isinstance(planned, RoundPlan)
        assert [each.source for each in planned.requests] == ["url-1", "url-1"]
        assert planned.polled == wanted.codes
        assert isinstance(await feed.plan_round(TERM, wanted), Wait)
        await feed.note_result(TERM, planned, RoundResult({}, {"url-1": DOWN}))
        assert isinstance(await feed.plan_round(TERM, wanted), RoundPlan)

    asyncio.run(scenario())


def test_names_of_regions_that_are_not_asked_any_more_are_forgotten() -> None:
    """The planner makes new regions whenever interests change; what is kept must not grow for ever."""
    counter = RoundCounter(False)
    for hour in range(200):
        at = BEGIN + hour * 600.0
        result = RoundResult({"opensky": {f"box {hour}": Poll(at, [build_state("abcdef", at)])}}, {})
        counted, _ = counter.judge(result, datetime.fromtimestamp(at, UTC), hour * 600.0)
        assert counted is not None
    assert len(counter._times) <= 8
