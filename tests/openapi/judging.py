"""How the description of a REST interface is held to: complete, and every answer as it says.

schemathesis makes up requests from the served document, valid and invalid, one after another and in chains, sends
them to a real server on a real database, and compares each answer with what the document promises. It runs as its
own command does, with every check.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from flask import Flask

from chassis.web import openapi
from chassis.web.http import format_path_template
from chassis.web.wsgi import HttpServer
from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]

NOT_PUBLIC: Final = {"/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs", "/docs/{name}"}
"""What is for operators and for readers of the document."""

SINGLE: Final = "--phases=examples,coverage,fuzzing"
"""One request at a time, and no chains of them."""


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """The URL of a real server that serves the app for the block."""
    port = free_port()
    server = HttpServer(app, "127.0.0.1", port)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


def public_routes(app: Flask) -> set[tuple[str, str]]:
    """Path and method of every route of the service's own, described or not."""
    return {
        (format_path_template(rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if format_path_template(rule) not in NOT_PUBLIC
    }


def described_routes(app: Flask) -> dict[tuple[str, str], dict[str, Any]]:
    """By path and method, each operation of the description."""
    document = openapi.build_document(app, "", "", "")
    assert isinstance(document["paths"], dict)
    return {(path, method): shown for path, item in document["paths"].items() for method, shown in item.items()}


def judge(url: str, config: Path, directory: Path, examples: int, *options: str) -> None:
    """Have schemathesis run against the server, and fail with what it found. It keeps that in the directory."""
    fixed = ["--seed=1", "--generation-deterministic"] if os.environ.get("CI") else []
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", f"--config-file={config}"),
            *("run", f"{url}/openapi.json", "--checks=all", f"--max-examples={examples}", "--continue-on-failure"),
            *("--no-color", *fixed, *options),
        ],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " passed" in ended.stdout, ended.stdout
