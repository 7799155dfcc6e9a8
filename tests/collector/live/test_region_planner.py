"""Tests of the planner for positions: its cover by boxes, its budget, and who is live."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from random import Random
from typing import Final

import pytest
from hypothesis import example, given, settings, strategies as st

from collector.live.airfields import load_airfields
from collector.live.box_cover import Room, compute_room, find_cover
from collector.live.region_planner import (
    LONGEST_INTERVAL_S,
    SHORTEST_INTERVAL_S,
    SMALLEST_LIVE_BUDGET,
    LiveCredits,
    PositionPlan,
    WantedAirport,
    plan_circles,
    plan_positions,
)
from collector.live.wanted import build_wanted
from collector.sources.regions import WORLD, Box, Circle, measure_distance_km
from domain.interests import Direction

ROOM_KM: Final = 25.0
DAY_S: Final = 86_400
ACCOUNT: Final = LiveCredits(per_day=4_000, left=4_000, seconds_left=DAY_S)
KJFK = WantedAirport("KJFK", 40.64, -73.78, 9)
KEWR = WantedAirport("KEWR", 40.69, -74.17, 3)
LFPG = WantedAirport("LFPG", 49.01, 2.55, 5)
LFPO = WantedAirport("LFPO", 48.72, 2.38, 1)
LICC = WantedAirport("LICC", 37.47, 15.06, 4)
RJTT = WantedAirport("RJTT", 35.55, 139.78, 4)
YSSY = WantedAirport("YSSY", -33.95, 151.18, 2)


def of_budget(per_day: int) -> LiveCredits:
    """Return the credits of a whole day."""
    return LiveCredits(per_day, per_day, DAY_S)


def list_circle_points(latitude: float, longitude: float, radius_km: float) -> Iterator[tuple[float, float]]:
    """Yield 24 positions at a distance, in all directions (the direct problem of navigation on a sphere)."""
    delta, phi = radius_km / 6_371.0, math.radians(latitude)
    for step in range(24):
        bearing = math.radians(15 * step)
        y = math.asin(math.sin(phi) * math.cos(delta) + math.cos(phi) * math.sin(delta) * math.cos(bearing))
        turn = math.atan2(
            math.sin(bearing) * math.sin(delta) * math.cos(phi), math.cos(delta) - math.sin(phi) * math.sin(y)
        )
        yield math.degrees(y), (longitude + math.degrees(turn) + 540) % 360 - 180


def has_room(regions: Iterable[Box], airport: WantedAirport, room_km: float = ROOM_KM) -> bool:
    """Return True if all that is near an airport lies in some of the regions."""
    points = [(airport.latitude, airport.longitude), *list_circle_points(airport.latitude, airport.longitude, room_km)]
    return all(any(region.contains(*point) for region in regions) for point in points)


def test_airports_of_one_city_share_a_box_that_is_polled_as_often_as_the_credits_allow() -> None:
    """4,000 credits for one box of one credit: a poll every 22 s."""
    plan = plan_positions([LFPG, LFPO], ACCOUNT, ROOM_KM)
    assert (plan.price, plan.interval_s, plan.live, plan.settled) == (1, 22, {"LFPG", "LFPO"}, {})
    (box,) = plan.regions
    assert isinstance(box, Box)
    assert box.compute_area() < 25


def test_more_than_four_boxes_are_dearer_than_the_world() -> None:
    """The whole world costs four credits: every 87 s with an account."""
    spread = [KJFK, LFPG, LICC, RJTT]
    assert plan_positions(spread, ACCOUNT, ROOM_KM).price == 4
    assert WORLD not in plan_positions(spread, ACCOUNT, ROOM_KM).regions
    plan = plan_positions([*spread, YSSY], ACCOUNT, ROOM_KM)
    assert (plan.regions, plan.price, plan.interval_s, len(plan.live)) == ((WORLD,), 4, 87, 5)


def test_with_few_credits_those_with_most_people_are_live_and_the_others_told() -> None:
    """Two boxes can be paid: New York and Paris. An airport that lies in one of them is live at no cost."""
    plan = plan_positions([KJFK, KEWR, LFPG, LFPO, LICC, RJTT, YSSY], of_budget(2 * SMALLEST_LIVE_BUDGET), ROOM_KM)
    assert plan.live == {"KJFK", "KEWR", "LFPG", "LFPO"}
    assert plan.settled.keys() == {"LICC", "RJTT", "YSSY"}
    assert plan.interval_s == LONGEST_INTERVAL_S
    for icao, reason in plan.settled.items():
        assert reason.startswith(f"{icao} is not watched live, since ")
        assert "2 regions" in reason
        assert "night's record" in reason


def test_equally_many_people_are_ordered_by_code() -> None:
    """Catania comes before Tokyo."""
    plan = plan_positions([RJTT, LICC], of_budget(SMALLEST_LIVE_BUDGET), ROOM_KM)
    assert plan.live == {"LICC"}


@pytest.mark.parametrize("left", [0, 1, 479])
def test_without_credits_nobody_is_live(left: int) -> None:
    """Half a day needs 480 credits for one box; fewer would end it, and the sky would be silent until midnight."""
    plan = plan_positions([LFPG], LiveCredits(4_000, left, DAY_S / 2), ROOM_KM)
    assert (plan.regions, plan.interval_s, plan.live) == ((), 0, frozenset())
    assert f"the {left} credits" in plan.settled["LFPG"]
    assert plan_positions([LFPG], LiveCredits(4_000, 480, DAY_S / 2), ROOM_KM).interval_s == LONGEST_INTERVAL_S


def test_nobody_wants_anything() -> None:
    """Then nothing is asked."""
    assert plan_positions([], ACCOUNT, ROOM_KM) == PositionPlan((), 0, 0, frozenset())
    assert plan_circles([], ROOM_KM).regions == ()


def test_the_last_minutes_of_a_day_need_no_credits_if_no_poll_is_due_in_them() -> None:
    """The next poll is paid from tomorrow's; with a minute more there would be one."""
    last = LiveCredits(4_000, 0, 60, since_poll_s=0.0)
    assert plan_positions([LFPG], last, ROOM_KM).live == {"LFPG"}
    assert plan_positions([LFPG], replace(last, seconds_left=120), ROOM_KM).live == frozenset()


def test_what_is_left_in_the_evening_buys_no_more_than_a_day_would() -> None:
    """Who is live with 960 credits a day is live all day long, and nobody for the last hour alone."""
    rich = LiveCredits(SMALLEST_LIVE_BUDGET, 900, 3_600)
    assert plan_positions([KJFK, LFPG], rich, ROOM_KM).live == {"KJFK"}


ODD_PLACES: Final = [
    (0.0, 180.0),
    (0.0, -180.0),
    (52.0, 179.9),
    (-17.7, -179.95),
    (89.9, 0.0),
    (-90.0, 0.0),
    (82.5, -62.3),
]


@pytest.mark.parametrize(("latitude", "longitude"), ODD_PLACES)
def test_there_is_room_at_the_antimeridian_and_near_the_poles(latitude: float, longitude: float) -> None:
    """In two boxes where ±180° is crossed; around a pole a cap of all longitudes, at the price of its area."""
    airport = WantedAirport("ODDE", latitude, longitude, 1)
    plan = plan_positions([airport], ACCOUNT, ROOM_KM)
    boxes = [region for region in plan.regions if isinstance(region, Box)]
    assert plan.live == {"ODDE"}
    assert has_room(boxes, airport)
    assert plan.price == sum(box.compute_price() for box in boxes) <= 4


COORDINATES: Final = st.one_of(
    st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
    st.tuples(st.floats(38, 46), st.floats(-2, 8)),  # near one another
    st.tuples(st.floats(-20, -14), st.sampled_from([177.0, 179.0, 179.9, -179.9, -178.0])),
    st.sampled_from(ODD_PLACES),
)
PEOPLE: Final = st.integers(1, 20) | st.fractions(Fraction(1, 25), 4, max_denominator=25)
AIRPORTS: Final = st.lists(st.tuples(COORDINATES, PEOPLE), min_size=1, max_size=7).map(
    lambda drawn: [WantedAirport(f"A{at:03}", *place, people) for at, (place, people) in enumerate(drawn)]
)
BUDGETS: Final = st.sampled_from([960, 1_919, 1_920, 2_879, 2_880, 3_840, 4_000, 8_000])
ONE_DAYS_BUDGETS: Final = st.sampled_from([960, 1_920, 2_879, 2_880, 3_840, 4_000])
"""For tests that go through a whole day, poll by poll: not so many that there are thousands of polls."""


def list_partitions(rooms: Sequence[Room]) -> Iterator[list[list[Room]]]:
    """Yield every partition of the rooms into sets."""
    if not rooms:
        yield []
        return
    for rest in list_partitions(rooms[1:]):
        yield [[rooms[0]], *rest]
        for at in range(len(rest)):
            yield [*rest[:at], [rooms[0], *rest[at]], *rest[at + 1 :]]


def find_lowest_price(rooms: Sequence[Room]) -> int:
    """Return the lowest price of all partitions into sets that share a box, by trying each (brute force).

    A box has one credit's area, or is what one of the set needs alone.
    """
    prices = []
    for partition in list_partitions(rooms):
        joined = []
        for members in partition:
            whole = members[0]
            for each in members[1:]:
                whole = whole.join(each)
            joined.append((whole, members))
        if all(whole.is_one_credit() or whole in members for whole, members in joined):
            prices.append(sum(whole.compute_price() for whole, _ in joined))
    return min(prices)


GREED_PAYS_FIVE: Final = [
    WantedAirport(f"A{at:03}", *place, 1)
    for at, place in enumerate(
        [(40.4, 7.8), (38.6, 7.2), (45.8, 0.2), (36.6, 1.7), (42.4, -3.3), (37.8, -4.1), (44.0, 10.1)]
    )
]
"""Airports for which three boxes are enough, where five come out if each joins the box that grows least."""


@settings(deadline=None)
@given(AIRPORTS)
@example(GREED_PAYS_FIVE)
@example([WantedAirport("A000", 90.0, 0.0, 1), WantedAirport("A001", 89.9, 0.0, 1)])
def test_the_cover_is_as_cheap_as_any(airports: list[WantedAirport]) -> None:
    """Compared with all partitions; each airport has its room in it, and the order of the airports does not matter."""
    rooms = [compute_room(each.latitude, each.longitude, ROOM_KM) for each in airports]
    cover = find_cover(rooms, 100)
    assert cover is not None
    assert find_cover(rooms[::-1], 100) == cover
    boxes = [box for room in cover for box in room.list_boxes()]
    assert all(has_room(boxes, each) for each in airports)
    price = sum(box.compute_price() for box in boxes)
    assert price == find_lowest_price(list(dict.fromkeys(rooms)))
    assert find_cover(rooms, price - 1) is None


@settings(deadline=None)
@given(AIRPORTS, BUDGETS, st.integers(0, DAY_S), st.floats(0, 1), st.none() | st.floats(0, 200))
def test_a_plan_is_within_the_budget_and_fast_enough(
    airports: list[WantedAirport], per_day: int, seconds_left: int, share: float, since_poll_s: float | None
) -> None:
    """Whatever is left: each airport is live with its room in the regions, or told why not; the same for any order."""
    quota = LiveCredits(per_day, int(per_day * share), seconds_left, since_poll_s)
    plan = plan_positions(airports, quota, ROOM_KM)
    assert plan == plan_positions(airports[::-1], quota, ROOM_KM)
    assert plan.live | plan.settled.keys() == {each.icao for each in airports}
    assert not plan.live & plan.settled.keys()
    assert bool(plan.regions) == bool(plan.live)
    if not plan.live:
        return
    assert SHORTEST_INTERVAL_S <= plan.interval_s <= LONGEST_INTERVAL_S
    first = 0.0 if since_poll_s is None else max(plan.interval_s - since_poll_s, 0.0)
    polls = sum(1 for number in range(DAY_S) if first + number * plan.interval_s < seconds_left)
    assert polls * plan.price <= quota.left
    assert plan.price * SMALLEST_LIVE_BUDGET <= per_day
    boxes = [region for region in plan.regions if isinstance(region, Box)]
    if boxes:
        assert all(has_room(boxes, each) for each in airports if each.icao in plan.live)


@settings(deadline=None)
@given(AIRPORTS, BUDGETS)
def test_whoever_is_left_out_has_no_more_people_than_somebody_who_takes_the_place(
    airports: list[WantedAirport], per_day: int
) -> None:
    """An airport that is not live fits into no cover, within the price, together with the live ones that come first."""
    plan = plan_positions(airports, of_budget(per_day), ROOM_KM)
    rooms = {each.icao: compute_room(each.latitude, each.longitude, ROOM_KM) for each in airports}
    for each in airports:
        if each.icao in plan.settled:
            first = [
                other.icao
                for other in airports
                if other.icao in plan.live and (-other.people, other.icao) < (-each.people, each.icao)
            ]
            assert find_cover([rooms[icao] for icao in [*first, each.icao]], per_day // SMALLEST_LIVE_BUDGET) is None


@settings(deadline=None)
@given(AIRPORTS, BUDGETS, st.data())
def test_one_person_more_or_less_moves_nobody(airports: list[WantedAirport], per_day: int, data: st.DataObject) -> None:
    """Nor does an airport that is added or removed, if it has fewest people: live airports keep their place."""
    quota = of_budget(per_day)
    before = plan_positions(airports, quota, ROOM_KM)
    at = data.draw(st.integers(0, len(airports) - 1))
    change = data.draw(st.sampled_from([-1, 1]))
    changed = [*airports]
    changed[at] = replace(airports[at], people=max(airports[at].people + change, 1))
    assert plan_positions(changed, quota, ROOM_KM, before).live == before.live
    last = max(airports, key=lambda each: (-each.people, each.icao))
    without = [each for each in airports if each is not last]
    assert plan_positions(without, quota, ROOM_KM, before).live == before.live - {last.icao}


@settings(deadline=None)
@given(AIRPORTS, st.integers(2, 25), st.data(), BUDGETS)
def test_whatever_one_stranger_watches_takes_no_place_of_others(
    airports: list[WantedAirport], watched: int, data: st.DataObject, per_day: int
) -> None:
    """Airports that one person or more watches, and nothing else, stay live beside those of a person with many."""
    honest = [replace(each, people=math.ceil(each.people)) for each in airports]
    places = data.draw(st.lists(COORDINATES, min_size=1, max_size=3))
    stranger = [WantedAirport(f"0{at:03}", *place, Fraction(1, watched)) for at, place in enumerate(places)]
    quota = of_budget(per_day)
    assert plan_positions([*stranger, *honest], quota, ROOM_KM).live >= plan_positions(honest, quota, ROOM_KM).live


@settings(deadline=None)
@given(AIRPORTS, BUDGETS, st.data())
def test_one_person_cannot_move_regions_to_and_fro(
    airports: list[WantedAirport], per_day: int, data: st.DataObject
) -> None:
    """A person who watches some of the airports, then others, then the first again, moves regions once at most."""
    quota = of_budget(per_day)
    parts = [data.draw(st.lists(st.sampled_from(airports), unique_by=lambda each: each.icao)) for _ in range(2)]
    plan = plan_positions(airports, quota, ROOM_KM)
    seen: list[frozenset[str]] = []
    for part in parts * 4:
        icaos = {each.icao for each in part}
        wanted = [
            replace(each, people=each.people + Fraction(1, len(part))) if each.icao in icaos else each
            for each in airports
        ]
        plan = plan_positions(wanted, quota, ROOM_KM, plan)
        seen.append(plan.live)
    assert len(set(seen[2:])) == 1


def test_one_stranger_with_many_interests_does_not_outrank_people() -> None:
    """Twenty people at four airports keep their places beside one with 45 interests at five, as it was not."""
    people = {"LFPG": 5, "KJFK": 5, "LICC": 5, "RJTT": 5}
    strangers = dict.fromkeys(("YSSY", "SBGR", "FAOR", "NZAA", "SCEL"), Fraction(1, 5))
    wanted = {**people, **strangers}
    airports = build_wanted([(icao, Direction.BOTH) for icao in wanted], wanted, load_airfields()).airports
    for regions in (1, 2, 3):
        plan = plan_positions(airports, of_budget(regions * SMALLEST_LIVE_BUDGET), ROOM_KM)
        assert plan.live <= people.keys()
        assert len(plan.live) == regions


@settings(deadline=None, max_examples=8)
@given(AIRPORTS, ONE_DAYS_BUDGETS)
def test_on_a_day_without_faults_all_that_are_live_stay_live_until_midnight(
    airports: list[WantedAirport], per_day: int
) -> None:
    """Each plan follows from what the one before has left: nobody loses a place by rounding, no credit is missing."""
    plan = plan_positions(airports, of_budget(per_day), ROOM_KM)
    live, left, time = plan.live, per_day, 0
    while time < DAY_S and live:
        left -= plan.price
        assert left >= 0
        plan = plan_positions(airports, LiveCredits(per_day, left, DAY_S - time, 0.0), ROOM_KM, plan)
        assert plan.live == live
        assert plan.interval_s <= LONGEST_INTERVAL_S
        time += plan.interval_s


@settings(deadline=None, max_examples=12)
@given(AIRPORTS, ONE_DAYS_BUDGETS, st.integers(0, 2**32))
def test_the_budget_is_never_exceeded_whatever_happens_in_a_day(
    airports: list[WantedAirport], per_day: int, seed: int
) -> None:
    """Interests change; polls fail, and are paid or not; the source says that less is left; the leader stands still.

    An airport that is live is polled within 90 s of its last poll, unless somebody stood still.
    """
    chance = Random(seed)
    left, time, since = per_day, 0.0, None
    plan: PositionPlan | None = None
    while time < DAY_S:
        if chance.random() < 0.1:
            airports = [replace(each, people=chance.randint(1, 20)) for each in airports]
        plan = plan_positions(airports, LiveCredits(per_day, left, DAY_S - time, since), ROOM_KM, plan)
        wait = max(plan.interval_s - since, 0.0) if since is not None and plan.live else 0.0
        if plan.live:
            assert wait <= LONGEST_INTERVAL_S
        time += wait
        if time >= DAY_S:
            break
        if not plan.live:
            time, since = time + 300, None
            continue
        left -= plan.price
        assert left >= 0
        match chance.random():
            case fate if fate < 0.05:
                left = min(left + plan.price, per_day)  # failed, and not paid
            case fate if fate < 0.1:
                left = max(left - chance.randint(0, 40), 0)  # somebody else uses the account
            case _:
                pass
        since = chance.choice([0.0, 0.0, 0.0, 1.5, 30.0]) if chance.random() < 0.9 else chance.uniform(0, 1_000)
        time += since


@settings(deadline=None)
@given(AIRPORTS)
def test_circles_have_room_for_each_airport_and_are_no_larger_than_services_take(airports: list[WantedAirport]) -> None:
    """Airports near to each other share one; the order does not matter."""
    plan = plan_circles(airports, ROOM_KM)
    assert plan == plan_circles(airports[::-1], ROOM_KM)
    assert plan.live == {each.icao for each in airports}
    assert plan.interval_s == SHORTEST_INTERVAL_S
    for each in airports:
        points = list_circle_points(each.latitude, each.longitude, ROOM_KM)
        assert any(
            circle.contains(each.latitude, each.longitude) and all(circle.contains(*point) for point in points)
            for circle in plan.regions
        ) or any(contains_disc(circle, each) for circle in plan.regions)
    assert len(plan.regions) <= len(airports)
    assert all(circle.radius_nm <= 250 for circle in plan.regions)


def contains_disc(circle: Circle, airport: WantedAirport) -> bool:
    """Return True if a circle has all points near an airport in it, by the distance of the centres."""
    away = measure_distance_km(circle.latitude, circle.longitude, airport.latitude, airport.longitude)
    return away + ROOM_KM <= circle.radius_nm * 1.852


def test_one_circle_is_enough_for_the_airports_of_a_country() -> None:
    """And it is no larger than they need."""
    plan = plan_circles([LFPG, LFPO], ROOM_KM)
    (circle,) = plan.regions
    assert circle.radius_nm <= 30
    assert len(plan_circles([LFPG, LFPO, WantedAirport("EGLL", 51.47, -0.46, 2)], ROOM_KM).regions) == 1


def test_a_service_is_not_asked_for_more_regions_than_have_their_turn_in_time() -> None:
    """With 100 airports far from each other 90 are live, those with most people, each every 90 s."""
    airports = [
        WantedAirport(f"A{at:03}", -60.0 + 12 * (at // 10), -170.0 + 34 * (at % 10), 1_000 - at) for at in range(100)
    ]
    plan = plan_circles(airports, ROOM_KM)
    assert (len(plan.regions), plan.interval_s) == (90, LONGEST_INTERVAL_S)
    assert plan.settled.keys() == {f"A{at:03}" for at in range(90, 100)}
    assert all(reason.startswith(f"{icao} is not watched live, since ") for icao, reason in plan.settled.items())


def test_many_airports_of_the_world_are_planned_at_once() -> None:
    """A thousand of them need no long search: some far from each other come first, and decide it."""
    chance = Random(7)
    airports = [
        WantedAirport(f"A{at:03}", chance.uniform(-60, 70), chance.uniform(-180, 180), chance.randint(1, 50))
        for at in range(1_000)
    ]
    assert plan_positions(airports, ACCOUNT, ROOM_KM).regions == (WORLD,)
    few = plan_positions(airports, of_budget(3 * SMALLEST_LIVE_BUDGET), ROOM_KM)
    assert few.price == 3
    assert all(one != other for one, other in pairwise(few.regions))
