"""The OpenAPI description of the collector's REST interface: it is complete, and every answer agrees with it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask

from collector.intervals import DAY, day_of
from collector.rest.users import Authenticator
from domain.interests import Direction
from tests import plain_http
from tests.collector.conftest import ANN, ANNS, NOON, ON_SQLITE, OPERATOR, Service, app_of, wish
from tests.fakes.authority import FakeAuthority
from tests.openapi.conformance import (
    SINGLE,
    TIMEOUT,
    list_described_operations,
    list_public_routes,
    run_schemathesis,
    serve_app,
)

pytestmark = [ON_SQLITE, TIMEOUT]

CONFIG = Path(__file__).with_name("schemathesis.toml")
TODAY = day_of(NOON)


@pytest.fixture
def app(service: Service, authority: FakeAuthority) -> Iterator[Flask]:
    """The collector's application; Ann has an interest in KJFK, and flights of it are stored."""
    service.set(wish(), ANN)
    for direction in Direction.BOTH.parts:
        service.cover(direction, TODAY - 3 * DAY, TODAY)
        service.store(direction, *(TODAY - number * timedelta(minutes=20) for number in range(1, 200)))
    users = Authenticator(authority.target, cache_s=60)
    yield app_of(service.database, service.clock, users)
    users.close()


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    """The URL of a server that serves the application."""
    with serve_app(app) as url:
        yield url


def test_every_public_route_is_described(app: Flask) -> None:
    """A route without `describe` must not exist."""
    assert set(list_described_operations(app)) == list_public_routes(app)
    assert len(list_described_operations(app)) == 17


def test_every_operation_requires_a_token(app: Flask) -> None:
    """Every operation requires a user's token, or the operator's if it concerns all users."""
    needs = {shown["operationId"]: shown["security"] for shown in list_described_operations(app).values()}
    assert {name for name, security in needs.items() if security == [{"bearer": ["operator"]}]} == {
        "collect", "scheduler_status"
    }  # fmt: skip


def test_every_parameter_of_a_query_has_a_schema_of_its_own(app: Flask) -> None:
    """A parameter's schema has no reference to a schema that the document lacks."""
    assert "#/$defs/" not in repr(list_described_operations(app))


def test_every_answer_to_a_user_is_as_described(url: str, tmp_path: Path) -> None:
    """Requests of a confirmed user with interests, also in chains, get only answers that the document describes."""
    run_schemathesis(url, CONFIG, tmp_path, 20, f"--header=Authorization: {ANNS['Authorization']}")
    assert plain_http.get(f"{url}/interests", headers=ANNS).status_code == 200


def test_every_answer_to_the_operator_is_as_described(url: str, tmp_path: Path) -> None:
    """Requests with the operator's token get only answers that the document describes."""
    run_schemathesis(url, CONFIG, tmp_path, 10, f"--header=Authorization: {OPERATOR['Authorization']}", SINGLE)


def test_every_answer_to_strangers_is_as_described(url: str, tmp_path: Path) -> None:
    """Requests without a token, or with a made-up one, get only answers that the document describes."""
    run_schemathesis(url, CONFIG, tmp_path, 10, SINGLE)
