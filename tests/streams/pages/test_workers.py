"""Tests of the pages as they are served: by two real workers, with a real broker and a real browser."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from http.client import HTTPConnection
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from domain.interests import Direction
from domain.windows import HOUR_S, seconds
from local.kafka import Broker
from streams.pages.rendering import UPDATE_INTERVAL_S
from tests.domain.logs import BASE, compute_expected_alerts
from tests.ports import free_port
from tests.streams import blizzard
from tests.streams.browser import PHONE, SCREENSHOTS, WIDE, require_installed, running_browser, visit
from tests.streams.pages.snowed_in_sources import SnowedInSources, serving_sources
from tests.streams.process import StreamsProcess, is_everything_acknowledged, publish, started_worker
from tests.waiting import eventually

PAGES = {
    "overview": "/overview",
    "airport": "/airports/KJFK",
    "airport-live": "/airports/LICC",
    "airport-6h": "/airports/KLGA?window=6h",
    "airport-1d": "/airports/KBOS?window=1d",
    "explain": f"/explain/{blizzard.EXPLAINED}",
    "stats": "/stats",
    "graph": "/graph",
}


def run_in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    """Run a call in another thread and return its result: a browser may run an event loop in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call, *arguments).result()


@pytest.fixture(scope="module")
def workers(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StreamsProcess, StreamsProcess]]:
    """Start two workers that share the partitions, and let them fold the blizzard."""
    folder = tmp_path_factory.mktemp("streams")
    port = free_port()
    with ExitStack() as stack:
        stack.enter_context(serving_sources(SnowedInSources(), port))
        both = tuple(
            stack.enter_context(
                started_worker(
                    folder, kafka.bootstrap_servers, COLLECTOR_GRPC_TARGET=f"127.0.0.1:{port}", **blizzard.CLOCK
                )
            )
            for _ in range(2)
        )
        eventually(lambda: all(each.is_ready() for each in both))
        eventually(lambda: all(len(get_json(each, "/api/stats")["partitions"]) == 6 for each in both))
        publish_and_wait(kafka, *blizzard.build_events())
        yield both  # type: ignore[misc]


@pytest.fixture(scope="module")
def chromium(workers: tuple[StreamsProcess, StreamsProcess]) -> Iterator[Browser]:
    """Start a browser after the workers, for its event loop runs in this thread; skip the test without Chromium."""
    require_installed()
    with running_browser() as browser:
        yield browser


def publish_and_wait(kafka: Broker, *events) -> None:
    """Publish events, and wait until the workers have folded and acknowledged them."""
    run_in_thread(publish, kafka.bootstrap_servers, events)
    eventually(lambda: run_in_thread(is_everything_acknowledged, kafka.bootstrap_servers))


def url(worker: StreamsProcess, path: str = "") -> str:
    return f"http://127.0.0.1:{worker.web_port}{path}"


def get_json(worker: StreamsProcess, path: str) -> Any:
    """Get the JSON of a page that must exist."""
    status, content_type, body = worker.get(path)
    assert status == 200, (path, body)
    assert content_type == "application/json"
    return json.loads(body)


def send_request(worker: StreamsProcess, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    """Send a request and return its status, headers and body; redirects are not followed."""
    connection = HTTPConnection("127.0.0.1", worker.web_port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def find_json(worker: StreamsProcess, path: str, is_complete: Callable[[Any], Any]) -> Any:
    """Return the JSON of a page once it is complete; on a busy machine a worker, or the collector, may be late."""

    def look() -> Any:
        """Return the JSON, or None if it is not there, or not complete yet."""
        status, _, body = worker.get(path)
        decoded = json.loads(body) if status == 200 else None
        return decoded if decoded is not None and is_complete(decoded) else None

    return eventually(look, f"the collector's answer in {path}")


def test_the_overview_has_a_light_for_each_source_from_either_worker(workers) -> None:
    """The worker that answers has asked the collector; an airport's owner has asked for its agreement."""
    for worker in workers:
        overview = find_json(worker, "/api/overview", lambda decoded: decoded["sources"]["at"])
        sources = overview["sources"]["sources"]
        assert [each["light"] for each in sources] == ["green", "amber", "red"]
        assert sources[1]["not_live"] == [["KSFO", "nobody hears KSFO"]]
        own = find_json(worker, "/api/overview?scope=worker", lambda decoded: True)
        assert own["sources"] is None
        airport = find_json(worker, "/api/airports/LICC", lambda decoded: decoded["agreement"]["directions"])
        (departures,) = airport["agreement"]["directions"]
        assert (departures["direction"], departures["days"][0]["recall"]) == ("departures", 0.95)


def test_each_worker_shows_all_airports_or_its_own(workers) -> None:
    """Each worker can answer for the whole group, and no airport is owned by both workers."""
    expected = {*blizzard.build_observations(), "KSFO"}
    shown = [{each["icao"]: each for each in get_json(worker, "/api/airports")} for worker in workers]
    assert [each.keys() for each in shown] == [expected, expected]
    own = [{each["icao"] for each in get_json(worker, "/api/airports?scope=worker")} for worker in workers]
    assert own[0] | own[1] == expected
    assert own[0] & own[1] == set()
    assert all(own)
    interests = Counter(each.airport for each in blizzard.build_interests())
    assert {icao: each["interests"] for icao, each in shown[0].items()} == {icao: interests[icao] for icao in expected}
    names = {worker["name"]: worker["answered"] for worker in get_json(workers[0], "/api/overview")["workers"]}
    assert names == {f"127.0.0.1:{worker.web_port}": True for worker in workers}


@pytest.mark.parametrize("asked_worker", [0, 1])
@pytest.mark.parametrize("icao", sorted(blizzard.build_observations()))
def test_the_counts_of_an_airport_are_those_of_its_flights_from_either_worker(workers, icao, asked_worker) -> None:
    """The counts are right for each hour and direction; the lag is measured against the workers' clock."""
    decoded = get_json(workers[asked_worker], f"/api/airports/{icao}")
    for series in decoded["series"]:
        flights = Counter(
            at // HOUR_S
            for seen in blizzard.build_observations()[icao]
            if seen.direction.value == series["direction"]
            for at in seen.event_times
        )
        counts = {seconds(datetime.fromisoformat(each["start"])) // HOUR_S: each["count"] for each in series["windows"]}
        assert {hour: count for hour, count in counts.items() if count} == flights
    departures = next(each for each in decoded["coverage"] if each["direction"] == "departures")
    assert datetime.fromisoformat(departures["watermark"]) == blizzard.END
    since_start = timedelta(seconds=departures["lag_s"]) - (blizzard.NOW - blizzard.END)
    assert timedelta() <= since_start < timedelta(minutes=10)


@pytest.mark.parametrize("asked_worker", [0, 1])
def test_an_interest_is_explained_by_either_worker(workers, asked_worker) -> None:
    """The explained alerts are those of the brute-force model."""
    interest = next(each for each in blizzard.build_interests() if each.interest_id == blizzard.EXPLAINED)
    decoded = get_json(workers[asked_worker], f"/api/explain/{interest.interest_id}")
    explained = {
        (bound["bound"], bound["state"], datetime.fromisoformat(each["start"]))
        for each in decoded["windows"]
        for bound in each["bounds"]
        if bound["said"]
    }
    assert explained == compute_expected_alerts(interest, blizzard.build_observations()["KJFK"]) != set()
    status, _, page = workers[asked_worker].get(f"/explain/{interest.interest_id}")
    assert status == 200
    assert "More than 20 or fewer than 1 departures" in page


def test_each_worker_shows_the_state_and_graph_of_either(workers) -> None:
    """The query names the worker; a host that is not in the consumer group is never requested."""
    partitions = []
    for worker in workers:
        name = f"127.0.0.1:{worker.web_port}"
        states = [get_json(each, f"/api/stats?worker={name}") for each in workers]
        assert [each["name"] for each in states] == [name, name]
        assert states[0]["state"] == "ready"
        assert {each["name"] for each in states[0]["tables"]} == {"airports", "interests", "history"}
        assert [each["name"] for each in states[0]["agents"]] == ["join"]
        assert all(each["backlog"] == 0 for each in states[0]["inputs"])
        partitions += states[0]["partitions"]
        graph = get_json(workers[0], f"/api/graph?worker={name}")
        assert graph["worker"] == name
    assert sorted(partitions) == list(range(12))
    inputs = [each for worker in workers for each in get_json(worker, "/api/stats")["inputs"]]
    read = sum(each["messages"] for each in inputs if each["name"] == "flights.observed.v1")
    assert read == sum(len(log) for log in blizzard.build_observations().values())
    for path in ("/stats", "/graph", "/api/stats"):
        assert workers[0].get(f"{path}?worker=example.com:80")[0] == 404


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/airports/KXXX", 404, "no airport has this ICAO code"),
        ("/airports/KSEA", 404, "is not watched"),
        ("/airports/nonsense", 404, "no airport has this ICAO code"),
        ("/airports/%3Cscript%3Ealert(1)%3C%2Fscript%3E", 404, "&lt;SCRIPT&gt;"),
        ("/airports/KJFK?window=2h", 404, "A window is 1h, 6h or 1d long."),
        ("/explain/00000000-0000-4000-8000-000000000000", 404, "No interest has this id"),
        ("/explain/%22%3E%3Cscript%3E", 404, "a UUID; this is none"),
        ("/overview?page=-1&show=%3Cscript%3E", 200, "Page 1 of 1|All 8"),
        ("/airports/kjfk", 200, "John F Kennedy"),
        ("/airports/KSFO", 200, "Nothing is covered yet"),
        ("/airports/ZZZ9", 200, "in no list of airports"),
        ("/static/nothing.js", 404, "no such file"),
    ],
)
def test_unusual_requests_have_clear_responses_from_either_worker(workers, path, status, text) -> None:
    """Each response has an escaped sentence and the strict headers."""
    for worker in workers:
        returned_status, headers, body = send_request(worker, "GET", path)
        assert returned_status == status
        assert re.search(text, body)
        assert "<script>" not in body.lower()
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert send_request(worker, "HEAD", path)[0::2] == (status, "")
    api = workers[0].get(f"/api{path}")
    if status == 404 and not path.startswith("/static"):
        assert api[:2] == (404, "application/problem+json")
        assert json.loads(api[2])["status"] == 404


def test_a_search_redirects_to_the_page_of_an_airport_or_interest(workers) -> None:
    """The search takes a code or an interest's id, and redirects only to pages of ours."""
    for wanted, page in (
        ("kjfk", "/airports/KJFK"),
        (str(blizzard.EXPLAINED), f"/explain/{blizzard.EXPLAINED}"),
        ("", "/overview"),
        ("//evil%0d%0aX:1", "/airports/%2F%2FEVIL%0D%0AX%3A1"),
    ):
        status, headers, _ = send_request(workers[0], "GET", f"/airports?find={wanted}")
        assert (status, headers["Location"]) == (303, page)


def test_a_request_from_another_worker_is_never_forwarded(workers) -> None:
    """Workers that disagree about an owner must not forward a request in a loop."""
    own = [{each["icao"] for each in get_json(worker, "/api/airports?scope=worker")} for worker in workers]
    foreign = sorted(own[1] - own[0])[0]
    status, _, body = send_request(workers[0], "GET", f"/airports/{foreign}", **{"Towerwatch-Asked-By": "test:1"})
    assert status == 503
    assert "moving from one worker to another" in body
    assert {each["icao"] for each in json.loads(
        send_request(workers[0], "GET", "/api/airports", **{"Towerwatch-Asked-By": "test:1"})[2]
    )} == own[0]  # fmt: skip


def test_no_page_shows_a_user_of_the_real_data(workers) -> None:
    """No page has a user id, and only the page of an interest has an interest id."""
    user_ids = {str(each.user_id) for each in blizzard.build_interests()}
    interest_ids = {str(each.interest_id) for each in blizzard.build_interests()}
    for path in PAGES.values():
        for worker, prefix in ((workers[0], ""), (workers[1], "/api")):
            status, _, body = worker.get(prefix + path)
            assert status == 200
            assert not [user_id for user_id in user_ids if user_id in body]
            shown = {interest_id for interest_id in interest_ids if interest_id in body}
            assert shown == ({str(blizzard.EXPLAINED)} if "explain" in path else set())


def test_folded_flights_and_raised_alerts_are_shown_within_seconds(kafka: Broker, workers) -> None:
    """Each worker shows the rates and the recent alerts of the whole group."""
    publish_and_wait(kafka, blizzard.build_extra_hour("EGLL", 61))
    for worker in workers:
        overview = eventually(
            lambda worker=worker: (
                (decoded := get_json(worker, "/api/overview"))["alerts"][0]["airport"] == "EGLL" and decoded
            ),
            "the alert on the overview",
        )
        newest = overview["alerts"][:2]
        shown = {(each["bound"], each["state"], each["count"], each["alerts"]) for each in newest}
        assert shown == {("low", "RESOLVED", 61, 9), ("high", "FIRING", 61, 9)}
        assert datetime.fromisoformat(newest[0]["raised_at"]) > blizzard.NOW
        eventually(
            lambda worker=worker: 61 in get_json(worker, "/api/overview")["flights_by_second"],
            "61 flights in one second",
        )
        egll = next(each for each in overview["airports"] if each["icao"] == "EGLL")
        assert [(each["bound"], each["interests"]) for each in egll["breaches"]] == [("high", 9)]
        assert get_json(worker, "/api/airports/EGLL")["alerts"][:2] == newest


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_works_in_a_browser(chromium: Browser, workers, scheme, viewport) -> None:
    """A page has no error, no failed request and no overflow; the test takes a screenshot of each."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    size = "phone" if viewport is PHONE else "wide"
    with visit(chromium, url(workers[0], "/overview"), color_scheme=scheme, viewport=viewport) as visited:
        for name, path in PAGES.items():
            visited.page.goto(url(workers[len(name) % 2], path))
            expect(visited.page.get_by_role("heading", level=1)).to_be_visible()
            assert visited.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], name
            visited.page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{size}.png", full_page=True)
        ground = visited.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 384) == (scheme == "light")
        assert visited.faults == []


def test_the_browser_shows_the_numbers_of_the_scenario(chromium: Browser, workers) -> None:
    """Bars, thresholds, gaps and alerts in the browser are those of the blizzard."""
    with visit(chromium, url(workers[0], "/overview")) as visited:
        row = visited.page.locator('tr[data-key="KBOS"]')  # the table of recent alerts may name the airport, too
        expect(row).to_contain_text("General Edward Lawrence Logan International Airport")
        expect(row).to_contain_text("Mon 11 Feb 00:00")
        expect(row).to_contain_text("2 h 2")
        expect(row).to_contain_text("9 interests")
        visited.page.get_by_role("link", name="KJFK").first.click()
        expect(visited.page).to_have_url(url(workers[0], "/airports/KJFK"))
        chart = visited.page.get_by_role("figure", name="Departures an hour")
        counts = _count_hourly("KJFK", Direction.DEPARTURES)
        bars = chart.locator("rect.bar")
        expect(bars).to_have_count(72)
        tooltips = [bar.text_content() for bar in bars.all()]
        assert [int(re.search(r": (\d+) departure", text)[1]) for text in tooltips] == counts
        assert chart.locator("rect.bar.over").count() == sum(count > 20 for count in counts)
        assert chart.locator("rect.bar.under").count() == sum(count < 1 for count in counts)
        expect(chart.get_by_text("more than 20", exact=True)).to_be_visible()
        expect(visited.page.get_by_role("figure", name="Arrivals an hour").locator("rect.band.gap")).to_have_count(1)
        thresholds = visited.page.get_by_role("group", name="Thresholds in force")
        expect(thresholds.get_by_role("row").filter(has_text="more than 24, 2 windows in a row")).to_contain_text("4")
        chart.get_by_text("The counts of departures as a table").click()
        expect(chart.get_by_role("row")).to_have_count(73)
        visited.page.get_by_role("link", name="6 hours").click()
        expect(visited.page.get_by_role("figure", name="Arrivals and departures in 6 hours")).to_be_visible()
        assert visited.faults == []


def _count_hourly(icao: str, direction: Direction) -> list[int]:
    """Return the flights of an airport and direction in each hour of the blizzard."""
    hours = Counter(
        (at - seconds(BASE)) // HOUR_S
        for seen in blizzard.build_observations()[icao]
        if seen.direction is direction
        for at in seen.event_times
    )
    return [hours[hour] for hour in range(72)]


def test_the_browser_shows_live_hours_and_sources(chromium: Browser, workers) -> None:
    """The lane below the chart and the table say which hours are live; the overview has a light for each source."""
    with visit(chromium, url(workers[0], "/airports/LICC"), viewport={"width": 360, "height": 780}) as visited:
        chart = visited.page.get_by_role("figure", name="Departures an hour")
        lane = chart.locator("g.lane")
        expect(lane.get_by_text("night's record", exact=True)).to_be_visible()
        expect(lane.get_by_text("seen live", exact=True)).to_be_visible()
        assert [each.get_attribute("class") for each in lane.locator("> g").all()] == ["settled", "live", "gap", "live"]
        expect(chart.get_by_role("img", name="48 from the night's record, 23 seen live, 1 with a gap")).to_be_visible()
        chart.get_by_text("The counts of departures as a table").click()
        expect(chart.get_by_role("row").nth(1)).to_contain_text("closed, seen live")
        expect(chart.get_by_role("row").nth(72)).to_contain_text("closed, from the night's record")
        expect(visited.page.get_by_role("group", name="Agreement")).to_contain_text("95 %", timeout=60_000)
        assert visited.page.evaluate("document.documentElement.scrollWidth") <= 360
        visited.page.get_by_role("link", name="Airports", exact=True).first.click()
        source = visited.page.locator(".sources li").filter(has_text="Positions from OpenSky")
        expect(source).to_contain_text("needs a look", timeout=60_000)
        source.get_by_text("1 airport is not live here").click()
        expect(source).to_contain_text("nobody hears KSFO")
        expect(visited.page.locator(".sources")).to_contain_text("gives nothing")
        assert visited.page.evaluate("document.documentElement.scrollWidth") <= 360
        assert visited.faults == []


def test_a_page_updates_itself_in_place(chromium: Browser, kafka: Broker, workers) -> None:
    """New numbers appear; focus, scroll position and opened details stay; a pause stops the updates."""
    with visit(chromium, url(workers[0], "/airports/KLGA")) as visited:
        figure = visited.page.get_by_role("figure", name="Departures an hour")
        summary = figure.get_by_text("The counts of departures as a table")
        summary.click()
        summary.focus()
        visited.page.evaluate("window.scrollTo(0, 240); window.here = document.querySelector('figure')")
        publish_and_wait(kafka, blizzard.build_extra_hour("KLGA", 33))
        expect(figure.get_by_role("row").nth(1)).to_contain_text("Mon 11 Feb 00:00–01:00", timeout=8000)
        expect(figure.get_by_role("row").nth(1)).to_contain_text("33")
        assert visited.page.evaluate("document.activeElement.tagName") == "SUMMARY"
        assert visited.page.evaluate("document.querySelector('figure') === window.here")
        assert visited.page.evaluate("window.scrollY") == 240
        visited.page.get_by_role("button", name="Pause").click()
        expect(visited.page.get_by_role("status")).to_contain_text("Paused at")
        publish_and_wait(kafka, blizzard.build_extra_hour("KLGA", 44, hour=1))
        # Wait longer than an update would take.
        with pytest.raises(AssertionError):
            expect(figure).to_contain_text("Mon 11 Feb 01:00–02:00", timeout=1000 * UPDATE_INTERVAL_S + 500)
        visited.page.get_by_role("button", name="Resume").click()
        expect(figure.get_by_role("row").nth(1)).to_contain_text("Mon 11 Feb 01:00–02:00")
        expect(visited.page.get_by_role("status")).to_have_text("Updating")
        assert visited.faults == []


_FOCUS_SCRIPT = """() => {
  const at = document.activeElement, box = at.getBoundingClientRect(), style = getComputedStyle(at);
  const visible = box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight;
  return [at.textContent.trim(), style.outlineStyle, parseFloat(style.outlineWidth), visible, at.tagName];
}"""
"""Script that returns the focused element's text, outline style, outline width in pixels, visibility and tag."""


def test_everything_can_be_reached_by_keyboard(chromium: Browser, workers) -> None:
    """The first stop skips the navigation, every stop is visible, and Enter follows a link."""
    with visit(chromium, url(workers[1], "/overview")) as visited:
        stops = []
        for _ in range(60):
            visited.page.keyboard.press("Tab")
            stop = visited.page.evaluate(_FOCUS_SCRIPT)
            if stop[4] == "BODY":
                break
            stops.append(stop)
        assert stops[0][0] == "Skip to the content"
        assert all(style == "solid" and width >= 2 and visible for _, style, width, visible, _ in stops), stops
        reached = [text for text, *_ in stops]
        for wanted in ("Airports", "Worker", "Graph", "Show", "Pause", "EGLL", "KJFK", "ZZZ9"):
            assert wanted in reached
        visited.page.reload()
        visited.page.keyboard.press("Tab")
        visited.page.keyboard.press("Enter")
        assert visited.page.evaluate("document.activeElement.id") == "main"
        visited.page.get_by_role("link", name="KBOS").first.focus()
        visited.page.keyboard.press("Enter")
        expect(visited.page.get_by_role("heading", level=1)).to_contain_text("KBOS")
        visited.page.get_by_label("An airport's ICAO code, or an interest's id").fill("licc")
        visited.page.keyboard.press("Enter")
        expect(visited.page.get_by_role("heading", level=1)).to_contain_text("LICC")


def test_the_pages_work_without_javascript(chromium: Browser, workers) -> None:
    """The browser reloads the page by itself, and the button that needs a script is hidden."""
    with visit(chromium, url(workers[0], "/overview"), java_script_enabled=False) as visited:
        expect(visited.page.get_by_role("link", name="KJFK").first).to_be_visible()
        expect(visited.page.get_by_role("button", name="Pause")).to_be_hidden()
        assert '<noscript><meta http-equiv="refresh"' in visited.page.content()


def test_the_pages_report_a_dead_worker_until_another_takes_over(workers) -> None:
    """The pages report the missing worker, then show the same airports. Must be the last test: it kills a worker."""
    left, right = workers
    lost = sorted({each["icao"] for each in get_json(right, "/api/airports?scope=worker")})
    right.kill()
    status, headers, body = send_request(left, "GET", f"/airports/{lost[0]}")
    assert status == 502
    assert "does not answer" in body
    assert "live.js" in body, "the page updates itself"
    assert send_request(left, "GET", f"/api/airports/{lost[0]}")[1]["Content-Type"] == "application/problem+json"
    assert "Not everything is shown" in left.get("/overview")[2]
    assert send_request(left, "GET", f"/explain/{blizzard.EXPLAINED}")[0] in (200, 502)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    eventually(lambda: left.get(f"/airports/{lost[0]}")[0] == 200, "the takeover")
    assert {each["icao"] for each in get_json(left, "/api/airports")} == {*blizzard.build_observations(), "KSFO"}
    eventually(lambda: "Not everything is shown" not in left.get("/overview")[2])
