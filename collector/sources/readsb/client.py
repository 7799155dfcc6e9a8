"""A client of anything that speaks readsb's JSON: `aircraft.json` by URL or as a file, and `/v2/point` services."""

import asyncio
import json
import os
import stat
from collections.abc import Awaitable, Callable
from typing import Final

import httpx

from chassis.clock import Clock
from chassis.faults import explain_unreadable
from collector.errors import (
    ForeignAnswer,
    ForeignAnswerError,
    SourceRefusedError,
    SourceUnavailableError,
)
from collector.sources.bounded_answers import build_timeout_error, explain_proxy_login, send_bounded
from collector.sources.breaker_guard import POSITIONS_POLICY, BreakerGuard
from collector.sources.opensky.answers import classify_foreign_answer
from collector.sources.opensky.proxy import find_proxy
from collector.sources.position_metrics import PositionMetrics
from collector.sources.readsb.addresses import ReadsbAddress
from collector.sources.readsb.aircraft_json import parse_aircraft
from collector.sources.readsb.pace import HostPaces
from collector.sources.regions import Circle
from collector.sources.state_vector import Poll, UnreadablePollError
from collector.sources.trust import get_trust

SETTING: Final = "LIVE_URLS"
_PROXY_SETTING: Final = "https_proxy (http_proxy for http)"
_MOST_BYTES: Final = 32_000_000
"""Of an answer, decompressed: one about all aircraft of a large region is 3 MB."""
_CONNECT_S: Final = 5.0
"""Real seconds to connect."""


class ReadsbClient:
    """A client of one address. Addresses of one host share its pace, and a pause that the host requires."""

    def __init__(
        self,
        address: ReadsbAddress,
        clock: Clock,
        paces: HostPaces,
        metrics: PositionMetrics,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`sleep` waits so many real seconds. Nothing connects before the first poll.

        The machine's own proxy variables count, but not for this machine. Raises ValueError for a proxy that cannot be
        used.
        """
        self.name: Final = address.name
        self._address = address
        self._metrics = metrics
        self._sleep = sleep
        self._pace = paces.get_pace(address.host)
        self._breaker = BreakerGuard(clock, metrics.breaker, POSITIONS_POLICY, "positions", source=address.name)
        proxy = None if address.is_file else find_proxy(address.url, None)
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=_CONNECT_S),  # each poll has a timeout for the whole answer
            headers={"User-Agent": "towerwatch"},
            verify=get_trust(),
            trust_env=False,
            proxy=proxy,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def fetch_poll(self, region: Circle | None, within_s: float) -> Poll:
        """Wait for the host's next turn, send one request without retries, and return the poll.

        It takes at most `within_s` real seconds. `region`: for an address that takes one; None for any other. Raises
        SourceLimitedError without a request during a pause that the host required, or if the turn comes too late;
        BreakerOpenError while the breaker is open; SourceRefusedError if the host requires a password;
        SourceUnavailableError for every answer that is no poll.
        """
        url = self._address.fill_in(region)
        if not self._address.is_file:
            wait_s = self._pace.reserve_turn(within_s)
            if wait_s > 0:
                await self._sleep(wait_s)
            within_s -= wait_s
            self._pace.pause.require_over()  # another region's answer may have required one meanwhile
        with self._breaker.guard_call(), self._metrics.count_poll(self.name):
            try:
                async with asyncio.timeout(within_s):
                    if self._address.is_file:
                        poll = await asyncio.to_thread(lambda: _parse_file(_read_file(url)))
                    else:
                        poll = await self._request_poll(url, within_s)
            except TimeoutError:
                raise build_timeout_error(within_s) from None
        self._metrics.count_poll_content(self.name, poll)
        return poll

    async def _request_poll(self, url: str, within_s: float) -> Poll:
        """Send one request and return the poll of its answer. Raises SourceError."""
        request = self._http.build_request("GET", url)
        answer = await send_bounded(self._http, request, within_s, _MOST_BYTES, _PROXY_SETTING)
        status = answer.status_code
        if status == httpx.codes.TOO_MANY_REQUESTS or (
            status == httpx.codes.SERVICE_UNAVAILABLE and "Retry-After" in answer.headers
        ):
            raise self._pace.pause.begin(answer.headers)
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise SourceUnavailableError(f"the source is out of order (status {status})")
        if status == httpx.codes.NOT_FOUND or answer.is_redirect:
            raise ForeignAnswerError(classify_foreign_answer(answer), status, SETTING)
        if status == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
            raise SourceRefusedError(explain_proxy_login(_PROXY_SETTING))
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise SourceRefusedError(
                f"the source wants a user name and a password, or a key (status {status}): put them into {SETTING}"
            )
        if status != httpx.codes.OK:
            raise SourceRefusedError(f"the source refuses the request for positions (status {status})")
        try:
            return await asyncio.to_thread(_parse_body, answer.content)
        except _NoPollError as error:
            kind = error.kind if error.kind is not None else classify_foreign_answer(answer)
            raise ForeignAnswerError(kind, status, SETTING) from None


class _NoPollError(Exception):
    """A body is no poll. `kind`: what it is instead; None if the caller has to classify the answer."""

    def __init__(self, kind: ForeignAnswer | None) -> None:
        super().__init__()
        self.kind = kind


def _parse_body(content: bytes) -> Poll:
    """Return the poll of a body. Raises _NoPollError, also for rows of which none can be read."""
    try:
        poll = parse_aircraft(json.loads(content))
    except (UnreadablePollError, ValueError, RecursionError):
        raise _NoPollError(None) from None
    if "row" in poll.dropped and not poll.states:
        raise _NoPollError(ForeignAnswer.NO_IDENTITY)
    return poll


def _parse_file(content: bytes) -> Poll:
    """Return the poll of a file. Raises SourceUnavailableError."""
    try:
        return _parse_body(content)
    except _NoPollError:
        raise SourceUnavailableError(
            f"the file is no aircraft.json of a receiver, or was cut off while it was written: check {SETTING}"
        ) from None


def _read_file(path: str) -> bytes:
    """Return the content of a regular file; a pipe or a device is never read. Raises SourceUnavailableError.

    The text of the error does not show the path.
    """
    try:
        # A pipe would be opened for ever without O_NONBLOCK, which changes nothing for a file.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SourceUnavailableError(f"the file is none that can be read as a whole: check {SETTING}")
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SourceUnavailableError(f"the file cannot be read ({explain_unreadable(error)})") from None
    if len(content) > _MOST_BYTES:
        raise SourceUnavailableError(f"the file is larger than {_MOST_BYTES // 1_000_000} MB: check {SETTING}")
    return content
