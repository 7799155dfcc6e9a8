"""What is said of a process that does not become ready: what can be seen from outside, and where to look."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from chassis.addresses import normalize_socket_path, normalize_target
from chassis.db.damage import DAMAGED
from local.ports import Ports
from local.stack import Secrets, build_environment, explain_waiting, find_damage
from tests.ports import free_port


@contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    """Answer every GET on a port, which the block gets, with this status and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def build_ports(port: int) -> Ports:
    """Return ports that are all the same one."""
    return Ports(**{each.name: port for each in fields(Ports)})


@pytest.mark.parametrize(
    ("name", "status", "body", "text"),
    [
        (
            "user_manager",
            503,
            json.dumps({"detail": "The database does not answer; try again shortly."}).encode(),
            "it answers, but is not ready (The database does not answer; try again shortly); its log is ",
        ),
        (
            "collector",
            503,
            json.dumps({"detail": "Waits for its schema."}).encode(),
            "not ready (Waits for its schema); its log",
        ),
        ("streams", 503, b'{"status": "recovering"}', "not ready (recovering); its log"),
        ("user_manager", 502, b"<html>Bad Gateway</html>", "was answered 502 by something else than user_manager"),
        ("notifier", 404, b"[]", "was answered 404 by something else than notifier"),
        ("streams", 407, b"", "was answered 407 by something else than streams"),
        ("user_manager", 200, b"{}", "it has become ready only now: this machine is slow or busy"),
    ],
)
def test_a_service_that_answers_is_quoted(tmp_path: Path, name: str, status: int, body: bytes, text: str) -> None:
    """A service says why it is not ready; another program's answer is not taken for the service's."""
    with answering(status, body) as port:
        assert text in explain_waiting(name, build_ports(port), tmp_path)


@pytest.mark.parametrize(
    ("name", "detail", "is_damaged"),
    [
        ("user_manager", DAMAGED, True),
        ("collector", DAMAGED, True),
        ("collector", "The database does not answer; try again shortly.", False),
        ("streams", DAMAGED, False),
    ],
)
def test_a_damaged_database_is_told_from_one_that_is_waited_for(name: str, detail: str, is_damaged: bool) -> None:
    """No waiting mends it, so the start need not wait; the stream has no database."""
    with answering(503, json.dumps({"detail": detail}).encode()) as port:
        assert (find_damage(name, build_ports(port)) == detail) is is_damaged
    assert find_damage(name, build_ports(free_port())) is None


@pytest.mark.parametrize("name", ["user_manager", "collector", "streams", "notifier", "opensky", "mailbox", "gateway"])
def test_a_service_that_does_not_answer_is_told_with_its_address(tmp_path: Path, name: str) -> None:
    """The text names the address that was tried, and the log of that process."""
    port = free_port()
    text = explain_waiting(name, build_ports(port), tmp_path)
    assert f"127.0.0.1:{port}" in text
    assert text.endswith(f"{name}.log")


@pytest.mark.parametrize(("folder", "is_short"), [("data", True), ("d" * 100, False)])
def test_services_call_each_other_by_sockets_that_others_cannot_reach(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str, is_short: bool
) -> None:
    """By the ports only if the data folder's path is too long for a socket; the settings of the services allow both."""
    monkeypatch.chdir(tmp_path)
    ports = Ports(*range(1, len(fields(Ports)) + 1))
    made = build_environment(ports, Path("/srv") / folder, Secrets.random(), None)
    for name, kind, port in (
        ("USER_MANAGER", "GRPC", ports.user_manager_grpc),
        ("COLLECTOR", "GRPC", ports.collector_grpc),
        ("USER_MANAGER", "HTTP", ports.user_manager_http),
        ("COLLECTOR", "HTTP", ports.collector_http),
    ):
        path = normalize_socket_path(made[f"{name}_{kind}_SOCKET"])
        target = normalize_target(made[f"{name}_{kind}_TARGET"])
        assert (path, target) == (
            (f"/srv/data/{kind.lower()}/{name.lower()}.sock", f"unix:{path}") if is_short else ("", f"127.0.0.1:{port}")
        )
    relative = build_environment(ports, Path("d"), Secrets.random(), None)["COLLECTOR_GRPC_SOCKET"]
    assert not relative or Path(relative) == tmp_path / "d" / "grpc" / "collector.sock"
