"""What the pages answer: found on this worker, merged with what the others know, or fetched from the owner.

Each worker shows the whole group, so one port that is forwarded to any worker shows everything. Who was asked by
another worker (`ASKED_BY`) answers for itself alone.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final
from uuid import UUID

import faust
from aiohttp.web import Request, Response
from pydantic import ValidationError

from chassis.clock import Clock
from chassis.faust.app import is_ready
from domain.airports import describe_unknown_code, find_airport
from domain.interests import Interest
from domain.windows import Window
from streams.join_state import JoinState
from streams.messages import is_icao
from streams.pages import rendering
from streams.pages.airport import DETAIL, airport_detail
from streams.pages.explain import EXPLAINED, explained
from streams.pages.overview import (
    OVERVIEW,
    AirportShown,
    Overview,
    WorkerShown,
    airport_shown,
    merged,
    overview_of,
)
from streams.pages.pulse import Pulse
from streams.pages.worker import GRAPH, STATE, counts_of, graph_of, worker_state
from streams.recent_activity import RecentActivity
from streams.routing import ASKED_BY, WorkerResponse, Workers, worker_name

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_FRESH_S: Final = 1.0
"""However many people look, each worker reads its tables for the overview this often at most."""

_AT_ONCE: Final = 20
"""Airports that are read before others get their turn on the event loop: some milliseconds."""

_RECOVERING: Final = "is still reading its tables"
_MOVED: Final = "The partition of {airport} is moving from one worker to another. That takes seconds; look again."


class Sorry(Exception):
    """There is nothing to show; the text says why, as a sentence or two."""

    def __init__(self, status: HTTPStatus, says: str) -> None:
        super().__init__(says)
        self.status = status
        self.says = says

    @property
    def is_temporary(self) -> bool:
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


class Pages:
    """What the pages show, found on this worker or asked of others."""

    def __init__(
        self,
        app: faust.App,
        desk: JoinState,
        airports: Iterable[bytes],
        is_owned: Callable[[str], bool],
        ticker: RecentActivity,
        clock: Clock,
    ) -> None:
        self.workers = Workers(app)
        self.pulse = Pulse(lambda: counts_of(app))
        self._app = app
        self._desk = desk
        self._airports = airports
        self._is_owned = is_owned
        self._ticker = ticker
        self._clock = clock
        self._overview: tuple[float, Overview] | None = None
        self._reading = asyncio.Lock()

    @property
    def name(self) -> str:
        return worker_name(self.workers.own_url)

    async def overview(self, of_all: bool) -> Overview:
        """What this worker knows, or all of them."""
        if not of_all:
            return await self._own_overview()
        path = "/api/overview?scope=worker"
        own, answers = await asyncio.gather(self._own_overview(), self.workers.request_others(path))
        others: list[Overview] = []
        silent: list[WorkerShown] = []
        partitions = self.workers.list_partitions()
        for url, answer in answers.items():
            told = _overview_in(answer)
            if told is None:
                note = "did not answer" if answer is None else "answered what this worker does not understand"
                silent.append(WorkerShown(worker_name(url), len(partitions.get(url, ())), answered=False, note=note))
            else:
                others.append(told)
        return merged(own, others, silent)

    async def _own_overview(self) -> Overview:
        async with self._reading:
            if self._overview is None or time.monotonic() - self._overview[0] > _FRESH_S:
                self._overview = (time.monotonic(), await self._read())
            return self._overview[1]

    async def _read(self) -> Overview:
        ready = is_ready(self._app)
        shown: list[AirportShown] = []
        now = self._clock.now()
        if ready:
            await self._indexed()
            for index, icao in enumerate(sorted(self._owned())):
                if index % _AT_ONCE == 0:
                    await asyncio.sleep(0)
                shown.append(airport_shown(self._desk, icao, now))
        partitions = self.workers.list_partitions().get(self.workers.own_url, ())
        worker = WorkerShown(self.name, len(partitions), answered=ready, note="" if ready else _RECOVERING)
        return overview_of(shown, self._ticker, now, [worker])

    async def _indexed(self) -> None:
        """The desk has its index of interests; made in small steps after a rebalance, so that nothing else waits."""
        while self._desk.index_more_interests():
            await asyncio.sleep(0)

    def _owned(self) -> set[str]:
        seen = {key.decode() for key in self._airports} | set(self._desk.list_watched_airports())
        return {icao for icao in seen if self._is_owned(icao)}

    async def of_airport(self, request: Request, icao: str, own: Callable[[], Response]) -> Response:
        """The answer about an airport: `own` where it is this worker's, else its owner's. Raises Sorry."""
        if not is_icao(icao):
            raise Sorry(HTTPStatus.NOT_FOUND, f"{icao[:20]}: {describe_unknown_code(icao[:20])}")
        if self._is_owned(icao):
            if not is_ready(self._app):
                raise Sorry(HTTPStatus.SERVICE_UNAVAILABLE, f"The worker that has {icao} {_RECOVERING}.")
            await self._indexed()
            if icao.encode() not in self._airports and not len(self._desk.find_thresholds(icao)):
                raise Sorry(HTTPStatus.NOT_FOUND, _nothing_known(icao))
            return own()
        owner = self.workers.find_owner(icao)
        if owner is None or owner == self.workers.own_url or ASKED_BY in request.headers:
            raise Sorry(HTTPStatus.SERVICE_UNAVAILABLE, _MOVED.format(airport=icao))
        answer = await self.workers.request(owner, request.path_qs)
        if answer is None:
            raise Sorry(
                HTTPStatus.BAD_GATEWAY,
                f"{icao} is with the worker {worker_name(owner)}, which does not answer. If it is gone, another takes "
                "over within half a minute; look again.",
            )
        return passed_on(answer)

    async def of_interest(self, request: Request, text: str, own: Callable[[Interest], Response]) -> Response:
        """The answer about an interest: `own` where its airport is this worker's, else what another says. Raises
        Sorry."""
        try:
            interest_id = UUID(text)
        except ValueError:
            raise Sorry(HTTPStatus.NOT_FOUND, "An interest is named by its id, a UUID; this is none.") from None
        ready = is_ready(self._app)
        if ready:
            await self._indexed()
            for icao in self._desk.list_watched_airports():
                interest = self._desk.find_interest(icao, interest_id) if self._is_owned(icao) else None
                if interest is not None:
                    return own(interest)
        if ASKED_BY in request.headers:
            answers: dict[str, WorkerResponse | None] = {}
        else:
            asked = await self.workers.request_others(request.path_qs)
            answers = {worker_name(url): answer for url, answer in asked.items()}
        found = next((each for each in answers.values() if each is not None and each.status == HTTPStatus.OK), None)
        if found is not None:
            return passed_on(found)
        unsure = [name for name, each in answers.items() if each is None or each.status != HTTPStatus.NOT_FOUND]
        if unsure or not ready:
            who = ", ".join(unsure if ready else [self.name, *unsure])
            raise Sorry(
                HTTPStatus.BAD_GATEWAY, f"No worker that answers knows this interest; not all could be asked: {who}."
            )
        raise Sorry(HTTPStatus.NOT_FOUND, "No interest has this id: it was removed, or never set.")

    def airport_html(self, icao: str, window: Window) -> Response:
        detail = airport_detail(self._desk, icao, window, self._clock.now(), self._ticker.list_alert_groups(icao))
        return html(rendering.airport_page(detail, self.name))

    def airport_json(self, icao: str, window: Window) -> Response:
        detail = airport_detail(self._desk, icao, window, self._clock.now(), self._ticker.list_alert_groups(icao))
        return as_json(DETAIL.dump_json(detail))

    def explain_html(self, interest: Interest, page: int, only_said: bool) -> Response:
        return html(
            rendering.explain_page(explained(self._desk, interest, self._clock.now()), page, only_said, self.name)
        )

    def explain_json(self, interest: Interest) -> Response:
        return as_json(EXPLAINED.dump_json(explained(self._desk, interest, self._clock.now())))

    async def of_worker(self, request: Request, own: Callable[[], Response]) -> Response:
        """The answer about a worker: the one that the query names, else this one. Raises Sorry."""
        name = request.query.get("worker", self.name)
        if name == self.name or ASKED_BY in request.headers:
            return own()
        # Only what Kafka says is of the group is asked: a name in a query must not send us anywhere else.
        url = next((each for each in self.workers.list_others() if worker_name(each) == name), None)
        if url is None:
            raise Sorry(HTTPStatus.NOT_FOUND, "No worker of this group has that name; it may have left.")
        answer = await self.workers.request(url, request.path_qs)
        if answer is None:
            raise Sorry(HTTPStatus.BAD_GATEWAY, f"The worker {name} does not answer.")
        return passed_on(answer)

    def stats_html(self) -> Response:
        return html(rendering.stats_page(worker_state(self._app, self.workers, self.pulse, self._clock.now())))

    def stats_json(self) -> Response:
        return as_json(STATE.dump_json(worker_state(self._app, self.workers, self.pulse, self._clock.now())))

    def graph_html(self) -> Response:
        state = worker_state(self._app, self.workers, self.pulse, self._clock.now())
        return html(rendering.graph_page(graph_of(state)))

    def graph_json(self) -> Response:
        state = worker_state(self._app, self.workers, self.pulse, self._clock.now())
        return as_json(GRAPH.dump_json(graph_of(state)))


def _overview_in(answer: WorkerResponse | None) -> Overview | None:
    if answer is None or answer.status != HTTPStatus.OK:
        return None
    try:
        return OVERVIEW.validate_json(answer.body)
    except ValidationError:
        return None


def _nothing_known(icao: str) -> str:
    known = find_airport(icao)
    if known is None:
        return f"{icao}: {describe_unknown_code(icao)}"
    return f"{known.name} ({icao}) is not watched: no interest names it, and no flights of it were observed."


def html(text: str, status: int = HTTPStatus.OK) -> Response:
    return Response(text=text, status=status, content_type="text/html", headers=HEADERS)


def as_json(body: bytes, status: int = HTTPStatus.OK, content_type: str = "application/json") -> Response:
    return Response(body=body, status=status, headers={**HEADERS, "Content-Type": content_type})


def passed_on(answer: WorkerResponse) -> Response:
    """Another worker's answer as ours."""
    headers = {**HEADERS, "Content-Type": answer.content_type}
    return Response(body=answer.body, status=answer.status, headers=headers)
