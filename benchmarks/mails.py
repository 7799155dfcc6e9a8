"""`python -m benchmarks.mails`: mails per second of one worker into a local sink, beside the original's shape.

The sink (`benchmarks.mail_sink`) is a process of its own that takes every mail and forgets it. Into it go

- in the original's shape: a plain text mail for each alert over a connection of its own, one after the other: connect,
  greet, STARTTLS with a whole handshake, log in, send, say good-bye, with smtplib. Its TLS context is made once and not
  for each mail, which flatters it;
- through `notifier.smtp.SmtpClient`, the same mails, 64 waiting at a time: over 4 connections and over 16, and over 4
  to a sink that does not offer PIPELINING. A worker's connections are kept open all day; here, too, they are when the
  clock starts, and each is made anew after 100 mails;
- through the same pool of 16, alerts as Towerwatch tells them: for each of as many people the mail is written (text,
  page, chart, as of a night at some airports) and sent. The original's shape is given its mails ready.

With STARTTLS and in plaintext; with a sink that replies at once, and with one that waits before each reply, as a server
does that is some milliseconds away and has a disk. Contenders take turns in rounds; medians are shown, and of each how
busy it kept the sink's processor (`sink`, from 0 to 1): where that is near 1, the sink was measured. Sink and sender
share the machine: only the ratios travel.
"""

import argparse
import asyncio
import smtplib
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Final
from uuid import UUID

import uvloop

from benchmarks.mail_sink import HOST, REPLY_MS, MailSink, running_sink
from benchmarks.streams.figures import median, print_progress, report
from benchmarks.streams.traffic import choose_airports
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.windows import Window
from notifier.mail import Contact, compose_alerts_mail
from notifier.mail.headers import create_mail
from notifier.smtp import Security, SmtpClient
from tests.fakes.tls import server_context

NAME: Final = "mails"
ROUNDS: Final = 3
AT_A_TIME: Final = 64
"""The number of mails that wait for a connection or are being sent."""
SECONDS: Final = 0.25
"""The approximate duration of a round, which determines its number of mails."""
LOGIN: Final = ("towerwatch", "secret")
SENDER: Final = Address("Towerwatch", addr_spec="alerts@example.org")
NOW: Final = datetime(2026, 11, 23, 5, tzinfo=UTC)
PEOPLE: Final = 10_000
AIRPORTS: Final = tuple(choose_airports(24))
LEVELS: Final = (20, 30, 40)
ZONES: Final = ("UTC", "Europe/Rome", "America/New_York", "Asia/Tokyo")

ORIGINAL: Final = "one connection for each mail, one after the other"
UNPIPELINED: Final = "pool of 4, no PIPELINING"
POOL: Final = "pool of 4"
LARGE_POOL: Final = "pool of 16"
ALERTS: Final = "pool of 16, alerts with page and chart, written on the way"


@dataclass(frozen=True)
class SinkTarget:
    """A mail sink as the target of a round, with the contenders' ways to send: one by one, over a pool, or alerts."""

    sink: MailSink
    security: Security
    reply_ms: int
    trusted: Path

    def send_one_by_one(self, count: int) -> "MailRate":
        """Send `count` plain mails in the original's shape, each over a connection of its own, and return the rate."""
        context = ssl.create_default_context(cafile=self.trusted)
        mails = [_build_plain_mail(number) for number in range(count)]
        stopwatch = SegmentTimer(self.sink)
        for mail in mails:
            with smtplib.SMTP(HOST, self.sink.ports[True, self.reply_ms], local_hostname="benchmark") as client:
                if self.security == "starttls":
                    client.starttls(context=context)
                client.login(*LOGIN)
                client.sendmail(SENDER.addr_spec, [mail["To"].addresses[0].addr_spec], mail.as_bytes())
        return stopwatch.measure_rate(count)

    def send_over_pool(self, count: int, connections: int, pipelining: bool = True) -> "MailRate":
        """Send `count` plain mails over kept-open connections, 64 mails waiting at a time, and return the rate."""
        mails = [_build_plain_mail(number) for number in range(count)]
        return self._send_concurrently(iter(mails), count, connections, pipelining)

    def send_alerts(self, count: int) -> "MailRate":
        """Write `count` mails with one alert each, send them over 16 connections, and return the rate of both."""
        return self._send_concurrently((_build_alert_mail(number) for number in range(count)), count, 16, True)

    def _send_concurrently(
        self, mails: Iterator[EmailMessage], count: int, connections: int, pipelining: bool
    ) -> "MailRate":
        """Send mails, AT_A_TIME of them concurrently, and return the rate.

        Before the clock starts, AT_A_TIME other mails open the connections; they are closed at the end.
        """
        port = self.sink.ports[pipelining, self.reply_ms]

        async def send_and_measure() -> MailRate:
            """Open the connections, send all mails, close the connections, and return the rate."""
            server = SmtpClient(HOST, port, self.security, *LOGIN, ca_file=self.trusted, connections=connections)

            async def sender() -> None:
                for mail in mails:
                    await server.send(mail)

            await asyncio.gather(*(server.send(_build_plain_mail(number)) for number in range(AT_A_TIME)))
            stopwatch = SegmentTimer(self.sink)
            await asyncio.gather(*(sender() for _ in range(AT_A_TIME)))
            rate = stopwatch.measure_rate(count)
            await server.close()
            return rate

        return uvloop.run(send_and_measure())  # as a worker does


@dataclass(frozen=True)
class MailRate:
    """The result of a round: how many mails were sent per second, and how busy that kept the sink."""

    per_s: float
    """Mails per second."""
    sink: float
    """The share of its processor that the sink was busy, from 0 to 1."""


class SegmentTimer:
    """A stopwatch for a round of mails into a sink, started when it is created; it also reads the sink's counters."""

    def __init__(self, sink: MailSink) -> None:
        self._sink = sink
        self._taken, self._used = sink.read_counters()
        self._began = time.perf_counter()

    def measure_rate(self, mails: int) -> MailRate:
        """Return the rate of a round of `mails` mails that ends now.

        Raises RuntimeError unless exactly so many have arrived at the sink since the start.
        """
        took = time.perf_counter() - self._began
        taken, used = self._sink.read_counters()
        if taken - self._taken != mails:
            raise RuntimeError(f"{taken - self._taken:,} of {mails:,} mails have arrived")
        return MailRate(mails / took, (used - self._used) / took)


def main() -> int:
    """Start a sink, measure all combinations of reply delay and security, and report the rates; return 0."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see whether it works")
    options, _ = parser.parse_known_args()  # `make bench` gives all benchmarks the same arguments
    seconds, rounds = (SECONDS / 10, 1) if options.quick else (SECONDS, ROUNDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, trusted = server_context(folder)
        with running_sink(folder) as sink:
            for reply_ms in REPLY_MS:
                for security in ("starttls", "plaintext"):
                    _measure_and_report(SinkTarget(sink, security, reply_ms, trusted), seconds, rounds)
    return 0


def _measure_and_report(target: SinkTarget, seconds: float, rounds: int) -> None:
    """Measure all contenders against a target, in turn for some rounds, and report the medians of their rates.

    Each is first run with a few mails, which warms it up and determines its number of mails for rounds of `seconds`.
    """
    where = f"{target.security}, {f'{target.reply_ms} ms before each reply' if target.reply_ms else 'replies at once'}"
    print_progress(where)
    contenders: dict[str, Callable[[int], MailRate]] = {
        ORIGINAL: target.send_one_by_one,
        UNPIPELINED: lambda count: target.send_over_pool(count, 4, pipelining=False),
        POOL: lambda count: target.send_over_pool(count, 4),
        LARGE_POOL: lambda count: target.send_over_pool(count, 16),
        ALERTS: target.send_alerts,
    }
    for send in contenders.values():
        send(8)  # so that what is found out once, or drawn once, is
    sizes = {name: max(int(send(24).per_s * seconds), 24) for name, send in contenders.items()}
    found: dict[str, list[MailRate]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in contenders if number % 2 == 0 else reversed(contenders):
            found[name].append(contenders[name](sizes[name]))
    baseline = (f"{where}: {ORIGINAL}", median(each.per_s for each in found[ORIGINAL]))
    for name, rates in found.items():
        ratio = baseline if name != ORIGINAL else None
        busy = round(median(each.sink for each in rates), 2)
        report(NAME, f"{where}: {name}", median(each.per_s for each in rates), "mails/s", ratio, sink=busy)


def _build_plain_mail(number: int) -> EmailMessage:
    """Return a mail like the original's, to the reader with this number: some headers and some text."""
    mail = create_mail(replace(_READER, email=f"u{number}@example.net"), SENDER, NOW, f"<{number}@example.org>")
    mail["Subject"] = "Airport KJFK: more than 20 departures"
    mail["Content-Type"] = 'text/plain; charset="utf-8"'
    mail.set_payload("More than 20 flights departed from KJFK, New York, within an hour.\n" * 12)
    return mail


def _build_alert_mail(number: int) -> EmailMessage:
    """Return a mail with one alert after a night, with the counts of the twelve hours before, as a worker writes it.

    The number determines the reader, the airport, the threshold and the time zone; these repeat after PEOPLE mails.
    """
    at = number % PEOPLE
    airport, level = AIRPORTS[at % len(AIRPORTS)], LEVELS[at // len(AIRPORTS) % len(LEVELS)]
    alert = Alert(
        alert_id=UUID(int=number + 1),
        interest_id=UUID(int=number + 1),
        user_id=UUID(int=number + 1),
        version=1,
        airport=airport,
        direction=Direction.DEPARTURES,
        window=Window.ONE_HOUR,
        window_start=NOW - timedelta(hours=2),
        bound=Bound.HIGH,
        state=AlertState.FIRING,
        count=level + 4,
        threshold=level,
        for_windows=1,
        earlier=tuple((ord(airport[hour % 4]) * (hour + 3)) % level for hour in range(12)),
        episode_id=UUID(int=number + 1),
    )
    contact = replace(
        _READER,
        user_id=alert.user_id,
        email=f"u{number}@example.net",
        time_zone=ZONES[at // (len(AIRPORTS) * len(LEVELS)) % len(ZONES)],
        unsubscribe_url=f"https://towerwatch.example.org/unsubscribe?token={number:040}",
    )
    return compose_alerts_mail((alert,), contact, SENDER, NOW, NOW)


_READER: Final = Contact(
    user_id=UUID(int=0), email="", name="Ada Lovelace", time_zone="UTC", confirmed=True, paused=False, confirm_url=""
)


if __name__ == "__main__":
    sys.exit(main())
