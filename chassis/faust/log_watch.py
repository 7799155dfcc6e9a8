"""The check that a Faust worker's log is still the same: a worker never goes on with tables of a lost log."""

from collections.abc import Callable
from typing import Final

import faust
import structlog
from aiokafka.errors import KafkaError
from mode import Service

from chassis.errors import ChassisError
from chassis.faust.settings import FAUST_LOG, StreamSettings
from chassis.log_identity import LogClients, LogIdentity

log = structlog.get_logger()

_CHECK_EVERY_S: Final = 5.0


class LogReplacedError(ChassisError):
    """The log is not the one that the worker began with: its tables and positions are of a log that is gone."""

    transient = True


class LogWatch(Service):
    """The service that crashes the worker when the log is another one than at its start, or a topic is missing.

    The supervisor starts the worker anew: it then creates the topics that are missing, and recovers its tables from
    what the log has. A consumer by itself would go on at its old positions, with its old tables, as if nothing had
    happened.
    """

    logger = FAUST_LOG

    def __init__(
        self, app: faust.App, settings: StreamSettings, load_identity: Callable[[], LogIdentity | None]
    ) -> None:
        """`load_identity` returns what the log was at the worker's start, None before that is known."""
        super().__init__()
        self._app = app
        self._clients = LogClients(settings.kafka_bootstrap_servers)
        self._load_identity = load_identity

    @Service.task
    async def _check_periodically(self) -> None:
        """Check the log every 5 s until the worker stops; crash the worker when two checks in a row find another log.

        A broker that does not answer is no other log. One check is not enough: a broker that has just started may not
        know all topics yet.
        """
        is_suspected = False
        try:
            while not self.should_stop:
                await self.sleep(_CHECK_EVERY_S)
                try:
                    reason = await self._find_loss()
                except (KafkaError, OSError):
                    continue
                if reason is not None and is_suspected:
                    log.error("worker.log_replaced", reason=reason)
                    await self._app.crash(LogReplacedError(f"the log was replaced: {reason}"))
                    return
                is_suspected = reason is not None
        finally:
            await self._clients.close()

    async def _find_loss(self) -> str | None:
        """Return why the log is another one than at the worker's start, in words; None if it is the same.

        Raises KafkaError or OSError if the broker does not answer.
        """
        before = self._load_identity()
        if before is None:
            return None
        now = await self._clients.fetch_identity(before.topics)
        missing = sorted(before.topics.keys() - now.topics.keys())
        if missing:
            await self._clients.close()  # the addresses of brokers may be other ones
            return f"the topic {missing[0]} is missing"
        return before.find_loss(now)
