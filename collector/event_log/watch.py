"""The periodic check that the log is still the one that was published to, and that the stream has the interests."""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog
from aiokafka.errors import KafkaError
from sqlalchemy.exc import IntegrityError

from chassis.db.database import Database
from chassis.errors import ChassisError
from chassis.kafka import ensure_topics_without_timeout
from chassis.log_identity import LogClients, LogIdentity
from chassis.metrics import Metrics
from collector.event_log.comparison import (
    InterestDifference,
    find_differences,
    load_interests,
    read_stream_interests,
    repair,
)
from collector.event_log.readers import has_notifier_read_everything, has_stream_read_everything
from collector.event_log.republication import republish
from collector.event_log.told import Snapshot, mark_told, take_snapshot
from collector.model import OUTBOX, EventLogRow
from domain.interests import Interest
from towerwatch.topics import (
    ALERTS_RAISED,
    ALERTS_RETRY,
    CATALOGUE,
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    INTERESTS_CHANGELOG,
    STREAM_CHANGELOGS,
)

log = structlog.get_logger()

_ROW_ID: Final = 1
_WATCHED: Final = frozenset(
    [*(topic.name for topic in (FLIGHTS_OBSERVED, INTERESTS_CHANGED, ALERTS_RAISED, ALERTS_RETRY)), *STREAM_CHANGELOGS]
)
"""Topics whose loss makes it necessary to publish again: the stream's inputs, its tables, and alerts not mailed yet."""
_ALL: Final = frozenset(topic.name for topic in CATALOGUE)

_CONFIRM_AFTER_S: Final = 2.0
"""Seconds after which a loss must be found once more."""
_REPUBLISHING_PAUSE_S: Final = 1.0
"""Seconds between checks while the stream reads what was told."""
_COMPARE_EVERY_CHECKS: Final = 10
"""Checks from one comparison of the interests to the next."""


class EventLogWatch:
    """The periodic check of the log, on every replica: notes what the log is, and publishes again when it was lost.

    Also notes what was told, and compares the interests with those of the stream. Each decision is made under the lock
    of one row, so that one replica makes it.
    """

    def __init__(
        self, database: Database, bootstrap_servers: str, replication_factor: int, every_s: float, metrics: Metrics
    ) -> None:
        """`every_s`: seconds from one check to the next; the interests are compared at every tenth."""
        self._database = database
        self._bootstrap_servers = bootstrap_servers
        self._replication_factor = replication_factor
        self._every_s = every_s
        self._clients = LogClients(bootstrap_servers)
        self._gate_clients = LogClients(bootstrap_servers)
        self._is_check_wanted = asyncio.Event()
        self._out_of_step = metrics.gauge(
            "interests_out_of_step", "Interests that the stream has not, or otherwise than the collector"
        ).labels()
        self._republishing = metrics.gauge(
            "log_republishing", "1 while a lost log is written anew from the database"
        ).labels()
        self._losses = metrics.counter("log_losses_total", "Times that the log was found to be lost").labels()

    async def run(self) -> None:
        """Check the log until cancelled: at once, then every `every_s` seconds, or when the relay finds another log.

        While the broker or the database is unavailable the check is made again later, with a line in the log.
        """
        try:
            while True:
                pause = self._every_s
                try:
                    if await self._check():
                        pause = min(pause, _REPUBLISHING_PAUSE_S)
                except (KafkaError, OSError, ChassisError) as error:
                    log.warning("event_log.not_checked", error=type(error).__name__)
                self._is_check_wanted.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._is_check_wanted.wait()
        finally:
            await self._clients.close()
            await self._gate_clients.close()

    async def is_known(self) -> bool:
        """Return True if the log is the one that is noted, False if it is another, is incomplete, or none is noted yet.

        After False a check is made soon. Raises KafkaError, OSError or DatabaseUnavailableError.
        """
        identity = await self._gate_clients.fetch_identity(_ALL | _WATCHED)
        before = await asyncio.to_thread(self._load_identity)
        if before is not None and before.find_loss(identity) is None and identity.topics.keys() >= _ALL:
            return True
        await self._gate_clients.close()
        self._is_check_wanted.set()
        return False

    async def _check(self) -> bool:
        """Check the log once; return True while it is being written anew, else False.

        Creates missing topics. Raises KafkaError, OSError or ChassisError.
        """
        identity = await self._clients.fetch_identity(_ALL)
        if not identity.topics.keys() >= _ALL:
            await self._clients.close()
            await ensure_topics_without_timeout(self._bootstrap_servers, CATALOGUE, self._replication_factor)
        before, identity = await self._fetch_confirmed_identity()
        try:
            is_republishing = await asyncio.to_thread(self._note_identity, before, identity)
        except IntegrityError:
            return False  # another replica has just made the first note; the next check reads it
        if is_republishing and await self._has_read_what_was_told():
            await asyncio.to_thread(self._publish_what_was_not_told)
            is_republishing = False
        self._republishing.set(is_republishing)
        if not is_republishing:
            await self._compare_with_readers(identity)
        return is_republishing

    async def _fetch_confirmed_identity(self) -> tuple[LogIdentity | None, LogIdentity]:
        """Load what was noted (None: nothing), then fetch what the log is; return both.

        Does both again after a while if the log seems to be another one: a broker that has just become the leader of a
        partition, or has just started, may not know everything yet. Raises KafkaError, OSError or
        DatabaseUnavailableError.
        """
        before = await asyncio.to_thread(self._load_identity)
        identity = await self._clients.fetch_identity_with_ends(_WATCHED)
        if before is not None and before.find_loss(identity) is not None:
            await asyncio.sleep(_CONFIRM_AFTER_S)
            before = await asyncio.to_thread(self._load_identity)
            identity = await self._clients.fetch_identity_with_ends(_WATCHED)
        return before, identity

    def _load_identity(self) -> LogIdentity | None:
        """Load what the log is noted to be; None: nothing is noted yet. Raises DatabaseUnavailableError."""
        with self._database.reading() as session:
            row = session.get(EventLogRow, _ROW_ID)
            return None if row is None else _decode_identity(row)

    def _note_identity(self, before: LogIdentity | None, identity: LogIdentity) -> bool:
        """Note what the log is, and how far it reaches; if it is not what was noted, add everything to the outbox.

        `before`: what was noted when `identity` began to be fetched. If another replica has noted something since,
        nothing is concluded from an `identity` that may be older: compared with what a newer one showed, a log that
        has only grown would seem to have lost its end. The next check decides.

        Return True while the log is being written anew. Raises DatabaseUnavailableError, ContendedError, and
        IntegrityError if another replica makes the very first note at the same time.
        """
        with self._database.reading() as session:
            row = session.get(EventLogRow, _ROW_ID)
            if row is not None and _decode_identity(row).merge(identity) == _decode_identity(row):
                return row.republishing
        with self._database.transaction() as session:
            row = session.get(EventLogRow, _ROW_ID, with_for_update=True)
            if row is None:
                row = EventLogRow(id=_ROW_ID, republishing=False, told_flight_id=0, compared_at=0.0, out_of_step=0)
                _encode_identity(row, identity)
                session.add(row)
                return False
            noted = _decode_identity(row)
            if noted != before:
                return row.republishing
            reason = noted.find_loss(identity)
            if reason is None:
                _encode_identity(row, noted.merge(identity))
                return row.republishing
            republish(session, row.told_flight_id)
            # A topic that is missing now has another id later, which is another loss. In a new cluster all are new.
            known = noted.topics if noted.cluster == identity.cluster else {}
            _encode_identity(row, LogIdentity(identity.cluster, {**known, **identity.topics}, identity.ends))
            row.republishing = True
        self._losses.inc()
        log.error("event_log.lost", reason=reason, done="publishing everything again")
        return True

    async def _has_read_what_was_told(self) -> bool:
        """Return True if what was told is published, and the stream has read it. Raises KafkaError, OSError."""

        return await asyncio.to_thread(self._is_told_part_published) and await has_stream_read_everything(self._clients)

    def _is_told_part_published(self) -> bool:
        """Return True if the relay has published everything up to the barrier. Raises DatabaseUnavailableError."""
        with self._database.reading() as session:
            return OUTBOX.is_at_barrier(session) or OUTBOX.count_unpublished(session) == 0

    def _publish_what_was_not_told(self) -> None:
        """Remove the barrier, so that what was not told is published. Raises DatabaseUnavailableError."""
        with self._database.transaction() as session:
            row = session.get(EventLogRow, _ROW_ID, with_for_update=True)
            if row is None or not row.republishing:
                return  # another replica has done it
            OUTBOX.remove_barriers(session)
            row.republishing = False
        log.info("event_log.written_anew")

    async def _compare_with_readers(self, identity: LogIdentity) -> None:
        """Compare the interests with the stream's if that is due, and note what was told; `identity`: of this check.

        Does nothing while something is not published yet, or the stream has not read it. Raises KafkaError, OSError or
        ChassisError.
        """
        state = await asyncio.to_thread(self._load_database_state)
        if state.snapshot is None or not await has_stream_read_everything(self._clients):
            return
        if state.interests is not None and INTERESTS_CHANGELOG in identity.topics:
            known = await read_stream_interests(self._bootstrap_servers)
            differences = find_differences(state.interests, known)
            if await asyncio.to_thread(self._note_comparison, differences):
                return
        if not await has_notifier_read_everything(self._clients):
            return
        # A log that was lost since the check has nothing that anybody has to read.
        if identity.find_loss(await self._clients.fetch_identity_with_ends(_WATCHED)) is None:
            await asyncio.to_thread(self._note_told, state.snapshot)

    def _load_database_state(self) -> "_DatabaseState":
        """Load what is to be noted as told, and the interests if their comparison is due; set the gauge of the last.

        Raises DatabaseUnavailableError.
        """
        with self._database.reading() as session:
            row = session.get(EventLogRow, _ROW_ID)
            self._out_of_step.set(row.out_of_step if row is not None else 0)
            is_due = row is not None and self._is_comparison_due(row)
            interests = load_interests(session) if is_due else None
            return _DatabaseState(
                take_snapshot(session), interests
            )  # the snapshot is taken last: it looks at the outbox

    def _is_comparison_due(self, row: EventLogRow) -> bool:
        """Return True if the last comparison began long enough ago, or at a time that has not come yet."""
        return not 0 <= time.time() - row.compared_at < self._every_s * _COMPARE_EVERY_CHECKS

    def _note_comparison(self, differences: list[InterestDifference]) -> bool:
        """Note a comparison's result and repair its differences, unless another replica has just done it.

        An interest that was changed since the comparison began is not out of step: its own event is in the outbox.
        Return True if there are differences. Raises DatabaseUnavailableError, ContendedError.
        """
        with self._database.transaction() as session:
            row = session.get(EventLogRow, _ROW_ID, with_for_update=True)
            if row is None or row.republishing or not self._is_comparison_due(row):
                return bool(differences)
            out_of_step = repair(session, differences)
            row.compared_at, row.out_of_step = time.time(), out_of_step
        self._out_of_step.set(out_of_step)
        if out_of_step:
            log.error("interests.out_of_step", interests=out_of_step)
        return bool(differences)

    def _note_told(self, snapshot: Snapshot) -> None:
        """Store that everything in the snapshot was told, unless the log is being written anew.

        Raises DatabaseUnavailableError, ContendedError.
        """
        with self._database.reading() as session:
            row = session.get(EventLogRow, _ROW_ID)
            if row is None or snapshot.is_noted(row):
                return
        with self._database.transaction() as session:
            row = session.get(EventLogRow, _ROW_ID, with_for_update=True)
            if row is not None and not row.republishing:
                mark_told(session, row, snapshot)


@dataclass(frozen=True, slots=True)
class _DatabaseState:
    """The state that one check reads from the database, in one transaction."""

    snapshot: Snapshot | None
    """The rows that are not noted as told. None: some of them may not be published yet."""
    interests: Mapping[bytes, Interest] | None
    """All interests, by key. None: their comparison is not due."""


def _decode_identity(row: EventLogRow) -> LogIdentity:
    """Return the identity of the log that a row holds."""
    return LogIdentity(row.cluster, json.loads(row.topics), json.loads(row.ends))


def _encode_identity(row: EventLogRow, identity: LogIdentity) -> None:
    """Store an identity of the log in a row."""
    row.cluster = identity.cluster
    row.topics, row.ends = json.dumps(dict(identity.topics)), json.dumps(dict(identity.ends))
