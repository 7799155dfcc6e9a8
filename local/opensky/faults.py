"""The bad days of OpenSky, on purpose: faults between the replay and whoever asks it, for tests and for curiosity.

The timetable stays the truth, and every fault passes:

- A question that is asked again and again is answered at the latest after `MOST_IN_A_ROW` failures, and of those at
  most one is a forgotten token. (A question is a path with its parameters; a request for a token is one, too.)
- A flight is held back, or spoiled, in one answer at most: any two answers to a question, or to questions that overlap,
  hold together every flight that both should hold.
- Who comes back before a pause is over is told so again; that takes no fault from the plan.

What goes wrong is drawn from the seed, the question and how often it has been asked: it depends neither on the clock
nor on what else is asked, by whom and in which order. (Which flights suffer does, for each suffers once.)
"""

import asyncio
import json
import socket
import struct
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Any, Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from chassis.clock import Clock

MOST_IN_A_ROW: Final = 4
LONGEST_PAUSE_S: Final = 120
LARGEST_SKEW: Final = timedelta(minutes=5)
STALL_S: Final = 60.0
"""Real seconds for which a slow body stands still, or until nobody waits for it any more."""
RATE: Final = 0.2
_OF_FLIGHTS: Final = "/api/flights/"


class Fault(StrEnum):
    """What goes wrong with one request."""

    LIMITED = "429"
    """Too many requests, and how long to pause."""
    LIMITED_UNSAID = "429-unsaid"
    """Too many requests, and no word about a pause."""
    UNAVAILABLE = "503"
    FORGOTTEN = "401"
    """The token has expired before its time. Nothing, for a caller without one."""
    RESET = "reset"
    """The connection breaks in the midst of the body."""
    SLOW = "slow"
    """The body stands still half-way."""
    TRUNCATED = "truncated"
    """Half of the JSON, as if it were the whole."""
    HTML = "html"
    """A page in place of the JSON, with status 200."""
    DUPLICATED = "duplicated"
    """Some flights twice."""
    LATE = "late"
    """Some flights are not known yet, perhaps none is."""
    MALFORMED = "malformed"
    """Some flights cannot be read."""


ANSWERED: Final = frozenset({Fault.DUPLICATED, Fault.LATE, Fault.MALFORMED})
"""Faults of an answer that is one all the same."""
OF_TOKENS: Final = (Fault.UNAVAILABLE, Fault.RESET, Fault.SLOW, Fault.TRUNCATED, Fault.HTML)
"""Faults that a request for a token may meet."""

Drawn = tuple[Fault | None, Random]
"""What goes wrong, if anything, and the chance that decides the rest."""


class Plan(Protocol):
    """Says what goes wrong with the next request."""

    def draw(self, question: str, kinds: Sequence[Fault]) -> Drawn:
        """For a question that can suffer from these kinds."""
        ...


@dataclass(slots=True)
class Seeded:
    """Every request suffers with probability `rate`, decided by the seed."""

    seed: int
    rate: float = RATE
    _asked: Counter[str] = field(default_factory=Counter)
    _in_a_row: defaultdict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))

    def draw(self, question: str, kinds: Sequence[Fault]) -> Drawn:
        self._asked[question] += 1
        chance = Random(f"{self.seed} {question} {self._asked[question]}")  # a text is the same in every process
        suffered = self._in_a_row[question]
        possible = [kind for kind in kinds if kind is not Fault.FORGOTTEN or kind not in suffered]
        suffers = chance.random() < self.rate and len(suffered) < MOST_IN_A_ROW
        fault = chance.choice(possible) if suffers else None
        if fault is None or fault in ANSWERED:
            suffered.clear()
        else:
            suffered.append(fault)
        return fault, chance


@dataclass(slots=True)
class Scripted:
    """The given faults in turn, one for each request for flights; None: nothing goes wrong, as after the end."""

    script: list[Fault | None]

    def draw(self, question: str, kinds: Sequence[Fault]) -> Drawn:
        fault = self.script.pop(0) if self.script and question.startswith(_OF_FLIGHTS) else None
        return (fault if fault in kinds else None), Random(question)


@dataclass(frozen=True, slots=True)
class SkewedClock:
    """Another clock, which is off."""

    true: Clock
    skew: timedelta

    def now(self) -> datetime:
        return self.true.now() + self.skew

    def real_seconds(self, duration: timedelta) -> float:
        return self.true.real_seconds(duration)


class Faults:
    """Lets the requests of one application suffer, and remembers what it has done."""

    def __init__(self, plan: Plan, skew: timedelta = timedelta(0), stall_s: float = STALL_S) -> None:
        """`skew`: how far the server's clock is off, all the time; `stall_s`: see STALL_S."""
        self.plan = plan
        self._skew = skew
        self._stall_s = stall_s
        self._paused_until: datetime | None = None
        self.met: Counter[Fault] = Counter()
        """How many requests suffered from what."""
        self.held_back: set[tuple[str, str, int]] = set()
        """Path, icao24 and first_seen of the flights that were late or malformed in one answer to that path."""
        self.too_early = 0
        """How many requests for flights came during an announced pause."""

    def skewed(self, clock: Clock) -> Clock:
        """What the server takes for the time."""
        return SkewedClock(clock, self._skew)

    def between(self, clock: Clock, forget: Callable[[str], None]) -> Callable[..., Awaitable[web.StreamResponse]]:
        """The middleware. `clock` is the server's; `forget` makes it forget the token of an Authorization header."""

        @web.middleware
        async def suffer(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith(_OF_FLIGHTS):
                if self._paused_until is not None and clock.now() < self._paused_until:
                    self.too_early += 1
                    return self._limited(clock)
                kinds = [each for each in Fault if each is not Fault.FORGOTTEN or "Authorization" in request.headers]
            elif request.method == "POST":
                kinds = list(OF_TOKENS)
            else:
                return await handler(request)
            fault, chance = self.plan.draw(f"{request.path} {sorted(request.query.items())}", kinds)
            match fault:
                case None:
                    return await handler(request)
                case Fault.LIMITED:
                    self._paused_until = clock.now() + timedelta(seconds=chance.randint(1, LONGEST_PAUSE_S))
                    spoiled: web.StreamResponse = self._limited(clock)
                case Fault.LIMITED_UNSAID:
                    spoiled = web.Response(status=429, text="Too many requests")
                case Fault.UNAVAILABLE:
                    spoiled = web.Response(status=503, text="Service Temporarily Unavailable")
                case Fault.FORGOTTEN:
                    forget(request.headers["Authorization"])
                    spoiled = await handler(request)
                case _:
                    answer = await handler(request)
                    if not isinstance(answer, web.Response) or answer.status not in (200, 404):
                        return answer  # what the replay refuses is refused
                    spoiled = await self._spoiled(fault, chance, request, answer)
            self.met[fault] += 1
            return spoiled

        return suffer

    def _limited(self, clock: Clock) -> web.Response:
        assert self._paused_until is not None  # noqa: S101 - for the type checker
        left = -((clock.now() - self._paused_until) // timedelta(seconds=1))  # rounded up
        return web.Response(
            status=429, text="Too many requests", headers={"X-Rate-Limit-Retry-After-Seconds": str(left)}
        )

    async def _spoiled(
        self, fault: Fault, chance: Random, request: web.Request, answer: web.Response
    ) -> web.StreamResponse:
        body = answer.body if isinstance(answer.body, bytes) and answer.body else b"[]"  # 404: none
        match fault:
            case Fault.RESET:
                return await _reset(request, body)
            case Fault.SLOW:
                return await _slow(request, body, self._stall_s)
            case Fault.TRUNCATED:
                return web.Response(body=body[: len(body) // 2], content_type="application/json", headers=_kept(answer))
            case Fault.HTML:
                return web.Response(
                    text="<html><body>We will be back soon.</body></html>",
                    content_type="text/html",
                    headers=_kept(answer),
                )
            case _:
                rows = self._with(fault, chance, request.path, json.loads(body))
                if not rows:
                    return web.Response(status=404, headers=_kept(answer))
                return web.json_response(rows, headers=_kept(answer))

    def _with(self, fault: Fault, chance: Random, path: str, rows: list[dict[str, Any]]) -> list[Any]:
        if fault is Fault.DUPLICATED:
            return [*rows, *chance.sample(rows, min(len(rows), 3))]
        names = [(path, row["icao24"], row["firstSeen"]) for row in rows]
        able = [index for index, name in enumerate(names) if name not in self.held_back]
        chosen = set(chance.sample(able, min(len(able), chance.randint(1, 3))))
        self.held_back |= {names[index] for index in chosen}
        if fault is Fault.LATE:
            return [row for index, row in enumerate(rows) if index not in chosen]
        return [_malformed(row, chance) if index in chosen else row for index, row in enumerate(rows)]


def parse(text: str) -> Faults:
    """What `--faults` says: SEED or SEED:RATE (then the server's clock is off, too), or a script as a JSON list.

    Raises ValueError with one sentence.
    """
    if text.lstrip().startswith("["):
        return Faults(Scripted(_script(text)))
    seed, colon, rate = text.partition(":")
    try:
        number, share = int(seed), float(rate) if colon else RATE
    except ValueError:
        raise ValueError(f"{text!r} is neither SEED, a whole number, nor SEED:RATE nor a JSON list of faults") from None
    if not 0 <= share <= 1:
        raise ValueError(f"the rate of faults is from 0 to 1, not {rate}")
    return seeded(number, share)


def seeded(seed: int, rate: float = RATE, stall_s: float = STALL_S) -> Faults:
    """All kinds of faults, and a clock that is off by some minutes."""
    largest = int(LARGEST_SKEW.total_seconds())
    return Faults(Seeded(seed, rate), timedelta(seconds=Random(seed).randint(-largest, largest)), stall_s)


def scripted(script: Iterable[Fault | None]) -> Faults:
    """These faults in turn, on a clock that is right."""
    return Faults(Scripted(list(script)))


def _script(text: str) -> list[Fault | None]:
    try:
        return [None if name is None else Fault(name) for name in json.loads(text)]
    except ValueError:
        known = ", ".join(f'"{each}"' for each in Fault)
        raise ValueError(f"a script of faults is a JSON list of null and {known}") from None


def _kept(answer: web.Response) -> dict[str, str]:
    """The headers that do not depend on the body."""
    return {name: value for name, value in answer.headers.items() if name.lower().startswith("x-rate-limit-")}


def _malformed(row: dict[str, Any], chance: Random) -> object:
    """The row with something that no flight has, or something else altogether."""
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


async def _half_sent(request: web.Request, body: bytes) -> web.StreamResponse:
    """Announces the whole body, and has sent half of it."""
    response = web.StreamResponse()
    response.content_type = "application/json"
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    return response


async def _reset(request: web.Request, body: bytes) -> web.StreamResponse:
    response = await _half_sent(request, body)
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST in place of FIN
        request.transport.abort()
    return response


async def _slow(request: web.Request, body: bytes, stall_s: float) -> web.StreamResponse:
    response = await _half_sent(request, body)
    loop = asyncio.get_running_loop()
    over = loop.time() + stall_s
    while loop.time() < over:
        await asyncio.sleep(0.02)
        if request.transport is None or request.transport.is_closing():
            return response
    await response.write(body[len(body) // 2 :])
    return response
