"""The OpenAPI description: it is complete, and every response matches it (see tests/openapi)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from tests import plain_http
from tests.openapi.conformance import (
    SINGLE,
    TIMEOUT,
    list_described_operations,
    list_public_routes,
    run_schemathesis,
    serve_app,
)
from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service

pytestmark = [ON_SQLITE, TIMEOUT]

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def app(service: Service) -> Flask:
    return build_app(service)


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    with serve_app(app) as url:
        yield url


def test_every_public_route_is_described(app: Flask) -> None:
    """Each route of the service has a description."""
    assert set(list_described_operations(app)) == list_public_routes(app)
    assert len(list_described_operations(app)) == 35


def test_only_some_routes_need_no_token(app: Flask) -> None:
    """Registration, the status of a deletion, and the pages, whose link authorizes, need no token."""
    operations = list_described_operations(app).values()
    assert {operation["operationId"] for operation in operations if "security" not in operation} == {
        "register_user", "get_deletion", "confirmation_page", "confirm", "unsubscription_page", "unsubscribe",
        "ask_new_token", "token_page", "replace_token", "not_me_page", "stop_mails", "ask_sign_in", "sign_in_mail_page",
        "ask_sign_in_by_form", "sign_in_page", "sign_in", "stop_page", "stop", "delete_account_page", "delete_account",
        "deletion_page",
    }  # fmt: skip


def test_responses_to_the_operator_match_the_description(url: str, service: Service, tmp_path: Path) -> None:
    """The operator's token opens every route, so that most code is reached."""
    service.register("ann@example.org")
    run_schemathesis(url, CONFIG, tmp_path, 30, f"--header=Authorization: Bearer {OPERATOR_TOKEN}")


def test_responses_to_a_user_match_the_description(url: str, service: Service, tmp_path: Path) -> None:
    """All requests but two match: those that would invalidate the user's own token are sent by the operator's test.

    Nor are there chains of requests, which need a new account to be used.
    """
    # Confirmed: anybody may replace an unconfirmed account, and schemathesis registers Ann, too.
    token = service.register_confirmed("ann@example.org").token
    invalidating = ("--exclude-operation-id=delete_user", "--exclude-operation-id=rotate_token")
    run_schemathesis(url, CONFIG, tmp_path, 10, f"--header=Authorization: Bearer {token}", *invalidating, SINGLE)
    assert (
        plain_http.get(f"{url}/users/ann@example.org", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    )


def test_responses_without_a_valid_token_match_the_description(url: str, service: Service, tmp_path: Path) -> None:
    """Requests have no token, or one that schemathesis generates."""
    service.register("ann@example.org")
    run_schemathesis(url, CONFIG, tmp_path, 10, SINGLE)
