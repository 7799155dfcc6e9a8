"""The export over HTTP: a file to save, of the documented shape; what it answers when it cannot be had."""

import json

import pytest
from flask.testing import FlaskClient

from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, Service
from user_manager.collector_record import CollectorRecord
from user_manager.errors import CollectorRefusedError, CollectorUnavailableError
from user_manager.rest.export_models import Export

pytestmark = ON_SQLITE

ANN = "ann@example.org"
EXPORT = f"/users/{ANN}/export"


@pytest.fixture
def token(service: Service) -> dict[str, str]:
    """The header with Ann's token."""
    return {"Authorization": f"Bearer {service.register_confirmed(ANN, 'Ann & <b>Söhne</b>').token}"}


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return build_app(service).test_client(use_cookies=False)


def test_the_file_is_saved_and_has_the_documented_shape(
    client: FlaskClient, service: Service, token: dict[str, str]
) -> None:
    """Its name holds no address, nothing keeps a copy, and a name with markup stays a name."""
    user_id = service.accounts.authenticate(token["Authorization"].removeprefix("Bearer ")).user_id
    service.interests.records[user_id] = CollectorRecord(retired_notices=("UAFM",))
    response = client.get(EXPORT, headers=token)
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.headers["Content-Disposition"] == 'attachment; filename="towerwatch-2013-02-13.json"'
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    file = json.loads(response.data)
    Export.model_validate(file)
    assert set(file) == {
        "format", "exported_at", "account", "sessions", "mails", "stored_answers", "deletion", "interests",
        "former_interests", "writes",
        "notices", "not_included",
    }  # fmt: skip
    assert file["format"] == "towerwatch-export-1"
    assert file["account"]["name"] == "Ann & <b>Söhne</b>"
    assert file["notices"] == {"unheard_airports": [], "retired_codes": ["UAFM"]}
    assert response.text.count("\n") > 30, "people can read it"


@pytest.mark.parametrize(
    ("failure", "status"),
    [(CollectorUnavailableError("It is away; try again."), 503), (CollectorRefusedError("Look at it."), 502)],
)
def test_without_the_collector_a_sentence_says_so(
    client: FlaskClient, service: Service, token: dict[str, str], failure: Exception, status: int
) -> None:
    """And no file comes, which would look like all there is."""
    service.interests.failure = failure
    response = client.get(EXPORT, headers=token)
    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    assert response.json is not None
    assert response.json["detail"] == str(failure)
    assert response.headers.get("Retry-After") == ("5" if status == 503 else None)
    assert "Content-Disposition" not in response.headers


def test_one_client_may_not_export_too_often(service: Service, token: dict[str, str]) -> None:
    """It asks both services for a good deal."""
    client = build_app(service, registration_limit="2/minute").test_client()
    assert [client.get(EXPORT, headers=token).status_code for _ in range(3)] == [200, 200, 429]


def test_an_address_with_export_in_it_is_an_address(client: FlaskClient, service: Service) -> None:
    """A local part may hold slashes: no account is shown for another's."""
    email = f"{ANN.partition('@')[0]}/export@example.org"
    token = service.register_confirmed(email, "Slash").token
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get(f"/users/{email}", headers=headers).json["user"]["name"] == "Slash"  # type: ignore[index]
    assert json.loads(client.get(f"/users/{email}/export", headers=headers).data)["account"]["email"] == email
