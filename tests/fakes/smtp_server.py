"""An SMTP server that follows a script: what to answer to which command, or to hang up."""

import socketserver
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Final

HANG_UP: Final = ""
"""In place of an answer: close the connection."""

_DEFAULTS: Final = {
    "CONNECT": "220 fake.example ESMTP",
    "EHLO": "250 fake.example",
    "NOOP": "250 OK",
    "RSET": "250 OK",
    "MAIL": "250 OK",
    "RCPT": "250 OK",
    "DATA": "354 go on",
    "CONTENT": "250 taken",
    "QUIT": "221 bye",
}


class FakeSmtpServer:
    """Takes mails on a free port of 127.0.0.1.

    `script[command]` holds answers to give in turn before the usual one; a command may also be CONNECT (the greeting)
    or CONTENT (after the mail's last line). `to[address]` does the same for RCPT to this address alone.
    """

    def __init__(self) -> None:
        self.script: defaultdict[str, list[str]] = defaultdict(list)
        self.to: defaultdict[str, list[str]] = defaultdict(list)
        self.mails: list[EmailMessage] = []
        """What was answered with 250, in order."""
        self.commands: list[str] = []
        """All commands heard, by name."""
        self.connections = 0
        self._lock = threading.Lock()
        self.port = 0

    def answer(self, command: str, line: str = "") -> str:
        with self._lock:
            self.commands.append(command)
            if command == "RCPT":
                address = line.partition("<")[2].partition(">")[0]
                if self.to[address]:
                    return self.to[address].pop(0)
            if self.script[command]:
                return self.script[command].pop(0)
        return _DEFAULTS.get(command, "502 not here")

    @contextmanager
    def running(self) -> Iterator["FakeSmtpServer"]:
        """Listen inside of the block."""
        fake = self

        class Conversation(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                fake.connections += 1
                if not self._say(fake.answer("CONNECT")):
                    return
                for raw in self.rfile:
                    line = raw.decode().rstrip("\r\n")
                    command = line[:4].upper()
                    reply = fake.answer(command, line)
                    if not self._say(reply) or command == "QUIT":
                        return
                    if command == "DATA" and reply.startswith("354") and not self._take_content():
                        return

            def _take_content(self) -> bool:
                lines = []
                for raw in self.rfile:
                    if raw == b".\r\n":
                        break
                    lines.append(raw.removeprefix(b"."))
                reply = fake.answer("CONTENT")
                if reply.startswith("250"):
                    fake.mails.append(message_from_bytes(b"".join(lines), EmailMessage, policy=default))
                return self._say(reply)

            def _say(self, reply: str) -> bool:
                if reply == HANG_UP:
                    return False
                self.wfile.write(f"{reply}\r\n".encode())
                return True

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        with Server(("127.0.0.1", 0), Conversation) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()
