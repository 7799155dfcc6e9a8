"""The description of the REST interface: it is complete, and every answer is as it says (see tests/openapi)."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from flask import Flask

from collector.intervals import DAY, day_of
from collector.rest.users import Authenticator
from domain.interests import Direction
from tests.collector.conftest import ANN, ANNS, NOON, ON_SQLITE, OPERATOR, Service, app_of, wish
from tests.fakes.authority import FakeAuthority
from tests.openapi.judging import SINGLE, described_routes, judge, public_routes, served

pytestmark = ON_SQLITE

CONFIG = Path(__file__).with_name("schemathesis.toml")
TODAY = day_of(NOON)


@pytest.fixture
def app(service: Service, authority: FakeAuthority) -> Iterator[Flask]:
    """Ann watches KJFK, of which there are flights to see."""
    service.set(wish(), ANN)
    for direction in Direction.BOTH.parts:
        service.cover(direction, TODAY - 3 * DAY, TODAY)
        service.store(direction, *(TODAY - number * timedelta(minutes=20) for number in range(1, 200)))
    users = Authenticator(authority.target, cache_s=60)
    yield app_of(service.database, service.clock, users)
    users.close()


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    with served(app) as url:
        yield url


def test_every_public_route_is_described(app: Flask) -> None:
    """A route without `describe` is no route of this service."""
    assert set(described_routes(app)) == public_routes(app)
    assert len(described_routes(app)) == 14


def test_nothing_goes_without_a_token(app: Flask) -> None:
    """People's, or the operator's where it is about everybody."""
    needs = {shown["operationId"]: shown["security"] for shown in described_routes(app).values()}
    assert {name for name, security in needs.items() if security == [{"bearer": ["operator"]}]} == {
        "collect", "scheduler_status"
    }  # fmt: skip


def test_every_parameter_of_a_query_has_a_schema_of_its_own(app: Flask) -> None:
    """It refers to nothing that the document has not."""
    assert "#/$defs/" not in repr(described_routes(app))


def test_every_answer_to_a_user_is_as_described(url: str, tmp_path: Path) -> None:
    """One that has confirmed the address and has interests, so that the most is reached; also in chains."""
    judge(url, CONFIG, tmp_path, 20, f"--header=Authorization: {ANNS['Authorization']}")
    assert httpx.get(f"{url}/interests", headers=ANNS).status_code == 200


def test_every_answer_to_the_operator_is_as_described(url: str, tmp_path: Path) -> None:
    """Who is no user."""
    judge(url, CONFIG, tmp_path, 10, f"--header=Authorization: {OPERATOR['Authorization']}", SINGLE)


def test_every_answer_to_strangers_is_as_described(url: str, tmp_path: Path) -> None:
    """Without a token, and with those that schemathesis makes up."""
    judge(url, CONFIG, tmp_path, 10, SINGLE)
