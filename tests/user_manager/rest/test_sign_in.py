"""Signing in over HTTP: pages without JavaScript, the cookie, the sessions, and requests that other pages forge."""

import re
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from itsdangerous import TimestampSigner
from sqlalchemy import select
from werkzeug.test import TestResponse

from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, PUBLIC_URL, Service
from user_manager.deletion.records import build_due_deletion
from user_manager.errors import CollectorUnavailableError
from user_manager.model import MailRequest, WebSession

pytestmark = ON_SQLITE

ANN, BOB = "ann@example.org", "bob@example.org"
NAME = "__Host-towerwatch-session"
OWN = {"Origin": PUBLIC_URL}
SAME = {"Sec-Fetch-Site": "same-origin"}
FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"}
FOREIGN = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": PUBLIC_URL},
    {"Origin": "https://evil.example"},
    {"Origin": "https://sub.towerwatch.example"},
    {"Origin": "http://towerwatch.example"},
    {"Origin": "null"},
)


@pytest.fixture
def client(service: Service) -> FlaskClient:
    """A browser that keeps no cookie by itself: each request of a test says which it sends."""
    service.register_confirmed(ANN)
    service.register_confirmed(BOB)
    return build_app(service).test_client(use_cookies=False)


def cookie(value: str, name: str = NAME) -> dict[str, str]:
    """Return the header with a cookie of this value and name."""
    return {"Cookie": f"{name}={value}"}


def sign_in(client: FlaskClient, service: Service, email: str = ANN) -> dict[str, str]:
    """Follow a new link by its button; return the header with the cookie that the browser keeps."""
    response = client.post(f"/sign-in/{service.request_sign_in_token(email)}", headers=OWN | FIREFOX)
    assert response.status_code == 303, response.text
    return cookie(find_secret(response))


def get_cookie_header(response: TestResponse) -> str:
    """Return the header that sets or deletes the session's cookie.

    The only other one is for the cookie that says that there is a session; it is set and deleted together with it.
    """
    header, mark = response.headers.getlist("Set-Cookie")
    value = "yes" if re.match(r"[^=]+=[^;]", header) else ""
    name, _, attributes = header.partition(";")
    expected = attributes.replace("SameSite=Strict", "SameSite=Lax")
    assert mark == f"{name.partition('=')[0].replace('-session', '-signed-in')}={value};{expected}"
    return header


def find_secret(response: TestResponse) -> str:
    """Return the secret in the session's cookie that a response sets."""
    header = get_cookie_header(response)
    found = re.match(rf"{NAME}=([^;]+);", header)
    assert found is not None, header
    return found[1]


def assert_page(response: TestResponse, status: int, says: str) -> None:
    """Assert status and text of a page, and the headers against framing, caching, scripts and foreign referrers."""
    assert response.status_code == status, response.text
    assert response.content_type == "text/html; charset=utf-8"
    assert says in response.text
    policy = response.headers["Content-Security-Policy"]
    for part in ("default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert part in policy
    assert response.headers["Referrer-Policy"] == "same-origin", "else no form would say where it comes from"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"


def assert_problem(response: TestResponse, status: int, says: str) -> None:
    """Assert that a response has problem details with this status, whose sentence says what to do."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    assert response.json is not None
    assert says in response.json["detail"]
    assert response.headers["Cache-Control"] == "no-store"


def count_sessions(service: Service) -> int:
    """Return the number of stored sessions."""
    with service.database.transaction() as session:
        return len(session.scalars(select(WebSession)).all())


def test_the_button_signs_in(client: FlaskClient, service: Service) -> None:
    """GET and HEAD of the link, which scanners send, change nothing; the button's POST sets a cookie that no script
    reads, that goes over TLS only and with no request of another site. A second POST finds the link void."""
    path = f"/sign-in/{service.request_sign_in_token()}"
    client.head(path)
    page = client.get(path)
    assert_page(page, 200, ">Sign in</button>")
    assert ANN in page.text, "whoever presses sees which account it is"
    assert '<form method="post">' in page.text
    assert "Set-Cookie" not in page.headers
    assert count_sessions(service) == 0
    signed_in = client.post(path, headers=SAME | FIREFOX)
    assert (signed_in.status_code, signed_in.headers["Location"]) == (303, "/"), "the first page follows"
    assert signed_in.headers["Cache-Control"] == "no-store"
    header = get_cookie_header(signed_in)
    attributes = set(header.split("; ")[1:])
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict", "Max-Age=15552000"} <= attributes
    assert not any(each.startswith("Domain") for each in attributes)
    secret = find_secret(signed_in)
    assert len(secret) == 43
    assert secret not in signed_in.text
    for again in (client.post(path, headers=SAME), client.get(path)):
        assert_page(again, 410, "This link was used already")
        assert "Set-Cookie" not in again.headers
    assert count_sessions(service) == 1


def test_on_plain_http_the_cookie_has_no_prefix(service: Service) -> None:
    """Browsers refuse __Host- and Secure there; everything else stays."""
    service.register_confirmed(ANN)
    client = build_app(service, public_url="http://127.0.0.1:8520").test_client(use_cookies=False)
    headers = {"Origin": "http://127.0.0.1:8520"}
    response = client.post(f"/sign-in/{service.request_sign_in_token()}", headers=headers)
    header = get_cookie_header(response)
    assert header.startswith("towerwatch-session=")
    assert {"HttpOnly", "Path=/", "SameSite=Strict"} <= set(header.split("; "))
    assert "Secure" not in header


def test_the_form_asks_for_a_mail(client: FlaskClient, service: Service) -> None:
    """Without JavaScript; the answer is the same for each address, and repeats none."""
    assert_page(client.get("/sign-in/mail"), 200, 'type="email" name="email"')
    answers = [client.post("/sign-in/mail", data={"email": each}, headers=OWN) for each in (ANN, "nobody@example.org")]
    for answer in answers:
        assert_page(answer, 202, "Look into your mailbox")
        assert 'type="email" name="email"' in answer.text, "the page leads on: to another mail, or another address"
        assert "example.org" not in answer.text
    assert answers[0].text == answers[1].text
    assert dict(answers[0].headers) == dict(answers[1].headers)
    for wrong in ({}, {"email": ""}, {"email": "<b>x</b>"}):
        page = client.post("/sign-in/mail", data=wrong, headers=OWN)
        assert_page(page, 422, "This is not an e-mail address")
        assert "<b>" not in page.text


def test_the_answer_never_tells_who_is_registered(client: FlaskClient) -> None:
    """Nor does a pause, or what the address looks like."""
    addresses = [ANN, ANN, "nobody@example.org", "ann+tag@example.org"]
    answers = [client.post("/sign-in", json={"email": each}) for each in addresses]
    assert {(each.status_code, each.data, str(each.headers)) for each in answers} == {
        (202, b"", str(answers[0].headers))
    }
    assert_problem(client.post("/sign-in", json={"email": "nobody"}), 422, "This is not an e-mail address")
    assert_problem(client.post("/sign-in", data={"email": ANN}), 415, "Send JSON")


def test_one_client_may_not_ask_too_often(service: Service) -> None:
    """JSON, form and renewal count together at a replica; all replicas count clients in the database, too."""
    client = build_app(service, registration_limit="2/minute").test_client()
    assert client.post("/sign-in", json={"email": ANN}).status_code == 202
    assert client.post("/sign-in/mail", data={"email": BOB}, headers=OWN).status_code == 202
    assert_problem(client.post("/sign-in", json={"email": ANN}), 429, "too often")
    assert_page(client.post("/sign-in/mail", data={"email": BOB}, headers=OWN), 429, "too often")
    assert_page(client.post("/sign-in/x", data={"again": "yes"}, headers=OWN), 429, "too often")


@pytest.mark.parametrize("headers", [*FOREIGN, {}, {"Sec-Fetch-Site": "none"}], ids=str)
def test_no_other_page_signs_a_visitor_in_or_asks_for_mails(
    client: FlaskClient, service: Service, headers: dict[str, str]
) -> None:
    """Else a foreign page could sign its visitors in to the attacker's account (login CSRF), or let them ask for mails
    to anybody, each from an address of their own."""
    link = service.request_sign_in_token()
    for path, data in (
        (f"/sign-in/{link}", {}),
        (f"/sign-in/{link}", {"again": "yes"}),
        ("/sign-in/mail", {"email": BOB}),
    ):
        response = client.post(path, data=data, headers=headers)
        assert_page(response, 403, "cookie does not count")
        assert "Set-Cookie" not in response.headers
    assert count_sessions(service) == 0
    assert service.sign_ins.check_link(link).email == ANN, "the link is as good as before"
    with service.database.transaction() as session:
        assert session.scalars(select(MailRequest.email).where(MailRequest.kind == "sign_in")).all() == [ANN]


def test_a_link_that_is_too_old_asks_for_another(
    client: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not sign in; its page has a button for a new mail, which works once."""
    path = f"/sign-in/{service.request_sign_in_token()}"
    later = int(time.time() + 3600)
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _self: later)
    for page in (client.get(path), client.post(path, headers=OWN)):
        assert_page(page, 410, ">Mail me a new link</button>")
        assert 'name="again" value="yes"' in page.text
        assert "Set-Cookie" not in page.headers
    assert_page(client.post(path, data={"again": "yes"}, headers=OWN), 202, "new link is on its way")
    for page in (client.post(path, data={"again": "yes"}, headers=OWN), client.get(path)):
        assert_page(page, 410, "another was asked for since")


def test_a_forged_link_gets_a_page(client: FlaskClient) -> None:
    """Nothing of the link is repeated."""
    for response in (client.get("/sign-in/%3Cb%3E"), client.post("/sign-in/%3Cb%3E", headers=OWN)):
        assert_page(response, 400, "This link is not one of ours")
        assert "<b>" not in response.text


def test_the_session_is_who_is_signed_in(client: FlaskClient, service: Service) -> None:
    """A page cannot read the cookie: it asks. Signing out deletes the cookie, also a second time."""
    anns = sign_in(client, service)
    response = client.get("/session", headers=anns | SAME)
    assert response.json is not None
    assert response.json["user"]["email"] == ANN
    session = response.json["session"]
    assert (session["device"], session["is_current"]) == ("Firefox on Linux", True)
    assert anns["Cookie"].partition("=")[2] not in response.text
    assert set(session) == {"session_id", "device", "created_at", "last_used_at", "ends_at", "is_current"}
    for _ in range(2):
        out = client.delete("/session", headers=anns | SAME)
        assert (out.status_code, out.data) == (204, b"")
        header = get_cookie_header(out)
        assert header.startswith(f"{NAME}=;")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict", "Max-Age=0"} <= set(header.split("; "))
    assert_problem(client.get("/session", headers=anns | SAME), 401, "You are signed out")
    assert_problem(client.get("/session"), 401, "POST /sign-in")
    assert_problem(client.get("/session", headers={"Authorization": "Bearer x"}), 401, "POST /sign-in")


def list_routes(email: str, session_id: str) -> list[tuple[str, str, dict[str, object]]]:
    """Return each route of an account: its method and path, and a body."""
    return [
        ("GET", f"/users/{email}", {}),
        ("PATCH", f"/users/{email}", {"name": "Mallory"}),
        ("GET", f"/users/{email}/export", {}),
        ("GET", f"/users/{email}/confirmation", {}),
        ("POST", f"/users/{email}/confirmation", {}),
        ("POST", f"/users/{email}/token", {}),
        ("GET", f"/users/{email}/sessions", {}),
        ("DELETE", f"/users/{email}/sessions/{session_id}", {}),
        ("DELETE", f"/users/{email}/sessions", {}),
        ("DELETE", f"/users/{email}", {}),
    ]


def test_the_list_above_has_every_route_of_an_account(client: FlaskClient) -> None:
    """A new one is attacked, too."""
    found = {
        (method, str(rule))
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if "<address:email>" in str(rule) and "verify" not in str(rule)
    }
    listed = list_routes("<address:email>", "<uuid:session_id>")
    assert found == {(method, path) for method, path, _ in listed}


def test_a_session_opens_nobody_elses_account(client: FlaskClient, service: Service) -> None:
    """On every route, whether the other address has an account; nor what the operator may."""
    anns, bobs = sign_in(client, service), sign_in(client, service, BOB)
    (other,) = client.get(f"/users/{BOB}/sessions", headers=bobs | SAME).json["sessions"]  # type: ignore[index]
    for email in (BOB, "nobody@example.org"):
        for method, path, body in list_routes(email, other["session_id"]):
            headers = anns | SAME | {"If-Match": "*"}
            assert_problem(client.open(path, method=method, json=body, headers=headers), 403, "for another account")
    for path in ("/users", f"/users/verify/{BOB}"):
        assert_problem(client.get(path, headers=anns | SAME), 403, "Only the operator")
    taken = client.delete(f"/users/{ANN}/sessions/{other['session_id']}", headers=anns | SAME)
    assert_problem(taken, 404, "no session with this id")
    assert client.get(f"/users/{BOB}", headers=bobs | SAME).json["user"]["name"] == "Ann"  # type: ignore[index]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_of_another_origin_uses_no_cookie(
    client: FlaskClient, service: Service, headers: dict[str, str]
) -> None:
    """On every route, reading or writing: of another site, and of a sibling that SameSite counts as the same."""
    anns = sign_in(client, service)
    for method, path, body in [*list_routes(ANN, str(uuid4())), ("GET", "/session", {}), ("DELETE", "/session", {})]:
        response = client.open(path, method=method, json=body, headers=anns | headers | {"If-Match": "*"})
        assert_problem(response, 403, "a page of another origin")
        assert "Set-Cookie" not in response.headers
    assert client.get("/session", headers=anns | SAME).status_code == 200


def test_a_change_says_where_it_comes_from(client: FlaskClient, service: Service) -> None:
    """With neither header a request may read only; typing an address, too."""
    anns = sign_in(client, service)
    for unsaid in ({}, {"Sec-Fetch-Site": "none"}):
        assert client.get(f"/users/{ANN}", headers=anns | unsaid).status_code == 200
        for method, path, body in list_routes(ANN, str(uuid4())):
            if method != "GET":
                response = client.open(path, method=method, json=body, headers=anns | unsaid | {"If-Match": "*"})
                assert_problem(response, 403, "the session's cookie does not count")
    changed = client.patch(f"/users/{ANN}", json={"paused": True}, headers=anns | OWN | {"If-Match": "*"})
    assert changed.status_code == 200
    for own in (OWN, {"Origin": "http://localhost"}):  # the public address, and the one that was asked
        assert client.post(f"/users/{ANN}/token", headers=anns | own).status_code == 200


def test_another_host_header_makes_no_origin_an_own_one(client: FlaskClient, service: Service) -> None:
    """A foreign host is refused before anything is read; links and cookies never follow the header."""
    anns = sign_in(client, service)
    evil = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert client.patch(f"/users/{ANN}", json={"paused": True}, headers=anns | evil).status_code == 421
    assert client.post(f"/sign-in/{service.request_sign_in_token()}", headers=evil).status_code == 421
    client.post("/sign-in", json={"email": BOB}, headers={"Host": "127.0.0.1"})
    assert service.request_sign_in_token(BOB)
    with service.database.transaction() as session:
        ids = session.scalars(select(MailRequest.request_id).where(MailRequest.kind == "sign_in")).all()
    for contact in service.accounts.load_contacts([str(each) for each in ids]):
        assert contact.sign_in_url.startswith(f"{PUBLIC_URL}/sign-in/")


def test_a_bearer_token_goes_before_a_cookie(client: FlaskClient, service: Service) -> None:
    """Also a wrong one: a program must not act as somebody else. Another scheme is of a proxy in front."""
    anns = sign_in(client, service)
    bobs = {"Authorization": f"Bearer {service.accounts.rotate_token(OPERATOR_TOKEN, BOB)}"}
    assert client.get(f"/users/{BOB}", headers=anns | bobs).status_code == 200
    assert client.get(f"/users/{BOB}", headers=anns | bobs | FOREIGN[0]).status_code == 200
    assert_problem(client.get(f"/users/{ANN}", headers=anns | bobs | SAME), 403, "This token is for another")
    for wrong in ("Bearer nonsense", "bearer nonsense", "Bearer ", "Bearer"):
        assert client.get(f"/users/{ANN}", headers=anns | SAME | {"Authorization": wrong}).status_code == 401
    assert client.get(f"/users/{ANN}", headers=anns | SAME | {"Authorization": "Basic eDp5"}).status_code == 200


def test_a_cookie_that_is_none_opens_nothing(client: FlaskClient, service: Service) -> None:
    """Two cookies of the name are ambiguous: another host may have set one. Any other text is refused in words."""
    anns = sign_in(client, service)
    secret = anns["Cookie"].partition("=")[2]
    for value, says in (
        (f"{secret}; {NAME}={'x' * 43}", "two cookies"), (f"{'x' * 43}; {NAME}={secret}", "two cookies"),
        ("", "damaged"), ("x" * 30 + ".", "damaged"), ("x" * 5000, "damaged"), ("x" * 43, "signed out"),
        (secret[:-1], "signed out"), (secret + "A", "signed out"),
    ):  # fmt: skip
        assert_problem(client.get(f"/users/{ANN}", headers=SAME | cookie(value)), 401, says)
    assert client.get(f"/users/{ANN}", headers=SAME | cookie(secret, "towerwatch-session")).status_code == 401
    assert client.get(f"/users/{ANN}", headers=SAME | {"Authorization": f"Bearer {secret}"}).status_code == 401


def test_a_cookie_from_before_is_not_taken_over(client: FlaskClient, service: Service) -> None:
    """Session fixation: whoever planted a cookie before the person signs in has nothing afterwards."""
    planted = cookie("x" * 43)
    first = sign_in(client, service)
    for before in (planted, first):
        link = service.request_sign_in_token()
        response = client.post(f"/sign-in/{link}", headers=OWN | before)
        assert cookie(find_secret(response)) != before
        assert client.get("/session", headers=before | SAME).status_code == 401


def test_ending_sessions(client: FlaskClient, service: Service) -> None:
    """One by one or all; a browser that ends its own session forgets its cookie."""
    phone, desk = sign_in(client, service), sign_in(client, service)
    found = client.get(f"/users/{ANN}/sessions", headers=desk | SAME)
    assert found.json is not None
    ids = {each["is_current"]: each["session_id"] for each in found.json["sessions"]}
    other = client.delete(f"/users/{ANN}/sessions/{ids[False]}", headers=desk | SAME)
    assert (other.status_code, "Set-Cookie" in other.headers) == (204, False)
    assert client.get("/session", headers=phone | SAME).status_code == 401
    own = client.delete(f"/users/{ANN}/sessions/{ids[True]}", headers=desk | SAME)
    assert (own.status_code, "Set-Cookie" in own.headers) == (204, True)
    last = sign_in(client, service)
    ended = client.delete(f"/users/{ANN}/sessions", headers=last | SAME)
    assert (ended.status_code, "Set-Cookie" in ended.headers) == (204, True)
    assert client.get("/session", headers=last | SAME).status_code == 401
    assert client.get(f"/users/{ANN}", headers=last | SAME).status_code == 401


@pytest.mark.parametrize("how", ["deleted", "signed out", "ended elsewhere", "idle", "too old", "registered anew"])
def test_a_session_that_is_over_opens_no_route(client: FlaskClient, service: Service, how: str) -> None:
    """Whoever deletes the account by the cookie is signed out by it; an idle session ends by itself; and none opens the
    account that somebody registers later with the address."""
    ended, other = sign_in(client, service), sign_in(client, service)
    if how in ("deleted", "registered anew"):
        assert client.delete(f"/users/{ANN}", headers=other | SAME).status_code == 204
    if how == "registered anew":
        service.register_confirmed(ANN)
    if how == "signed out":
        assert client.delete("/session", headers=ended | SAME).status_code == 204
    if how == "ended elsewhere":
        assert client.delete(f"/users/{ANN}/sessions", headers=other | SAME).status_code == 204
    if how == "idle":
        service.clock.advance(timedelta(days=30))
    for _ in range(10 if how == "too old" else 0):
        client.get("/session", headers=ended | SAME)
        service.clock.advance(timedelta(days=20))
    routes = [*list_routes(ANN, str(uuid4())), ("GET", "/session", {}), ("GET", "/users", {})]
    for method, path, body in routes:
        response = client.open(path, method=method, json=body, headers=ended | SAME | {"If-Match": "*"})
        assert_problem(response, 401, "You are signed out")
    if how not in ("deleted", "registered anew"):
        assert service.accounts.get(OPERATOR_TOKEN, ANN).name == "Ann", "no route has changed anything"


def test_whoever_deletes_the_account_in_a_browser_is_signed_out_by_it(client: FlaskClient, service: Service) -> None:
    """The browser forgets the cookie, also where the deletion is not complete yet. A program has none to forget; and a
    deletion that is called off leaves the browser signed in."""
    bobs = {"Authorization": f"Bearer {service.accounts.rotate_token(OPERATOR_TOKEN, BOB)}"}
    assert "Set-Cookie" not in client.delete(f"/users/{BOB}", headers=bobs).headers
    anns = sign_in(client, service)
    service.interests.failure = CollectorUnavailableError("The interests cannot be deleted at the moment.")
    failed = client.delete(f"/users/{ANN}", headers=anns | SAME)
    assert_problem(failed, 503, "cannot be deleted")
    assert "Set-Cookie" not in failed.headers
    with service.database.transaction() as session:
        session.add(build_due_deletion(service.accounts.get(OPERATOR_TOKEN, ANN).user_id, service.clock.now()))
    begun = client.delete(f"/users/{ANN}", headers=anns | SAME)
    assert begun.status_code == 202
    service.interests.failure = None
    done = client.delete(f"/users/{ANN}", headers=anns | SAME)
    assert done.status_code == 204
    for response in (begun, done):
        assert any(header.startswith(f"{NAME}=;") for header in response.headers.getlist("Set-Cookie"))
    assert client.get(begun.headers["Location"]).json["status"] == "completed"  # type: ignore[index]


def test_logs_and_metrics_hold_no_secret(
    client: FlaskClient, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor an address, nor a link."""
    link = service.request_sign_in_token()
    secret = find_secret(client.post(f"/sign-in/{link}", headers=OWN))
    client.post(f"/sign-in/{link}", headers=OWN)
    client.delete(f"/users/{ANN}/sessions", headers=cookie(secret) | SAME)
    printed = capsys.readouterr()
    exposition = client.get("/metrics").text
    assert "session.started" in printed.out
    assert 'endpoint="/sign-in/{token}"' in exposition
    for text in (printed.out, printed.err, exposition):
        assert not any(each in text for each in (secret, link, ANN))
