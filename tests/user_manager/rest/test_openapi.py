"""The description of the REST interface: it is complete, and every answer is as it says (see tests/openapi)."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from flask import Flask

from tests.openapi.conformance import SINGLE, list_described_operations, list_public_routes, run_schemathesis, serve_app
from tests.user_manager.apps import app_of
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service

pytestmark = ON_SQLITE

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def app(service: Service) -> Flask:
    return app_of(service)


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    with serve_app(app) as url:
        yield url


def test_every_public_route_is_described(app: Flask) -> None:
    """A route without `describe` is no route of this service."""
    assert set(list_described_operations(app)) == list_public_routes(app)
    assert len(list_described_operations(app)) == 13


def test_only_what_needs_no_token_goes_without(app: Flask) -> None:
    """Registering, seeing how far a deletion is, and the pages: whoever has their link may use them."""
    operations = list_described_operations(app).values()
    assert {operation["operationId"] for operation in operations if "security" not in operation} == {
        "register_user", "get_deletion", "confirmation_page", "confirm", "unsubscription_page", "unsubscribe"
    }  # fmt: skip


def test_every_answer_to_the_operator_is_as_described(url: str, service: Service, tmp_path: Path) -> None:
    """Whose token opens everything, so that the most is reached."""
    service.register("ann@example.org")
    run_schemathesis(url, CONFIG, tmp_path, 30, f"--header=Authorization: Bearer {OPERATOR_TOKEN}")


def test_every_answer_to_a_user_is_as_described(url: str, service: Service, tmp_path: Path) -> None:
    """But for the two requests that would make the user's own token void at once: they are the operator's to send.

    Nor are there chains, which need an account to be made and then used.
    """
    token = service.register("ann@example.org").token
    void = ("--exclude-operation-id=delete_user", "--exclude-operation-id=rotate_token")
    run_schemathesis(url, CONFIG, tmp_path, 10, f"--header=Authorization: Bearer {token}", *void, SINGLE)
    assert httpx.get(f"{url}/users/ann@example.org", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_every_answer_to_strangers_is_as_described(url: str, service: Service, tmp_path: Path) -> None:
    """Without a token, and with those that schemathesis makes up."""
    service.register("ann@example.org")
    run_schemathesis(url, CONFIG, tmp_path, 10, SINGLE)
