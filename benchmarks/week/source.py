"""`python -m benchmarks.week.source`: the sky behind OpenSky's interface, with its record, in a process of its own.

Its time is the collector's, in a file of eight bytes. The answer to the next poll is made while the collector still
works on the last one, so that nobody waits for it; what it costs is not the collector's.
"""

import json
import mmap
import struct
import sys
import threading
import zlib
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from benchmarks.week.sky import WorldSky
from domain.interests import Direction

HOST: Final = "127.0.0.1"
CREDITS_PER_DAY: Final = 4_000
"""Of a free account; a poll of the world costs four."""
_PRICE: Final = 4
_DAY_S: Final = 86_400
_RECORD_AFTER_S: Final = 9_600.0
"""Time after the end of a day (UTC) at which its record is there."""
_RESOLUTION_S: Final = 5
"""The states of an account are of a time that is a multiple of this."""


class SharedTime:
    """The time of the benchmark, in Unix seconds, which one process sets and others read."""

    def __init__(self, file: Path) -> None:
        """The file is made if it is not there."""
        if not file.exists():
            file.write_bytes(bytes(8))
        with file.open("r+b") as opened:
            self._cell = mmap.mmap(opened.fileno(), 8)

    def get(self) -> float:
        """Return the time."""
        return float(struct.unpack("d", self._cell[:])[0])

    def set(self, time: float) -> None:
        """Set the time."""
        self._cell[:] = struct.pack("d", time)


class _Answers:
    """The answers of `/states/all`, of which the next one is made beforehand."""

    def __init__(self, sky: WorldSky) -> None:
        self._sky = sky
        self._lock = threading.Lock()
        self._made: tuple[int, bytes] = (0, b"")
        self._last = 0

    def take(self, now: float) -> bytes:
        """Return the compressed answer of an instant, and begin to make that of the next poll."""
        at = int(now) // _RESOLUTION_S * _RESOLUTION_S
        with self._lock:
            body = self._made[1] if self._made[0] == at else self._make(at)
            step, self._last = at - self._last, at
        if step < 3_600:
            threading.Thread(target=self._prepare, args=(now + step,), daemon=True).start()
        return body

    def _prepare(self, now: float) -> None:
        """Make the answer of an instant to come."""
        at = int(now) // _RESOLUTION_S * _RESOLUTION_S
        with self._lock:
            self._made = at, self._make(at)

    def _make(self, at: int) -> bytes:
        """Return the compressed answer of an instant."""
        packer = zlib.compressobj(1, wbits=31)
        return packer.compress(self._sky.encode(at)) + packer.flush()


class _Handler(BaseHTTPRequestHandler):
    """The interface; the server has what it answers from."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_POST(self) -> None:
        """Give a token to anybody."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = {"access_token": "a-token", "expires_in": 1_800, "token_type": "Bearer", "scope": "profile"}
        self._send(json.dumps(body).encode())

    def do_GET(self) -> None:
        """Answer a poll of the whole world, or of the account's own receivers, of which there are none."""
        now, url = self.server.time.get(), urlsplit(self.path)
        if url.path.endswith("/states/own"):
            self._send(f'{{"time":{int(now)},"states":null}}'.encode())
        elif url.path.endswith("/states/all") and "lamin" not in url.query:
            self._send(self.server.answers.take(now), self.server.charge(now))
        elif "/flights/" in url.path:
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            direction = Direction.DEPARTURES if url.path.endswith("departure") else Direction.ARRIVALS
            found = self.server.find_flights(query["airport"], direction, int(query["begin"]), int(query["end"]), now)
            self._send(json.dumps(found).encode() if found else b"", status=200 if found else 404)
        else:
            self._send(b"", status=404)

    def _send(self, body: bytes, credits_left: int | None = None, status: int = 200) -> None:
        """Send an answer; `credits_left`: of a poll, whose body is compressed."""
        self.send_response_only(status)
        self.send_header("Date", formatdate(self.server.time.get(), usegmt=True))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if credits_left is not None:
            self.send_header("Content-Encoding", "gzip")
            self.send_header("X-Rate-Limit-Remaining", str(credits_left))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    """The server, with its sky, its time and the credits of the account."""

    daemon_threads = True

    def __init__(self, port: int, sky: WorldSky, time: SharedTime) -> None:
        super().__init__((HOST, port), _Handler)
        self._sky, self.answers, self.time = sky, _Answers(sky), time
        self._day, self._left = 0, 0

    def find_flights(
        self, airport: str, direction: Direction, begin: int, end: int, now: float
    ) -> list[dict[str, str | int]]:
        """Return the flights with a movement in [begin, end], of the days whose record is there."""
        recorded = (now - _RECORD_AFTER_S) // _DAY_S * _DAY_S
        return [
            {
                "icao24": each.icao24,
                "firstSeen": round(each.took_off),
                "estDepartureAirport": each.origin,
                "lastSeen": round(each.landed),
                "estArrivalAirport": each.goal,
                "callsign": f"{each.callsign:<8}",
            }
            for each in self._sky.list_flights(airport, direction, begin - 1, min(end + 1, recorded))
        ]

    def charge(self, now: float) -> int:
        """Charge a poll, and return the credits that are left today; there is no poll that they are too few for."""
        if int(now // _DAY_S) != self._day:
            self._day, self._left = int(now // _DAY_S), CREDITS_PER_DAY
        self._left = max(self._left - _PRICE, 0)
        return self._left


def main(port: str, aircraft: str, seed: str, time_file: str) -> None:
    """Serve until the process is ended."""
    server = _Server(int(port), WorldSky(int(aircraft), int(seed)), SharedTime(Path(time_file)))
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
