"""The mailbox: delivery by SMTP, and reading of the Maildir."""

import signal
import smtplib
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest

from local.mailbox.reading import ReceivedMail, find_confirmation_link, get_plain_text, read_mails
from tests.local.mailbox.process import deliver, running_mailbox
from tests.ports import free_port


def test_mails_are_read_in_the_order_of_delivery(tmp_path: Path) -> None:
    """Each mail has its time of delivery, is whole, and has a key by which the next reading can skip it."""
    port, maildir = free_port(), tmp_path / "deep" / "mail"
    assert read_mails(maildir) == []
    with running_mailbox(maildir, port=port) as running:
        before = datetime.now(UTC)
        for number in range(20):
            deliver(port, f"mail {number}")
        read = read_mails(maildir)
        assert [mail.message["Subject"] for mail in read] == [f"mail {number}" for number in range(20)]
        # A file system keeps time by the kernel's tick, which may lag behind the clock by some milliseconds.
        assert before - timedelta(milliseconds=20) <= read[0].delivered_at <= read[-1].delivered_at <= datetime.now(UTC)
        assert any(mail.delivered_at.microsecond % 1000 for mail in read)
        assert read[0].message["Delivered-To"] == "b@example.net"
        assert get_plain_text(read[0]) == "Hello.\n"
        seen = {mail.key for mail in read[:15]}
        assert read_mails(maildir, besides=seen) == read[15:]
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0


def test_reading_while_mails_arrive_and_move(tmp_path: Path) -> None:
    """A reader never gets half a mail, never one twice, and never loses one that another program moves."""
    port = free_port()
    with running_mailbox(tmp_path / "mail", port=port):
        done = Event()

        def deliver_all() -> None:
            with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
                for number in range(60):
                    body = f"Subject: {number}\r\n\r\n" + ("x" * 900 + "\r\n") * 80 + "end\r\n"
                    client.sendmail("a@example.org", ["b@example.net"], body)
                    for path in list((tmp_path / "mail" / "new").iterdir())[:1]:
                        path.rename(tmp_path / "mail" / "cur" / f"{path.name}:2,S")
            done.set()

        delivering = Thread(target=deliver_all)
        delivering.start()
        met: dict[str, ReceivedMail] = {}
        deadline = time.monotonic() + 60
        while not done.is_set() and time.monotonic() < deadline:
            for mail in read_mails(tmp_path / "mail", besides=met.keys()):
                assert get_plain_text(mail).endswith("end\n")
                met[mail.key] = mail
        delivering.join()
        met |= {mail.key: mail for mail in read_mails(tmp_path / "mail", besides=met.keys())}
        assert sorted(int(mail.message["Subject"]) for mail in met.values()) == list(range(60))


def test_the_confirmation_link_is_found(tmp_path: Path) -> None:
    """The link is found in a confirmation mail, and in no other mail."""
    port = free_port()
    with running_mailbox(tmp_path / "mail", port=port):
        deliver(port, "Confirm your address for Towerwatch", "Follow\r\n\r\nhttps://example.org/c?t=a.b-c\r\n\r\nBye.")
        deliver(port, "KJFK: 24 departures", "See https://example.org/")
        assert [find_confirmation_link(mail) for mail in read_mails(tmp_path / "mail")] == [
            "https://example.org/c?t=a.b-c",
            None,
        ]


@pytest.mark.parametrize("option", ["--port", "--web-port"])
def test_a_port_in_use_is_reported_in_one_sentence(tmp_path: Path, option: str) -> None:
    """The report has no stack trace, whichever of the two ports it is."""
    other = {"--port": "--web-port", "--web-port": "--port"}[option]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "local.mailbox", option, str(port), other, str(free_port())]
        command += ["--maildir", str(tmp_path / "mail")]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert ended.returncode == 1
    refusal = f"mailbox: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert ended.stderr.splitlines() == [f"{refusal}; stop what uses the port, or choose another"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_a_client_connected(tmp_path: Path, number: signal.Signals) -> None:
    """Clients keep their connections open, and that must not keep the mailbox running."""
    mail = tmp_path / "mail"
    with running_mailbox(mail) as running, smtplib.SMTP("127.0.0.1", running.port, timeout=60) as client:
        client.noop()
        running.process.send_signal(number)
        assert running.process.wait(60) == 0
        client.close()
