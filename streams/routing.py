"""The routing of requests to the worker that owns an airport, and the requests from one worker to another.

Kafka assigns the partitions, so only the consumer group has the owner of an airport. Faust sends the assignment of all
workers to each member with every rebalance; a worker is identified by its configured URL (`canonical_url`).
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
"""Header of a request from one worker to another, which then answers for itself alone, so that no request loops."""

REQUEST_TIMEOUT_S: Final = 2.0
"""Seconds. A person waits for the page meanwhile; a healthy worker answers in milliseconds."""


@dataclass(frozen=True, slots=True)
class WorkerResponse:
    """The HTTP response of another worker, with any status; the body is read whole."""

    status: int
    content_type: str
    body: bytes


class Workers:
    """The workers of this consumer group: their partitions as of the last rebalance, and HTTP requests to them.

    A worker is identified by its configured URL.
    """

    def __init__(self, app: faust.App) -> None:
        self._app = app

    @property
    def own_url(self) -> URL:
        """This worker's own URL."""
        return URL(str(self._app.conf.canonical_url))

    def list_partitions(self) -> Mapping[URL, tuple[int, ...]]:
        """Return the partitions of flights.observed.v1 that each worker owns, sorted, by the worker's URL.

        Empty tuple: a worker without partitions. The result is empty before any assignment.
        """
        found = self._app.assignor.external_topics_metadata()  # type: ignore[attr-defined]  # not in the interface
        return {URL(url): tuple(sorted(topics.get(FLIGHTS_OBSERVED.name, ()))) for url, topics in found.items()}

    def list_others(self) -> tuple[URL, ...]:
        """Return the URLs of all workers except this one, sorted; workers without partitions too."""
        return tuple(sorted((url for url in self.list_partitions() if url != self.own_url), key=str))

    def find_owner(self, airport: str) -> URL | None:
        """Return the URL of the worker that owns an airport's partition; it may be this worker.

        None: no worker was assigned the partition in the last rebalance.
        """
        partition = partition_of(airport, FLIGHTS_OBSERVED)
        return next((url for url, partitions in self.list_partitions().items() if partition in partitions), None)

    async def request(self, worker: URL, path: str) -> WorkerResponse | None:
        """Send GET `path` (encoded, with its query) to a worker, and return its response, whatever its status.

        Return None (and log the error) if the worker cannot be reached or has not sent the whole response within
        `REQUEST_TIMEOUT_S`. The header `ASKED_BY` makes the worker answer for itself alone. Redirects are not followed.
        """
        url = worker.join(URL(path, encoded=True))
        try:
            async with self._app.http_client.get(
                url,
                headers={ASKED_BY: worker_name(self.own_url)},
                timeout=ClientTimeout(total=REQUEST_TIMEOUT_S),
                allow_redirects=False,
            ) as response:
                return WorkerResponse(response.status, response.headers.get("Content-Type", ""), await response.read())
        except (ClientError, TimeoutError, OSError) as error:
            log.info("worker.does_not_answer", worker=worker_name(worker), error=type(error).__name__)
            return None

    async def request_others(self, path: str) -> dict[URL, WorkerResponse | None]:
        """Send GET `path` to all other workers in parallel, and return their responses by URL, sorted.

        None: no response in time, see `request`.
        """
        others = self.list_others()
        return dict(zip(others, await asyncio.gather(*(self.request(url, path) for url in others)), strict=True))


def worker_name(url: URL) -> str:
    """Return the name of a worker on pages and in logs: host and port."""
    return f"{url.host}:{url.port}"
