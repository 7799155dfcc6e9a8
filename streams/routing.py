"""Which worker of the group owns an airport, and how one worker asks another.

Partitions are given out by Kafka, so only the group knows where an airport is; Faust tells each member with every
rebalance, by the URL under which a worker says that it can be reached (`canonical_url`).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import faust
import structlog
from aiohttp import ClientError, ClientTimeout
from yarl import URL

from towerwatch.topics import FLIGHTS_OBSERVED, partition_of

log = structlog.get_logger()

ASKED_BY: Final = "Towerwatch-Asked-By"
"""The header of what a worker asks another, which then answers for itself alone: no question goes round in circles."""

PATIENCE_S: Final = 2.0
"""A person waits for the page meanwhile; a worker that lives answers in milliseconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What another worker answered."""

    status: int
    content_type: str
    body: bytes


class Workers:
    """The workers of this group, as the last rebalance left them."""

    def __init__(self, app: faust.App) -> None:
        self._app = app

    @property
    def own(self) -> URL:
        """This worker's own URL."""
        return URL(str(self._app.conf.canonical_url))

    def partitions(self) -> Mapping[URL, tuple[int, ...]]:
        """The partitions of airports that each worker has, in order; without workers before the first assignment."""
        found = self._app.assignor.external_topics_metadata()  # type: ignore[attr-defined]  # not in the interface
        return {URL(url): tuple(sorted(topics.get(FLIGHTS_OBSERVED.name, ()))) for url, topics in found.items()}

    def others(self) -> tuple[URL, ...]:
        """All but this one, in the order of their URLs."""
        return tuple(sorted((url for url in self.partitions() if url != self.own), key=str))

    def owner_of(self, airport: str) -> URL | None:
        """The worker that has an airport; None where the last rebalance gave its partition to nobody."""
        partition = partition_of(airport, FLIGHTS_OBSERVED)
        return next((url for url, partitions in self.partitions().items() if partition in partitions), None)

    async def ask(self, worker: URL, path: str) -> Answer | None:
        """What a worker answers to GET `path` (with its query); None when it does not, within `PATIENCE_S`."""
        url = worker.join(URL(path, encoded=True))
        try:
            async with self._app.http_client.get(
                url,
                headers={ASKED_BY: worker_name(self.own)},
                timeout=ClientTimeout(total=PATIENCE_S),
                allow_redirects=False,
            ) as answer:
                return Answer(answer.status, answer.headers.get("Content-Type", ""), await answer.read())
        except (ClientError, TimeoutError, OSError) as error:
            log.info("worker.does_not_answer", worker=worker_name(worker), error=type(error).__name__)
            return None

    async def ask_others(self, path: str) -> dict[URL, Answer | None]:
        """What each of the others answers, asked at once."""
        others = self.others()
        return dict(zip(others, await asyncio.gather(*(self.ask(each, path) for each in others)), strict=True))


def worker_name(url: URL) -> str:
    """A worker as people are told of it: host and port."""
    return f"{url.host}:{url.port}"
