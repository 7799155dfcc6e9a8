"""Requests for positions over real HTTP: the form of the answers, who gets what, and what it costs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import pytest

from local.opensky.access import AccessControl
from local.opensky.flights import Timetable
from local.opensky.server import make_app
from local.opensky.sky.geometry import Point, compute_distance
from local.opensky.sky.receiver import Receiver
from local.opensky.sky.settings import SkySettings
from local.opensky.sky.sky import Sky
from local.opensky.state_faults import FaultSpell, StateFault, StateFaultPlan, parse_state_faults
from local.opensky.state_requests import AIRCRAFT_PATH, StateRequests
from tests.fakes.clock import FakeClock
from tests.local.opensky.conftest import CREDENTIALS, Serve, serve_app
from tests.local.opensky.sky.flights import T0, make_flight

TOKEN_PATH: Final = "/auth/realms/opensky-network/protocol/openid-connect/token"
FLIGHTS: Final = [
    make_flight(airports[0], airports[1], first_seen=T0 - 2_000 + 150 * number, duration=4_800, icao24=f"a{number:05x}")
    for number, airports in enumerate([("KJFK", "KBOS"), ("KBOS", "KEWR"), ("KLGA", "KDCA")] * 8)
]
RECEIVER: Final = Receiver(Point(40.68, -73.94), 60.0)
NEW_YORK: Final = {"lamin": 40.0, "lomin": -74.5, "lamax": 41.5, "lomax": -73.0}

Value = str | int | float | bool | None
Params = Mapping[str, Value | Sequence[Value]] | list[tuple[str, Value]]


def make_states(
    faults: StateFaultPlan = StateFaultPlan(),  # noqa: B008 - frozen
    receiver_faults: StateFaultPlan = StateFaultPlan(),  # noqa: B008
    receiver: Receiver | None = RECEIVER,
) -> StateRequests:
    """Make the answers to requests for positions over FLIGHTS."""
    sky = Sky(Timetable(FLIGHTS), SkySettings(floors_m={"KJFK": 0.0, "KBOS": 0.0}))
    return StateRequests(sky, receiver, faults, receiver_faults)


@pytest.fixture
def serve(clock: FakeClock) -> Iterator[Serve]:
    """A function that starts a replay of FLIGHTS with these credits and answers, and returns a client of it."""
    with ExitStack() as stack:

        def start(credits_per_day: int, states: StateRequests) -> httpx.Client:
            """Start a replay, and return a client of it."""
            access = AccessControl(CREDENTIALS, credits_per_day)
            url = stack.enter_context(serve_app(make_app(Timetable(FLIGHTS), clock, access, states=states)))
            return stack.enter_context(httpx.Client(verify=False, base_url=url, timeout=60))

        yield start


@pytest.fixture
def http(serve: Serve) -> httpx.Client:
    """A client of a replay with a small sky, an account with a receiver, and many credits."""
    return serve(1_000_000, states=make_states())


def bearer(http: httpx.Client) -> dict[str, str]:
    """Return the Authorization header with a new token."""
    form = {
        "grant_type": "client_credentials",
        "client_id": CREDENTIALS.client_id,
        "client_secret": CREDENTIALS.client_secret,
    }
    return {"Authorization": f"Bearer {http.post(TOKEN_PATH, data=form).json()['access_token']}"}


def fetch(http: httpx.Client, params: Params | None = None, path: str = "all", *, account: bool = True) -> Any:
    """Return the decoded answer, which must have status 200."""
    answer = http.get(f"/api/states/{path}", params=params or {}, headers=bearer(http) if account else {})
    assert answer.status_code == 200, answer.text
    return answer.json()


# The form


def test_a_row_has_exactly_the_documented_fields(http: httpx.Client, clock: FakeClock) -> None:
    """There are 17, and 18 with `extended=1`; their types are those of the documentation."""
    for _ in range(20):
        clock.advance(timedelta(seconds=30))
        answer, extended = fetch(http), fetch(http, {"extended": 1})
        assert list(answer) == ["time", "states"]
        assert [row[:17] for row in extended["states"]] == answer["states"]
        for row in extended["states"]:
            assert len(row) == 18
            (icao24, callsign, country, position_time, contact, lon, lat, baro, ground, velocity, track, rate, sensors,
             geo, squawk, spi, source, category) = row  # fmt: skip
            assert (len(icao24), icao24) == (6, icao24.lower())
            assert callsign is None or len(callsign) == 8
            assert isinstance(country, str)
            assert position_time is None or isinstance(position_time, int)
            assert isinstance(contact, int)
            assert {type(ground), type(spi)} == {bool}
            assert all(
                value is None or isinstance(value, float) for value in (lon, lat, baro, velocity, track, rate, geo)
            )
            assert track is None or 0 <= track <= 360
            assert sensors is None
            assert squawk is None or (len(squawk) == 4 and int(squawk, 8) >= 0)
            assert source in (0, 1, 2, 3)
            assert category in range(21)


def test_nothing_heard_is_null(http: httpx.Client) -> None:
    """A part of the world without aircraft has `"states": null` and status 200, never 404."""
    answer = fetch(http, {"lamin": -10, "lomin": -10, "lamax": -9, "lomax": -9})
    assert answer == {"time": T0, "states": None}


def test_a_box_gives_the_rows_whose_position_is_in_it(http: httpx.Client) -> None:
    """They are those of the whole world with a position in the box, unchanged."""
    whole, inside = fetch(http)["states"], fetch(http, NEW_YORK)["states"]
    expected = [row for row in whole if row[6] is not None and 40 <= row[6] <= 41.5 and -74.5 <= row[5] <= -73]
    assert inside == expected
    assert 0 < len(inside) < len(whole)


def test_aircraft_are_found_by_address(http: httpx.Client) -> None:
    """The parameter may be repeated; capital letters are the same address."""
    rows = fetch(http)["states"]
    wanted = [row[0] for row in rows[:2]]
    found = fetch(http, [("icao24", wanted[0].upper()), ("icao24", wanted[1])])["states"]
    assert [row[0] for row in found] == wanted


@pytest.mark.parametrize(
    "params",
    [
        {"lamin": 40, "lomin": -75, "lamax": 41},
        {"lamin": 42, "lomin": -75, "lamax": 41, "lomax": -73},
        {"lamin": "north", "lomin": -75, "lamax": 41, "lomax": -73},
        {"lamin": "nan", "lomin": -75, "lamax": 41, "lomax": -73},
        {"lamin": 40, "lomin": -75, "lamax": 91, "lomax": -73},
        {"icao24": "a0001"},
        {"time": "now"},
        {"time": -1},
    ],
)
def test_malformed_parameters_are_a_400_that_costs_nothing(http: httpx.Client, params: dict[str, str]) -> None:
    """A box needs all of its four bounds, in order and on the earth."""
    headers = bearer(http)
    assert http.get("/api/states/all", params=params, headers=headers).status_code == 400
    assert http.get("/api/states/all", headers=headers).headers["X-Rate-Limit-Remaining"] == "999996"


# The time


def test_an_account_has_a_resolution_of_five_seconds_and_an_anonymous_caller_of_ten(
    http: httpx.Client, clock: FakeClock
) -> None:
    """The time of the answer is the last multiple; two requests within it get the same states."""
    clock.advance(timedelta(seconds=18.5))
    assert fetch(http)["time"] == T0 + 15
    assert fetch(http, account=False)["time"] == T0 + 10
    before = fetch(http)
    clock.advance(timedelta(seconds=1.4))
    assert fetch(http) == before


def test_an_account_gets_an_hour_back(http: httpx.Client, clock: FakeClock) -> None:
    """The states of a time are always the same; older than an hour is a 400, in the future is now."""
    then = fetch(http)
    clock.advance(timedelta(hours=1))
    assert fetch(http, {"time": T0}) == then
    assert fetch(http, {"time": T0 + 3}) == then
    headers = bearer(http)
    assert http.get("/api/states/all", params={"time": T0 - 1}, headers=headers).status_code == 400
    assert fetch(http, {"time": T0 + 90_000})["time"] == fetch(http, {"time": 0})["time"] == T0 + 3_600


def test_an_anonymous_caller_gets_the_present_whatever_it_asks_for(http: httpx.Client) -> None:
    """The documentation says that the parameter `time` is ignored."""
    assert fetch(http, {"time": 1_000_000_000}, account=False) == fetch(http, account=False)


# Credits


@pytest.mark.parametrize(
    ("box", "price"),
    [
        ((40.0, -75.0, 45.0, -70.0), 1),
        ((40.0, -75.0, 45.1, -70.0), 2),
        ((40.0, -75.0, 50.0, -65.0), 2),
        ((40.0, -75.0, 50.0, -64.9), 3),
        ((30.0, -80.0, 50.0, -60.0), 3),
        ((30.0, -80.0, 50.0, -59.9), 4),
        ((-90.0, -180.0, 90.0, 180.0), 4),
        (None, 4),
    ],
)
def test_the_price_depends_on_the_area(
    http: httpx.Client, box: tuple[float, float, float, float] | None, price: int
) -> None:
    """Up to 25 square degrees cost 1, to 100 2, to 400 3, more or everything 4."""
    params = {} if box is None else dict(zip(("lamin", "lomin", "lamax", "lomax"), box, strict=True))
    answer = http.get("/api/states/all", params=params)
    assert answer.headers["X-Rate-Limit-Remaining"] == str(1_000_000 - price)


def test_spent_credits_are_a_429_with_the_seconds_until_midnight(serve: Serve, clock: FakeClock) -> None:
    """What is left may still pay for a smaller area, and own states go on for nothing."""
    http = serve(6, states=make_states())
    clock.advance(timedelta(hours=3))
    headers = bearer(http)
    assert http.get("/api/states/all", headers=headers).status_code == 200
    refused = http.get("/api/states/all", headers=headers)
    assert (refused.status_code, refused.headers["X-Rate-Limit-Retry-After-Seconds"]) == (429, str(21 * 3_600))
    assert http.get("/api/states/all", params=NEW_YORK, headers=headers).headers["X-Rate-Limit-Remaining"] == "1"
    own = http.get("/api/states/own", headers=headers)
    assert (own.status_code, own.headers["X-Rate-Limit-Remaining"]) == (200, "1")


# One's own receivers


def test_own_states_are_what_the_receiver_hears(http: httpx.Client) -> None:
    """They are within its range, of any time, and name the receiver if the request does."""
    rows = fetch(http, path="own")["states"]
    assert rows
    for row in rows:
        if row[6] is not None:
            assert compute_distance(RECEIVER.position, Point(row[6], row[5])) < 60 * 1_852 + 5_000
        assert row[12] is None
    named = fetch(http, {"serials": RECEIVER.serial}, path="own")["states"]
    assert {tuple(row[12]) for row in named} == {(RECEIVER.serial,)}
    assert fetch(http, {"serials": RECEIVER.serial + 1}, path="own")["states"] is None
    assert fetch(http, {"time": T0 - 1_300, "extended": 1}, path="own")["time"] == T0 - 1_300


def test_own_states_need_an_account_with_a_receiver(serve: Serve) -> None:
    """An anonymous caller is refused with 403; an account without receivers hears nothing."""
    http = serve(400, states=make_states(receiver=None))
    assert http.get("/api/states/own").status_code == 403
    assert fetch(http, path="own") == {"time": T0, "states": None}
    assert http.get(AIRCRAFT_PATH).status_code == 404


def test_aircraft_json_has_readsbs_form(http: httpx.Client, clock: FakeClock) -> None:
    """Feet, knots and ages in seconds; the text "ground" in place of an altitude; what is not known is missing.

    It lists aircraft for a minute after their last message, and costs no credits.
    """
    ground = set()
    for _ in range(40):
        clock.advance(timedelta(seconds=20.3))
        answer = http.get(AIRCRAFT_PATH)
        assert "X-Rate-Limit-Remaining" not in answer.headers
        decoded = answer.json()
        assert decoded["now"] == pytest.approx(clock.now().timestamp(), abs=0.1)
        for each in decoded["aircraft"]:
            assert None not in each.values()
            assert 0 <= each["seen"] <= 61
            assert ("lat" in each) == ("lon" in each) == ("seen_pos" in each)
            assert each.get("seen_pos", 99) >= each["seen"]
            assert each.get("alt_baro") == "ground" or isinstance(each.get("alt_baro", 0), int)
            assert abs(each.get("baro_rate", 0)) < 4_500
            ground.add(each.get("alt_baro") == "ground")
    assert ground == {True, False}


# Faults


def plan(fault: StateFault, minutes: int = 10, after_s: int = 60) -> StateFaultPlan:
    """Return a plan with one fault, which begins a minute after the clock's start."""
    begin = T0 + after_s
    return StateFaultPlan((FaultSpell(fault, begin, begin + 60 * minutes),))


def test_a_frozen_source_repeats_one_answer(serve: Serve, clock: FakeClock) -> None:
    """Time and states stand still for all of the fault's minutes, and go on after it."""
    http = serve(1_000_000, states=make_states(plan(StateFault.FROZEN)))
    clock.advance(timedelta(seconds=60))
    frozen = fetch(http)
    assert frozen["time"] == T0 + 60
    for _ in range(3):
        clock.advance(timedelta(seconds=150))
        assert fetch(http) == frozen
    clock.advance(timedelta(seconds=150))
    assert fetch(http)["time"] == T0 + 660


def test_old_positions_bear_a_new_time(serve: Serve, clock: FakeClock) -> None:
    """The answer's time goes on, and nothing in it is newer than the fault's begin."""
    http = serve(1_000_000, states=make_states(plan(StateFault.OLD)))
    clock.advance(timedelta(seconds=500))
    answer = fetch(http)
    assert answer["time"] == T0 + 500
    assert answer["states"]
    assert all(row[4] <= T0 + 60 and (row[3] or 0) <= T0 + 60 for row in answer["states"])


@pytest.mark.parametrize(("fault", "states"), [(StateFault.NULL, None), (StateFault.EMPTY, [])])
def test_an_empty_sky_is_null_or_an_empty_list(
    serve: Serve, clock: FakeClock, fault: StateFault, states: object
) -> None:
    """The time goes on, and the answer costs what it always costs."""
    http = serve(100, states=make_states(plan(fault)))
    clock.advance(timedelta(seconds=90))
    answer = http.get("/api/states/all")
    assert answer.json() == {"time": T0 + 90, "states": states}
    assert answer.headers["X-Rate-Limit-Remaining"] == "96"


@pytest.mark.parametrize(
    ("fault", "status"), [(StateFault.HTML, 200), (StateFault.BAD_GATEWAY, 502), (StateFault.UNAVAILABLE, 503)]
)
def test_something_else_answers_and_costs_nothing(
    serve: Serve, clock: FakeClock, fault: StateFault, status: int
) -> None:
    """Before and after the fault's minutes the source answers itself; flights are not concerned."""
    http = serve(100, states=make_states(plan(fault)))
    assert fetch(http)["states"]
    clock.advance(timedelta(seconds=60))
    broken = http.get("/api/states/all")
    assert broken.status_code == status
    assert "X-Rate-Limit-Remaining" not in broken.headers
    assert not broken.headers.get("Content-Type", "").startswith("application/json")
    assert http.get("/api/states/own").status_code == status
    assert http.get("/api/flights/all", params={"begin": T0, "end": T0 + 60}).status_code == 404
    clock.advance(timedelta(minutes=10))
    assert fetch(http)["states"]


def test_an_outage_resets_each_connection_for_its_minutes(serve: Serve, clock: FakeClock) -> None:
    """Nobody gets an answer; a receiver of one's own goes on."""
    http = serve(100, states=make_states(plan(StateFault.OUTAGE, minutes=15)))
    clock.advance(timedelta(minutes=15))
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            http.get("/api/states/all")
    assert http.get(AIRCRAFT_PATH).status_code == 200
    clock.advance(timedelta(minutes=1))
    assert fetch(http)["states"]


def test_a_receiver_has_faults_of_its_own(serve: Serve, clock: FakeClock) -> None:
    """Its file stands still while OpenSky goes on."""
    http = serve(100, states=make_states(receiver_faults=plan(StateFault.FROZEN)))
    clock.advance(timedelta(seconds=60))
    first = http.get(AIRCRAFT_PATH).json()
    clock.advance(timedelta(seconds=60))
    assert http.get(AIRCRAFT_PATH).json() == first
    assert fetch(http)["time"] == T0 + 120


def test_a_faulty_plan_from_the_command_line_is_met(serve: Serve, clock: FakeClock) -> None:
    """The text of the option and the requests agree about the minutes."""
    start = datetime.fromtimestamp(T0, UTC).strftime("%Y-%m-%dT%H:%MZ")
    http = serve(100, states=make_states(parse_state_faults(f"503@{start}+1")))
    assert http.get("/api/states/all").status_code == 503
    clock.advance(timedelta(minutes=1))
    assert http.get("/api/states/all").status_code == 200
