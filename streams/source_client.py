"""The client that asks the collector about its sources for the pages: rarely, briefly, and never for the join itself.

The pages work without its answers; what is not known is said there. See docs/adr/0047-lights-for-the-sources.md.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import grpc
import structlog

from chassis.grpc_secret import REFUSED
from chassis.rpc import create_aio_channel
from towerwatch.collection.v1.source_service_pb2 import (
    GetAgreementRequest,
    GetAgreementResponse,
    GetSourcesRequest,
    GetSourcesResponse,
)
from towerwatch.collection.v1.source_service_pb2_grpc import SourceServiceStub

if TYPE_CHECKING:
    from towerwatch.collection.v1.source_service_pb2_grpc import SourceServiceAsyncStub  # in the stub file alone

log = structlog.get_logger()

T = TypeVar("T")

SOURCES_DEADLINE_S: Final = 1.5
"""Seconds for the call about all sources: a person waits for the overview meanwhile."""

AGREEMENT_DEADLINE_S: Final = 0.7
"""Seconds for the call about an airport: another worker may wait for this one's page (`routing.REQUEST_TIMEOUT_S`)."""

SOURCES_CACHE_S: Final = 5.0
"""Seconds for which the state of the sources is cached, however many people look at it."""

SOURCES_KEPT_S: Final = 45.0
"""Seconds for which the last state is shown while there is no newer one, so that one failed call changes no page."""

AGREEMENT_CACHE_S: Final = 60.0
"""Seconds for which an airport's agreement is cached: it changes once a night."""

AGREEMENT_KEPT_S: Final = 3600.0
"""Seconds for which the last agreement is shown while there is no newer one."""

PAUSE_AFTER_FAILURE_S: Final = 10.0
"""Seconds without a call after one that failed, so that an unavailable collector slows no page down."""

_MAX_AIRPORTS: Final = 200

_NOT_SET = "this worker is not told where the collector is (COLLECTOR_GRPC_TARGET)"
_REASONS: Final = {
    grpc.StatusCode.UNAVAILABLE: "the collector cannot be reached, or its database cannot",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the collector does not answer in time",
    grpc.StatusCode.UNIMPLEMENTED: "the collector is of an older version, which does not tell of its sources",
}


@dataclass(frozen=True, slots=True)
class Unknown:
    """The reason why nothing is known, as the end of a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Cached(Generic[T]):
    """An answer, and the monotonic times until which it is used, and shown while there is no newer one."""

    answer: T
    until: float
    kept_until: float


class SourceClient:
    """A client of the collector's SourceService, for one event loop; connects at the first request.

    One call of each kind is in flight at a time, each within a deadline, and answers are cached. After a failure there
    is no call for PAUSE_AFTER_FAILURE_S; meanwhile the answer is the last one, or once that is old, the reason.
    """

    def __init__(
        self,
        target: str | None,
        secrets: Sequence[str] = (),
        monotonic: Callable[[], float] = time.monotonic,
        deadlines_s: tuple[float, float] = (SOURCES_DEADLINE_S, AGREEMENT_DEADLINE_S),
    ) -> None:
        """`target`: host:port or unix:/path; None: nothing is asked, and nothing known."""
        self._target = target
        self._secrets = secrets
        self._monotonic = monotonic
        self._sources_deadline_s, self._agreement_deadline_s = deadlines_s
        self._channel: grpc.aio.Channel | None = None
        self._sources_lock, self._agreement_lock = asyncio.Lock(), asyncio.Lock()
        """A lock for each kind of call: one that waited for the other would take as long as both."""
        self._failure: tuple[Unknown, float] | None = None
        """The last failure, and the monotonic time until which there is no call after it."""
        self._sources: _Cached[GetSourcesResponse] | None = None
        self._agreements: OrderedDict[str, _Cached[GetAgreementResponse]] = OrderedDict()

    async def find_sources(self) -> GetSourcesResponse | Unknown:
        """Return the state of all sources, at most SOURCES_KEPT_S old, or why it is not known. Raises nothing."""
        async with self._sources_lock:
            now, cached = self._monotonic(), self._sources
            if cached is not None and now < cached.until:
                return cached.answer
            deadline_s = self._sources_deadline_s
            answer = await self._call(lambda stub: stub.GetSources(GetSourcesRequest(), timeout=deadline_s))
            if not isinstance(answer, Unknown):
                self._sources = _Cached(answer, now + SOURCES_CACHE_S, now + SOURCES_KEPT_S)
            elif cached is not None and now < cached.kept_until:
                return cached.answer
            return answer

    async def find_agreement(self, icao: str) -> GetAgreementResponse | Unknown:
        """Return how well live agrees with the record at an airport, or why it is not known. Raises nothing.

        The answer is at most AGREEMENT_KEPT_S old.
        """
        async with self._agreement_lock:
            now, cached = self._monotonic(), self._agreements.get(icao)
            if cached is not None and now < cached.until:
                return cached.answer
            request, deadline_s = GetAgreementRequest(airport=icao), self._agreement_deadline_s
            answer = await self._call(lambda stub: stub.GetAgreement(request, timeout=deadline_s))
            if not isinstance(answer, Unknown):
                self._agreements.pop(icao, None)
                self._agreements[icao] = _Cached(answer, now + AGREEMENT_CACHE_S, now + AGREEMENT_KEPT_S)
                if len(self._agreements) > _MAX_AIRPORTS:
                    self._agreements.popitem(last=False)
            elif cached is not None and now < cached.kept_until:
                return cached.answer
            return answer

    async def _call(self, call: "Callable[[SourceServiceAsyncStub], Awaitable[T]]") -> T | Unknown:
        """Return the answer of a call, or the reason of a failure: of this call, or of one a moment ago."""
        if self._target is None:
            return Unknown(_NOT_SET)
        if self._failure is not None and self._monotonic() < self._failure[1]:
            return self._failure[0]
        if self._channel is None:
            self._channel = create_aio_channel(self._target, self._secrets)
        try:
            answer = await call(SourceServiceStub(self._channel))
        except grpc.aio.AioRpcError as error:
            unknown = Unknown(_describe_error(error))
            if self._failure is None or self._failure[0] != unknown:
                log.info("sources.not_known", reason=unknown.reason)
            self._failure = unknown, self._monotonic() + PAUSE_AFTER_FAILURE_S
            return unknown
        if self._failure is not None and self._monotonic() >= self._failure[1]:
            self._failure = None  # a call of the other kind that failed meanwhile has its pause
        return answer

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()


def _describe_error(error: grpc.aio.AioRpcError) -> str:
    """Return why a call failed, without any address."""
    if error.code() is grpc.StatusCode.UNAUTHENTICATED and error.details() == REFUSED:
        return "the collector refuses this worker: give all services the same GRPC_SECRET"
    return _REASONS.get(error.code(), f"the collector answers {error.code().name}")
