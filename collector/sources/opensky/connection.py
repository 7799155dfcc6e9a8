"""What the clients of OpenSky's API share: HTTP connections, proxy, OAuth2 token, comparison of clocks.

A bearer token from OAuth2 client credentials is valid for 30 minutes. Pauses after a 429 and circuit breakers are each
client's own, since the source has a bucket of credits for each kind of question; a pause that the authorization server
requires is for all.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import httpx
from pydantic import ValidationError

from chassis.clock import Clock
from chassis.metrics import Metrics
from collector.errors import SourceRefusedError, SourceUnavailableError
from collector.sources.bounded_answers import build_exchange_error, explain_proxy_login, send_bounded
from collector.sources.opensky.answers import TokenResponse, classify_foreign_answer
from collector.sources.opensky.clock_check import ClockCheck, ClockReading
from collector.sources.opensky.foreign_answers import ForeignAnswerCounter
from collector.sources.opensky.proxy import find_proxy
from collector.sources.required_pause import RequiredPause
from collector.sources.trust import get_trust

_RENEW_BEFORE: Final = timedelta(minutes=1)
"""A token is renewed this long before it expires."""
_PROXY_SETTING: Final = "OPENSKY_PROXY"
PROXY_WANTS_LOGIN: Final = explain_proxy_login(_PROXY_SETTING)
_NUMBER_OF_CREDITS: Final = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class OpenSkyTimeouts:
    """Timeouts of one HTTP request, in real seconds."""

    connect_s: float = 5.0
    total_s: float = 30.0
    """From the start to the last byte of the answer: a read timeout alone would not end a trickle of bytes."""


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and the elapsed time of the service's clock at which to renew the token."""

    text: str
    renew_at: timedelta


class TokenRefusedError(SourceRefusedError):
    """The source has rejected the token, which the error holds: the token expired or was revoked."""

    def __init__(self, token: Token) -> None:
        super().__init__("the source does not accept the token that it gave")
        self.token = token


@dataclass(frozen=True, slots=True)
class Exchange:
    """An answer, and the service's clock just before the request was sent and just after the answer was received."""

    answer: httpx.Response
    sent: ClockReading
    received: ClockReading

    @property
    def remaining_credits(self) -> int | None:
        """Credits left today in the bucket that the request was charged to, by the answer; None: not reported."""
        remaining = self.answer.headers.get("X-Rate-Limit-Remaining", "")
        return int(remaining) if _NUMBER_OF_CREDITS.fullmatch(remaining) else None

    def require_in_order(self) -> None:
        """Raise SourceUnavailableError if the answer's status is 5xx, else do nothing."""
        if self.answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise SourceUnavailableError(f"the source is out of order (status {self.answer.status_code})")


class OpenSkyConnection:
    """The connections and the token of all clients of one OpenSky account, to be shared in one event loop.

    Nothing connects before the first request.
    """

    def __init__(
        self,
        urls: Sequence[str],
        token_url: str,
        credentials: tuple[str, str] | None,
        clock: Clock,
        metrics: Metrics,
        timeouts: OpenSkyTimeouts = OpenSkyTimeouts(),
        proxy: str | None = None,
    ) -> None:
        """`credentials`: client id and secret, or None for anonymous access. `proxy`: see `find_proxy`.

        `urls`: the addresses that will be asked, besides the authorization server's. The token's expiry and pauses use
        the elapsed time of the service's `clock`, so that a wall clock that is set does not change them; only the
        timeouts are real seconds. Raises ValueError for a proxy that cannot be used.
        """
        self.timeouts = timeouts
        self.foreign_answers = ForeignAnswerCounter(metrics)
        self.token_pause = RequiredPause(clock)
        """The pause that the authorization server required."""
        self._token_url = token_url
        self._credentials = credentials
        self._clock = clock
        self._token: Token | None = None
        self._renewal_lock = asyncio.Lock()
        self._clock_check = ClockCheck(clock, metrics)
        trust = get_trust()
        self.http = httpx.AsyncClient(
            timeout=httpx.Timeout(timeouts.total_s, connect=timeouts.connect_s),
            headers={"User-Agent": "towerwatch", "Cache-Control": "no-cache"},  # RFC 9111, section 5.2.1.4
            verify=trust,
            trust_env=False,  # httpx would take proxies for a source on this machine, and ends on those it cannot read
            mounts={
                each: httpx.AsyncHTTPTransport(verify=trust, proxy=chosen)
                for each in (urls if credentials is None else (*urls, token_url))
                if (chosen := find_proxy(each, proxy)) is not None
            },
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def get_token(self) -> Token | None:
        """Return the held token, or request a new one if there is none or it is about to expire. Raises SourceError.

        Returns None for anonymous access. A token is renewed one minute (`_RENEW_BEFORE`) before it expires. Of several
        tasks that need a new token, the first renews it and the others wait.
        """
        if self._credentials is None:
            return None
        async with self._renewal_lock:
            elapsed = self._clock.elapsed()
            if self._token is None or self._token.renew_at <= elapsed:
                response = await self._request_token(*self._credentials)
                lifetime = timedelta(seconds=response.expires_in)
                self._token = Token(response.access_token, elapsed + max(lifetime - _RENEW_BEFORE, timedelta(0)))
            return self._token

    def discard_token(self, token: Token) -> None:
        """Forget a token that the source has rejected, unless another task has renewed it already."""
        if self._token is token:
            self._token = None

    async def send(
        self, request: httpx.Request, total_s: float | None = None, most_bytes: int | None = None
    ) -> Exchange:
        """Send one HTTP request and return the answer of any status, with the clock readings.

        `total_s`: real seconds to the last byte, where that is less than the settings' timeout. `most_bytes`: the size
        of the largest body that is read; None: any. Raises SourceUnavailableError if there is no answer in time, and
        SourceRefusedError for a body that is too large.
        """
        total_s = self.timeouts.total_s if total_s is None else min(total_s, self.timeouts.total_s)
        sent = self._clock_check.read_clock()
        if most_bytes is not None:
            answer = await send_bounded(self.http, request, total_s, most_bytes, _PROXY_SETTING)
        else:
            try:
                async with asyncio.timeout(total_s):
                    answer = await self.http.send(request)
            except Exception as error:  # noqa: BLE001 - `build_exchange_error` raises on what is no failure of the exchange
                raise build_exchange_error(error, total_s, _PROXY_SETTING) from None
        return Exchange(answer, sent, self._clock_check.read_clock())

    def compare_clocks(self, exchange: Exchange) -> timedelta | None:
        """Return how far the service's clock is ahead of the source's (negative: behind), and set its gauge.

        Returns None if the answer has no readable `Date`.
        """
        return self._clock_check.compare_with_answer(exchange.answer.headers, exchange.sent, exchange.received)

    async def _request_token(self, client_id: str, client_secret: str) -> TokenResponse:
        """Request a new token from the authorization server, once, and return its answer.

        Raises SourceRefusedError if the server refuses a token, SourceUnavailableError if there is no answer,
        ForeignAnswerError for a redirect and for a 200 without a token, SourceLimitedError for a 429.
        """
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        exchange = await self.send(self.http.build_request("POST", self._token_url, data=form))
        exchange.require_in_order()
        answer = exchange.answer
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise self.token_pause.begin(answer.headers)
        if answer.is_redirect:
            raise self.foreign_answers.count(answer, classify_foreign_answer(answer))
        if answer.status_code == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
            raise SourceRefusedError(PROXY_WANTS_LOGIN)
        if answer.status_code != httpx.codes.OK:
            raise SourceRefusedError(
                "the source gives no token for OPENSKY_CLIENT_ID and its secret, or for those of "
                f"OPENSKY_CREDENTIALS_FILE (status {answer.status_code})"
            )
        try:
            return TokenResponse.model_validate_json(answer.content)
        except ValidationError:
            raise self.foreign_answers.count(answer, classify_foreign_answer(answer)) from None
