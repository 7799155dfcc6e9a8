"""Files of a run are for the user who runs it: no other user of the machine reads addresses, mails or logs."""

import smtplib
import stat
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from local.ports import Ports
from local.processes import ProcessSupervisor
from local.stack import SERVICES, Secrets, build_environment, is_ready, with_mailbox
from tests import plain_http
from tests.ports import free_ports

NAMES = ("mailbox", SERVICES[0])


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """The data folder, with data in it, of a run of the mailbox and user_manager."""
    first = free_ports(len(fields(Ports)))
    ports, folder = Ports(*range(first, first + len(fields(Ports)))), tmp_path / "data"
    environment = with_mailbox(build_environment(ports, folder, Secrets.random(), "127.0.0.1:1"), ports)
    with ProcessSupervisor(environment, folder) as processes:
        for name in NAMES:
            processes.start(name)
        processes.wait_until("mailbox", lambda: is_ready("mailbox", ports, folder), 90.0)
        processes.wait_until("user_manager", lambda: is_ready("user_manager", ports, folder), 90.0)
        with smtplib.SMTP("127.0.0.1", ports.mailbox) as client:
            client.sendmail("a@example.org", ["b@example.org"], b"Subject: hello\r\n\r\nhello\r\n")
        body = {"email": "ann@example.org", "name": "Ann", "time_zone": "UTC"}
        plain_http.post(f"http://127.0.0.1:{ports.user_manager_http}/users", json=body, timeout=60)
        yield folder


def test_no_other_user_reads_what_a_run_writes(data: Path) -> None:
    """Folders have the mode 0700 and files 0600 from the start, databases, mails and logs alike."""
    files = [each for each in data.rglob("*") if not each.is_symlink()]
    written = {each.suffix for each in files} | {each.parent.name for each in files if each.is_file()}
    assert {".log", ".db", "new"} <= written
    modes = {str(each): stat.S_IMODE(each.stat().st_mode) for each in files}
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}
