"""Tests of the check of all settings before `make up` starts anything, and of what it says of the sources."""

import contextlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from local.errors import LocalError
from local.up.setting_checks import require_valid_settings
from local.up.settings import StackConfig
from local.up.sources import describe_sources


@pytest.fixture(autouse=True)
def _no_broker_of_the_shell(monkeypatch):
    """Remove the shell's KAFKA_BOOTSTRAP_SERVERS."""
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)


def check(tmp_path: Path, text: str):
    """Check the settings of a `.env` with this text, and return the collector's."""
    env_file = tmp_path / ".env"
    env_file.write_text(text)
    return require_valid_settings(StackConfig(env_file, tmp_path / "data"), env_file)


def test_all_faults_of_all_services_are_told_together_with_their_lines(tmp_path: Path) -> None:
    """Each is told once, also of a setting that several services read; the environment is as it was."""
    before = dict(os.environ)
    text = (
        "# mine\nLIVE_URLS=localhost/aircraft.json\n\nPUBLIC_URL=http://tower.example.org/\n"
        "SMTP_HOST=https://smtp.example.org\nMAIL_FROM=a@example.org\nOPENSKY_CLIENT_ID=abc\nLOG_LEVEL=loud\n"
    )
    with pytest.raises(LocalError) as raised:
        check(tmp_path, text)
    first, *faults = str(raised.value).splitlines()
    assert first == "nothing was started, because settings are wrong:"
    assert sorted(fault.strip().split(": ")[:2] for fault in faults) == [
        [".env, line 2", "LIVE_URLS"],
        [".env, line 4", "PUBLIC_URL"],
        [".env, line 5", "SMTP_HOST"],
        [".env, line 7", "OPENSKY_CLIENT_SECRET"],
        [".env, line 8", "LOG_LEVEL"],
    ]
    assert dict(os.environ) == before


def test_a_value_of_the_shell_is_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's value takes precedence over the line, as in the services."""
    monkeypatch.setenv("LOG_LEVEL", "loud")
    with pytest.raises(LocalError, match="LOG_LEVEL"):
        check(tmp_path, "LOG_LEVEL=info\n")


def test_the_sources_are_told_without_their_addresses(tmp_path: Path) -> None:
    """A new user sees how OpenSky is asked, and whether a receiver is there; an address may hold a password."""
    assert describe_sources(check(tmp_path, "")) == (
        "OpenSky by anonymous access, 400 credits a day; nothing live (LIVE_URLS, or an account)"
    )
    there = tmp_path / "aircraft.json"
    there.write_text("{}")
    addresses = f"{there},{tmp_path}/none.json,http://ann:hunter2@127.0.0.1:9/aircraft.json"
    told = describe_sources(check(tmp_path, f"LIVE_URLS={addresses}\n"))
    assert told.startswith("OpenSky by anonymous access, 400 credits a day; the file of url-1 is there; the file of")
    assert told.endswith("url-2 is not there; the receiver url-3 does not answer (ConnectError)")


class EndlessReceiver(BaseHTTPRequestHandler):
    """A receiver whose answer begins at once and never ends."""

    def do_GET(self) -> None:
        """Answer with status 200 and a body that goes on until the client has gone."""
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b" " * 65_536)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


class WordlessReceiver(EndlessReceiver):
    """A receiver whose headers never end."""

    def do_GET(self) -> None:
        """Send headers, a piece at a time, until the client has gone."""
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not self.server.is_over.wait(0.05):  # type: ignore[attr-defined]
                self.wfile.write(b"X")
                self.wfile.flush()


@pytest.mark.parametrize(("receiver", "told"), [(EndlessReceiver, "answers"), (WordlessReceiver, "(TimeoutError)")])
def test_no_receiver_and_no_proxy_of_the_shell_ends_or_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: type[EndlessReceiver], told: str
) -> None:
    """An answer without end is not read, and a proxy of the shell is not used for a receiver on this machine."""
    monkeypatch.setattr("local.up.sources._TIMEOUT_S", 60.0 if receiver is EndlessReceiver else 0.3)
    server = ThreadingHTTPServer(("127.0.0.1", 0), receiver)
    server.is_over = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        settings = check(tmp_path, f"LIVE_URLS=http://127.0.0.1:{server.server_port}/aircraft.json\n")
        for name in ("ALL_PROXY", "HTTP_PROXY", "all_proxy", "http_proxy"):
            monkeypatch.setenv(name, "socks5://127.0.0.1:9")
        assert describe_sources(settings).endswith(told)
    finally:
        server.is_over.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()
        server.server_close()


def test_whatever_is_wrong_with_a_receiver_is_only_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack is up already: an error that nobody expected does not end it."""
    settings = check(tmp_path, "LIVE_URLS=http://127.0.0.1:9/aircraft.json\n")

    def fail(*arguments: object, **options: object) -> None:
        """Raise an error that is none of httpx."""
        raise ImportError("10.0.0.7")

    monkeypatch.setattr("httpx.AsyncClient", fail)
    assert describe_sources(settings).endswith("the receiver url-1 does not answer (ImportError)")
