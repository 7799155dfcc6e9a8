"""The replay's REST API over real HTTP."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from local.opensky.nightly_record import RecordSchedule
from tests.fakes.clock import FakeClock
from tests.local.opensky.conftest import CREDENTIALS, Serve

TOKEN_PATH = "/auth/realms/opensky-network/protocol/openid-connect/token"
DAY = 86_400
FLIGHT_KEYS = [
    "icao24",
    "firstSeen",
    "estDepartureAirport",
    "lastSeen",
    "estArrivalAirport",
    "callsign",
    "estDepartureAirportHorizDistance",
    "estDepartureAirportVertDistance",
    "estArrivalAirportHorizDistance",
    "estArrivalAirportVertDistance",
    "departureAirportCandidatesCount",
    "arrivalAirportCandidatesCount",
]
"""In the order of OpenSky's documentation and of its official client."""
STATE_KEYS = [
    "icao24",
    "callsign",
    "origin_country",
    "time_position",
    "last_contact",
    "longitude",
    "latitude",
    "baro_altitude",
    "on_ground",
    "velocity",
    "true_track",
    "vertical_rate",
    "sensors",
    "geo_altitude",
    "squawk",
    "spi",
    "position_source",
    "category",
]
"""The fields of a state vector in their order; the last one only with `extended=1`."""


def unix(iso: str) -> int:
    """Convert an ISO 8601 text to Unix seconds."""
    return int(datetime.fromisoformat(f"{iso}+00:00").timestamp())


def ask(
    client: httpx.Client,
    what: str,
    begin: str | int,
    end: str | int,
    headers: Mapping[str, str] | None = None,
    **more: str,
) -> httpx.Response:
    """Request flights; `what` may include an airport: "departure/KJFK"."""
    path, _, airport = what.partition("/")
    bounds = {
        "begin": unix(begin) if isinstance(begin, str) else begin,
        "end": unix(end) if isinstance(end, str) else end,
    }
    return client.get(f"/api/flights/{path}", params={**({"airport": airport} if airport else {}), **bounds, **more},
                      headers=headers)  # fmt: skip


def token(client: httpx.Client, **changes: str) -> httpx.Response:
    """Request a token with the right credentials, or with changed ones."""
    form = {
        "grant_type": "client_credentials",
        "client_id": CREDENTIALS.client_id,
        "client_secret": CREDENTIALS.client_secret,
    }
    return client.post(TOKEN_PATH, data={**form, **changes})


def bearer(client: httpx.Client) -> dict[str, str]:
    """Return the Authorization header with a new token."""
    return {"Authorization": f"Bearer {token(client).json()['access_token']}"}


# What it returns


def test_departures_of_new_york_in_the_blizzard(client: httpx.Client) -> None:
    """The hourly departures of JFK from 8 to 10 February 2013 are those that the demo relies on."""
    rows = ask(client, "departure/KJFK", "2013-02-08T00:00", "2013-02-09T23:59:59").json()
    rows += ask(client, "departure/KJFK", "2013-02-10T00:00", "2013-02-10T23:59:59").json()
    hours = Counter(datetime.fromtimestamp(row["firstSeen"], UTC).strftime("%m-%dT%H") for row in rows)
    expected = {
        "02-08T00": 24, "02-08T01": 15, "02-08T06": 0, "02-08T10": 7, "02-08T13": 30, "02-08T14": 14, "02-08T23": 0,
        "02-09T14": 1, "02-09T15": 0, "02-09T17": 5, "02-09T22": 22, "02-09T23": 16,
        "02-10T00": 22, "02-10T01": 10, "02-10T05": 0, "02-10T10": 4, "02-10T13": 28, "02-10T14": 18, "02-10T20": 23,
    }  # fmt: skip
    assert {hour: hours[hour] for hour in expected} == expected


def test_arrivals_at_boston_in_the_blizzard(client: httpx.Client) -> None:
    """On 9 February 2013 Boston was closed (404); on the 10th 21 flights from New York arrived."""
    assert ask(client, "arrival/KBOS", "2013-02-09T00:00", "2013-02-09T23:59:59").status_code == 404
    assert len(ask(client, "arrival/KBOS", "2013-02-10T00:00", "2013-02-10T23:59:59").json()) == 21


def test_a_flight_has_exactly_the_documented_properties(client: httpx.Client) -> None:
    """Names, order and types are OpenSky's; an unknown value is null, never left out."""
    for row in ask(client, "departure/KJFK", "2013-02-11T00:00", "2013-02-12T23:59:59").json():
        assert list(row) == FLIGHT_KEYS
        assert len(row["icao24"]) == 6
        assert row["icao24"] == row["icao24"].lower()
        assert len(row["callsign"]) == 8
        assert 0 < row["firstSeen"] <= row["lastSeen"]
        unknown = row["estArrivalAirport"] is None
        assert (
            unknown == (row["estArrivalAirportHorizDistance"] is None) == (row["estArrivalAirportVertDistance"] is None)
        )
        assert all(isinstance(row[key], int) for key in FLIGHT_KEYS[-2:])


def test_an_answer_is_always_the_same(client: httpx.Client) -> None:
    """Invented values are the same in every answer."""
    answers = {ask(client, "arrival/KBOS", "2013-02-10T00:00", "2013-02-10T23:59:59").text for _ in range(3)}
    assert len(answers) == 1


def test_both_ends_are_inclusive(client: httpx.Client) -> None:
    """A flight on the common end of two adjacent intervals is in both answers."""
    first = ask(client, "departure/KJFK", "2013-02-10T12:00", "2013-02-10T12:59:59").json()[0]
    seen = first["firstSeen"]
    assert first in ask(client, "departure/KJFK", seen - 60, seen).json()
    assert first in ask(client, "departure/KJFK", seen, seen + 60).json()
    assert first in ask(client, "departure/KJFK", seen, seen).json()
    assert first not in ask(client, "departure/KJFK", seen + 1, seen + 3_600).json()


@pytest.mark.parametrize("what", ["departure/LICC", "arrival/LICC", "departure/ZZZZ", "all"])
def test_nothing_found_is_404_without_a_body(client: httpx.Client, what: str) -> None:
    """This holds also for an unknown airport."""
    response = ask(client, what, "2013-02-09T08:00", "2013-02-09T08:01")
    assert (response.status_code, response.content) == (404, b"")


def test_airports_are_found_in_lower_case_too(client: httpx.Client) -> None:
    """OpenSky's documentation says "usually upper case"."""
    assert len(ask(client, "arrival/kbos", "2013-02-10T00:00", "2013-02-10T23:59:59").json()) == 21


# What it knows at which time

TODAY = ("2013-02-13T00:00", "2013-02-13T23:59:59")
LIVE = RecordSchedule(departures_live=True)


def count(response: httpx.Response) -> int:
    """Return the number of flights in an answer: none in a 404."""
    return len(response.json()) if response.status_code == 200 else 0


@pytest.mark.parametrize("what", ["departure/KJFK", "arrival/KBOS", "all"])
def test_flights_are_unknown_until_the_nights_record(client: httpx.Client, clock: FakeClock, what: str) -> None:
    """All flights of a UTC day appear at once, at 02:40 of the next day, departures as well as arrivals."""
    clock.advance(timedelta(hours=26, minutes=39, seconds=59))
    interval = ("2013-02-13T20:00", "2013-02-13T22:00")
    assert ask(client, what, *interval).status_code == 404
    clock.advance(timedelta(seconds=1))
    rows = ask(client, what, *interval).json()
    assert rows
    assert all(row["lastSeen"] < unix("2013-02-14T00:00") for row in rows)


def test_flights_of_one_aircraft_are_unknown_until_the_nights_record(client: httpx.Client, clock: FakeClock) -> None:
    """The search by aircraft knows no more than the others."""
    clock.advance(timedelta(days=2))
    one = ask(client, "departure/KJFK", "2013-02-13T14:00", "2013-02-13T15:00").json()[0]
    interval = ("2013-02-13T00:00", "2013-02-14T23:59:59")
    before = ask(client, "aircraft", *interval, icao24=one["icao24"]).json()
    assert {row["lastSeen"] // DAY for row in before} == {unix("2013-02-13T00:00") // DAY}
    clock.advance(timedelta(hours=2, minutes=40))
    after = ask(client, "aircraft", *interval, icao24=one["icao24"]).json()
    assert [row for row in after if row in before] == before


def test_a_flight_over_midnight_arrives_in_the_record_of_the_next_day(client: httpx.Client, clock: FakeClock) -> None:
    """The record of its first day saw it until midnight, and knows no arrival; the next record knows both."""
    clock.advance(timedelta(days=1, hours=3))
    rows = ask(client, "departure/KJFK", "2013-02-13T22:00", "2013-02-13T23:59:59").json()
    cut = [row for row in rows if row["estArrivalAirport"] is None]
    assert cut
    assert {row["lastSeen"] for row in cut} == {unix("2013-02-13T23:59:59")}
    clock.advance(timedelta(days=1))
    again = ask(client, "departure/KJFK", "2013-02-13T22:00", "2013-02-13T23:59:59").json()
    assert [row["firstSeen"] for row in again] == [row["firstSeen"] for row in rows]
    assert all(row["estArrivalAirport"] and row["lastSeen"] >= row["firstSeen"] for row in again)


@pytest.mark.parametrize("what", ["departure/KJFK", "arrival/KBOS"])
def test_a_record_in_two_parts_grows_once(serve: Serve, clock: FakeClock, what: str) -> None:
    """The first part has about half of the flights, all over the day; the second has the others."""
    client = serve(1_000_000, schedule=RecordSchedule(second_part_after=timedelta(hours=1)))
    clock.advance(timedelta(days=1, hours=3, minutes=39))
    first = ask(client, what, *TODAY).json()
    clock.advance(timedelta(minutes=1))
    whole = ask(client, what, *TODAY).json()
    assert 0.25 < len(first) / len(whole) < 0.75
    assert all(row in whole for row in first)
    event = "firstSeen" if what.startswith("departure") else "lastSeen"
    for rows in (first, [row for row in whole if row not in first]):
        assert rows[0][event] < unix("2013-02-13T16:00")
        assert rows[-1][event] > unix("2013-02-13T20:00")


@pytest.mark.parametrize("what", ["departure/KJFK", "arrival/KBOS"])
def test_a_record_may_be_a_day_late_or_never_come(serve: Serve, clock: FakeClock, what: str) -> None:
    """The other days' records appear as always."""
    late, missing = frozenset({date(2013, 2, 13)}), frozenset({date(2013, 2, 15)})
    client = serve(1_000_000, schedule=RecordSchedule(late_days=late, missing_days=missing))
    clock.advance(timedelta(days=2, hours=2, minutes=39))
    assert ask(client, what, *TODAY).status_code == 404
    clock.advance(timedelta(minutes=1))
    assert ask(client, what, *TODAY).status_code == 200
    assert ask(client, what, "2013-02-14T00:00", "2013-02-14T23:59:59").status_code == 200
    clock.advance(timedelta(days=30))
    assert ask(client, what, "2013-02-15T00:00", "2013-02-15T23:59:59").status_code == 404
    assert ask(client, what, "2013-02-16T00:00", "2013-02-16T23:59:59").status_code == 200


def test_an_airport_where_nobody_listens_has_no_flights(serve: Serve) -> None:
    """It has neither arrivals nor departures, and the flights of other airports do not name it."""
    client = serve(1_000_000, schedule=RecordSchedule(unheard_airports=frozenset({"KBOS", "KLGA"})))
    day = ("2013-02-11T00:00", "2013-02-11T23:59:59")
    assert [ask(client, what, *day).status_code for what in ("arrival/KBOS", "departure/KLGA")] == [404, 404]
    departures = ask(client, "departure/KJFK", *day).json()
    assert "KBOS" not in {row["estArrivalAirport"] for row in departures}
    assert None in {row["estArrivalAirport"] for row in departures}
    arrivals = ask(client, "arrival/KATL", *day).json()
    assert {row["estDepartureAirport"] for row in arrivals} == {"KEWR", "KJFK", None}
    everything = ask(client, "all", "2013-02-11T14:00", "2013-02-11T16:00").json()
    assert all(row["estDepartureAirport"] or row["estArrivalAirport"] for row in everything)


def test_live_departures_are_known_as_they_happen(serve: Serve, clock: FakeClock) -> None:
    """With `departures_live` a departure exists from its first_seen on; an arrival still waits for the record."""
    client, counts = serve(1_000_000, schedule=LIVE), []
    for _ in range(24):
        rows = ask(client, "departure/KJFK", *TODAY)
        counts.append(count(rows))
        assert all(row["firstSeen"] <= clock.now().timestamp() for row in (rows.json() if counts[-1] else []))
        assert ask(client, "arrival/KBOS", *TODAY).status_code == 404
        clock.advance(timedelta(hours=1))
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_a_live_departure_in_the_air_changes_when_it_lands(serve: Serve, clock: FakeClock) -> None:
    """In the air it was last seen now and has no destination; after the landing it has both, and is the same."""
    client = serve(1_000_000, schedule=LIVE)
    clock.advance(timedelta(hours=14, minutes=0, seconds=7, milliseconds=900))
    begin = now = int(clock.now().timestamp())
    flying = [
        row for row in ask(client, "departure/KJFK", begin - 7_200, begin).json() if row["estArrivalAirport"] is None
    ]
    assert flying
    assert {row["lastSeen"] for row in flying} == {now}
    clock.advance(timedelta(hours=24))
    landed = {(row["icao24"], row["firstSeen"]): row
              for row in ask(client, "departure/KJFK", begin - 7_200, begin).json()}  # fmt: skip
    for row in flying:
        known = landed[row["icao24"], row["firstSeen"]]
        assert known["lastSeen"] > now
        assert known["estArrivalAirport"] is not None


def test_the_record_replaces_live_departures(serve: Serve, clock: FakeClock) -> None:
    """While only the first part of the record is there, the departures of the second part are unknown again."""
    client = serve(1_000_000, schedule=RecordSchedule(second_part_after=timedelta(hours=1), departures_live=True))
    counts = []
    for passes in (timedelta(days=1, hours=2, minutes=39), timedelta(minutes=1), timedelta(hours=1)):
        clock.advance(passes)
        counts.append(count(ask(client, "departure/KJFK", *TODAY)))
    assert counts[1] < counts[0] == counts[2]


def test_all_flights_began_and_ended_in_the_interval(client: httpx.Client, clock: FakeClock) -> None:
    """OpenSky's maintainers confirm that longer flights never appear there (forum, topic 944)."""
    clock.advance(timedelta(hours=3))
    begin, end = unix("2013-02-12T14:00"), unix("2013-02-12T16:00")
    rows = ask(client, "all", begin, end).json()
    assert rows
    assert all(begin <= row["firstSeen"] <= row["lastSeen"] <= end for row in rows)


def test_flights_of_one_aircraft(client: httpx.Client) -> None:
    """The answer holds all flights of the aircraft in the interval, and no other."""
    one = ask(client, "arrival/KBOS", "2013-02-10T00:00", "2013-02-10T23:59:59").json()[0]
    rows = ask(client, "aircraft", "2013-02-10T00:00", "2013-02-11T23:59:59", icao24=one["icao24"]).json()
    assert one in rows
    assert {row["icao24"] for row in rows} == {one["icao24"]}


def test_a_flight_that_never_arrived_has_no_arrival_airport(client: httpx.Client) -> None:
    """Such a flight is a departure, but no airport's arrival."""
    rows = ask(client, "departure/KEWR", "2013-02-01T00:00", "2013-02-02T23:59:59").json()
    strays = [row for row in rows if row["estArrivalAirport"] is None]
    assert strays
    assert all(row["lastSeen"] < unix("2013-02-13T00:00") for row in strays)


# What it refuses


@pytest.mark.parametrize(
    "query",
    [
        "departure",
        "departure?airport=KJFK",
        "departure?airport=KJFK&begin=1360281600",
        "departure?begin=1360281600&end=1360285200",
        "departure?airport=&begin=1360281600&end=1360285200",
        "departure?airport=KJ%20K&begin=1360281600&end=1360285200",
        "departure?airport=KJFK&begin=yesterday&end=1360285200",
        "departure?airport=KJFK&begin=-1&end=1360285200",
        "departure?airport=KJFK&begin=1360281600.5&end=1360285200",
        "departure?airport=KJFK&begin=99999999999999999999&end=99999999999999999999",
        "departure?airport=KJFK&begin=1360285200&end=1360281600",
        "arrival?airport=KJFK",
        "all?begin=1360281600",
        "all?begin=1360281600&end=1360288801",
        "aircraft?begin=1360281600&end=1360285200",
        "aircraft?icao24=A00001&begin=1360281600&end=1360285200",
        "aircraft?icao24=a00001&begin=1360281600&end=1360454401",
    ],
)
def test_missing_and_malformed_parameters_are_400_and_cost_nothing(client: httpx.Client, query: str) -> None:
    """The same holds for intervals that end before they begin or are too long."""

    def ask_validly() -> int:
        response = ask(client, "departure/KJFK", "2013-02-12T12:00", "2013-02-12T13:00")
        return int(response.headers["X-Rate-Limit-Remaining"])

    before = ask_validly()
    assert client.get(f"/api/flights/{query}").status_code == 400
    assert ask_validly() == before - 4


@pytest.mark.parametrize("direction", ["departure", "arrival"])
def test_an_interval_may_touch_two_days_of_utc(client: httpx.Client, direction: str) -> None:
    """Three days are rejected, however short the interval; an end at midnight belongs to the next day."""
    what = f"{direction}/KJFK"
    assert ask(client, what, "2013-02-10T00:00", "2013-02-11T23:59:59").status_code != 400
    assert ask(client, what, "2013-02-10T00:00", "2013-02-12T00:00").status_code == 400
    assert ask(client, what, "2013-02-10T23:00", "2013-02-12T00:00").status_code == 400


# Credits


def test_the_price_and_the_allowance_of_an_anonymous_caller(serve: Serve) -> None:
    """The allowance is 400 credits a day; the last 24 hours cost 4, older days 30, also if the answer is a 404."""
    client = serve()
    left = []
    for what, begin, end in (
        ("departure/KJFK", "2013-02-12T12:00", "2013-02-12T13:00"),
        ("departure/LICC", "2013-02-12T12:00", "2013-02-12T13:00"),
        ("departure/KJFK", "2013-02-10T00:00", "2013-02-11T23:59:59"),
        ("arrival/LICC", "2013-02-10T00:00", "2013-02-10T23:59:59"),
    ):
        left.append(int(ask(client, what, begin, end).headers["X-Rate-Limit-Remaining"]))
    assert left == [396, 392, 362, 332]


def test_a_client_with_a_token_has_4000_of_its_own(serve: Serve) -> None:
    """Anonymous requests from the same address do not reduce the client's credits."""
    client = serve()
    client.get("/api/states/all")
    assert client.get("/api/states/all", headers=bearer(client)).headers["X-Rate-Limit-Remaining"] == "3996"


def test_states_tracks_and_flights_have_a_bucket_each(serve: Serve) -> None:
    """A caller who has spent one bucket can still spend the others, each with the whole allowance."""
    client = serve(credits_per_day=4)
    track = {"icao24": "a00001", "time": 0}
    for _ in range(2):
        statuses = [
            client.get("/api/states/all").status_code,
            client.get("/api/tracks/all", params=track).status_code,
            ask(client, "departure/KJFK", "2013-02-12T12:00", "2013-02-12T13:00").status_code,
        ]
        assert statuses in ([200, 404, 404], [429, 429, 429])
    assert statuses == [429, 429, 429]


def test_there_are_no_tracks(client: httpx.Client) -> None:
    """The sky keeps no tracks: a track is a 404 at the price of its day, and a malformed request a 400."""
    left = [
        int(client.get("/api/tracks/all", params={"icao24": "a00001", "time": at}).headers["X-Rate-Limit-Remaining"])
        for at in (0, unix("2013-02-13T00:00"), unix("2013-02-10T00:00"))
    ]
    assert left == [999_996, 999_992, 999_962]
    assert client.get("/api/tracks/all", params={"icao24": "A00001", "time": 0}).status_code == 400
    assert client.get("/api/tracks/all", params={"icao24": "a00001"}).status_code == 400


def test_spent_credits_are_429_until_midnight(serve: Serve, clock: FakeClock) -> None:
    """The wait is in OpenSky's own header, in seconds of the server's clock, and is long enough."""
    client = serve(credits_per_day=10)
    clock.advance(timedelta(hours=5))
    assert [client.get("/api/states/all").status_code for _ in range(3)] == [200, 200, 429]
    refused = client.get("/api/states/all")
    assert refused.headers["X-Rate-Limit-Retry-After-Seconds"] == str(19 * 3_600)
    assert "Retry-After" not in refused.headers
    assert "X-Rate-Limit-Remaining" not in refused.headers
    clock.advance(timedelta(seconds=int(refused.headers["X-Rate-Limit-Retry-After-Seconds"])))
    assert client.get("/api/states/all").status_code == 200


def test_an_allowance_of_zero_is_zero(serve: Serve) -> None:
    """`--credits-per-day 0` means zero, not the default."""
    assert serve(credits_per_day=0).get("/api/states/all").status_code == 429


# The date


def test_every_answer_has_the_date_of_the_servers_clock(client: httpx.Client, clock: FakeClock) -> None:
    """This holds for found and unfound flights, tokens, rejected requests and unknown paths."""
    clock.advance(timedelta(hours=5, seconds=7, milliseconds=600))
    answers = [
        ask(client, "departure/KJFK", "2013-02-11T12:00", "2013-02-11T13:00"),
        ask(client, "departure/LICC", "2013-02-11T12:00", "2013-02-11T13:00"),
        client.get("/api/states/all"),
        client.get("/api/states/all", headers={"Authorization": "Bearer made-up"}),
        client.get("/api/flights/departure"),
        client.get("/api/no/such/path"),
        token(client),
        token(client, client_secret="wrong"),
    ]
    assert [each.status_code for each in answers] == [200, 404, 200, 401, 400, 404, 200, 401]
    assert {each.headers["Date"] for each in answers} == {"Wed, 13 Feb 2013 05:00:07 GMT"}


# Tokens


def test_client_credentials_get_a_token(serve: Serve) -> None:
    """The answer is Keycloak's: a bearer token for 30 minutes."""
    given = token(serve()).json()
    assert given["access_token"]
    assert (given["expires_in"], given["token_type"]) == (1_800, "Bearer")


def test_a_token_lives_for_30_minutes_of_the_servers_clock(serve: Serve, clock: FakeClock) -> None:
    """After that the answer is a 401, and the client must renew the token."""
    client = serve()
    headers = bearer(client)
    clock.advance(timedelta(seconds=1_799))
    assert client.get("/api/states/all", headers=headers).status_code == 200
    clock.advance(timedelta(seconds=1))
    assert client.get("/api/states/all", headers=headers).status_code == 401
    assert client.get("/api/states/all", headers=bearer(client)).status_code == 200


def test_credits_are_the_clients_not_the_tokens(serve: Serve) -> None:
    """A new token brings no new credits."""
    client = serve(credits_per_day=4)
    assert client.get("/api/states/all", headers=bearer(client)).status_code == 200
    assert client.get("/api/states/all", headers=bearer(client)).status_code == 429


@pytest.mark.parametrize("authorization", ["Bearer made-up", "Bearer", "Basic dXNlcjpwYXNzd29yZA==", "", "made-up"])
def test_an_invalid_authorization_is_a_401(client: httpx.Client, authorization: str) -> None:
    """A wrong token is a 401, and basic authentication, too, which OpenSky ended in March 2026."""
    response = client.get("/api/states/all", headers={"Authorization": authorization})
    assert response.status_code == 401
    assert "WWW-Authenticate" in response.headers


@pytest.mark.parametrize("changes", [{"client_secret": "wrong"}, {"client_id": "somebody"}, {"client_secret": ""}])
def test_wrong_credentials_get_no_token(serve: Serve, changes: dict[str, str]) -> None:
    """The answer is a 401 with the error code of RFC 6749."""
    refused = token(serve(), **changes)
    assert refused.status_code == 401
    assert refused.json()["error"] == "invalid_client"


def test_other_grant_types_are_rejected(serve: Serve) -> None:
    """OpenSky's API clients have no user who could log in."""
    refused = token(serve(), grant_type="password")
    assert (refused.status_code, refused.json()["error"]) == (400, "unsupported_grant_type")


def test_without_configured_credentials_everybody_is_anonymous(serve: Serve) -> None:
    """No credentials get a token then, not even empty ones."""
    client = serve(credentials=None)
    assert token(client).status_code == 401
    assert token(client, client_id="", client_secret="").status_code == 401
    assert client.get("/api/states/all").status_code == 200


# The official client


class OfficialClient:
    """A client that sends requests and reads answers as the Python client of openskynetwork/opensky-api does.

    (Requests, parameters and expectations only; the code is ours.) It fetches a token once, takes every status but 200
    for "nothing", and reads a flight's values by their position.
    """

    def __init__(self, http: httpx.Client) -> None:
        response = token(http).raise_for_status().json()
        self._http = http
        self._headers = {"Authorization": f"Bearer {response['access_token']}"}
        self.refresh_in = timedelta(seconds=response.get("expires_in", 1_800) - 30)

    def _get(self, path: str, params: Mapping[str, Any]) -> Any:
        response = self._http.get(f"/api{path}", params=params, headers=self._headers)
        return response.json() if response.status_code == 200 else None

    def flights(self, path: str, **params: Any) -> list[dict[str, Any]] | None:
        answer = self._get(path, params)
        if answer is None:
            return None
        return [dict(zip(FLIGHT_KEYS, list(entry.values()), strict=True)) for entry in answer]

    def states(self) -> list[dict[str, Any]]:
        answer = self._get("/states/all", {"time": 0, "extended": True})
        return [dict(zip(STATE_KEYS, row, strict=True)) for row in answer["states"] or []]


def test_the_official_client_understands_every_answer(serve: Serve) -> None:
    """This holds for each of its methods whose path is served here, and for its token."""
    http = serve()
    official = OfficialClient(http)
    assert official.refresh_in == timedelta(seconds=1_770)
    day = unix("2013-02-10T00:00")
    departures = official.flights("/flights/departure", airport="KJFK", begin=day, end=day + DAY - 1)
    assert departures == ask(http, "departure/KJFK", day, day + DAY - 1).json()
    arrivals = official.flights("/flights/arrival", airport="KBOS", begin=day, end=day + DAY - 1)
    assert arrivals
    assert {flight["estArrivalAirport"] for flight in arrivals} == {"KBOS"}
    icao24 = arrivals[0]["icao24"]
    assert arrivals[0] in (official.flights("/flights/aircraft", icao24=icao24, begin=day, end=day + 2 * DAY) or [])
    assert official.flights("/flights/all", begin=day + 72_000, end=day + 79_200)
    assert official.flights("/flights/arrival", airport="KBOS", begin=day - DAY, end=day - 1) is None
    states = official.states()
    assert len(states) > 100  # the evening of New York
    assert {type(state["category"]) for state in states} == {int}
