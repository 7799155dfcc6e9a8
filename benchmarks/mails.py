"""`python -m benchmarks.mails`: mails per second of one worker into a local sink, beside the original's shape.

The sink is a process of its own that takes every mail and forgets it; it costs as little as it can, so that what is
measured is the sender. The same mails, made beforehand, go into it

- in the original's shape: one connection for each mail (with STARTTLS a handshake for each), one after the other, with
  smtplib; the TLS context is made once and not for each mail, which flatters it;
- through `notifier.smtp.MailServer`, 64 mails waiting at a time: with 4 connections, its default, and with 16; and on a
  sink that does not offer PIPELINING.

Each scene is run with STARTTLS and in plaintext; once at once and once with a sink that waits before each reply, as a
server does that is some milliseconds away and has a disk. Rounds take turns; medians are shown. Sink and sender share
the machine: only the ratios travel.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import smtplib
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, cast

import uvloop

from notifier.smtp import MailServer, Security
from tests.fakes.tls import server_context

NAME: Final = "mails"
HOST: Final = "127.0.0.1"
ROUNDS: Final = 3
AT_A_TIME: Final = 64
"""Mails that wait for a connection or are under way."""
SECONDS: Final = 1.0
"""About so long a round takes; so many mails are taken for it."""
REPLY_MS: Final = 5.0

ORIGINAL: Final = "one connection for each mail, one after the other"
POOL: Final = "pool of 4"
LARGE_POOL: Final = "pool of 16"
UNPIPELINED: Final = "pool of 4, no PIPELINING"


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see whether it works")
    parser.add_argument("--profile", action="store_true", help="only the pool, with STARTTLS, for ten rounds")
    options, _ = parser.parse_known_args()  # `make bench` gives all benchmarks the same arguments
    seconds, rounds = (SECONDS / 10, 1) if options.quick else (SECONDS, ROUNDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server_context(folder)
        if options.profile:
            with _sink(folder, pipelining=True, reply_s=0) as port:
                for _ in range(10):
                    print(_sent_by_pool(port, "starttls", folder, _mails(5_000)), file=sys.stderr)
            return 0
        for reply_ms in (0.0, REPLY_MS):
            for security in ("starttls", "plaintext"):
                _scene(folder, security, reply_ms, seconds, rounds)
    return 0


def _scene(folder: Path, security: Security, reply_ms: float, seconds: float, rounds: int) -> None:
    with (
        _sink(folder, pipelining=True, reply_s=reply_ms / 1000) as pipelining,
        _sink(folder, pipelining=False, reply_s=reply_ms / 1000) as plain,
    ):
        contenders: dict[str, Callable[[list[EmailMessage]], float]] = {
            ORIGINAL: lambda mails: _sent_one_by_one(pipelining, security, folder, mails),
            UNPIPELINED: lambda mails: _sent_by_pool(plain, security, folder, mails),
            POOL: lambda mails: _sent_by_pool(pipelining, security, folder, mails),
            LARGE_POOL: lambda mails: _sent_by_pool(pipelining, security, folder, mails, connections=16),
        }
        sizes = {name: max(int(send(_mails(50)) * seconds), 50) for name, send in contenders.items()}
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, send in contenders.items():
                rates[name].append(send(_mails(sizes[name])))
    where = f"{security}, {f'{reply_ms:g} ms before each reply' if reply_ms else 'replies at once'}"
    beside = statistics.median(rates[ORIGINAL])
    for name, values in rates.items():
        line = {
            "benchmark": NAME,
            "figure": f"{where}: {name}",
            "value": float(f"{statistics.median(values):.4g}"),
            "unit": "mails/s",
        }
        if name != ORIGINAL:
            line |= {"ratio": float(f"{statistics.median(values) / beside:.4g}"), "beside": f"{where}: {ORIGINAL}"}
        print(json.dumps(line), flush=True)


def _mails(count: int) -> list[EmailMessage]:
    return [_mail(number) for number in range(count)]


def _mail(number: int) -> EmailMessage:
    """As long as a mail of an alert: some headers, some text."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address("Towerwatch", addr_spec="alerts@example.org")
    mail["To"] = Address("Ada Lovelace", addr_spec=f"u{number}@example.net")
    mail["Subject"] = "KJFK: 24 departures, above 20, 00:00–01:00 UTC"
    mail["Message-ID"] = f"<{number}@example.org>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("More than 20 flights departed from KJFK, New York, within an hour.\n" * 12)
    return mail


def _sent_one_by_one(port: int, security: Security, folder: Path, mails: list[EmailMessage]) -> float:
    """Mails per second."""
    context = ssl.create_default_context(cafile=folder / "trusted.pem")
    began = time.perf_counter()
    for mail in mails:
        with smtplib.SMTP(HOST, port, local_hostname="benchmark") as client:
            if security == "starttls":
                client.starttls(context=context)
            client.sendmail("alerts@example.org", [mail["To"].addresses[0].addr_spec], mail.as_bytes())
    return len(mails) / (time.perf_counter() - began)


def _sent_by_pool(
    port: int, security: Security, folder: Path, mails: list[EmailMessage], connections: int = 4
) -> float:
    """Mails per second."""

    async def sending() -> float:
        server = MailServer(HOST, port, security, ca_file=folder / "trusted.pem", connections=connections)
        left = iter(mails)

        async def sender() -> None:
            for mail in left:
                await server.send(mail)

        began = time.perf_counter()
        await asyncio.gather(*(sender() for _ in range(AT_A_TIME)))
        took = time.perf_counter() - began
        await server.close()
        return len(mails) / took

    return uvloop.run(sending())  # as a worker does


@contextmanager
def _sink(folder: Path, pipelining: bool, reply_s: float) -> Iterator[int]:
    """The port of a sink that runs inside of the block."""
    spawning = multiprocessing.get_context("spawn")
    ours, its = spawning.Pipe()
    process = spawning.Process(target=_run_sink, args=(its, folder, pipelining, reply_s), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _run_sink(parent: Connection, folder: Path, pipelining: bool, reply_s: float) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "trusted.pem", folder / "key.pem")

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Sink(context, pipelining, reply_s), HOST, 0)
        parent.send(server.sockets[0].getsockname()[1])
        loop.add_reader(parent.fileno(), os._exit, 0)  # the parent says no more: it is gone, however it ended
        await server.serve_forever()

    uvloop.run(serve())


class _Sink(asyncio.Protocol):
    """Says yes to everything. Replies to what came together go together."""

    def __init__(self, context: ssl.SSLContext, pipelining: bool, reply_s: float) -> None:
        self._context = context
        self._reply_s = reply_s
        offers = [b"250-sink", b"250-STARTTLS", b"250-SIZE 1000000", *([b"250-PIPELINING"] * pipelining)]
        self._hello = b"\r\n".join((*offers, b"250 8BITMIME\r\n"))
        self._unread = b""
        self._content = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        fresh = not hasattr(self, "_transport")
        self._transport = cast(asyncio.Transport, transport)
        if fresh:
            self._say(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        self._unread += data
        said = b""
        while True:
            if self._content:
                if not self._unread.endswith(b"\r\n.\r\n"):
                    break
                self._unread, self._content = b"", False
                said += b"250 taken\r\n"
                break
            line, end, rest = self._unread.partition(b"\r\n")
            if not end:
                break
            self._unread = rest
            match line[:4].upper():
                case b"EHLO":
                    said += self._hello
                case b"DATA":
                    self._content = True
                    said += b"354 go on\r\n"
                case b"STAR":
                    self._transport.write(b"220 go on\r\n")
                    self._encrypting = asyncio.ensure_future(self._encrypt())
                    return
                case b"QUIT":
                    self._transport.write(b"221 bye\r\n")
                    self._transport.close()
                    return
                case _:
                    said += b"250 ok\r\n"
        if said:
            self._say(said)

    def _say(self, said: bytes) -> None:
        if self._reply_s:
            asyncio.get_running_loop().call_later(self._reply_s, self._transport.write, said)
        else:
            self._transport.write(said)

    async def _encrypt(self) -> None:
        loop = asyncio.get_running_loop()
        encrypted = await loop.start_tls(self._transport, self, self._context, server_side=True)
        if encrypted is not None:
            self._transport = encrypted


if __name__ == "__main__":
    sys.exit(main())
