"""The REST routes of accounts: validation, status and content of responses, and data that they must not reveal."""

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import quote
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.test import TestResponse

from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from tests.chassis.test_text import BLANK, VISIBLE
from tests.chassis.test_time_zones import NOBODYS, SENT_BY_BROWSERS
from tests.chassis.web.test_preconditions import MALFORMED, NOT_PRESENT, PRESENT
from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service
from user_manager.errors import CollectorRefusedError, CollectorUnavailableError, StillInFlightError

pytestmark = ON_SQLITE

ANN = {"email": "ann@example.org", "name": "Ann", "time_zone": "Europe/Rome"}
ANNS = "/users/ann@example.org"
KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return build_app(service).test_client()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


OPERATOR = bearer(OPERATOR_TOKEN)


def json_of(response: TestResponse) -> dict[str, object]:
    """Return the body of a successful response, which must forbid caching."""
    assert response.status_code < 300, response.text
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json is not None
    return dict(response.json)


def user_of(response: TestResponse) -> dict[str, object]:
    user = json_of(response)["user"]
    assert isinstance(user, dict)
    return user


def token_of(response: TestResponse) -> str:
    return str(json_of(response)["token"])


def status_of(response: TestResponse) -> int:
    """Return the status of a problem (RFC 9457), which its body must repeat."""
    assert response.content_type == "application/problem+json"
    assert response.json is not None
    assert response.json["status"] == response.status_code
    return response.status_code


def detail_of(response: TestResponse) -> str:
    assert response.json is not None
    return str(response.json["detail"])


# Registering


def test_registering_answers_with_the_account_and_its_token(client: FlaskClient, service: Service) -> None:
    """The status is 201 with the account's location; the response must not be cached, because it holds the token."""
    response = client.post("/users", json=ANN)
    assert response.status_code == 201
    user = user_of(response)
    assert user == {
        "user_id": user["user_id"],
        **ANN,
        "confirmed": False,
        "paused": False,
        "corrections": True,
        "language": "en",
        "suppressed": False,
        "created_at": service.clock.now().isoformat().replace("+00:00", "Z"),
    }
    assert "follow it to confirm the address" in str(json_of(response)["notice"]), "the answer says what to do next"
    assert response.headers["ETag"] == '"1"'
    seen = client.get(response.headers["Location"], headers=bearer(token_of(response)))
    assert json_of(seen) == {"user": user}
    assert seen.headers["ETag"] == '"1"'


def test_the_time_zone_is_utc_unless_given(client: FlaskClient) -> None:
    """The time zone is optional, so that people need not know IANA names."""
    assert user_of(client.post("/users", json={"email": "ann@example.org", "name": "Ann"}))["time_zone"] == "UTC"


@pytest.mark.parametrize("name", ["Ann", "  Ann  ", "Zoë O'Neil-Łęcka", "王小明", "x" * 100, *VISIBLE])
def test_names_may_hold_any_letters(client: FlaskClient, name: str) -> None:
    """A name has up to 100 characters of any script; surrounding blanks are removed."""
    assert user_of(client.post("/users", json=ANN | {"name": name}))["name"] == name.strip()


def test_the_language_may_be_chosen_and_is_english_otherwise(client: FlaskClient) -> None:
    """A duplicate of the request gets the same answer, and shows the same language."""
    assert user_of(client.post("/users", json=ANN))["language"] == "en"
    for _ in range(2):
        made = client.post("/users", json=ANN | {"email": "bob@example.org", "language": "it"})
        assert user_of(made)["language"] == "it"
    assert status_of(client.post("/users", json=ANN | {"language": "xx"})) == 422


@pytest.mark.parametrize("time_zone", SENT_BY_BROWSERS)
def test_a_time_zone_may_have_any_name_that_browsers_send(client: FlaskClient, time_zone: str) -> None:
    """The name is kept as it was given, also an older one."""
    assert user_of(client.post("/users", json=ANN | {"time_zone": time_zone}))["time_zone"] == time_zone


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        ({"name": "\u200b"}, "character that can be seen"),
        ({"name": "Ann\n"}, "one line"),
        ({"time_zone": "localtime"}, "such as Europe/Rome or UTC"),
        ({"time_zone": "europe/rome"}, "did you mean Europe/Rome?"),
        ({"time_zone": "GMT+03:00"}, "did you mean Etc/GMT-3?"),
    ],
)
def test_a_refused_name_is_answered_with_what_to_do(client: FlaskClient, fault: dict[str, str], hint: str) -> None:
    """The problem says what a name must be, and which one was probably meant."""
    response = client.post("/users", json=ANN | fault)
    assert status_of(response) == 422
    assert hint in detail_of(response)


WRONG_NAMES = [
    {"name": ""},
    {"name": "   "},
    *({"name": name} for name in BLANK if name),
    {"name": "x" * 101},
    {"name": "Ann\r\nBcc: everybody@example.org"},
    {"name": "Ann\n"},
    {"name": "Ann\x00"},
    {"name": "Ann\x85Bcc: x"},
    {"name": "Ann\u2028Bcc: x"},
    {"name": "\ud800"},
    {"name": 7},
    {"name": None},
    {"time_zone": "Europe/Nowhere"},
    {"time_zone": "../../etc/passwd"},
    *({"time_zone": zone} for zone in NOBODYS),
    {"time_zone": None},
    {"colour": "red"},
    {"\ud800": 1},
]


@pytest.mark.parametrize(
    "fault",
    [
        *WRONG_NAMES,
        {"email": "ann"},
        {"email": "ann@tower.test"},
        {"email": "ann@example.org\nBcc: x@example.org"},
        {"email": "ann\x00@example.org"},
        {"email": "\ud800@example.org"},
        {"email": "a" * 250 + "@example.org"},
        {"email": None},
        {"email": 7},
        {"email": ["ann@example.org"]},
        {"e_mail": "ann@example.org"},
        {"paused": True},
    ],
    ids=repr,
)
def test_invalid_registrations_are_refused(client: FlaskClient, service: Service, fault: dict[str, object]) -> None:
    """The status is 422, and nothing is registered; a line break in a name would begin a new mail header."""
    assert status_of(client.post("/users", json=ANN | fault)) == 422
    assert service.load_outbox_events() == []


@pytest.mark.parametrize("email", ["verify/ann@example.org", "Verify/ann@example.org"])
def test_an_address_that_would_be_a_route_cannot_register(client: FlaskClient, service: Service, email: str) -> None:
    """The status is 422, because GET /users/verify/ann@example.org looks up ann@example.org."""
    response = client.post("/users", json=ANN | {"email": email})
    assert status_of(response) == 422
    assert service.load_outbox_events() == []
    assert user_of(client.post("/users", json=ANN | {"email": "verify@example.org"}))["email"] == "verify@example.org"


def test_test_addresses_register_if_the_setting_allows_it(service: Service) -> None:
    """The demo registers addresses in the domain .test."""
    client = build_app(service, allow_test_addresses=True).test_client()
    assert client.post("/users", json=ANN | {"email": "ann@tower.test"}).status_code == 201


def test_the_answer_does_not_tell_who_is_registered(client: FlaskClient, service: Service) -> None:
    """Status, headers, members and what the token opens are the same for a new and for a confirmed address."""
    service.register_confirmed("ann@example.org")
    service.clock.advance(timedelta(days=1))
    shapes = []
    for email in ("ann@example.org", "new@example.org"):
        registered = client.post("/users", json=ANN | {"email": email, "name": "Stranger"})
        url, headers = registered.headers["Location"], bearer(registered.json["token"])
        shown = client.get(url, headers=headers)
        assert shown.json["user"] == registered.json["user"]
        progress = client.get(f"{url}/confirmation", headers=headers)
        asked = client.post(f"{url}/confirmation", headers=headers)
        changed = client.patch(url, json={"paused": True}, headers=headers | {"If-Match": "*"})
        deleted = client.delete(url, headers=headers)
        answers = (registered, shown, progress, asked, changed, deleted)
        shapes.append(
            [
                (
                    answer.status_code,
                    sorted(answer.headers.keys()),
                    answer.headers.get("ETag"),
                    _mask(answer.json, email),
                )
                for answer in answers
            ]
        )
    assert shapes[0] == shapes[1]


def _mask(body: object, email: str) -> str:
    """Return an answer's body without its address, and with placeholders for what is random."""
    text = json.dumps(body).replace(email, "ADDRESS")
    return re.sub(r'("(?:user_id|token)": )"[^"]+"', r'\1"RANDOM"', text)


@pytest.mark.parametrize("key", [f'"{KEY}"', KEY, f'"{KEY.upper()}"'])
def test_a_duplicate_with_the_same_key_gets_the_same_response(client: FlaskClient, service: Service, key: str) -> None:
    """Body and headers are the same, also after the account has changed, and nothing is done twice."""
    first = client.post("/users", json=ANN, headers={"Idempotency-Key": key})
    changed = client.patch(ANNS, json={"name": "Bob"}, headers=bearer(token_of(first)) | {"If-Match": "*"})
    assert changed.status_code == 200
    again = client.post("/users", json=ANN, headers={"Idempotency-Key": f'"{KEY}"'})
    assert (again.status_code, again.data) == (201, first.data)
    assert {name: again.headers[name] for name in ("ETag", "Location")} == {
        name: first.headers[name] for name in ("ETag", "Location")
    }
    assert service.load_event_kinds() == ["registered"]


def test_a_key_is_for_one_body(client: FlaskClient) -> None:
    """A key with another address or another name is refused, and nothing is registered."""
    client.post("/users", json=ANN, headers={"Idempotency-Key": KEY})
    other = client.post("/users", json=ANN | {"email": "bob@example.org"}, headers={"Idempotency-Key": KEY})
    assert status_of(other) == 422


@pytest.mark.parametrize("key", ["", "7", '"7"', f'"{KEY}', f"{{{KEY}}}", f"urn:uuid:{KEY}", f'"{KEY}", "{KEY}"'])
def test_a_key_that_is_no_uuid_is_refused(client: FlaskClient, service: Service, key: str) -> None:
    """The status is 400, and nothing is registered."""
    assert status_of(client.post("/users", json=ANN, headers={"Idempotency-Key": key})) == 400
    assert service.load_outbox_events() == []


def test_a_registration_that_is_in_flight_is_a_conflict(
    client: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is 409 with Retry-After."""

    def busy(*_: object) -> None:
        raise StillInFlightError("The same is being worked on already.")

    monkeypatch.setattr(service.registrations, "register", busy)
    response = client.post("/users", json=ANN)
    assert status_of(response) == 409
    assert int(response.headers["Retry-After"]) > 0


def test_registrations_of_one_client_are_limited(service: Service) -> None:
    """The status is 429 with Retry-After, also for invalid requests; other clients and other routes are not limited."""
    client = build_app(service, registration_limit="2/minute").test_client()
    assert client.post("/users", json=ANN).status_code == 201
    assert client.post("/users", json={}).status_code == 422
    response = client.post("/users", json=ANN | {"email": "bob@example.org"})
    assert status_of(response) == 429
    assert 0 < int(response.headers["Retry-After"]) <= 60
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert client.post("/users", json=ANN | {"email": "bob@example.org"}, environ_base=elsewhere).status_code == 201
    assert client.get(ANNS, headers=OPERATOR).status_code == 200


# Listing


def test_the_operator_follows_the_links_to_the_next_page(client: FlaskClient, service: Service) -> None:
    """The links are relative; each account is listed once, and the last page has no link."""
    for number in range(5):
        service.register(f"user-{number}@example.org")
        service.clock.advance(timedelta(seconds=1))
    found: list[str] = []
    url: str | None = "/users?limit=2"
    sizes = []
    while url is not None:
        response = client.get(url, headers=OPERATOR)
        users = json_of(response)["users"]
        assert isinstance(users, list)
        sizes.append(len(users))
        found += [user["email"] for user in users]
        link = response.headers.get("Link")
        url = None
        if link is not None:
            match = re.fullmatch(r'<(/users\?cursor=[^<>&]+&limit=2)>; rel="next"', link)
            assert match, link
            url = match[1]
    assert sizes == [2, 2, 1]
    assert found == [f"user-{number}@example.org" for number in range(5)]


def test_an_account_in_a_list_equals_the_single_account(client: FlaskClient, service: Service) -> None:
    """The list shows the same members as the single account, and no token."""
    service.register()
    response = client.get("/users", headers=OPERATOR)
    assert json_of(response) == {"users": [user_of(client.get(ANNS, headers=OPERATOR))]}
    assert "Link" not in response.headers


@pytest.mark.parametrize(
    "limit",
    [
        "0",
        "201",
        "-1",
        "1.5",
        "1e3",
        "-0.0",
        "1e400",
        "true",
        '"20"',
        "",
        "x",
        "٣",
        "1_0",
        " 1",
        "9" * 5000,
        "1&limit=2",
        "%00",
    ],
)
def test_an_invalid_page_size_is_refused(client: FlaskClient, limit: str) -> None:
    """The status is 422, and the problem names the parameter."""
    response = client.get(f"/users?limit={limit}", headers=OPERATOR)
    assert status_of(response) == 422
    assert response.json is not None
    assert [fault["field"] for fault in response.json["errors"]] == ["limit"]


@pytest.mark.parametrize("limit", ["1", "200", "007", "20.0", "2e1", "1E2", "2e%2B1", "2000e-1"])
def test_page_sizes_up_to_200_are_accepted(client: FlaskClient, limit: str) -> None:
    """Sizes from 1 to 200 are accepted."""
    assert client.get(f"/users?limit={limit}", headers=OPERATOR).status_code == 200


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/users?colour=red", "the parameters are cursor, limit"),
        ("/session?colour=red", "this address has no parameters"),
    ],
)
def test_unknown_query_parameters_are_refused(client: FlaskClient, path: str, known: str) -> None:
    """The answer names them and the known ones."""
    refused = client.get(path, headers=OPERATOR)
    assert status_of(refused) == 422
    assert refused.json is not None
    assert refused.json["errors"] == [{"field": "colour", "message": f"is not known here: {known}"}]


HOSTILE_CURSORS = [
    urlsafe_b64encode(f"{instant} {UUID(int=1)}".encode()).decode()
    for instant in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2013-02-13", "2013-02-13T00:00:00")
]


@pytest.mark.parametrize("cursor", ["", "x", "%00", "AAAA", "%F0%9F%9B%AB", "x" * 5000, *HOSTILE_CURSORS])
def test_an_invalid_cursor_is_refused(client: FlaskClient, cursor: str) -> None:
    """The status is 400."""
    refused = client.get(f"/users?cursor={cursor}", headers=OPERATOR)
    assert status_of(refused) == 400
    assert refused.json is not None
    assert [each["field"] for each in refused.json["errors"]] == ["cursor"]


@pytest.mark.parametrize("path", ["/users", "/users/verify/ann@example.org"])
def test_only_the_operator_may_list_and_look_up_accounts(client: FlaskClient, service: Service, path: str) -> None:
    """The status for a user is 403."""
    assert status_of(client.get(path, headers=bearer(service.register().token))) == 403


def test_the_operator_looks_up_addresses(client: FlaskClient, service: Service) -> None:
    """The case of the letters does not matter; an invalid address is not registered."""
    service.register()
    assert json_of(client.get("/users/verify/ANN@example.org", headers=OPERATOR)) == {"exists": True}
    for email in ("bob@example.org", "a b@example.org", "ann@example.org\x00", "\xac\x7fp@\x0e\xd6.ET\x7f\tDZ"):
        assert json_of(client.get(f"/users/verify/{quote(email)}", headers=OPERATOR)) == {"exists": False}
    for email in ("ann", "ann@", "@example.org"):
        assert status_of(client.get(f"/users/verify/{email}", headers=OPERATOR)) == 404


# Changing


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"name": " Zoë "}, {"name": "Zoë"}),
        ({"time_zone": "UTC"}, {"time_zone": "UTC"}),
        ({"paused": True}, {"paused": True}),
        ({"paused": False}, {}),
        ({"corrections": False}, {"corrections": False}),
        ({"corrections": True}, {}),
        ({"language": "it"}, {"language": "it"}),
        ({"language": "en"}, {}),
        ({"name": "Zoë", "paused": True, "time_zone": "Asia/Tokyo"}, None),
    ],
)
def test_a_patch_changes_only_the_given_members(
    client: FlaskClient, change: dict[str, object], seen: dict[str, object] | None
) -> None:
    """The response shows the account and its new ETag, like a GET."""
    made = client.post("/users", json=ANN)
    headers = bearer(token_of(made))
    response = client.patch(ANNS, json=change, headers=headers | {"If-Match": made.headers["ETag"]})
    assert user_of(response) == user_of(made) | (change if seen is None else seen)
    assert response.headers["ETag"] == ('"2"' if seen != {} else '"1"')
    again = client.get(ANNS, headers=headers)
    assert (again.data, again.headers["ETag"]) == (response.data, response.headers["ETag"])


@pytest.mark.parametrize(
    "fault",
    [
        {},
        *WRONG_NAMES,
        {"paused": None},
        {"paused": 1},
        {"paused": "true"},
        {"corrections": None},
        {"language": None},
        {"language": "de"},
        {"language": "IT"},
        {"corrections": 0},
        {"email": "b@example.org"},
    ],
    ids=repr,
)
def test_an_empty_or_invalid_patch_is_refused(client: FlaskClient, service: Service, fault: dict[str, object]) -> None:
    """The status is 422, and the valid members of an invalid body are not applied either."""
    registration = service.register()
    headers = bearer(registration.token) | {"If-Match": "*"}
    body = {"paused": True} | fault if fault else {}
    assert status_of(client.patch(ANNS, json=body, headers=headers)) == 422
    assert service.accounts.get(OPERATOR_TOKEN, "ann@example.org") == registration.account


def test_validation_errors_name_the_field(client: FlaskClient, service: Service) -> None:
    """The texts are for people and name no class of ours."""
    headers = bearer(service.register().token) | {"If-Match": "*"}
    response = client.patch(ANNS, json={"time_zone": "Mars", "paused": 1, "name": "\n"}, headers=headers)
    assert status_of(response) == 422
    assert response.json is not None
    assert {fault["field"] for fault in response.json["errors"]} == {"name", "time_zone", "paused"}
    assert "function" not in response.text


def test_a_patch_requires_if_match(client: FlaskClient, service: Service) -> None:
    """The status without If-Match is 428 (RFC 6585, 3)."""
    assert status_of(client.patch(ANNS, json={"paused": True}, headers=bearer(service.register().token))) == 428


@pytest.mark.parametrize("tags", [*PRESENT, "*"])
def test_a_patch_with_a_matching_tag_is_applied(client: FlaskClient, service: Service, tags: str) -> None:
    """Any tag in the list may match (RFC 9110, 13.1.1), also as a proxy has changed it."""
    headers = bearer(service.register().token) | {"If-Match": tags}
    assert user_of(client.patch(ANNS, json={"paused": True}, headers=headers))["paused"] is True


@pytest.mark.parametrize("tags", NOT_PRESENT)
def test_a_patch_without_a_matching_tag_is_refused(client: FlaskClient, service: Service, tags: str) -> None:
    """The status is 412; an account that has not changed is not said to have changed."""
    headers = bearer(service.register().token) | {"If-Match": tags}
    response = client.patch(ANNS, json={"paused": True}, headers=headers)
    assert status_of(response) == 412
    assert "has changed" not in detail_of(response)
    assert not service.accounts.get(OPERATOR_TOKEN, "ann@example.org").paused


@pytest.mark.parametrize("tags", MALFORMED)
def test_an_invalid_list_of_tags_is_refused(client: FlaskClient, service: Service, tags: str) -> None:
    """The status is 400."""
    headers = bearer(service.register().token) | {"If-Match": tags}
    assert status_of(client.patch(ANNS, json={"paused": True}, headers=headers)) == 400


def test_the_second_of_two_patches_of_one_version_is_refused(client: FlaskClient, service: Service) -> None:
    """The status of the second is 412, so that no change is lost."""
    headers = bearer(service.register().token) | {"If-Match": '"1"'}
    assert client.patch(ANNS, json={"name": "Zoë"}, headers=headers).status_code == 200
    for tag in ('"1"', 'W/"1"', '"1-gzip"'):
        response = client.patch(ANNS, json={"paused": True}, headers=headers | {"If-Match": tag})
        assert status_of(response) == 412
        assert "The account has changed since" in detail_of(response)


def test_a_concurrent_change_is_not_lost(client: FlaskClient, service: Service) -> None:
    """The version is compared again while the row is locked."""
    headers = bearer(service.register().token) | {"If-Match": '"1"'}
    change = service.accounts.update

    def overtaken(token: str, email: str, version: int | None, wanted: object) -> object:
        change(OPERATOR_TOKEN, email, None, type(wanted)(name="Faster"))  # type: ignore[arg-type, call-arg]
        return change(token, email, version, wanted)  # type: ignore[arg-type]

    service.accounts.update = overtaken  # type: ignore[method-assign, assignment]
    assert status_of(client.patch(ANNS, json={"name": "Slower"}, headers=headers)) == 412
    assert service.accounts.get(OPERATOR_TOKEN, "ann@example.org").name == "Faster"


# Tokens and confirmation mails


def test_a_new_token_replaces_the_old_one(client: FlaskClient, service: Service) -> None:
    """The old token is invalid at once."""
    old = service.register().token
    new = token_of(client.post(f"{ANNS}/token", headers=bearer(old)))
    assert new != old
    assert status_of(client.get(ANNS, headers=bearer(old))) == 401
    assert client.get(ANNS, headers=bearer(new)).status_code == 200


def test_another_confirmation_mail_can_be_requested_after_a_delay(client: FlaskClient, service: Service) -> None:
    """An early request gets 429 with the wait, a later one 202 and an event, and 409 once the address is confirmed."""
    registration = service.register()
    headers = bearer(registration.token)
    early = client.post(f"{ANNS}/confirmation", headers=headers)
    assert status_of(early) == 429
    service.clock.advance(timedelta(seconds=int(early.headers["Retry-After"])))
    asked = client.post(f"{ANNS}/confirmation", headers=headers)
    assert (asked.status_code, asked.data) == (202, b"")
    assert "Content-Type" not in asked.headers
    assert service.load_event_kinds() == ["registered", "registered"]
    service.confirm(registration)
    assert status_of(client.post(f"{ANNS}/confirmation", headers=headers)) == 409


@pytest.mark.parametrize("was_registered", [False, True])
def test_the_wait_does_not_say_who_was_registered_before(
    client: FlaskClient, service: Service, was_registered: bool
) -> None:
    """A stranger who registers an address is told of the pause of that registration, not of the mailbox."""
    if was_registered:
        service.register_confirmed("ann@example.org")
    service.clock.advance(timedelta(days=20))
    headers = bearer(token_of(client.post("/users", json=ANN)))
    for pause in (60, 600, 3600):
        early = client.post(f"{ANNS}/confirmation", headers=headers)
        assert (status_of(early), early.headers["Retry-After"]) == (429, str(pause))
        service.clock.advance(timedelta(seconds=pause))
        assert client.post(f"{ANNS}/confirmation", headers=headers).status_code == 202


# Deleting


def test_deleting_is_safe_to_repeat(client: FlaskClient) -> None:
    """The first DELETE gets 204; then the user's token is unknown (401), and the operator finds no account (404)."""
    headers = bearer(token_of(client.post("/users", json=ANN)))
    deleted = client.delete(ANNS, headers=headers)
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert "Content-Type" not in deleted.headers
    assert status_of(client.delete(ANNS, headers=headers)) == 401
    assert status_of(client.delete(ANNS, headers=OPERATOR)) == 404


def test_a_deletion_gets_503_while_the_collector_is_unavailable(client: FlaskClient, service: Service) -> None:
    """The response has Retry-After, and the account is unchanged."""
    headers = bearer(token_of(client.post("/users", json=ANN)))
    service.interests.failure = CollectorUnavailableError("The collector is away.")
    response = client.delete(ANNS, headers=headers)
    assert status_of(response) == 503
    assert int(response.headers["Retry-After"]) > 0
    assert client.get(ANNS, headers=headers).status_code == 200


def test_a_refusal_of_the_collector_gets_502(client: FlaskClient, service: Service) -> None:
    """The response has no Retry-After, because the operator must act."""
    client.post("/users", json=ANN)
    service.interests.failure = CollectorRefusedError("The collector refuses.")
    response = client.delete(ANNS, headers=OPERATOR)
    assert status_of(response) == 502
    assert "Retry-After" not in response.headers


def test_a_deletion_in_progress_gets_202_and_a_location(
    client: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is inaccessible, the background task does the rest, and the location shows the status."""
    headers = bearer(token_of(client.post("/users", json=ANN)))

    def away(_deletion: object) -> None:
        raise DatabaseUnavailableError("The database does not answer.")

    with monkeypatch.context() as outage:
        outage.setattr(service.deletions, "_erase_account", away)
        accepted = client.delete(ANNS, headers=headers)
    assert accepted.status_code == 202
    place = accepted.headers["Location"]
    deletion_id = str(UUID(place.removeprefix("/deletions/")))
    begun = {"deletion_id": deletion_id, "status": "in_progress"}
    assert json_of(accepted) == {**begun, "interests_deleted": None}
    assert json_of(client.get(place)) == {**begun, "interests_deleted": True}
    assert status_of(client.get(ANNS, headers=headers)) == 401
    service.clock.advance(timedelta(hours=1))
    service.deletions.resume_due_deletions()
    assert json_of(client.get(place)) == {"deletion_id": deletion_id, "status": "completed", "interests_deleted": True}
    assert status_of(client.get(ANNS, headers=OPERATOR)) == 404


@pytest.mark.parametrize("deletion_id", ["8b66274a-5cfe-471e-8da2-45ca7134672d", "7", "%00", "x" * 5000])
def test_an_unknown_deletion_is_not_found(client: FlaskClient, deletion_id: str) -> None:
    """The status is 404."""
    assert status_of(client.get(f"/deletions/{deletion_id}")) == 404


# Who may do what

OWN_ROUTES = [
    ("GET", "/users/{}"),
    ("PATCH", "/users/{}"),
    ("DELETE", "/users/{}"),
    ("POST", "/users/{}/token"),
    ("POST", "/users/{}/confirmation"),
    ("GET", "/users/{}/confirmation"),
]
ALL_ROUTES = [*OWN_ROUTES, ("GET", "/users"), ("GET", "/users/verify/{}")]


@pytest.mark.parametrize(("method", "path"), OWN_ROUTES)
def test_foreign_and_unknown_accounts_get_the_same_response(
    client: FlaskClient, service: Service, method: str, path: str
) -> None:
    """The status is 403 with the same body, so that the response reveals no account."""
    headers = bearer(service.register().token) | {"If-Match": "*"}
    service.register("bob@example.org")
    others = client.open(path.format("bob@example.org"), method=method, headers=headers, json={"paused": True})
    nobodys = client.open(path.format("nobody@example.org"), method=method, headers=headers, json={"paused": True})
    assert status_of(others) == 403
    assert (others.status_code, others.data) == (nobodys.status_code, nobodys.data)
    assert dict(others.headers) == dict(nobodys.headers)


@pytest.mark.parametrize(("method", "path"), ALL_ROUTES)
def test_all_routes_require_a_valid_token(client: FlaskClient, service: Service, method: str, path: str) -> None:
    """The status is 401 with a challenge, whether the account exists or not, and whatever else is invalid."""
    service.register()
    bad: list[Mapping[str, str]] = [{}, bearer("guessed"), {"Authorization": "Basic YTpi"}, bearer("gu\xe9ss")]
    for email in ("ann@example.org", "nobody@example.org"):
        for headers in bad:
            response = client.open(path.format(email), method=method, headers=headers)
            assert status_of(response) == 401
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("method", "path"), OWN_ROUTES)
def test_the_operator_gets_404_for_unknown_accounts(client: FlaskClient, method: str, path: str) -> None:
    """An invalid address gets 404 too."""
    for email in ("nobody@example.org", "nonsense", "a%20b@example.org", "%00@example.org", "%FF@example.org"):
        response = client.open(
            path.format(email), method=method, headers=OPERATOR | {"If-Match": "*"}, json={"paused": True}
        )
        assert status_of(response) == 404


# Addresses in paths

LEGAL = [
    "ann/smith@example.org",
    "/ann//smith/@example.org",
    "ann+towers@example.org",
    "ann%smith@example.org",
    "ann%2Fsmith@example.org",
    "o'neil!#$&*?=^_`{|}~@example.org",
    "token/confirmation@example.org",
]


@pytest.mark.parametrize("email", LEGAL)
def test_every_legal_address_fits_into_a_path(client: FlaskClient, email: str) -> None:
    """An address is accepted with quoted and unquoted slashes (RFC 3986), and is one segment in Location."""
    made = client.post("/users", json=ANN | {"email": email})
    quoted = quote(email, safe="")
    assert made.headers["Location"].count("/") == 2
    for path in (made.headers["Location"], f"/users/{quoted}", f"/users/{quote(email)}"):
        assert user_of(client.get(path, headers=OPERATOR))["email"] == email
    assert json_of(client.get(f"/users/verify/{quoted}", headers=OPERATOR)) == {"exists": True}
    assert token_of(client.post(f"/users/{quoted}/token", headers=OPERATOR))
    assert client.post(f"/users/{quoted}/confirmation", headers=OPERATOR).status_code == 429
    assert client.delete(f"/users/{quoted}", headers=OPERATOR).status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/users", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("POST", "/users/ann@example.org", {"GET", "HEAD", "OPTIONS", "PATCH", "DELETE"}),
        ("GET", "/users/ann@example.org/token", {"POST", "OPTIONS"}),
        ("DELETE", "/users/ann@example.org/confirmation", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("DELETE", "/users/verify/ann@example.org", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/deletions/8b66274a-5cfe-471e-8da2-45ca7134672d", {"GET", "HEAD", "OPTIONS"}),
        ("TRACE", "/users", {"GET", "HEAD", "OPTIONS", "POST"}),
    ],
)
def test_a_method_that_a_resource_does_not_have_is_refused(
    client: FlaskClient, method: str, path: str, allowed: set[str]
) -> None:
    """The status is 405 with the allowed methods (RFC 9110, 15.5.6), which OPTIONS returns too."""
    response = client.open(path, method=method, headers=OPERATOR)
    assert status_of(response) == 405
    assert {each.strip() for each in response.headers["Allow"].split(",")} == allowed
    assert {each.strip() for each in client.options(path).headers["Allow"].split(",")} == allowed


def test_head_is_get_without_the_body(client: FlaskClient, service: Service) -> None:
    """HEAD returns the headers of GET and no body (RFC 9110, 9.3.2)."""
    service.register()
    head, get = client.head(ANNS, headers=OPERATOR), client.get(ANNS, headers=OPERATOR)
    assert (head.status_code, head.data) == (200, b"")
    assert dict(head.headers) == dict(get.headers)


# What goes wrong


@pytest.mark.usefixtures("database_url")  # of no use here; but the mark of this whole module needs it
@pytest.mark.parametrize(
    ("method", "path"), [*ALL_ROUTES, ("POST", "/users"), ("GET", "/deletions/8b66274a-5cfe-471e-8da2-45ca7134672d")]
)
def test_an_unavailable_database_gets_503(method: str, path: str) -> None:
    """The response has Retry-After and holds no text of the database."""
    client = build_app(Service(Database("sqlite:////nowhere/at/all.db"))).test_client()
    headers = OPERATOR | {"If-Match": "*"}
    response = client.open(path.format("ann@example.org"), method=method, headers=headers, json=ANN)
    assert status_of(response) == 503
    assert int(response.headers["Retry-After"]) > 0
    for text in ("sqlite", "SELECT", "nowhere"):
        assert text not in response.text


def test_an_unexpected_error_reveals_nothing(client: FlaskClient, service: Service) -> None:
    """The status is 500, and the body holds no text of the error and no personal data."""

    def refuse(_connection: object) -> None:
        raise RuntimeError("could not commit ann@example.org")

    event.listen(service.database.engine, "commit", refuse)
    response = client.post("/users", json=ANN)
    event.remove(service.database.engine, "commit", refuse)
    assert status_of(response) == 500
    assert "ann" not in response.text
    assert "RuntimeError" not in response.text


def test_no_metric_holds_an_address(client: FlaskClient) -> None:
    """Metric labels hold route templates, not paths."""
    client.post("/users", json=ANN)
    client.get(ANNS, headers=OPERATOR)
    client.post(f"{ANNS}/token", headers=OPERATOR)
    exposition = client.get("/metrics").text
    for endpoint in ("/users", "/users/{email}", "/users/{email}/token"):
        assert f'endpoint="{endpoint}"' in exposition
    assert "ann" not in exposition


def test_no_answer_about_accounts_is_compressed(client: FlaskClient) -> None:
    """They hold addresses, names and tokens, beside texts that others may have typed (BREACH, ADR 65)."""
    operations = [view.operation for view in client.application.view_functions.values() if hasattr(view, "operation")]
    assert len(operations) > 10
    assert not any(each.is_compressed for each in operations)
