"""`python -m benchmarks.mail_sink FOLDER`: a mail server that takes every mail and forgets it, in a process of its own.

It costs as little as it can, so that what is measured is the sender. It lets in whoever logs in, encrypts with the
certificate in the folder, and listens on one port for each of its `VARIANTS`. Its ports are its first line of output; for
each line of input it tells how many mails it has taken, and in how much processor time. It ends with its input.
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
"""Before each reply, as a server waits that is some milliseconds away and has a disk."""
VARIANTS: Final = tuple(product((True, False), REPLY_MS))
"""With PIPELINING or without; how long it waits."""


@dataclass(frozen=True)
class MailSink:
    """One that runs."""

    ports: dict[tuple[bool, int], int]
    """By way."""
    questions: IO[str]
    answers: IO[str]

    def so_far(self) -> tuple[int, float]:
        """Mails that it has taken, and seconds of processor time that it has used."""
        self.questions.write("\n")
        self.questions.flush()
        mails, processor_s = json.loads(self.answers.readline())
        return mails, processor_s


@contextmanager
def running_sink(folder: Path) -> Iterator[MailSink]:
    """Runs inside of the block. The folder holds `trusted.pem` and `key.pem`."""
    command = [sys.executable, "-m", "benchmarks.mail_sink", str(folder)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        questions, answers = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
        yield MailSink(dict(zip(VARIANTS, json.loads(answers.readline()), strict=True)), questions, answers)


class _Conversation(asyncio.Protocol):
    """Says yes to everything. Replies to what came together go together."""

    mails = 0
    """Of all conversations."""

    def __init__(self, context: ssl.SSLContext, pipelining: bool, reply_ms: int) -> None:
        self._context = context
        self._reply_s = reply_ms / 1000
        extensions = ["STARTTLS", "AUTH PLAIN", "SIZE 1000000", *(["PIPELINING"] * pipelining)]
        self._hello = "".join(f"250-{each}\r\n" for each in ("sink", *extensions)).encode() + b"250 8BITMIME\r\n"
        self._unread = b""
        self._content = False
        self._greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._greeted:  # once more when it is encrypted
            self._greeted = True
            self._say(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        self._unread += data
        said = b""
        while True:
            if self._content:
                if self._unread.endswith(b"\r\n.\r\n"):
                    self._unread, self._content = b"", False
                    said += b"250 taken\r\n"
                    _Conversation.mails += 1
                break
            line, end, rest = self._unread.partition(b"\r\n")
            if not end:
                break
            self._unread = rest
            match line[:4].upper():
                case b"EHLO":
                    said += self._hello
                case b"AUTH":
                    said += b"235 welcome\r\n"
                case b"DATA":
                    self._content = True
                    said += b"354 go on\r\n"
                case b"STAR":
                    said += b"220 go on\r\n"
                    self._encrypting = asyncio.ensure_future(self._encrypt(said))
                    return
                case b"QUIT":
                    said += b"221 bye\r\n"
                case _:
                    said += b"250 ok\r\n"
        if said:
            self._say(said)

    def _say(self, said: bytes) -> None:
        if self._reply_s:
            asyncio.get_running_loop().call_later(self._reply_s, self._transport.write, said)
        else:
            self._transport.write(said)

    async def _encrypt(self, said: bytes) -> None:
        await asyncio.sleep(self._reply_s)
        self._transport.write(said)
        loop = asyncio.get_running_loop()
        encrypted = await loop.start_tls(self._transport, self, self._context, server_side=True)
        if encrypted is not None:
            self._transport = encrypted


async def _serve(folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "trusted.pem", folder / "key.pem")
    loop = asyncio.get_running_loop()
    ports = []
    for pipelining, reply_ms in VARIANTS:

        def conversation(pipelining: bool = pipelining, reply_ms: int = reply_ms) -> _Conversation:
            return _Conversation(context, pipelining, reply_ms)

        server = await loop.create_server(conversation, HOST, 0, backlog=512)
        ports.append(server.sockets[0].getsockname()[1])
    print(json.dumps(ports), flush=True)
    over = asyncio.Event()

    def asked() -> None:
        if not sys.stdin.readline():
            loop.remove_reader(sys.stdin)
            over.set()
            return
        print(json.dumps((_Conversation.mails, time.process_time())), flush=True)

    loop.add_reader(sys.stdin, asked)
    await over.wait()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
