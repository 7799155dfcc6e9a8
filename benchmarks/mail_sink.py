"""`python -m benchmarks.mail_sink FOLDER`: a mail server that accepts and discards every mail, in a process of its own.

It costs as little as it can, so that the sender is measured. It accepts every login, encrypts with the certificate in
the folder, and listens on one port for each of its `VARIANTS`. It prints its ports in the first line of output; for
each line of input it prints how many mails it has taken, and in how much processor time. It ends with its input.
"""

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO, Final, cast

import uvloop

HOST: Final = "127.0.0.1"
REPLY_MS: Final = (0, 5)
"""Milliseconds before each reply: 0, or 5 like a server that is some milliseconds away and has a disk."""
VARIANTS: Final = tuple(product((True, False), REPLY_MS))
"""With PIPELINING or without, and the milliseconds before each reply."""


@dataclass(frozen=True)
class MailSink:
    """A running mail sink: its ports, and the pipes by which its counters are requested."""

    ports: dict[tuple[bool, int], int]
    """The port of each variant."""
    requests: IO[str]
    responses: IO[str]

    def read_counters(self) -> tuple[int, float]:
        """Return the number of mails that the sink has taken, and the seconds of processor time that it has used."""
        self.requests.write("\n")
        self.requests.flush()
        mails, processor_s = json.loads(self.responses.readline())
        return mails, processor_s


@contextmanager
def running_sink(folder: Path) -> Iterator[MailSink]:
    """Run a sink in a process of its own until the end of the block, and yield it once it listens.

    The folder contains `trusted.pem` and `key.pem`.
    """
    command = [sys.executable, "-m", "benchmarks.mail_sink", str(folder)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        requests, responses = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
        yield MailSink(dict(zip(VARIANTS, json.loads(responses.readline()), strict=True)), requests, responses)


class _SmtpSession(asyncio.Protocol):
    """An SMTP server session that accepts every command and discards every mail.

    It sends the replies to pipelined commands together, after `reply_ms` milliseconds.
    """

    mails = 0
    """The number of mails of all sessions."""

    def __init__(self, context: ssl.SSLContext, pipelining: bool, reply_ms: int) -> None:
        self._context = context
        self._reply_s = reply_ms / 1000
        extensions = ["STARTTLS", "AUTH PLAIN", "SIZE 1000000", *(["PIPELINING"] * pipelining)]
        self._hello = "".join(f"250-{each}\r\n" for each in ("sink", *extensions)).encode() + b"250 8BITMIME\r\n"
        self._unread = b""
        self._content = False
        self._greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the connection, and greet the client unless the connection was only encrypted; asyncio calls this."""
        self._transport = cast(asyncio.Transport, transport)
        if not self._greeted:  # once more when it is encrypted
            self._greeted = True
            self._reply(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        """Reply to all complete commands, and count and discard a mail at the end of its content.

        Data of an incomplete command or mail is kept. STARTTLS starts the encryption. asyncio calls this.
        """
        self._unread += data
        replies = b""
        while True:
            if self._content:
                if self._unread.endswith(b"\r\n.\r\n"):
                    self._unread, self._content = b"", False
                    replies += b"250 taken\r\n"
                    _SmtpSession.mails += 1
                break
            line, end, rest = self._unread.partition(b"\r\n")
            if not end:
                break
            self._unread = rest
            match line[:4].upper():
                case b"EHLO":
                    replies += self._hello
                case b"AUTH":
                    replies += b"235 welcome\r\n"
                case b"DATA":
                    self._content = True
                    replies += b"354 go on\r\n"
                case b"STAR":
                    replies += b"220 go on\r\n"
                    self._encrypting = asyncio.ensure_future(self._encrypt(replies))
                    return
                case b"QUIT":
                    replies += b"221 bye\r\n"
                case _:
                    replies += b"250 ok\r\n"
        if replies:
            self._reply(replies)

    def _reply(self, replies: bytes) -> None:
        """Write replies to the client after the session's delay, without waiting for it."""
        if self._reply_s:
            asyncio.get_running_loop().call_later(self._reply_s, self._transport.write, replies)
        else:
            self._transport.write(replies)

    async def _encrypt(self, replies: bytes) -> None:
        """Send the replies after the session's delay, then start TLS on the connection."""
        await asyncio.sleep(self._reply_s)
        self._transport.write(replies)
        loop = asyncio.get_running_loop()
        encrypted = await loop.start_tls(self._transport, self, self._context, server_side=True)
        if encrypted is not None:
            self._transport = encrypted


async def _serve(folder: Path) -> None:
    """Listen on one port per variant, print the ports, and print the counters for each line of input until it ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "trusted.pem", folder / "key.pem")
    loop = asyncio.get_running_loop()
    ports = []
    for pipelining, reply_ms in VARIANTS:

        def create_session(pipelining: bool = pipelining, reply_ms: int = reply_ms) -> _SmtpSession:
            return _SmtpSession(context, pipelining, reply_ms)

        server = await loop.create_server(create_session, HOST, 0, backlog=512)
        ports.append(server.sockets[0].getsockname()[1])
    print(json.dumps(ports), flush=True)
    over = asyncio.Event()

    def answer_request() -> None:
        """Print the number of mails and the processor seconds for a line of input, or end the sink with its input."""
        if not sys.stdin.readline():
            loop.remove_reader(sys.stdin)
            over.set()
            return
        print(json.dumps((_SmtpSession.mails, time.process_time())), flush=True)

    loop.add_reader(sys.stdin, answer_request)
    await over.wait()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
