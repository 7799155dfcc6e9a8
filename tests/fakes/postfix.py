"""A real mail server for tests: Debian's Postfix, with a configuration, a queue and mailboxes of its own.

Postfix listens on a free port of 127.0.0.1, with STARTTLS, and delivers to Maildirs; no mail leaves the machine, and
the machine's own Postfix, if it runs, is not affected. Postfix must be started by root, since each of its parts then
changes to its own user. Without Postfix or root, the tests that need it are skipped; they fail if
`TOWERWATCH_REQUIRE_POSTFIX` is set.
"""

import os
import pwd
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.fakes.tls import server_context
from tests.ports import HOST, free_port
from tests.skips import skip_unless_required
from tests.waiting import eventually

MISSING: Final = "Postfix is not installed (`apt-get install postfix`), or we are not root"

_PATH: Final = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"
INSTALLED: Final = shutil.which("postfix", path=_PATH) if os.geteuid() == 0 else None

SIZE_LIMIT: Final = 20_000
"""In bytes, of a mail."""

_MASTER: Final = """
{host}:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""

_MAIN: Final = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/log/postfix
maillog_file_prefixes = {folder}/log
multi_instance_name = postfix-towerwatch-test
syslog_name = postfix
inet_interfaces = {host}
inet_protocols = ipv4
myhostname = mail.example.net
mynetworks = 127.0.0.0/8
mydestination =
local_transport = error:nobody is local
alias_maps =
virtual_mailbox_domains = example.net
virtual_mailbox_maps = regexp:{folder}/etc/mailboxes
virtual_mailbox_base = {folder}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
virtual_transport = virtual
default_transport = error:no mail leaves this machine
relayhost =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtpd_tls_cert_file = {folder}/etc/trusted.pem
smtpd_tls_key_file = {folder}/etc/key.pem
smtpd_tls_session_cache_database =
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
smtputf8_enable = yes
message_size_limit = {limit}
mailbox_size_limit = 0
virtual_mailbox_limit = 0
debug_peer_list =
"""


class Postfix:
    """One Postfix instance, which can be stopped and started again on the same queue and port."""

    def __init__(self, folder: Path) -> None:
        """Write the configuration. All users must be able to enter `folder` and its parents. Requires `INSTALLED`."""
        assert INSTALLED is not None
        self._folder = folder
        self.port = free_port()
        etc = folder / "etc"
        for name in ("etc", "queue", "data", "log", "mail"):
            (folder / name).mkdir()
        _, self.ca_file = server_context(etc)
        account = pwd.getpwnam("postfix")
        uid, gid = account.pw_uid, account.pw_gid
        shutil.chown(folder / "data", uid, gid)
        shutil.chown(folder / "mail", uid, gid)
        # After a stop in the middle of a mail, a program that has this user's rights only reports the leftover file; if
        # it could not write the log, Postfix would not start again.
        (folder / "log" / "postfix").touch()
        shutil.chown(folder / "log" / "postfix", uid, gid)
        main = _MAIN.format(folder=folder, host=HOST, limit=SIZE_LIMIT, uid=uid, gid=gid)
        (etc / "main.cf").write_text(main)
        (etc / "master.cf").write_text(_MASTER.format(host=HOST, port=self.port))
        # An address that begins with "nobody" has no mailbox; all others share one.
        (etc / "mailboxes").write_text("if !/^nobody/\n/@example\\.net$/ all/\nendif\n")

    def start(self) -> None:
        """Start Postfix; return once it answers."""
        self._run_or_fail("start")
        eventually(self._is_answering, "the start of Postfix", 30)

    def stop(self) -> None:
        """Stop Postfix at once, in the middle of its work; return once its port is closed and its processes ended.

        Does nothing if it does not run.
        """
        if not self._is_running():
            return
        self._run_or_fail("abort")
        eventually(lambda: not self._is_answering() and not self._is_running(), "the end of Postfix", 30)

    def mails(self) -> list[EmailMessage]:
        """Return the delivered mails, in no order."""
        parser = BytesParser(EmailMessage, policy=policy.default)
        delivered = (self._folder / "mail" / "all" / "new").glob("*")  # a file there is complete
        return [parser.parsebytes(mail.read_bytes()) for mail in delivered]

    def empty_mailbox(self) -> None:
        """Delete all delivered mails."""
        shutil.rmtree(self._folder / "mail" / "all", ignore_errors=True)

    def leave_partial_mail(self) -> None:
        """Put a file into the queue, as a program that is killed before it has named its mail leaves it there."""
        partial = self._folder / "queue" / "incoming" / "483411.6258"
        partial.touch(mode=0o600)
        shutil.chown(partial, "postfix", "postfix")

    def log(self) -> str:
        """Return the whole log of Postfix; empty before its first start."""
        path = self._folder / "log" / "postfix"
        return path.read_text(errors="replace") if path.exists() else ""

    def _is_running(self) -> bool:
        """Return True if any process of this Postfix runs: each has the queue's folder as its working directory."""
        queue = self._folder / "queue"
        for process in Path("/proc").iterdir():
            with suppress(OSError):
                if process.name.isdecimal() and (process / "cwd").readlink().is_relative_to(queue):
                    return True
        return False

    def _run_or_fail(self, command: str) -> None:
        """Run a command of `postfix`, and fail with its messages unless it succeeds."""
        done = self._run(command)
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}{self.log()}"

    def _run(self, command: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command of `postfix` on this instance, and return the finished process."""
        assert INSTALLED is not None
        return subprocess.run(
            [INSTALLED, "-c", str(self._folder / "etc"), command],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60, check=False,
            env=os.environ | {"PATH": _PATH},
        )  # fmt: skip

    def _is_answering(self) -> bool:
        """Return True if the server replies to a NOOP."""
        try:
            with smtplib.SMTP(HOST, self.port, timeout=5) as client:
                return client.noop()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False


@contextmanager
def running_postfix() -> Iterator[Postfix]:
    """Run Postfix during the block. Skips or fails the test if Postfix is not installed."""
    if INSTALLED is None:
        skip_unless_required("POSTFIX", MISSING)
    # Not in pytest's own folder, which only its owner can enter: Postfix runs as several users.
    with TemporaryDirectory(prefix="towerwatch-postfix-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        postfix = Postfix(folder)
        try:
            postfix.start()
            yield postfix
        finally:
            postfix.stop()
