"""An SMTP server that follows a script: what to answer to which command, or what to do in place of an answer."""

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
"""In place of an answer: close the connection."""
RESET: Final = "<reset>"
"""The same, rudely (TCP RST)."""
STALL: Final = "<stall>"
"""Say nothing until the client gives up."""
TAKEN_THEN_GONE: Final = "<taken>"
"""After the mail's last line: take the mail, and close the connection without a word."""
TAKEN_THEN_STALL: Final = "<taken, silent>"
"""The same, but stay silent."""
THEN_GONE: Final = "<then gone>"
"""At the end of an answer: give it, and close the connection."""

_TAKEN: Final = (TAKEN_THEN_GONE, TAKEN_THEN_STALL)

_DEFAULTS: Final = {
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


class FakeSmtpServer:
    """Takes mails on a free port of 127.0.0.1.

    `script[command]` holds answers to give in turn before the usual one; a command may also be CONNECT (the greeting),
    HANDSHAKE (of TLS: only what is done in place of it) or CONTENT (after the mail's last line). None among them is the
    usual answer. `of[address][command]` does the same for RCPT, DATA and CONTENT of mails to this address alone, and
    `to[address]` for RCPT; what comes out of sequence uses none of it up.
    It is strict: a MAIL within a mail, or DATA without a recipient, is out of sequence.
    """

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        security: Literal["plaintext", "starttls", "tls"] = "plaintext",
        login: tuple[str, str] | None = None,
        extensions: tuple[str, ...] = (),
    ) -> None:
        """With a `login` (name, password) no mail is taken without."""
        self.script: Script = defaultdict(list)
        self.of: defaultdict[str, Script] = defaultdict(lambda: defaultdict(list))
        self.to: Script = defaultdict(list)
        self.mails: list[EmailMessage] = []
        """What was taken, in order, told to the client or not."""
        self.envelopes: list[tuple[str, str]] = []
        """The MAIL and RCPT lines of each."""
        self.taken_at: list[datetime] = []
        """When each was taken, UTC."""
        self.commands: list[str] = []
        """All commands heard, by name."""
        self.together: list[int] = []
        """How many commands came in one go, by network read."""
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.port = 0
        self._tls, self._security, self._login, self._extensions = tls, security, login, extensions
        self._lock = threading.Lock()

    def answer(self, command: str, address: str | None = None) -> str | None:
        """What to answer, by the script; None for the usual."""
        with self._lock:
            self.commands.append(command)
            if address is not None and self.of[address][command]:
                return self.of[address][command].pop(0)
            if address is not None and command == "RCPT" and self.to[address]:
                return self.to[address].pop(0)
            return self.script[command].pop(0) if self.script[command] else None

    def greeted(self, encrypted: bool) -> str:
        """The usual answer to EHLO."""
        extensions = list(self._extensions)
        if self._security == "starttls" and not encrypted:
            extensions.append("STARTTLS")
        elif self._login is not None:
            extensions.append("AUTH PLAIN")
        lines = ["fake.example", *extensions]
        return "\r\n".join(f"250{' ' if line is lines[-1] else '-'}{line}" for line in lines)

    def knows(self, line: str) -> bool:
        """Whether AUTH PLAIN is followed by the right name and password."""
        said = base64.b64decode(line.split()[-1]).decode().split("\0")[1:]
        return self._login is not None and said == list(self._login)

    def take(self, mail: EmailMessage, envelope: tuple[str, str]) -> None:
        """Keep a mail."""
        with self._lock:
            self.mails.append(mail)
            self.envelopes.append(envelope)
            self.taken_at.append(datetime.now(UTC))

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a connection for the block."""
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
        """Listen inside of the block."""
        fake = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with fake.counted(), suppress(OSError, _Over):
                    _Conversation(fake, self.request, fake._tls, fake._security, fake._login is not None).hold()

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


class _Over(Exception):
    """The conversation has ended."""


class _Conversation:
    """With one client, on one connection."""

    def __init__(
        self, fake: FakeSmtpServer, channel: socket.socket, tls: ssl.SSLContext | None, security: str, locked: bool
    ) -> None:
        self._fake = fake
        self._socket = channel
        self._tls = tls
        self._security = security
        self._locked = locked
        self._buffer = b""
        self._mail = self._rcpt = self._address = ""

    def hold(self) -> None:
        try:
            if self._security == "tls":
                self._encrypt()
            self._say(self._fake.answer("CONNECT"), "220 fake.example ESMTP")
            while True:
                self._obey(self._line().decode(errors="replace").rstrip("\r\n"))
        finally:
            self._socket.close()

    def _obey(self, line: str) -> None:
        command = line.partition(" ")[0].upper()
        if command == "RCPT":
            self._address = line.partition("<")[2].partition(">")[0]
        heeded = (command == "RCPT" and self._mail) or (command == "DATA" and self._rcpt)
        reply = self._fake.answer(command, self._address if heeded else None)
        usual = self._usual(command, line)
        said = self._say(reply, usual)
        match command, said[:1]:
            case "QUIT", _:
                raise _Over
            case "STARTTLS", "2":
                self._buffer = b""
                self._encrypt()
            case ("MAIL", "2"):
                self._mail = line
            case ("RCPT", "2"):
                self._rcpt = line
            case ("RSET", _):
                self._mail = self._rcpt = ""
            case ("DATA", "3"):
                self._take_content()

    def _usual(self, command: str, line: str) -> str:
        match command:
            case "EHLO":
                return self._fake.greeted(isinstance(self._socket, ssl.SSLSocket))
            case "AUTH":
                if self._fake.knows(line):
                    self._locked = False
                    return "235 2.7.0 welcome"
                return "535 5.7.8 wrong"
            case "MAIL" if self._locked:
                return "530 5.7.0 log in first"
            case "MAIL" if self._mail:
                return "503 5.5.1 nested MAIL"
            case "RCPT" if not self._mail:
                return "503 5.5.1 no sender"
            case "DATA" if not self._rcpt:
                return "554 5.5.1 no recipients"
        return _DEFAULTS.get(command, "502 5.5.2 not here")

    def _take_content(self) -> None:
        lines = []
        while (raw := self._line()) != b".\r\n":
            lines.append(raw.removeprefix(b"."))
        reply = self._fake.answer("CONTENT", self._address)
        usual = "250 taken" if self._rcpt else "554 5.5.1 no recipients"
        if self._rcpt and (reply is None or reply in _TAKEN or reply.startswith("250")):
            self._fake.take(message_from_bytes(b"".join(lines), EmailMessage, policy=default), (self._mail, self._rcpt))
        self._mail = self._rcpt = ""
        self._say(reply, usual)

    def _say(self, scripted: str | None, usual: str) -> str:
        """Do as the script says; what was answered."""
        match scripted:
            case "<reset>":
                # Closed with this option, a socket sends a reset and forgets what it still had to say.
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise _Over
            case "" | "<taken>":
                raise _Over
            case "<stall>" | "<taken, silent>":
                while self._socket.recv(4096):
                    pass
                raise _Over
        said = usual if scripted is None else scripted
        self._socket.sendall(f"{said.removesuffix(THEN_GONE)}\r\n".encode())
        if said.startswith("421") or said.endswith(THEN_GONE):
            raise _Over
        return said

    def _encrypt(self) -> None:
        assert self._tls is not None
        scripted = self._fake.answer("HANDSHAKE")
        if scripted is not None:
            self._say(scripted, "")
        self._socket = self._tls.wrap_socket(self._socket, server_side=True)

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            data = self._socket.recv(65536)
            if not data:
                raise _Over
            self._buffer += data
            self._fake.together.append(data.count(b"\r\n"))
        line, end, self._buffer = self._buffer.partition(b"\n")
        return line + end
