"""Fault injection between the replay and its clients: failures that OpenSky may have, for tests and experiments.

The faults change nothing in the timetable, and each fault ends:

- A call that is repeated is answered after `MAX_FAILURES_IN_A_ROW` failures at the latest, and at most one of these
  failures is a revoked token. (A call is a path with its parameters; a request for a token is a call, too.)
- A flight is withheld or damaged in one answer at most: any two answers to a call, or to calls whose intervals overlap,
  hold together every flight that both should hold.
- A client that calls again before an announced pause is over is told the rest of the pause; that uses up no fault of
  the plan.

The fault is drawn from the seed, the call and the number of its repetitions: it depends neither on the clock nor on
other calls, their callers and their order. (Which flights are withheld or damaged depends on the order of calls, since
that happens to each flight once.)
"""

import asyncio
import json
import socket
import struct
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from chassis.clock import Clock
from local.opensky.fault_kinds import (
    ANSWER_FAULTS,
    FOREIGN_FAULTS,
    PAUSE_FAULTS,
    SCRIPTED_FAULTS,
    TOKEN_FAULTS,
    InjectedFault,
)
from local.opensky.foreign_answers import build_foreign_answer, build_pause_answer, copy_quota_headers

MAX_FAILURES_IN_A_ROW: Final = 4
MAX_PAUSE_S: Final = 120
MAX_SKEW: Final = timedelta(minutes=5)
STALL_S: Final = 60.0
"""Real seconds for which a slow body stalls, unless the client disconnects before."""
DEFAULT_RATE: Final = 0.2
"""Probability of a fault per request."""
_FLIGHTS_PATH: Final = "/api/flights/"


DrawnFault = tuple[InjectedFault | None, Random]
"""The fault (None: no fault), and the random numbers that decide its details."""


class FaultPlan(Protocol):
    """A source of faults, which decides for each request in turn whether it meets a fault, and which."""

    def draw(self, call: str, kinds: Sequence[InjectedFault]) -> DrawnFault:
        """Draw the fault of the next request; None in the result: no fault. A draw counts as one request.

        `call`: the request's path and parameters. `kinds`: the faults that the request may meet.
        """
        ...


@dataclass(slots=True)
class SeededPlan:
    """A plan in which every request meets a fault with probability `rate`, drawn from the seed.

    A call has at most `MAX_FAILURES_IN_A_ROW` failures in a row, and one revoked token among them.
    """

    seed: int
    rate: float = DEFAULT_RATE
    _requests: Counter[str] = field(default_factory=Counter)
    """By call, the number of its requests so far."""
    _failures_in_a_row: defaultdict[str, list[InjectedFault]] = field(default_factory=lambda: defaultdict(list))
    """By call, its failures since its last usable answer."""

    def draw(self, call: str, kinds: Sequence[InjectedFault]) -> DrawnFault:
        """Draw the fault from the seed, the call and the number of its requests, this one included.

        No fault after `MAX_FAILURES_IN_A_ROW` failures of the call; FORGOTTEN only once in a row of failures; none of
        SCRIPTED_FAULTS. A usable answer (no fault, or one of ANSWER_FAULTS) ends the row.
        """
        self._requests[call] += 1
        chance = Random(f"{self.seed} {call} {self._requests[call]}")  # a text is the same in every process
        failures = self._failures_in_a_row[call]
        possible = [
            kind
            for kind in kinds
            if kind not in SCRIPTED_FAULTS and (kind is not InjectedFault.FORGOTTEN or kind not in failures)
        ]
        meets_fault = chance.random() < self.rate and len(failures) < MAX_FAILURES_IN_A_ROW
        fault = chance.choice(possible) if meets_fault else None
        if fault is None or fault in ANSWER_FAULTS:
            failures.clear()
        else:
            failures.append(fault)
        return fault, chance


@dataclass(slots=True)
class ScriptedPlan:
    """A plan that injects the script's faults in turn, one for each request for flights.

    None in the script: that request meets no fault. After the end of the script no request does.
    """

    script: list[InjectedFault | None]
    """The faults that are still to be injected."""

    def draw(self, call: str, kinds: Sequence[InjectedFault]) -> DrawnFault:
        """Take the next fault of the script; requests for other things than flights take nothing and meet no fault.

        A fault that is not of `kinds` is taken from the script, too, but the request does not meet it.
        """
        fault = self.script.pop(0) if self.script and call.startswith(_FLIGHTS_PATH) else None
        return (fault if fault in kinds else None), Random(call)


@dataclass(frozen=True, slots=True)
class SkewedClock:
    """A clock that is ahead of the true clock by `skew` (behind it if negative)."""

    true: Clock
    skew: timedelta

    def now(self) -> datetime:
        return self.true.now() + self.skew

    def elapsed(self) -> timedelta:
        return self.true.elapsed()

    def real_seconds(self, duration: timedelta) -> float:
        return self.true.real_seconds(duration)


class FaultInjector:
    """The fault injector of one application: a middleware that spoils answers by a plan, and a skewed clock.

    It counts the faults that it has injected, and remembers the flights that it has withheld or damaged and the pause
    that it has announced last.
    """

    def __init__(self, plan: FaultPlan, skew: timedelta = timedelta(0), stall_s: float = STALL_S) -> None:
        """`skew`: how far the server's clock is ahead, all the time; `stall_s`: see STALL_S."""
        self.plan = plan
        self._skew = skew
        self._stall_s = stall_s
        self._paused_until: datetime | None = None
        self._paused_by = InjectedFault.LIMITED
        self.fault_counts: Counter[InjectedFault] = Counter()
        """By fault, the number of requests that met it."""
        self.withheld_flights: set[tuple[str, str, int]] = set()
        """Path, icao24 and first_seen of the flights that were late or malformed in one answer to that path."""
        self.early_requests = 0
        """The number of requests for flights that came during an announced pause."""

    def skew_clock(self, clock: Clock) -> Clock:
        """Return the server's clock: the given clock with the injector's skew."""
        return SkewedClock(clock, self._skew)

    def make_middleware(
        self, clock: Clock, revoke_token: Callable[[str], None]
    ) -> Callable[..., Awaitable[web.StreamResponse]]:
        """Make the middleware that injects faults into requests for flights and for tokens.

        Other requests pass, and so do answers to requests that the server rejects. During a pause that a 429 has
        announced, every request for flights gets the rest of the pause. `clock`: the server's; `revoke_token`: makes
        the server revoke the token of an Authorization header.
        """

        @web.middleware
        async def inject(request: web.Request, handler: Handler) -> web.StreamResponse:
            """Answer a request, and let it meet the fault that the plan draws for it, which is then counted.

            PAUSE_FAULTS, LIMITED_UNSAID and UNAVAILABLE are answered without the server's handler: they cost no
            credits.
            """
            if request.path.startswith(_FLIGHTS_PATH):
                if self._paused_until is not None and clock.now() < self._paused_until:
                    self.early_requests += 1
                    return self._build_pause_answer(clock)
                kinds = [
                    each
                    for each in InjectedFault
                    if each is not InjectedFault.FORGOTTEN or "Authorization" in request.headers
                ]
            elif request.method == "POST":
                kinds = list(TOKEN_FAULTS)
            else:
                return await handler(request)
            fault, chance = self.plan.draw(f"{request.path} {sorted(request.query.items())}", kinds)
            match fault:
                case None:
                    return await handler(request)
                case _ if fault in PAUSE_FAULTS:
                    self._paused_until = clock.now() + timedelta(seconds=chance.randint(1, MAX_PAUSE_S))
                    self._paused_by = fault
                    damaged: web.StreamResponse = self._build_pause_answer(clock)
                case InjectedFault.LIMITED_UNSAID:
                    damaged = web.Response(status=429, text="Too many requests")
                case InjectedFault.UNAVAILABLE:
                    damaged = web.Response(status=503, text="Service Temporarily Unavailable")
                case InjectedFault.FORGOTTEN:
                    revoke_token(request.headers["Authorization"])
                    damaged = await handler(request)
                case _:
                    answer = await handler(request)
                    if not isinstance(answer, web.Response) or answer.status not in (200, 404):
                        return answer  # a request that the replay rejects stays rejected
                    damaged = await self._damage_answer(fault, chance, request, answer, clock)
            self.fault_counts[fault] += 1
            return damaged

        return inject

    def _build_pause_answer(self, clock: Clock) -> web.Response:
        """Build the 429 of the announced pause, in the form of its announcement, with the rest of it."""
        assert self._paused_until is not None  # noqa: S101 - for the type checker
        return build_pause_answer(self._paused_by, self._paused_until, clock.now())

    async def _damage_answer(
        self, fault: InjectedFault, chance: Random, request: web.Request, answer: web.Response, clock: Clock
    ) -> web.StreamResponse:
        """Return the good answer damaged by the fault, or a foreign one in its place.

        The headers about credits are kept by a damaged answer, except with RESET and SLOW. RESET and SLOW send the
        answer themselves, and return once the connection is reset, the client disconnects, or the body is sent.
        DUPLICATED, LATE and MALFORMED give a 404 if no flight is in the result. `answer`: status 200, or 404, which
        counts as an empty list.
        """
        body = answer.body if isinstance(answer.body, bytes) and answer.body else b"[]"  # 404: none
        match fault:
            case InjectedFault.RESET:
                return await _send_half_then_reset(request, body)
            case InjectedFault.SLOW:
                return await _send_slowly(request, body, self._stall_s)
            case InjectedFault.TRUNCATED:
                return web.Response(
                    body=body[: len(body) // 2], content_type="application/json", headers=copy_quota_headers(answer)
                )
            case _ if fault in FOREIGN_FAULTS:
                return build_foreign_answer(fault, chance, body, answer, clock.now())
            case _:
                rows = self._damage_rows(fault, chance, request.path, json.loads(body))
                if not rows:
                    return web.Response(status=404, headers=copy_quota_headers(answer))
                return web.json_response(rows, headers=copy_quota_headers(answer))

    def _damage_rows(self, fault: InjectedFault, chance: Random, path: str, rows: list[dict[str, Any]]) -> list[Any]:
        """Return an answer's flights with up to three of them duplicated, withheld (LATE) or damaged (MALFORMED).

        Duplicates come last. A flight that was withheld or damaged in an answer to this path before is left as it is;
        those that are now are remembered in `withheld_flights`.
        """
        if fault is InjectedFault.DUPLICATED:
            return [*rows, *chance.sample(rows, min(len(rows), 3))]
        names = [(path, row["icao24"], row["firstSeen"]) for row in rows]
        candidates = [index for index, name in enumerate(names) if name not in self.withheld_flights]
        chosen = set(chance.sample(candidates, min(len(candidates), chance.randint(1, 3))))
        self.withheld_flights |= {names[index] for index in chosen}
        if fault is InjectedFault.LATE:
            return [row for index, row in enumerate(rows) if index not in chosen]
        return [_damage_row(row, chance) if index in chosen else row for index, row in enumerate(rows)]


def parse_faults(text: str) -> FaultInjector:
    """Make the fault injector of the option `--faults`: SEED or SEED:RATE, or a script as a JSON list.

    With a seed, the server's clock is skewed, too. Raises ValueError with one sentence for any other text, and for a
    rate out of 0 to 1.
    """
    if text.lstrip().startswith("["):
        return FaultInjector(ScriptedPlan(_parse_script(text)))
    seed, colon, rate = text.partition(":")
    try:
        number, share = int(seed), float(rate) if colon else DEFAULT_RATE
    except ValueError:
        raise ValueError(f"{text!r} is neither SEED, a whole number, nor SEED:RATE nor a JSON list of faults") from None
    if not 0 <= share <= 1:
        raise ValueError(f"the rate of faults is from 0 to 1, not {rate}")
    return seeded_injector(number, share)


def seeded_injector(seed: int, rate: float = DEFAULT_RATE, stall_s: float = STALL_S) -> FaultInjector:
    """Make an injector of all kinds of faults, with a server's clock that is skewed by at most MAX_SKEW.

    The skew, too, is drawn from the seed; the clock may be ahead or behind.
    """
    largest = int(MAX_SKEW.total_seconds())
    return FaultInjector(SeededPlan(seed, rate), timedelta(seconds=Random(seed).randint(-largest, largest)), stall_s)


def scripted_injector(script: Iterable[InjectedFault | None]) -> FaultInjector:
    """Make an injector of these faults in turn, with a server's clock that is right."""
    return FaultInjector(ScriptedPlan(list(script)))


def _parse_script(text: str) -> list[InjectedFault | None]:
    """Parse a script: a JSON list of faults' values and null. Raises ValueError with one sentence."""
    try:
        return [None if name is None else InjectedFault(name) for name in json.loads(text)]
    except ValueError:
        known = ", ".join(f'"{each}"' for each in InjectedFault)
        raise ValueError(f"a script of faults is a JSON list of null and {known}") from None


def _damage_row(row: dict[str, Any], chance: Random) -> object:
    """Return one of eight damaged forms of the row: with an invalid or missing field, or not a JSON object at all.

    The row itself is not changed.
    """
    return chance.choice(
        [
            {**row, "icao24": None},
            {**row, "icao24": row["icao24"].upper() + "Z"},
            {**row, "firstSeen": str(row["firstSeen"])},
            {**row, "lastSeen": row["firstSeen"] - 1},
            {**row, "callsign": ["?"]},
            {name: value for name, value in row.items() if name != "lastSeen"},
            None,
            list(row.values()),
        ]
    )


async def _send_first_half(request: web.Request, body: bytes) -> web.StreamResponse:
    """Send headers (status 200) that announce the whole body, and the first half of it; return the open response."""
    response = web.StreamResponse()
    response.content_type = "application/json"
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    return response


async def _send_half_then_reset(request: web.Request, body: bytes) -> web.StreamResponse:
    """Send half of the body, and reset the connection (TCP RST, where a close would send FIN)."""
    response = await _send_first_half(request, body)
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST in place of FIN
        request.transport.abort()
    return response


async def _send_slowly(request: web.Request, body: bytes, stall_s: float) -> web.StreamResponse:
    """Send half of the body, and the other half after `stall_s` real seconds; stop once the client disconnects."""
    response = await _send_first_half(request, body)
    loop = asyncio.get_running_loop()
    stall_ends_at = loop.time() + stall_s
    while loop.time() < stall_ends_at:
        await asyncio.sleep(0.02)
        if request.transport is None or request.transport.is_closing():
            return response
    await response.write(body[len(body) // 2 :])
    return response
