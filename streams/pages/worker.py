"""A worker's own state: its partitions, tables, agents, recovery and event loop; and the graph of what it processes."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import faust
from faust.types import TP
from pydantic import TypeAdapter

from chassis.faust.app import is_ready
from streams.pages.pulse import LoopLag, WorkerSampler
from streams.routing import Workers, worker_name
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RAISED, JOIN_PARTITIONS


@dataclass(frozen=True, slots=True)
class MemberShown:
    """A worker of the group and its partitions, as of the last rebalance."""

    name: str
    partitions: tuple[int, ...]
    """Numbers of the partitions of airports that the worker owns."""


@dataclass(frozen=True, slots=True)
class TableShown:
    """One table of a worker on its page: its number of entries, its writes, and its changelog."""

    name: str
    says: str
    """Description of the table's entries."""
    entries: int | None
    """Number of entries in this worker's store, an estimate with RocksDB. None: the store reports no number."""
    is_estimate: bool
    writes: int
    """Number of writes since the worker's start."""
    writes_rate: float
    """Writes per second."""
    changelog: str
    """Name of the topic from which the table is recovered."""


@dataclass(frozen=True, slots=True)
class AgentShown:
    """One agent of a worker: its topics, its number of events since the start, and its events per second."""

    name: str
    topics: tuple[str, ...]
    events: int
    """Number of events since the worker's start."""
    events_rate: float
    """Events per second."""


@dataclass(frozen=True, slots=True)
class TopicShown:
    """A topic that the worker reads or writes, with its messages, their rate and the backlog."""

    name: str
    messages: int
    """Number of messages since the worker's start."""
    messages_rate: float
    """Messages per second."""
    backlog: int | None
    """Number of messages in this worker's partitions that it has not acknowledged yet. None: a topic that it writes."""


@dataclass(frozen=True, slots=True)
class RecoveryShown:
    """The progress of the present recovery of the tables from their changelogs, or the duration of the last one."""

    is_recovering: bool
    remaining: int
    """Number of changelog records still to be read."""
    last_s: float | None
    """Seconds that the last recovery took, or the present one has taken so far. None: no recovery yet."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """The state of one worker: all that its page /stats and its graph show, and its JSON."""

    name: str
    at: datetime
    """Time of the state, by the stack's clock."""
    uptime_s: float
    state: str
    """One of: ready, recovering, rebalancing, starting, stopping."""
    partitions: tuple[int, ...]
    """Numbers of the partitions of airports that this worker owns."""
    all_partitions: int
    """Number of the partitions of airports, of all workers together."""
    members: tuple[MemberShown, ...]
    tables: tuple[TableShown, ...]
    agents: tuple[AgentShown, ...]
    inputs: tuple[TopicShown, ...]
    outputs: tuple[TopicShown, ...]
    recovery: RecoveryShown
    rebalances: int
    """Number of rebalances since the worker's start."""
    loop_lag: LoopLag | None
    """None: no sample yet."""
    store: str
    """RocksDB or memory."""


STATE_ADAPTER: Final = TypeAdapter(WorkerState)
"""JSON encoder of a worker's state."""


@dataclass(frozen=True, slots=True)
class ProcessingGraph:
    """The processing graph of a worker, with numbers: input topics, agents, tables, output topics."""

    worker: str
    at: datetime
    agents: tuple[AgentShown, ...]
    inputs: tuple[TopicShown, ...]
    tables: tuple[TableShown, ...]
    outputs: tuple[TopicShown, ...]


GRAPH_ADAPTER: Final = TypeAdapter(ProcessingGraph)
"""JSON encoder of a worker's processing graph."""

_OUTPUTS: Final = (ALERTS_RAISED.name, ALERTS_DEAD_LETTER.name)


def read_monitor_counters(app: faust.App) -> dict[str, int]:
    """Return the counters of Faust's monitor, each cumulative since the worker's start, by name.

    The names are `in TOPIC` (messages received), `out TOPIC` (messages sent), `table NAME` (keys written) and `events`
    (events of all agents). `WorkerSampler` reads the counters each second and computes rates from them.
    """
    monitor = app.monitor
    counts = {f"in {topic}": count for topic, count in monitor.messages_received_by_topic.items()}
    counts |= {f"out {topic}": count for topic, count in monitor.messages_sent_by_topic.items()}
    counts |= {f"table {name}": table.keys_updated for name, table in monitor.tables.items()}
    counts["events"] = monitor.events_total
    return counts


def build_worker_state(app: faust.App, workers: Workers, sampler: WorkerSampler, now: datetime) -> WorkerState:
    """Build the present state of this worker from its app's monitor, its tables and the last assignment.

    Rates and the event loop's lag are those of `sampler`. Partitions are empty before the first assignment; members,
    tables, agents and inputs are sorted.
    """
    members = workers.list_partitions()
    return WorkerState(
        name=worker_name(workers.own_url),
        at=now,
        uptime_s=round(sampler.uptime_s, 1),
        state=_name_state(app),
        partitions=members.get(workers.own_url, ()),
        all_partitions=JOIN_PARTITIONS,
        members=tuple(MemberShown(worker_name(url), members[url]) for url in sorted(members, key=str)),
        tables=tuple(_summarize_table(app, name, table, sampler) for name, table in sorted(app.tables.items())),
        agents=tuple(_summarize_agent(app, name, agent, sampler) for name, agent in sorted(app.agents.items())),
        inputs=tuple(_summarize_input(app, topic, sampler) for topic in _list_input_topics(app)),
        outputs=tuple(_summarize_output(app, topic, sampler) for topic in _OUTPUTS),
        recovery=_summarize_recovery(app),
        rebalances=app.monitor.rebalances,
        loop_lag=sampler.compute_loop_lag(),
        store="RocksDB" if str(app.conf.store).startswith("rocksdb") else "memory",
    )


def build_graph(state: WorkerState) -> ProcessingGraph:
    """Build the processing graph of a worker from its state: the state's agents, topics and tables, and no more."""
    return ProcessingGraph(state.name, state.at, state.agents, state.inputs, state.tables, state.outputs)


def _name_state(app: faust.App) -> str:
    """Return the name of the app's present state, as `WorkerState.state` lists them.

    Of several that apply, the first of: stopping, ready, recovering, rebalancing, starting.
    """
    if app.should_stop:
        return "stopping"
    if is_ready(app):
        return "ready"
    if app.in_recovery:
        return "recovering"
    return "rebalancing" if app.rebalancing else "starting"


def _list_input_topics(app: faust.App) -> tuple[str, ...]:
    """Return the names of the topics that any agent reads, sorted."""
    return tuple(sorted({topic for agent in app.agents.values() for topic in _list_topics(agent)}))


def _list_topics(agent: Any) -> tuple[str, ...]:
    return tuple(sorted(agent.channel.topics))


def _summarize_table(app: faust.App, name: str, table: Any, sampler: WorkerSampler) -> TableShown:
    """Summarize one table: its entries, its writes since the start and their rate, and its changelog.

    Writes are 0 for a table that the monitor has not seen written yet.
    """
    entries, is_estimate = _count_entries(table)
    monitored = app.monitor.tables.get(name)
    return TableShown(
        name=name,
        says=table.help,
        entries=entries,
        is_estimate=is_estimate,
        writes=monitored.keys_updated if monitored else 0,
        writes_rate=round(sampler.compute_rate(f"table {name}"), 2),
        changelog=table.changelog_topic.get_topic_name(),
    )


def _count_entries(table: Any) -> tuple[int | None, bool]:
    """Return the number of entries in a table's store, and True if the store gives an estimate, as RocksDB does.

    A table in memory is counted exactly (False). RocksDB would have to read all entries to count them: its estimates
    are added over the open partitions. The number is None while a rebalance closes the store.
    """
    databases: Mapping[int, Any] | None = getattr(table.data, "_dbs", None)
    if databases is None:
        return len(table.data), False
    with suppress(Exception):  # a database that a rebalance closes meanwhile raises any error; there is no number then
        return sum(db.property_int_value("rocksdb.estimate-num-keys") or 0 for db in list(databases.values())), True
    return None, True


def _summarize_agent(app: faust.App, name: str, agent: Any, sampler: WorkerSampler) -> AgentShown:
    """Summarize one agent: the last part of its name, its topics and its events.

    Its events are those of the app, which has one agent.
    """
    return AgentShown(
        name=name.rpartition(".")[2],
        topics=_list_topics(agent),
        events=app.monitor.events_total,
        events_rate=round(sampler.compute_rate("events"), 2),
    )


def _summarize_input(app: faust.App, topic: str, sampler: WorkerSampler) -> TopicShown:
    """Summarize a topic that the worker reads: its messages received, their rate, and the worker's backlog.

    The backlog is that of the partitions that are assigned to this worker at present.
    """
    monitor = app.monitor
    own = [tp for tp in app.assignor.assigned_actives() if tp.topic == topic]
    return TopicShown(
        name=topic,
        messages=monitor.messages_received_by_topic[topic],
        messages_rate=round(sampler.compute_rate(f"in {topic}"), 2),
        backlog=_compute_backlog(own, monitor.tp_end_offsets, monitor.tp_committed_offsets),
    )


def _compute_backlog(own: Iterable[TP], ends: Mapping[TP, int], committed: Mapping[TP, int]) -> int:
    """Return the number of messages between the committed offsets and the ends of the worker's partitions.

    Partitions whose end is unknown to the consumer, or without a committed offset, count 0.
    """
    return sum(max(ends[tp] - committed.get(tp, ends[tp]), 0) for tp in own if tp in ends)


def _summarize_output(app: faust.App, topic: str, sampler: WorkerSampler) -> TopicShown:
    """Summarize a topic that the worker writes: its messages sent and their rate; its backlog is None."""
    sent: Counter[str] = app.monitor.messages_sent_by_topic
    return TopicShown(topic, sent[topic], round(sampler.compute_rate(f"out {topic}"), 2), None)


def _summarize_recovery(app: faust.App) -> RecoveryShown:
    """Summarize the recovery of the tables: the progress of the present one, or the duration of the last one.

    During a recovery, `last_s` is the time since its begin and `remaining` counts the records still to be read; after
    it, `remaining` is 0. `last_s` is None before the first recovery.
    """
    recovery: Any = app.tables.recovery  # type: ignore[attr-defined]  # not in the interface
    began, ended = recovery._recovery_started_at, recovery._recovery_ended_at  # Faust has no public name for them
    if app.in_recovery:
        last = None if began is None else time.monotonic() - began
    else:
        last = ended - began if began is not None and ended is not None and ended >= began else None
    return RecoveryShown(
        is_recovering=bool(app.in_recovery),
        remaining=max(recovery.active_remaining_total(), 0) if app.in_recovery else 0,
        last_s=None if last is None else round(last, 2),
    )
