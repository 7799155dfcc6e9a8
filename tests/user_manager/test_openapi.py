"""The description of the REST interface: it is complete, and every answer is as it says.

schemathesis makes up requests from the served document, valid and invalid, one after another and in chains, sends
them to a real server on a real database, and compares each answer with what the document promises. It runs as its
own command does, with every check.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from flask import Flask

from chassis import openapi
from chassis.http import path_template
from chassis.wsgi import HttpServer
from tests.ports import free_port
from tests.user_manager.apps import app_of
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service

pytestmark = ON_SQLITE

ROOT = Path(__file__).parents[2]

NOT_PUBLIC = {"/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs", "/docs/{name}"}
"""What is for operators and for readers of the document."""


SINGLE = "--phases=examples,coverage,fuzzing"
"""One request at a time: chains need an account to be made and then used, which is the operator's run."""


@pytest.fixture
def app(service: Service) -> Flask:
    return app_of(service)


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    port = free_port()
    server = HttpServer(app, "127.0.0.1", port)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


def test_every_public_route_is_described(app: Flask) -> None:
    """A route without `describe` is no route of this service."""
    served = {
        (path_template(rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if path_template(rule) not in NOT_PUBLIC
    }
    document = openapi.document(app, "", "", "")
    assert isinstance(document["paths"], dict)
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert described == served
    assert len(described) == 13


def test_only_what_needs_no_token_goes_without(app: Flask) -> None:
    """Registering, seeing how far a deletion is, and the pages: whoever has their link may use them."""
    document = openapi.document(app, "", "", "")
    assert isinstance(document["paths"], dict)
    open_to_all = {
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
        if "security" not in operation
    }
    assert open_to_all == {
        "register_user", "get_deletion", "confirmation_page", "confirm", "unsubscription_page", "unsubscribe"
    }  # fmt: skip


def judge(url: str, directory: Path, examples: int, *options: str) -> None:
    """Have schemathesis run against the server, and fail with what it found."""
    fixed = ["--seed=1", "--generation-deterministic"] if os.environ.get("CI") else []
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            f"--config-file={Path(__file__).with_name('schemathesis.toml')}",
            *("run", f"{url}/openapi.json", "--checks=all", f"--max-examples={examples}", "--continue-on-failure"),
            *("--no-color", *fixed, *options),
        ],
        cwd=directory,  # where it keeps what it found
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " passed" in ended.stdout, ended.stdout


def test_every_answer_to_the_operator_is_as_described(url: str, service: Service, tmp_path: Path) -> None:
    """Whose token opens everything, so that the most is reached."""
    service.register("ann@example.org")
    judge(url, tmp_path, 30, f"--header=Authorization: Bearer {OPERATOR_TOKEN}")


def test_every_answer_to_a_user_is_as_described(url: str, service: Service, tmp_path: Path) -> None:
    """But for the two requests that would make the user's own token void at once: they are the operator's to send."""
    token = service.register("ann@example.org").token
    void = ("--exclude-operation-id=delete_user", "--exclude-operation-id=rotate_token")
    judge(url, tmp_path, 10, f"--header=Authorization: Bearer {token}", *void, SINGLE)
    assert httpx.get(f"{url}/users/ann@example.org", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_every_answer_to_strangers_is_as_described(url: str, service: Service, tmp_path: Path) -> None:
    """Without a token, and with those that schemathesis makes up."""
    service.register("ann@example.org")
    judge(url, tmp_path, 10, SINGLE)
