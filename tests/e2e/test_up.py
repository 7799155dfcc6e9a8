"""The stack of `make up`, across restarts and crashes."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from local.mailbox.reading import find_confirmation_link, find_sign_in_link, read_mails
from local.ports import HOST, Ports
from local.processes import ROOT
from tests import plain_http
from tests.e2e.test_demo import find_processes, port_base
from tests.waiting import eventually

__all__ = ["port_base"]


class Stack:
    """The commands of a stack of the test's own."""

    def __init__(self, folder: Path, base: int) -> None:
        self.data = folder / "data"
        self.env_file = folder / ".env"
        # A source that refuses every connection: the tests ask nothing of the real one.
        refused = f"http://{HOST}:9/api"
        self.env_file.write_text(f"PORT_BASE={base}\nOPENSKY_URL={refused}\nALLOW_TEST_ADDRESSES=true\n")
        self.people = f"http://{HOST}:{Ports.from_base(base).gateway_http}"
        self.users = self.interests = self.people
        self.direct = (f"http://{HOST}:{base}", f"http://{HOST}:{base + 2}")
        self.overview = f"http://{HOST}:{Ports.from_base(base).streams_web}/api/overview"
        self.mails = f"http://{HOST}:{Ports.from_base(base).mailbox_web}"

    def __call__(self, command: str, said: str = "", *more: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `local.up`, and return what it printed."""
        environment = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"}
        return subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "local.up",
                    command,
                    "--env-file",
                    str(self.env_file),
                    "--data",
                    str(self.data),
                ),
                *more,
            ],
            cwd=ROOT,
            env=environment,
            input=said,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )


@pytest.fixture
def stack(tmp_path, port_base):
    """A stack that is stopped at the end of the test."""
    stack = Stack(tmp_path, port_base)
    yield stack
    stack("stop")
    assert not find_processes(stack.data)


def test_accounts_and_interests_survive_restarts_and_crashes(stack):
    """An account and an interest exist after a stop and start, and after a crash of a service."""
    started = stack("start")
    assert started.returncode == 0, started.stderr
    assert "Towerwatch is up" in started.stdout
    assert f"  people       {stack.people}/\n  programs     {stack.people}/docs\n" in started.stdout
    assert f"  mails        {stack.mails}/\n" in started.stdout
    assert plain_http.get(f"{stack.people}/docs", follow_redirects=True).status_code == 200
    for service in stack.direct:  # for operators, and for programs on this machine
        assert plain_http.get(f"{service}/metrics").status_code == plain_http.get(f"{service}/docs").status_code == 200
    assert plain_http.get(f"{stack.people}/metrics").status_code == 404
    assert "is running already" in stack("start").stderr

    account = {"email": "ada@towerwatch.test", "name": "Ada"}
    token = plain_http.post(f"{stack.users}/users", json=account).json()["token"]
    authorized = {"Authorization": f"Bearer {token}"}
    eventually(lambda: bool(read_mails(stack.data / "mail")), "the confirmation mail comes")
    link = find_confirmation_link(read_mails(stack.data / "mail")[0])
    assert link is not None
    assert link.startswith(f"{stack.people}/confirm/")
    shown = re.findall(r'href="(/mails/[^"]+)"', plain_http.get(f"{stack.mails}/").text)
    assert len(shown) == 1
    assert f'href="{link}"' in plain_http.get(f"{stack.mails}{shown[0]}").text
    assert plain_http.post(link, headers=authorized).status_code == 200
    wish = {"airport_icao": "LICC", "direction": "departures", "window": "1d", "low_value": 5}
    assert plain_http.post(f"{stack.interests}/interests", json=wish, headers=authorized).status_code == 201

    assert "Towerwatch is down" in stack("stop").stdout
    assert not find_processes(stack.data)
    assert stack("start").returncode == 0

    def interests() -> list[str]:
        """Return the airports of the interests; none while the service or the gateway does not answer."""
        try:
            answer = plain_http.get(f"{stack.interests}/interests", headers=authorized)
        except httpx.TransportError:
            return []
        return [each["airport_icao"] for each in answer.json().get("interests", [])]

    assert interests() == ["LICC"]
    collector = next(pid for pid in find_processes(stack.data) if "-m collector" in read_command(pid))
    os.kill(collector, signal.SIGKILL)
    eventually(lambda: not interests(), "it is gone", 10)
    eventually(lambda: interests() == ["LICC"], "it is back by itself")
    gateway = next(pid for pid in find_processes(stack.data) if "-m local.gateway" in read_command(pid))
    os.kill(gateway, signal.SIGKILL)
    eventually(lambda: gateway not in find_processes(stack.data), "the gateway is gone")
    eventually(lambda: interests() == ["LICC"], "it is back by itself")

    backups = stack.data.parent / "backups"
    said = stack("backup", "", "--backups", str(backups))
    assert said.returncode == 0, said.stderr
    [backup] = backups.iterdir()
    assert str(backup) in said.stdout
    assert stack("restore", "", "--file", str(backup)).stderr == "towerwatch: is running; `make down` first\n"
    assert stack("stop").returncode == 0
    shutil.rmtree(stack.data)
    stack.env_file.unlink()
    restored = stack("restore", "", "--file", str(backup))
    assert restored.returncode == 0, restored.stderr
    started = stack("start")
    assert started.returncode == 0, started.stderr
    assert interests() == ["LICC"]
    mine = plain_http.get(f"{stack.users}/users/ada@towerwatch.test", headers=authorized).json()["user"]
    assert (mine["name"], mine["confirmed"]) == ("Ada", True)
    # Kafka is empty: the collector publishes what the stream must know.
    eventually(lambda: "LICC" in read_page(stack.overview), "the stream knows the interest again")


def test_a_stranger_registers_and_signs_in_by_mails_alone(stack):
    """The form of the pages, Kafka, the notifier and SMTP: the first mail confirms and signs in, the second signs in.

    The mails are asked for on a topic that holds no address; each link works for the browser that presses its button.
    """
    assert stack("start").returncode == 0
    own = {"Sec-Fetch-Site": "same-origin"}
    form = {"email": "ada@towerwatch.test", "time_zone": "Europe/Rome"}

    def follow(find_link, data=None) -> httpx.Response:
        """Wait for the mail with such a link, press the button behind it, and return the answer."""
        found = eventually(
            lambda: [link for mail in read_mails(stack.data / "mail") if (link := find_link(mail))], "the mail comes"
        )
        assert plain_http.get(found[-1]).status_code == 200
        return plain_http.post(found[-1], headers=own, data=data)

    assert plain_http.post(f"{stack.people}/sign-in/mail", data=form, headers=own).status_code == 202
    confirmed = follow(find_confirmation_link, {"name": "Ada"})
    assert confirmed.status_code == 200
    first = {**own, "Cookie": confirmed.headers.get_list("Set-Cookie")[0].partition(";")[0]}
    session = plain_http.get(f"{stack.people}/session", headers=first).json()
    assert (session["user"]["name"], session["user"]["time_zone"]) == ("Ada", "Europe/Rome")
    wish = {"airport_icao": "LICC", "direction": "departures", "window": "1d", "low_value": 5}
    assert plain_http.post(f"{stack.people}/interests", json=wish, headers=first).status_code == 201
    assert plain_http.delete(f"{stack.people}/session", headers=first).status_code == 204

    assert plain_http.post(f"{stack.people}/sign-in/mail", data=form, headers=own).status_code == 202
    signed_in = follow(find_sign_in_link)
    assert (signed_in.status_code, signed_in.headers["Location"]) == (303, "/")
    second = {**own, "Cookie": signed_in.headers.get_list("Set-Cookie")[0].partition(";")[0]}
    assert plain_http.get(f"{stack.people}/session", headers=second).json()["user"] == session["user"]
    assert plain_http.get(f"{stack.people}/session", headers=first).status_code == 401


def read_page(url: str) -> str:
    """Return what a page answers; empty if it does not."""
    try:
        return plain_http.get(url).text
    except httpx.TransportError:
        return ""


def read_command(pid: int) -> str:
    """Return a process's command line, empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def test_stopping_a_stopped_stack_succeeds(stack):
    """`make down` may be called at any time."""
    stopped = stack("stop")
    assert (stopped.returncode, stopped.stdout.strip()) == (0, "Towerwatch is not running.")


def test_clean_deletes_only_after_a_yes(stack):
    """No answer counts as a no."""
    stack.data.mkdir()
    (stack.data / "something").write_text("dear to me")
    for said in ("", "n\n", "nonsense\n"):
        assert "Nothing was deleted" in stack("clean", said).stdout
        assert (stack.data / "something").exists()


def test_make_help_names_every_target_once():
    """`make` without a target lists every target."""
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  make (\w+)", shown, re.MULTILINE)[:5] == ["help", "demo", "up", "down", "clean"]


def test_a_setting_that_a_service_refuses_is_told_at_once(stack):
    """`make up` prints the service's sentence, in place of waiting until the service would have to be ready."""
    with stack.env_file.open("a") as file:
        file.write("SMTP_HOST=smtp..example.org\nSMTP_PORT=0\nMAIL_FROM=Tower <alerts@example.org>\n")
    started = stack("start")
    assert started.returncode == 2
    first, host, port = started.stderr.splitlines()
    assert first == "towerwatch: nothing was started, because settings are wrong:"
    assert host.startswith("  .env, line 4: SMTP_HOST: must be a host name")
    assert port.startswith("  .env, line 5: SMTP_PORT: must be a port number")
    assert "is not running" in stack("stop").stdout
