"""A fake SMTP server that follows a script: for each command a reply, or a fault in place of the reply."""

import base64
import socket
import socketserver
import ssl
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Final, Literal

HANG_UP: Final = ""
"""In place of a reply: close the connection."""
RESET: Final = "<reset>"
"""In place of a reply: reset the connection (TCP RST)."""
STALL: Final = "<stall>"
"""In place of a reply: send nothing until the client gives up."""
ACCEPT_THEN_CLOSE: Final = "<taken>"
"""In place of the reply to the content: accept the mail, and close the connection without a reply."""
ACCEPT_THEN_STALL: Final = "<taken, silent>"
"""In place of the reply to the content: accept the mail, and send nothing until the client gives up."""
THEN_CLOSE: Final = "<then gone>"
"""At the end of a reply: send the reply, and close the connection."""

_ACCEPTED_WITHOUT_REPLY: Final = (ACCEPT_THEN_CLOSE, ACCEPT_THEN_STALL)

_USUAL_REPLIES: Final = {
    "CONNECT": "220 fake.example ESMTP",
    "HELO": "250 fake.example",
    "NOOP": "250 OK",
    "RSET": "250 OK",
    "MAIL": "250 OK",
    "RCPT": "250 OK",
    "DATA": "354 go on",
    "CONTENT": "250 taken",
    "STARTTLS": "220 go on",
    "HANDSHAKE": "",
    "QUIT": "221 bye",
}

Script = defaultdict[str, list[str | None]]
"""For each command the replies to send, in order, before the usual one; None among them: the usual reply."""


class FakeSmtpServer:
    """A fake SMTP server on a free port of 127.0.0.1, which follows a script and records what it receives.

    `script[command]` holds replies for a command. A command may also be CONNECT (the greeting), HANDSHAKE (of TLS: only
    faults in place of it) or CONTENT (after the mail's last line). `script_for[address][command]` does the same for
    RCPT, DATA and CONTENT of mails to one address, and `rcpt_script_for[address]` for RCPT; a command out of sequence
    uses none of them up. The server is strict: a MAIL within a mail, or DATA without a recipient, is out of sequence.
    """

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        security: Literal["plaintext", "starttls", "tls"] = "plaintext",
        login: tuple[str, str] | None = None,
        extensions: tuple[str, ...] = (),
    ) -> None:
        """`login` (name, password), if given, makes the server require AUTH before a mail."""
        self.script: Script = defaultdict(list)
        self.script_for: defaultdict[str, Script] = defaultdict(lambda: defaultdict(list))
        self.rcpt_script_for: Script = defaultdict(list)
        self.mails: list[EmailMessage] = []
        """Accepted mails, in order, also those whose acceptance the client does not know."""
        self.envelopes: list[tuple[str, str]] = []
        """The MAIL and RCPT lines of each accepted mail."""
        self.accepted_at: list[datetime] = []
        """When each mail was accepted, UTC."""
        self.commands: list[str] = []
        """The names of all commands received."""
        self.commands_per_read: list[int] = []
        """How many commands each read from the network brought."""
        self.connections = 0
        """How many connections were opened in all."""
        self.open = 0
        """How many connections are open now."""
        self.most_open = 0
        """How many connections were open at the same time at most."""
        self.port = 0
        self._tls, self._security, self._login, self._extensions = tls, security, login, extensions
        self._lock = threading.Lock()

    def next_reply(self, command: str, address: str | None = None) -> str | None:
        """Record a command, and return the script's next reply to it; None: send the usual reply."""
        with self._lock:
            self.commands.append(command)
            if address is not None and self.script_for[address][command]:
                return self.script_for[address][command].pop(0)
            if address is not None and command == "RCPT" and self.rcpt_script_for[address]:
                return self.rcpt_script_for[address].pop(0)
            return self.script[command].pop(0) if self.script[command] else None

    def build_ehlo_reply(self, encrypted: bool) -> str:
        """Return the usual reply to EHLO, with the extensions."""
        extensions = list(self._extensions)
        if self._security == "starttls" and not encrypted:
            extensions.append("STARTTLS")
        elif self._login is not None:
            extensions.append("AUTH PLAIN")
        lines = ["fake.example", *extensions]
        return "\r\n".join(f"250{' ' if line is lines[-1] else '-'}{line}" for line in lines)

    def is_valid_login(self, line: str) -> bool:
        """Return True if a line AUTH PLAIN holds the right name and password."""
        credentials = base64.b64decode(line.split()[-1]).decode().split("\0")[1:]
        return self._login is not None and credentials == list(self._login)

    def accept_mail(self, mail: EmailMessage, envelope: tuple[str, str]) -> None:
        """Store a mail as accepted."""
        with self._lock:
            self.mails.append(mail)
            self.envelopes.append(envelope)
            self.accepted_at.append(datetime.now(UTC))

    @contextmanager
    def count_connection(self) -> Iterator[None]:
        """Count one connection as open during the block."""
        with self._lock:
            self.connections += 1
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        try:
            yield
        finally:
            with self._lock:
                self.open -= 1

    @contextmanager
    def running(self, port: int = 0) -> Iterator["FakeSmtpServer"]:
        """Run the server during the block. `port` 0: a free one."""
        fake = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with fake.count_connection(), suppress(OSError, _SessionEnded):
                    _Session(fake, self.request, fake._tls, fake._security, fake._login is not None).run()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False
            allow_reuse_address = True
            request_queue_size = 128

        with Server(("127.0.0.1", port), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


class _SessionEnded(Exception):
    """The session has ended."""


class _Session:
    """The SMTP session with one client on one connection."""

    def __init__(
        self,
        fake: FakeSmtpServer,
        channel: socket.socket,
        tls: ssl.SSLContext | None,
        security: str,
        login_required: bool,
    ) -> None:
        self._fake = fake
        self._socket = channel
        self._tls = tls
        self._security = security
        self._login_required = login_required
        self._buffer = b""
        self._mail = self._rcpt = self._address = ""

    def run(self) -> None:
        """Greet the client, and handle its commands until the session ends. Raises _SessionEnded."""
        try:
            if self._security == "tls":
                self._start_tls()
            self._send_reply(self._fake.next_reply("CONNECT"), "220 fake.example ESMTP")
            while True:
                self._handle_command(self._read_line().decode(errors="replace").rstrip("\r\n"))
        finally:
            self._socket.close()

    def _handle_command(self, line: str) -> None:
        """Reply to one command, and do what an accepted command requires."""
        command = line.partition(" ")[0].upper()
        if command == "RCPT":
            self._address = line.partition("<")[2].partition(">")[0]
        in_sequence = (command == "RCPT" and self._mail) or (command == "DATA" and self._rcpt)
        scripted = self._fake.next_reply(command, self._address if in_sequence else None)
        usual = self._usual_reply(command, line)
        reply = self._send_reply(scripted, usual)
        match command, reply[:1]:
            case "QUIT", _:
                raise _SessionEnded
            case "STARTTLS", "2":
                self._buffer = b""
                self._start_tls()
            case ("MAIL", "2"):
                self._mail = line
            case ("RCPT", "2"):
                self._rcpt = line
            case ("RSET", _):
                self._mail = self._rcpt = ""
            case ("DATA", "3"):
                self._receive_content()

    def _usual_reply(self, command: str, line: str) -> str:
        """Return the reply that a well-working server sends to a command in this state of the session."""
        match command:
            case "EHLO":
                return self._fake.build_ehlo_reply(isinstance(self._socket, ssl.SSLSocket))
            case "AUTH":
                if self._fake.is_valid_login(line):
                    self._login_required = False
                    return "235 2.7.0 welcome"
                return "535 5.7.8 wrong"
            case "MAIL" if self._login_required:
                return "530 5.7.0 log in first"
            case "MAIL" if self._mail:
                return "503 5.5.1 nested MAIL"
            case "RCPT" if not self._mail:
                return "503 5.5.1 no sender"
            case "DATA" if not self._rcpt:
                return "554 5.5.1 no recipients"
        return _USUAL_REPLIES.get(command, "502 5.5.2 not here")

    def _receive_content(self) -> None:
        """Read a mail's content, accept the mail unless the script refuses it, and reply."""
        lines = []
        while (raw := self._read_line()) != b".\r\n":
            lines.append(raw.removeprefix(b"."))
        scripted = self._fake.next_reply("CONTENT", self._address)
        usual = "250 taken" if self._rcpt else "554 5.5.1 no recipients"
        is_accepted = scripted is None or scripted in _ACCEPTED_WITHOUT_REPLY or scripted.startswith("250")
        if self._rcpt and is_accepted:
            mail = message_from_bytes(b"".join(lines), EmailMessage, policy=default)
            self._fake.accept_mail(mail, (self._mail, self._rcpt))
        self._mail = self._rcpt = ""
        self._send_reply(scripted, usual)

    def _send_reply(self, scripted: str | None, usual: str) -> str:
        """Send the scripted or the usual reply and return it, or do the scripted fault. Raises _SessionEnded."""
        match scripted:
            case "<reset>":
                # Closed with this option, a socket sends a reset and discards unsent bytes.
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise _SessionEnded
            case "" | "<taken>":
                raise _SessionEnded
            case "<stall>" | "<taken, silent>":
                while self._socket.recv(4096):
                    pass
                raise _SessionEnded
        reply = usual if scripted is None else scripted
        self._socket.sendall(f"{reply.removesuffix(THEN_CLOSE)}\r\n".encode())
        if reply.startswith("421") or reply.endswith(THEN_CLOSE):
            raise _SessionEnded
        return reply

    def _start_tls(self) -> None:
        """Encrypt the connection, or do the scripted fault in place of the handshake."""
        assert self._tls is not None
        scripted = self._fake.next_reply("HANDSHAKE")
        if scripted is not None:
            self._send_reply(scripted, "")
        self._socket = self._tls.wrap_socket(self._socket, server_side=True)

    def _read_line(self) -> bytes:
        """Return the next line, with its end. Raises _SessionEnded if the client has closed the connection."""
        while b"\n" not in self._buffer:
            data = self._socket.recv(65536)
            if not data:
                raise _SessionEnded
            self._buffer += data
            self._fake.commands_per_read.append(data.count(b"\r\n"))
        line, end, self._buffer = self._buffer.partition(b"\n")
        return line + end
