"""Checks that a REST interface conforms to its OpenAPI document: it is complete, and every answer agrees with it.

schemathesis makes up requests from the served document, valid and invalid, one after another and in chains, sends them
to a real server on a real database, and compares each answer with the document. It runs as its own command does, with
every check.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from flask import Flask

from chassis.web import openapi
from chassis.web.http import format_path_template
from chassis.web.wsgi import HttpServer
from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]

DEADLINE_S: Final = 1_750
"""A guard against hanging, below `TIMEOUT`: a run waits for thousands of answers, one after another."""

TIMEOUT: Final = pytest.mark.timeout(1_800)
"""The mark of every test that runs schemathesis."""

NOT_PUBLIC: Final = {
    "/", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs", "/docs/{name}",
    "/watch", "/told", "/account", "/register", "/web/{version}/{name}",
}  # fmt: skip
"""Paths for operators, for people and for readers of the document, which the document leaves out."""

SINGLE: Final = "--phases=examples,coverage,fuzzing"
"""One request at a time, and no chains of them."""


@contextmanager
def serve_app(app: Flask) -> Iterator[str]:
    """Serve the app with a real server for the block, and yield its URL."""
    port = free_port()
    server = HttpServer(app, "127.0.0.1", port)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


def list_public_routes(app: Flask) -> set[tuple[str, str]]:
    """Return path and method of every public route of the service, described or not."""
    return {
        (format_path_template(rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if format_path_template(rule) not in NOT_PUBLIC
    }


def list_described_operations(app: Flask) -> dict[tuple[str, str], dict[str, Any]]:
    """Return each operation of the app's OpenAPI document by path and method."""
    document = openapi.build_document(app, "", "", "")
    assert isinstance(document["paths"], dict)
    return {(path, method): shown for path, item in document["paths"].items() for method, shown in item.items()}


def run_schemathesis(url: str, config: Path, directory: Path, examples: int, *options: str) -> None:
    """Run schemathesis against the server, with its files in the directory; fail with its findings.

    A run that is not done in `DEADLINE_S` fails, too, with what it had printed by then.
    """
    fixed = ["--seed=1", "--generation-deterministic"] if os.environ.get("CI") else []
    command = [
        *(sys.executable, "-m", "schemathesis.cli", f"--config-file={config}"),
        *("run", f"{url}/openapi.json", "--checks=all", f"--max-examples={examples}", "--continue-on-failure"),
        *("--no-color", *fixed, *options),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    try:
        ended = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""  # bytes, whatever `text` says
        pytest.fail(f"schemathesis was not done in {DEADLINE_S} s: {said.decode(errors='replace')}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " passed" in ended.stdout, ended.stdout
