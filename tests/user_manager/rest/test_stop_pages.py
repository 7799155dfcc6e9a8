"""The page that stops one alert: for whoever has the link and for nobody else, safe from scanners, and repeatable."""

import json
import re
from dataclasses import replace
from html import unescape
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from structlog.testing import capture_logs

from domain.interests import Interest
from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service
from tests.user_manager.rest.test_interest_wording import INTEREST, KENNEDY
from tests.user_manager.rest.test_pages import MULTIPART
from user_manager.errors import CollectorRefusedError, CollectorUnavailableError

pytestmark = ON_SQLITE

ANN, BOB = UUID(int=8), UUID(int=9)
AWAY = CollectorUnavailableError("The collector is away. Nothing was changed.")


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return build_app(service).test_client()


def add(service: Service, **changes: object) -> Interest:
    """Let an interest with these changes exist, and return it."""
    interest = replace(INTEREST, **changes)  # type: ignore[arg-type]
    service.interests.interests[interest.interest_id] = interest
    return interest


def build_path(service: Service, interest_id: UUID = INTEREST.interest_id, user_id: UUID = ANN) -> str:
    """Build the path of the link that stops an interest."""
    return service.links.build_alert_stop_url(user_id, interest_id).removeprefix("https://towerwatch.example")


def read_page(response: object, kept: str | None = None) -> str:
    """Check a page's headers, and return its text as a reader sees it; `kept`: the language that the query chooses."""
    headers = response.headers  # type: ignore[attr-defined]
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    for part in ("default-src 'none'", "form-action 'self'", "frame-ancestors 'none'"):
        assert part in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "Location" not in headers
    assert [each.partition(";")[0] for each in headers.getlist("Set-Cookie")] == ([f"language={kept}"] if kept else [])
    text = response.text  # type: ignore[attr-defined]
    assert "<script" not in text
    return unescape(text)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_opening_the_link_says_what_it_stops_and_changes_nothing(
    client: FlaskClient, service: Service, method: str
) -> None:
    """A mail scanner opens links, also twice; the button alone stops, without a script and without signing in."""
    interest = add(service)
    for _ in range(2):
        response = client.open(build_path(service), method=method)
        assert response.status_code == 200
    assert service.interests.interests == {interest.interest_id: interest}
    if method == "GET":
        page = read_page(response)
        assert f"departures from {KENNEDY}, fewer than 5 flights in an hour" in page
        assert '<form method="post">' in page
        assert ">Stop this alert</button>" in page
        assert str(interest.user_id) not in page


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"List-Unsubscribe=One-Click", "application/x-www-form-urlencoded"),
        (b"", None),
        (MULTIPART, "multipart/form-data; boundary=b"),
        (b"{", "application/json"),
        (b"\xff", "nonsense"),
    ],
    ids=repr,
)  # fmt: skip
def test_one_post_stops_one_alert(client: FlaskClient, service: Service, body: bytes, content_type: str | None) -> None:
    """By the button or by a mail program (RFC 8058): no login, no cookie, no redirect, any body. The other interests
    stay, and the page says how to have it again."""
    interest, other = add(service), add(service, interest_id=uuid4(), airport="LICC")
    page = read_page(client.post(build_path(service), data=body, content_type=content_type))
    assert service.interests.interests == {other.interest_id: other}
    assert "This alert is stopped" in page
    assert f"departures from {KENNEDY}, fewer than 5 flights in an hour" in page
    assert '<a class="button primary" href="/watch">Watch an airport again</a>' in page
    assert "https://" not in page
    found = re.search(r"\{.*?\}", page[page.index("POST /interests") :])
    assert found is not None
    assert page.index("<details>") < page.index(found[0]) < page.index("</details>")
    assert json.loads(found[0]) == {
        "airport_icao": interest.airport, "direction": "departures", "window": "1h", "low_value": 5,
    }  # fmt: skip
    assert "<button" not in page


def test_a_link_opens_in_the_language_that_it_names(client: FlaskClient, service: Service) -> None:
    """Whatever the browser prefers: button and outcome, and the pages after it; but one click has no cookie."""
    add(service)
    path, english = f"{build_path(service)}?language=it", {"Accept-Language": "en"}
    response = client.post(path, data={"List-Unsubscribe": "One-Click"}, headers=english)
    assert "Set-Cookie" not in response.headers
    assert "Questo avviso è stato fermato" in read_page(response)
    add(service)
    assert "partenze dall’aeroporto" in read_page(client.get(path, headers=english), kept="it")
    assert '<html lang="it"' in client.get("/", headers=english).text
    assert '<html lang="en"' in client.get("/?language=en", headers=english).text


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_gone_is_stopped(client: FlaskClient, service: Service, method: str) -> None:
    """A second press, an interest that was removed elsewhere, one of a deleted account: each is a success."""
    registration = service.register_confirmed()
    service.deletions.delete(OPERATOR_TOKEN, "ann@example.org")
    for path in (build_path(service), build_path(service, user_id=registration.account.user_id)):
        response = client.open(path, method=method)
        assert response.status_code == 200
        page = read_page(response)
        assert "This alert is stopped" in page
        assert "stopped before, or its account is gone" in page
        assert 'href="/watch"' in page
        assert "<button" not in page


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_link_stops_nobody_elses_alert(client: FlaskClient, service: Service, method: str) -> None:
    """Even a genuine link that pairs a user with another's interest shows nothing of it, and leaves it."""
    interest = add(service, user_id=BOB)
    response = client.open(build_path(service, user_id=ANN), method=method)
    assert response.status_code == 200
    assert "KJFK" not in response.text
    assert service.interests.interests == {interest.interest_id: interest}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_only_a_link_of_this_kind_stops(client: FlaskClient, service: Service, method: str) -> None:
    """Links that are forged, cut, of another key, or of another kind get 400; the page does not repeat them."""
    interest, registration = add(service), service.register()
    genuine = build_path(service).removeprefix("/stop/")
    others = [
        "x",
        "<script>alert(1)<script>",
        genuine[:-1],
        f"{genuine}=",
        genuine.replace(str(ANN), str(BOB)),
        genuine.replace(str(interest.interest_id), str(uuid4())),
        service.build_unsubscription_token(registration),
        service.build_confirmation_token(registration),
        service.links.build_stop_url("a" * 32, "b" * 32).rpartition("/")[2],
        service.links.build_token_url(ANN, "c" * 64).rpartition("/")[2],
    ]
    for token in others:
        response = client.open(f"/stop/{token}", method=method)
        assert response.status_code == 400, token
        page = read_page(response)
        assert "not one of ours" in page
        assert "This alert is not stopped" in page
        assert "<button" not in page
        assert token not in page or token == "x"
    assert service.interests.interests == {interest.interest_id: interest}


@pytest.mark.parametrize("path", ["/confirm", "/unsubscribe", "/token", "/not-me", "/sign-in"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_link_does_nothing_else(client: FlaskClient, service: Service, path: str, method: str) -> None:
    """It is forged for every other page: it does not stop all alerts either."""
    account = service.register_confirmed()
    add(service, user_id=account.account.user_id)
    token = build_path(service, user_id=account.account.user_id).removeprefix("/stop/")
    headers = {"Sec-Fetch-Site": "same-origin"}
    assert client.open(f"{path}/{token}", method=method, headers=headers).status_code == 400
    assert not service.accounts.get(account.token or "", "ann@example.org").paused
    assert len(service.interests.interests) == 1


def test_without_the_collector_the_page_says_so(client: FlaskClient, service: Service) -> None:
    """503 with Retry-After, and that nothing was changed. Whoever pressed the button may press it again there; whoever
    only opened the link cannot stop what the page cannot name."""
    interest = add(service)
    service.interests.failure = AWAY
    for method, has_button in (("GET", False), ("POST", True)):
        response = client.open(build_path(service), method=method)
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        page = read_page(response)
        assert "Nothing was changed." in page
        assert ("<button" in page) is has_button
    assert service.interests.interests == {interest.interest_id: interest}
    service.interests.failure = None
    assert client.post(build_path(service)).status_code == 200
    assert not service.interests.interests


def test_a_refusal_of_the_collector_is_told(client: FlaskClient, service: Service) -> None:
    """502, without a button: the same request would be refused again."""
    add(service)
    service.interests.failure = CollectorRefusedError("The operator must look at it.")
    response = client.post(build_path(service))
    assert response.status_code == 502
    assert "<button" not in read_page(response)


def test_the_pages_speak_the_language_of_their_visitor(client: FlaskClient, service: Service) -> None:
    """The browser's, or the one that is chosen on the page, which the button keeps."""
    add(service)
    for query, headers in (("", {"Accept-Language": "it-IT,it;q=0.9,en;q=0.8"}), ("?language=it", {})):
        path = build_path(service) + query
        page = read_page(client.get(path, headers=headers), kept="it" if query else None)
        assert '<html lang="it">' in page
        assert "<h1>Ferma questo avviso</h1>" in page
        assert f"partenze dall’aeroporto {KENNEDY}, meno di 5 voli in un’ora" in page
        assert ">Ferma questo avviso</button>" in page
        assert "non riceverai più questo avviso" in page
    page = read_page(client.post(path))
    assert "<h1>Questo avviso è stato fermato</h1>" in page
    assert f"partenze dall’aeroporto {KENNEDY}, meno di 5 voli in un’ora" in page
    assert "Osserva di nuovo un aeroporto</a>" in page
    assert 'con il tuo token e questo JSON: {"airport_icao": "KJFK"' in page
    for method in ("GET", "POST"):
        page = read_page(client.open(path, method=method), kept="it" if method == "GET" else None)
        assert "<h1>Questo avviso è stato fermato</h1>" in page
        assert "fermato in precedenza oppure il suo account non esiste più" in page


@pytest.mark.parametrize(
    ("method", "failure", "status", "text", "button"),
    [
        ("GET", None, 400, "Questo link non è nostro o è incompleto.", ""),
        ("POST", None, 400, "Questo link non è nostro o è incompleto.", ""),
        ("GET", AWAY, 503, "Non è cambiato nulla", ""),
        ("POST", AWAY, 503, "Per quanto si sa, non è cambiato nulla.", "Riprova"),
        ("GET", CollectorRefusedError("An English text."), 502, "avvisa chi lo gestisce", ""),
        ("POST", CollectorRefusedError("An English text."), 502, "avvisa chi lo gestisce", ""),
    ],
)  # fmt: skip
def test_errors_speak_the_language_of_their_visitor(
    client: FlaskClient, service: Service, method: str, failure: Exception | None, status: int, text: str, button: str
) -> None:
    """Nothing of the English text is there. After a POST without an answer the page claims no more than it knows."""
    add(service)
    service.interests.failure = failure
    path = "/stop/x" if failure is None else build_path(service)
    response = client.open(path, method=method, headers={"Accept-Language": "it"})
    assert response.status_code == status
    page = read_page(response)
    assert "<h1>Questo avviso non è stato fermato</h1>" in page
    assert text in page
    assert failure is None or str(failure) not in page
    assert re.findall(r"<button[^>]*>(.*?)</button>", page) == ([button] if button else [])


def test_no_metric_and_no_log_holds_the_link(client: FlaskClient, service: Service) -> None:
    """A link authorizes its holder: metrics have the route alone, logs the ids without the signature."""
    add(service)
    path = build_path(service)
    signature = path.rpartition(".")[2]
    with capture_logs() as logs:
        for method in ("GET", "POST", "POST"):
            client.open(path, method=method)
    assert [each["event"] for each in logs] == ["alert.stopped"]
    exposition = client.get("/metrics").text
    assert 'endpoint="/stop/{token}"' in exposition
    for text in (exposition, str(logs)):
        assert signature not in text
    assert str(ANN) not in exposition
