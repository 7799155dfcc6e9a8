"""The Faust app of the stream: wires its tables, its agent and its pages."""

from collections.abc import Awaitable

import faust

from chassis.faust.app import (
    crash_worker,
    create_stream_app,
    is_from_current_assignment,
    is_partition_assigned,
    send_record,
    serve_health_and_metrics,
)
from chassis.faust.table import add_table
from chassis.grpc_secret import split_secrets
from chassis.metrics import Metrics, ServiceIdentity
from domain.interests import Direction
from domain.windows import instant
from streams.agents import Join
from streams.join_state import JoinState
from streams.metrics import StreamMetrics
from streams.pages import serve_pages
from streams.recent_activity import RecentActivity
from streams.settings import JoinSettings
from streams.source_client import SourceClient
from streams.tables import SequencedTable, Tables
from towerwatch.topics import (
    ALERTS_DEAD_LETTER,
    ALERTS_RAISED,
    COMPACTED,
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    JOIN_PARTITIONS,
    partition_of,
)

SERVICE = "streams"


def create_app(settings: JoinSettings) -> faust.App:
    """Create the app, ready to be run by a worker: its tables, its agent, its metrics and its pages.

    Opens no connection. The join state discards its indexes with each rebalance and each recovery of a table.
    """
    metrics = Metrics(ServiceIdentity(SERVICE, settings.k8s_node_name))
    clock = settings.build_clock()
    app = create_stream_app(SERVICE, settings, JOIN_PARTITIONS)
    tables = Tables(
        airports=_add_table(app, "airports", "One airport's traffic, by ICAO code"),
        interests=_add_table(app, "interests", "One interest, by airport/interest_id"),
        history=_add_table(app, "history", "The flights of a closed day, by airport/direction/day"),
    )
    join_state = JoinState(tables.airports, tables.interests, tables.history, settings.history_days)
    _discard_indexes_on_rebalance(app, join_state, tables)
    activity = RecentActivity(clock)
    stream_metrics = StreamMetrics(metrics)

    async def send_alert(key: bytes, value: bytes, partition: int) -> Awaitable[object]:
        return await send_record(app, ALERTS_RAISED.name, key, value, partition)

    join = Join(
        join_state,
        tables,
        send_alert,
        dead_letter_topic=app.topic(ALERTS_DEAD_LETTER.name, value_serializer="raw"),
        metrics=stream_metrics,
        activity=activity,
        is_still_owned=lambda event: is_from_current_assignment(app, event),
        crash_worker=lambda error: crash_worker(app, error),
    )
    inputs = app.topic(FLIGHTS_OBSERVED.name, INTERESTS_CHANGED.name, value_serializer="raw")
    app.agent(inputs, name="join")(join.run)

    def lag_s(direction: Direction) -> float:
        """Return the seconds from the oldest watermark to now; 0 without a watermark."""
        watermark = join_state.find_oldest_watermark(direction)
        return 0.0 if watermark is None else (clock.now() - instant(watermark)).total_seconds()

    stream_metrics.add_lag_gauge(lag_s)
    serve_health_and_metrics(app, metrics)

    def is_owned(airport: str) -> bool:
        return is_partition_assigned(app, FLIGHTS_OBSERVED, partition_of(airport, FLIGHTS_OBSERVED))

    sources = SourceClient(settings.collector_grpc_target, split_secrets(settings.grpc_secret))
    _close_at_shutdown(app, sources)
    serve_pages(app, join_state, tables.airports, is_owned, activity, clock, sources)
    return app


def _close_at_shutdown(app: faust.App, sources: SourceClient) -> None:
    """Make the app close the client of the sources before it stops."""

    async def close(*_args: object, **_kwargs: object) -> None:
        await sources.close()

    app.on_before_shutdown.connect(close, weak=False)


def _add_table(app: faust.App, name: str, help_text: str) -> SequencedTable:
    """Add to the app a new table, safe against late writes, with as many partitions as the input topics; return it."""
    return add_table(app, SequencedTable, name, JOIN_PARTITIONS, help_text, extra_topic_configs=COMPACTED)


def _discard_indexes_on_rebalance(app: faust.App, join_state: JoinState, tables: Tables) -> None:
    """Make the join state discard its indexes when partitions are revoked or assigned, or a table is recovered."""

    async def discard(*_args: object, **_kwargs: object) -> None:
        join_state.discard_indexes()

    app.on_partitions_revoked.connect(discard, weak=False)
    app.on_partitions_assigned.connect(discard, weak=False)
    for table in (tables.airports, tables.interests, tables.history):
        table.on_recover(discard)
