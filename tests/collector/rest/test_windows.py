"""An interest's windows over HTTP: what they say, whom, in what range; an unchanged answer is not sent again."""

import gzip
from datetime import datetime, timedelta
from threading import Thread

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from collector.errors import SourceUnavailableError
from collector.intervals import DAY, day_of
from collector.settled.source_failure import store_failure
from domain.interests import Direction
from domain.windows import AlignedTo, Window
from tests.collector.conftest import ANN, ANNS, BOBS, NOON, UNCONFIRMED, Service, json_of, status_of, wish
from tests.collector.settled.live_rows import cover_live, publish_live

DEPARTURES, ARRIVALS = Direction.DEPARTURES, Direction.ARRIVALS
TODAY = day_of(NOON)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def show(client: FlaskClient, interest_id: object, query: str = "") -> dict[str, object]:
    """Return Ann's answer."""
    return json_of(client.get(f"/interests/{interest_id}/windows{query}", headers=ANNS))


def windows_by_start(answer: dict[str, object]) -> dict[str, dict[str, object]]:
    """Return the windows of an answer by their start."""
    return {each["window_start"]: each for each in answer["windows"]}  # type: ignore[attr-defined]


def test_a_card_says_what_was_counted_and_what_was_alerted(client: FlaskClient, service: Service) -> None:
    """The last 48 hours to the end of the record, and the hour that begins there, of which nothing is known."""
    interest = service.set(wish(high=2, low=1, effective_from=TODAY - 2 * DAY), ANN)
    service.cover(DEPARTURES, TODAY - 3 * DAY, TODAY)
    busy, quiet = TODAY - 5 * HOUR, TODAY - 3 * HOUR
    hours = [at for back in range(72, 0, -1) if (at := TODAY - back * HOUR) != quiet]
    times = [at + n * MINUTE for at in hours for n in range(3 if at == busy else 1)]
    service.store(DEPARTURES, *times)
    answer = show(client, interest.interest_id)
    assert set(answer) == {"interest", "airport", "state", "freshness", "windows", "former_versions", "earliest_begin"}
    assert answer["interest"] == json_of(client.get(f"/interests/{interest.interest_id}", headers=ANNS))
    assert answer["airport"] == {
        "icao": "KJFK",
        "iata": "JFK",
        "name": "John F Kennedy International Airport",
        "city": "New York",
        "country": "US",
        "time_zone": "America/New_York",
    }
    assert answer["freshness"] == {
        "kind": "record",
        "known_until": "2013-02-13T00:00:00Z",
        "unheard_since": None,
        "text": "Known until 2013-02-13 00:00 (UTC).",
    }
    assert answer["state"] == {
        "kind": "normal",
        "bound": None,
        "window_start": "2013-02-12T23:00:00Z",
        "flights": 1,
        "text": "The window of 2013-02-12 23:00 (UTC) is normal: 1 is neither more than 2 nor fewer than 1. 1 is not "
        "fewer than 1.",
    }
    windows = windows_by_start(answer)
    assert len(windows) == 48
    fired = windows["2013-02-12T19:00:00Z"]
    alert_id = fired["alerts"][0].pop("alert_id")  # type: ignore[index]
    assert len(str(alert_id)) == 36
    assert fired == {
        "window_start": "2013-02-12T19:00:00Z",
        "window_end": "2013-02-12T20:00:00Z",
        "local_start": "2013-02-12T14:00:00-05:00",
        "flights": 3,
        "is_closed": True,
        "is_live": False,
        "why_unknown": None,
        "version": 1,
        "usual": None,
        "base": [],
        "breached": ["high"],
        "alerts": [
            {
                "bound": "high",
                "state": "firing",
                "flights": 3,
                "version": 1,
                "withdrawn_state": None,
                "corrects_alert_id": None,
            }
        ],
        "text": "3 is more than 2; the window before was not in breach. 3 is not fewer than 1.",
    }
    said = {start: [each["state"] for each in window["alerts"]] for start, window in windows.items()}  # type: ignore[attr-defined]
    assert {start: states for start, states in said.items() if states} == {
        "2013-02-12T19:00:00Z": ["firing"],
        "2013-02-12T20:00:00Z": ["resolved"],
        "2013-02-12T21:00:00Z": ["firing"],
        "2013-02-12T22:00:00Z": ["resolved"],
    }
    unknown = windows["2013-02-13T00:00:00Z"]
    assert (unknown["flights"], unknown["is_closed"], unknown["why_unknown"]) == (None, False, "not_collected")


def test_live_movements_count_until_the_record_corrects_them(client: FlaskClient, service: Service) -> None:
    """They are live, and fresh for half an hour; the open hour has what is known so far."""
    interest = service.set(wish(high=1, effective_from=TODAY), ANN)
    service.cover(DEPARTURES, TODAY - 2 * DAY, TODAY)
    publish_live(service.database, DEPARTURES, [(n, NOON - 20 * MINUTE + n * MINUTE) for n in range(2)])
    cover_live(service.database, DEPARTURES, TODAY, NOON - 15 * MINUTE)
    answer = show(client, interest.interest_id)
    assert answer["freshness"]["kind"] == "live"  # type: ignore[index]
    last = answer["windows"][-1]  # type: ignore[index]
    assert (last["flights"], last["is_closed"], last["is_live"], last["why_unknown"]) == (2, False, True, None)
    assert (answer["state"]["kind"], answer["state"]["bound"]) == ("firing", "high")  # type: ignore[index]
    service.clock.advance(15 * MINUTE)
    freshness = show(client, interest.interest_id)["freshness"]
    # Between the record and the last position there may be pauses: "all is known" is true of the record alone.
    assert (freshness["kind"], freshness["known_until"]) == ("record", "2013-02-13T00:00:00Z")  # type: ignore[index]


def test_nothing_known_is_not_zero(client: FlaskClient, service: Service) -> None:
    """Without flights every window is not collected; with a direction of two alone, too."""
    interest = service.set(wish(direction=Direction.BOTH, low=1, high=None), ANN)
    service.cover(DEPARTURES, TODAY - 9 * DAY, TODAY)
    answer = show(client, interest.interest_id)
    assert answer["freshness"]["kind"] == "none"  # type: ignore[index]
    assert answer["state"]["kind"] == "unknown"  # type: ignore[index]
    windows = windows_by_start(answer).values()
    assert {each["flights"] for each in windows} == {None}
    assert {each["why_unknown"] for each in windows} <= {"not_collected", "before_effective_from"}


def test_a_paused_interest_says_so_and_windows_of_before_keep_their_version(
    client: FlaskClient, service: Service
) -> None:
    """To pause is to be effective from a later instant: what was told before stays, under the version that told it."""
    interest = service.set(wish(high=0, effective_from=TODAY - 2 * DAY), ANN)
    service.cover(DEPARTURES, TODAY - 3 * DAY, TODAY)
    service.store(DEPARTURES, TODAY - 5 * HOUR)
    service.clock.advance(HOUR)
    later = {"effective_from": "2013-02-20T00:00:00Z"}
    path = f"/interests/{interest.interest_id}"
    assert client.patch(path, json=later, headers=ANNS | {"If-Match": '"1"'}).status_code == 200
    answer = show(client, interest.interest_id)
    assert answer["state"]["kind"] == "paused"  # type: ignore[index]
    window = windows_by_start(answer)["2013-02-12T19:00:00Z"]
    assert (window["version"], [each["state"] for each in window["alerts"]]) == (1, ["firing"])  # type: ignore[attr-defined]
    unjudged = windows_by_start(answer)["2013-02-13T00:00:00Z"]
    assert (unjudged["version"], unjudged["flights"]) == (1, None)
    former = answer["former_versions"][0]  # type: ignore[index]
    assert (former["version"], former["high_value"], former["since"], former["until"]) == (
        1,
        0,
        "2013-02-13T12:00:00Z",
        "2013-02-13T13:00:00Z",
    )


def test_days_by_the_airports_clock_have_their_own_begin(client: FlaskClient, service: Service) -> None:
    """At Kathmandu a day begins at 18:15 UTC."""
    wanted = wish("VNKT", window=Window.ONE_DAY, high=2, effective_from=TODAY - 9 * DAY, aligned_to=AlignedTo.AIRPORT)
    interest = service.set(wanted, ANN)
    service.cover(DEPARTURES, TODAY - 9 * DAY, TODAY, airport="VNKT")
    midnight = TODAY - 2 * DAY + 18.25 * HOUR
    service.store(DEPARTURES, *(midnight + at * MINUTE for at in (-2, -1, -0.1, 0, 14)), airport="VNKT")
    windows = windows_by_start(show(client, interest.interest_id))
    assert windows["2013-02-10T18:15:00Z"]["flights"] == 3
    assert windows["2013-02-11T18:15:00Z"]["flights"] == 2
    assert windows["2013-02-10T18:15:00Z"]["local_start"] == "2013-02-11T00:00:00+05:45"


def test_an_unchanged_answer_is_not_sent_again(client: FlaskClient, service: Service) -> None:
    """Whatever changes what is shown changes the ETag; a proxy may have appended to it, and `*` is any."""
    interest = service.set(wish(high=2), ANN)
    service.cover(DEPARTURES, TODAY - 3 * DAY, TODAY)
    path = f"/interests/{interest.interest_id}/windows"

    def ask(tag: str) -> int:
        answer = client.get(path, headers=ANNS | {"If-None-Match": tag})
        assert answer.headers["Cache-Control"] == "no-store"
        if answer.status_code == 304:
            assert answer.data == b""
            assert answer.headers["ETag"] == client.get(path, headers=ANNS).headers["ETag"]
        return answer.status_code

    seen = [client.get(path, headers=ANNS).headers["ETag"]]
    assert ask(seen[0]) == ask(seen[0].removeprefix("W/")) == ask(seen[0][:-1] + '-gzip"') == ask("*") == 304
    assert ask(f'"other", {seen[0]}') == 304
    assert ask('"other"') == 200
    assert ask("unquoted") == 400
    assert (
        client.get(f"{path}?begin=2013-02-12T00:00:00Z", headers=ANNS | {"If-None-Match": seen[0]}).status_code == 200
    )

    def change_flights() -> None:
        service.store(DEPARTURES, TODAY - 5 * HOUR)

    def change_live() -> None:
        publish_live(service.database, DEPARTURES, [(1, TODAY + HOUR)])

    def extend_live() -> None:
        cover_live(service.database, DEPARTURES, TODAY, NOON)

    def cover_more() -> None:
        service.cover(DEPARTURES, TODAY - 3 * DAY, TODAY + HOUR)

    def change_interest() -> None:
        service.set(wish(high=3), ANN)

    def let_time_pass() -> None:
        service.clock.advance(HOUR)  # what was live is not any more

    for change in (change_flights, change_live, extend_live, cover_more, change_interest, let_time_pass):
        change()
        assert ask(seen[-1]) == 200, change.__name__
        seen.append(client.get(path, headers=ANNS).headers["ETag"])
    assert len(set(seen)) == len(seen)


def test_the_whole_range_is_that_from_the_earliest_begin_on(client: FlaskClient, service: Service) -> None:
    """With the same ETag: nobody needs to know the service's clock to ask for it."""
    interest = service.set(wish(high=2), ANN)
    service.cover(DEPARTURES, TODAY - 60 * DAY, TODAY)
    path = f"/interests/{interest.interest_id}/windows"
    whole = client.get(f"{path}?whole=true", headers=ANNS)
    spelled = client.get(f"{path}?begin={json_of(whole)['earliest_begin']}", headers=ANNS)
    assert whole.json == spelled.json
    assert whole.headers["ETag"] == spelled.headers["ETag"] != client.get(path, headers=ANNS).headers["ETag"]


def test_a_compressed_answer_has_the_tag_of_the_plain_one(client: FlaskClient, service: Service) -> None:
    """The tag is weak, so that either client is told that nothing has changed, by whichever it has."""
    interest = service.set(wish(high=2), ANN)
    service.cover(DEPARTURES, TODAY - 60 * DAY, TODAY)
    path = f"/interests/{interest.interest_id}/windows?whole=true"
    plain = client.get(path, headers=ANNS)
    small = client.get(path, headers=ANNS | {"Accept-Encoding": "gzip"})
    assert (plain.headers.get("Content-Encoding"), small.headers["Content-Encoding"]) == (None, "gzip")
    assert gzip.decompress(small.data) == plain.data
    assert len(small.data) < len(plain.data) / 8
    assert plain.headers["ETag"] == small.headers["ETag"]
    for coding in ("gzip", "identity"):
        tagged = ANNS | {"If-None-Match": plain.headers["ETag"], "Accept-Encoding": coding}
        unchanged = client.get(path, headers=tagged)
        assert (unchanged.status_code, unchanged.data) == (304, b"")
        assert unchanged.headers["Vary"] == small.headers["Vary"] == "Accept-Encoding"


def test_what_happens_at_other_airports_changes_no_tag(client: FlaskClient, service: Service) -> None:
    """Nor does the other direction: neither flights, nor what is live, nor coverage."""
    interest = service.set(wish(high=2), ANN)
    service.set(wish("KBOS"), ANN)
    for icao in ("KJFK", "KBOS"):
        service.cover(DEPARTURES, TODAY - 3 * DAY, TODAY, airport=icao)
    path = f"/interests/{interest.interest_id}/windows"
    tag = client.get(path, headers=ANNS).headers["ETag"]
    service.store(DEPARTURES, TODAY - 5 * HOUR, airport="KBOS")
    service.cover(DEPARTURES, TODAY - 3 * DAY, TODAY + HOUR, airport="KBOS")
    publish_live(service.database, Direction.ARRIVALS, [(1, TODAY + HOUR)])
    assert client.get(path, headers=ANNS | {"If-None-Match": tag}).status_code == 304
    service.store(DEPARTURES, TODAY - 5 * HOUR)
    assert client.get(path, headers=ANNS | {"If-None-Match": tag}).status_code == 200


def test_the_tag_of_a_learning_interest_changes_with_the_failure_that_is_told(
    client: FlaskClient, service: Service
) -> None:
    """The sentence names the source's failure, so a page must not keep the sentence of before."""
    interest = service.set(wish(high=None, low_percent=50), ANN)
    service.cover(DEPARTURES, TODAY - 3 * DAY, TODAY)
    path = f"/interests/{interest.interest_id}/windows"
    first = client.get(path, headers=ANNS)
    with service.database.transaction() as session:
        store_failure(session, SourceUnavailableError("away"), service.clock.now())
    second = client.get(path, headers=ANNS | {"If-None-Match": first.headers["ETag"]})
    assert second.status_code == 200
    assert "did not answer" in str(json_of(second)["interest"]["learning"])  # type: ignore[index, call-overload]
    assert client.get(path, headers=ANNS | {"If-None-Match": second.headers["ETag"]}).status_code == 304


def test_only_the_owner_sees_the_windows(client: FlaskClient, service: Service) -> None:
    """Another's interest, one that is not there and one that was removed are the same to everybody else."""
    interest = service.set(wish(), ANN)
    path = f"/interests/{interest.interest_id}/windows"
    assert client.get(path, headers=ANNS).status_code == 200
    other = client.get(path, headers=BOBS)
    missing = client.get("/interests/00000000-0000-0000-0000-000000000000/windows", headers=BOBS)
    assert status_of(other) == status_of(missing) == 404
    assert other.json == missing.json
    assert status_of(client.get(path, headers=BOBS | {"If-None-Match": "*"})) == 404
    assert status_of(client.get(path, headers=UNCONFIRMED)) == 403
    assert status_of(client.get(path)) == 401
    client.delete(f"/interests/{interest.interest_id}", headers=ANNS)
    assert status_of(client.get(path, headers=ANNS)) == 404


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("begin=2013-02-12T00:00:00Z&end=2013-02-11T00:00:00Z", "begin must be before end"),
        ("begin=2013-02-12T00:00:00Z&end=2013-02-12T00:00:00Z", "begin must be before end"),
        ("begin=2013-01-04T00:00:00Z&end=2013-02-13T00:00:01Z", "the range must be at most 40 days"),
        ("begin=2013-01-03T23:59:59Z", "begin must be 2013-01-04 or later: windows of before are not shown"),
        ("begin=0001-01-01T00:00:00Z", "begin must be 2013-01-04 or later: windows of before are not shown"),
        ("end=2013-01-04T00:00:00Z", "end must be after 2013-01-04: windows of before are not shown"),
        ("begin=2013-02-12T22:00:00Z&end=9999-12-31T00:00:00Z", "the range must be at most 40 days"),
        ("whole=true&begin=2013-02-12T22:00:00Z", "whole=true begins as early as possible: send either begin or whole"),
        ("whole=true&end=2013-01-04T00:00:00Z", "end must be after 2013-01-04"),
        ("begin=yesterday", "begin: must be an instant like 2026-07-01T00:00:00Z"),
        ("begin=1360000000", "begin: must be an instant like 2026-07-01T00:00:00Z"),
        ("begin=9999-12-31T23:59:59-14:00", "begin: must be an instant in the years 1 to 9999"),
    ],
)
def test_a_range_that_cannot_be_shown_is_refused_with_the_reason(
    client: FlaskClient, service: Service, query: str, text: str
) -> None:
    """Each sentence says what would be taken."""
    interest = service.set(wish(), ANN)
    refused = client.get(f"/interests/{interest.interest_id}/windows?{query}", headers=ANNS)
    assert status_of(refused) == 422
    assert str(refused.json and refused.json["detail"]).startswith(text)


@pytest.mark.parametrize(
    ("query", "first", "number"),
    [
        ("begin=2013-02-12T00:30:00Z&end=2013-02-12T03:30:00Z", "2013-02-12T01:00:00Z", 3),
        ("begin=2013-02-12T22:00:00Z&end=2013-03-01T00:00:00Z", "2013-02-12T22:00:00Z", 3),
        ("end=2013-02-12T00:00:00Z", "2013-02-10T00:00:00Z", 48),
        ("begin=2013-01-04T00:00:00Z", "2013-01-04T00:00:00Z", 961),
        ("end=2013-01-04T02:00:00Z", "2013-01-04T00:00:00Z", 2),
        ("begin=2013-02-20T00:00:00Z", None, 0),
        ("whole=true", "2013-01-04T00:00:00Z", 961),
        ("whole=true&end=2013-01-04T02:00:00Z", "2013-01-04T00:00:00Z", 2),
        ("whole=true&end=2013-03-01T00:00:00Z", "2013-01-04T00:00:00Z", 961),
        ("whole=false", "2013-02-11T01:00:00Z", 48),
    ],
)
def test_the_windows_that_start_in_the_range_are_shown(
    client: FlaskClient, service: Service, query: str, first: str | None, number: int
) -> None:
    """None that starts after the end of what is known."""
    interest = service.set(wish(), ANN)
    service.cover(DEPARTURES, TODAY - 60 * DAY, TODAY)
    windows = list(windows_by_start(show(client, interest.interest_id, f"?{query}")))
    assert (windows[0] if windows else None, len(windows)) == (first, number)


def test_former_versions_are_listed_also_of_removed_interests(client: FlaskClient, service: Service) -> None:
    """To their owner alone."""
    first = service.set(wish(high=2), ANN)
    service.set(wish(high=3), ANN)
    service.set(wish(high=3), ANN)  # nothing changes
    service.interests.remove(ANN, first.interest_id)
    listed = json_of(client.get("/interests/versions", headers=ANNS))["versions"]
    assert [(each["version"], each["high_value"]) for each in listed] == [(1, 2), (2, 3)]  # type: ignore[attr-defined]
    assert json_of(client.get("/interests/versions", headers=BOBS)) == {"versions": []}


def test_the_state_is_that_of_now_whatever_range_is_asked_for(client: FlaskClient, service: Service) -> None:
    """A range of last week says what is firing today."""
    interest = service.set(wish(high=0, effective_from=TODAY - 9 * DAY), ANN)
    service.cover(DEPARTURES, TODAY - 20 * DAY, TODAY)
    service.store(DEPARTURES, TODAY - MINUTE)
    answer = show(client, interest.interest_id, "?begin=2013-02-05T00:00:00Z&end=2013-02-05T05:00:00Z")
    assert len(answer["windows"]) == 5  # type: ignore[arg-type]
    assert (answer["state"]["kind"], answer["state"]["flights"]) == ("firing", 1)  # type: ignore[index]


def test_instants_of_the_answer_are_utc(client: FlaskClient, service: Service) -> None:
    """Whatever the database's driver returns."""
    interest = service.set(wish(), ANN)
    service.set(wish(high=9), ANN)
    service.cover(DEPARTURES, TODAY - 2 * DAY, TODAY)
    answer = show(client, interest.interest_id)
    for window in answer["windows"]:  # type: ignore[attr-defined]
        assert datetime.fromisoformat(window["window_start"]).utcoffset() == timedelta(0)


def test_windows_of_an_airport_of_which_nothing_is_known_go_on_with_the_clock(
    client: FlaskClient, service: Service
) -> None:
    """Without coverage the last window is that of the present: an answer of three hours ago lacks three windows."""
    interest = service.set(wish("KBOS"), ANN)
    path = f"/interests/{interest.interest_id}/windows"
    first = client.get(path, headers=ANNS)
    service.clock.advance(3 * HOUR)
    plain = client.get(path, headers=ANNS)
    assert json_of(plain)["windows"] != json_of(first)["windows"]
    assert client.get(path, headers=ANNS | {"If-None-Match": first.headers["ETag"]}).status_code == 200


def test_windows_are_read_while_another_transaction_writes(client: FlaskClient, service: Service) -> None:
    """As `Database.reading` promises of SQLite: reading waits for no writer, so a person's page does not either."""
    interest = service.set(wish(high=2), ANN)
    service.cover(DEPARTURES, TODAY - 3 * DAY, TODAY)
    answers: list[int] = []
    path = f"/interests/{interest.interest_id}/windows"
    reader = Thread(target=lambda: answers.append(client.get(path, headers=ANNS).status_code), daemon=True)
    with service.database.transaction() as session:
        session.execute(text("UPDATE coverage SET covered_until = covered_until"))
        reader.start()
        reader.join(4)
        found = list(answers)
    reader.join(30)
    assert found == [200], answers
