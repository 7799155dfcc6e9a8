"""The command `python -m streams verify`, which compares the published alerts with the alerts that the log implies.

Two sets of alert ids are compared: the ids that a replay computes, and the ids on alerts.raised.v1. An alert in only
one of the sets is a difference, unless the log cannot show (any more, or ever) which set is right: each such reason is
a member of `streams.replay.exemptions.Exemption`.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer
from google.protobuf.message import DecodeError

from domain.windows import instant
from streams.errors import LogUnreadableError
from streams.replay.exemptions import (
    ComparedAlert,
    Exemption,
    ExemptionFinder,
    build_compared_alert,
    decode_compared_alert,
)
from streams.replay.log import (
    INPUTS,
    PARTITION_NUMBERS,
    OffsetRanges,
    Offsets,
    PartitionReplay,
    fetch_committed_offsets,
    fetch_offset_ranges,
    list_input_partitions,
    list_partitions,
    open_admin_client,
    open_consumer,
    read_records,
    require_topics,
)
from streams.replay.replay import ReplayCounts, build_group_name, is_replay_complete
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, Topic

WORKERS_GROUP: Final = "streams"
"""Consumer group of the stream's workers: the alerts of the events that it acknowledged must be on the topic."""
MAX_CLOCK_SKEW_MS: Final = 60_000
"""Largest difference between the clocks of the services that publish."""
MAX_SHOWN_DIFFERENCES: Final = 10
"""Number of differences that are shown one by one."""


@dataclass(frozen=True, slots=True)
class Difference:
    """An alert that only one side has, without an exemption."""

    kind: str
    """`missing`: computed and not raised; `extra`: raised and not computed."""
    alert: ComparedAlert

    def as_json(self) -> dict[str, object]:
        """Return the difference as a JSON object, without the user and the thresholds."""
        alert = self.alert
        return {
            "kind": self.kind,
            "alert_id": str(alert.alert_id),
            "interest_id": str(alert.interest_id),
            "version": alert.version,
            "airport": alert.airport,
            "direction": alert.direction.value,
            "window": alert.window.value,
            "window_start": f"{instant(alert.window_start):%Y-%m-%dT%H:%MZ}",
            "bound": alert.bound.value,
            "state": alert.state.value,
        }


@dataclass(slots=True)
class Comparison:
    """The result of a comparison, as numbers, differences and exemptions. Numbers of alerts count distinct ids.

    Its text is what `verify` prints; `as_json` is the same for programs.
    """

    counts: ReplayCounts
    against: str | None
    """Output topic of an earlier replay. None: the alerts were computed for this comparison."""
    computed: int
    raised: int
    same: int
    duplicates: int
    """Records of alerts.raised.v1 whose id came before; a crash may cause them, and they cause no mail."""
    differences: list[Difference] = field(default_factory=list)
    """Sorted by airport, then window."""
    not_comparable: Counter[Exemption] = field(default_factory=Counter)

    @property
    def is_equal(self) -> bool:
        """True if there are no differences; exempted alerts do not count."""
        return not self.differences

    def count_differences(self, kind: str) -> int:
        """Return the number of differences of a kind: `missing` or `extra`."""
        return sum(difference.kind == kind for difference in self.differences)

    def as_json(self) -> dict[str, object]:
        """Return the comparison as a JSON object: all numbers, and the first `MAX_SHOWN_DIFFERENCES` differences.

        Each exemption has its number under its lower-case name, also 0.
        """
        return {
            "equal": self.is_equal,
            "against": self.against,
            "events": self.counts.events,
            "computed": self.computed,
            "raised": self.raised,
            "same": self.same,
            "repeats": self.duplicates,
            "missing": self.count_differences("missing"),
            "extra": self.count_differences("extra"),
            "not_comparable": {exemption.name.lower(): self.not_comparable[exemption] for exemption in Exemption},
            "differences": [each.as_json() for each in self.differences[:MAX_SHOWN_DIFFERENCES]],
        }

    def __str__(self) -> str:
        """Return a table of the numbers and the exemptions, the first differences, and the verdict, in lines."""
        rows = [
            ("computed", self.computed, f"on {self.against}" if self.against else "from the log"),
            ("raised", self.raised, f"on {ALERTS_RAISED.name}"),
            ("the same", self.same, ""),
            ("missing", self.count_differences("missing"), "computed, and not raised"),
            ("extra", self.count_differences("extra"), "raised, and not computed"),
            ("repeated", self.duplicates, "the same alert once more: allowed, and known by its id"),
            ("not comparable", self.not_comparable.total(), "only on one side, and the log cannot tell which is right"),
        ]
        lines = [str(self.counts), "", *(f"  {name:<16}{number:>12,}  {note}".rstrip() for name, number, note in rows)]
        lines += [
            f"  {'':<16}{number:>12,}    {exemption}" for exemption, number in sorted(self.not_comparable.items())
        ]
        if self.differences:
            lines += ["", f"The first of {len(self.differences):,} differences:"]
        for each in self.differences[:MAX_SHOWN_DIFFERENCES]:
            shown = each.as_json()
            lines.append(
                f"  {shown['kind']:<8}{shown['airport']} {shown['direction']} in {shown['window']} "
                f"from {shown['window_start']}: {shown['bound']} {shown['state']}; "
                f"alert {shown['alert_id']}, interest {shown['interest_id']} version {shown['version']}"
            )
        limitation = " as far as it can be compared" if self.not_comparable else ""
        lines += ["", f"equal{limitation}" if self.is_equal else "DIFFERENT"]
        return "\n".join(lines)


@dataclass(slots=True)
class _AlertsTopic:
    """The alerts that were read from one topic, without duplicates, and how far back its partitions reach."""

    values_by_id: dict[UUID, bytes]
    """By alert id, the value of the first record."""
    duplicates: int
    oldest_ms: dict[int, float]
    """By partition whose beginning was deleted, the time of its oldest record (ms since 1970; infinite: no record)."""


@dataclass(slots=True)
class _ComputedAlerts:
    """The alerts that a fold of the log computes: their ids, and what is needed of the alerts that were not raised."""

    ids: set[UUID] = field(default_factory=set)
    """Ids of all alerts."""
    not_raised: dict[UUID, ComparedAlert] = field(default_factory=dict)
    """Alerts that are not on alerts.raised.v1."""
    pending: set[UUID] = field(default_factory=set)
    """Ids of `not_raised` whose events the stream has not acknowledged yet."""
    after_replay: set[UUID] = field(default_factory=set)
    """Ids of alerts whose events came after the end of the earlier replay."""


async def compare(bootstrap_servers: str, against: Topic | None = None, group: str | None = None) -> Comparison:
    """Compare the alerts that a replay computes with the alerts on alerts.raised.v1; the stream may run meanwhile.

    `against`: output topic of an earlier replay, whose alerts are compared instead, with `group` as its consumer group
    (default: the replay's default); the log is folded also then, to find exemptions. Changes nothing on the broker.
    Raises LogUnreadableError (also for a replay that is not complete, and for a log without interests),
    BrokerUnreachableError or KafkaError.
    """
    async with open_admin_client(bootstrap_servers) as admin:
        await require_topics(admin, [*INPUTS, ALERTS_RAISED, *([against] if against else [])])
        replayed: Offsets = (
            await fetch_committed_offsets(admin, group or build_group_name(against.name)) if against else {}
        )
        if against and not is_replay_complete(replayed):
            raise LogUnreadableError(
                f"the replay to {against.name} was interrupted, still runs, or had another group: "
                "make a new one to another topic, or name its group by --group"
            )
        # Read in this order: an acknowledged event has its alerts on the topic already, an alert its events in the log.
        acknowledged = await fetch_committed_offsets(admin, WORKERS_GROUP)
    async with open_consumer(bootstrap_servers) as consumer:
        raised = await _read_alerts(consumer, ALERTS_RAISED)
        within = await fetch_offset_ranges(consumer, list_partitions(*INPUTS))
        exemptions = ExemptionFinder(
            each.partition for each in list_partitions(FLIGHTS_OBSERVED) if within.begins[each] > 0
        )
        counts = ReplayCounts()
        computed = await _compute_alerts(consumer, within, exemptions, raised, acknowledged, replayed, counts)
        if not exemptions.has_interests:
            raise LogUnreadableError(
                "the log has no interest, so there is nothing to compare: if people have set some, Kafka has lost "
                "them, and the collector publishes them again (its metric interests_out_of_step is 0 when it has)"
            )
        reference = await _read_alerts(consumer, against) if against else None
    return _compare_alerts(computed, reference, raised, exemptions, counts, against.name if against else None)


async def _read_alerts(consumer: AIOKafkaConsumer, topic: Topic) -> _AlertsTopic:
    """Read all alerts of a topic as of now: keep the first value of each id, and count the later duplicates.

    The partitions are read one after the other. Raises LogUnreadableError for a record that is not an alert.
    """
    ranges = await fetch_offset_ranges(consumer, list_partitions(topic))
    oldest_ms = {each.partition: float("inf") for each in list_partitions(topic) if ranges.begins[each] > 0}
    found = _AlertsTopic({}, 0, oldest_ms)
    for partition in list_partitions(topic):
        async for record in read_records(consumer, [partition], ranges):
            try:
                alert_id = decode_compared_alert(record.value).alert_id
            except (DecodeError, ValueError, KeyError, TypeError):
                place = f"{record.topic}, partition {record.partition}, offset {record.offset}"
                raise LogUnreadableError(f"{place}: this is no alert") from None
            if alert_id in found.values_by_id:
                found.duplicates += 1
            else:
                found.values_by_id[alert_id] = record.value
            if record.partition in oldest_ms:
                oldest_ms[record.partition] = min(oldest_ms[record.partition], record.timestamp)
    return found


async def _compute_alerts(
    consumer: AIOKafkaConsumer,
    within: OffsetRanges,
    exemptions: ExemptionFinder,
    raised: _AlertsTopic,
    acknowledged: Offsets,
    replayed: Offsets,
    counts: ReplayCounts,
) -> _ComputedAlerts:
    """Fold the log within its offset ranges and compute its alerts; add its events to `exemptions` and `counts`.

    The partitions are folded one after the other, each from an empty state. Only alerts that are not in `raised` are
    kept whole. `counts.alerts` is not changed.
    An alert counts as pending (or as after the replay) if its event, or any event folded before it in the same
    partition, lies beyond the acknowledged (or replayed) offsets: the alert may follow from that event too.
    """
    computed = _ComputedAlerts()
    for number in PARTITION_NUMBERS:
        partition_replay = PartitionReplay()
        inputs = {each.topic: each for each in list_input_partitions(number)}
        is_acknowledged = is_replayed = True
        async for record in read_records(consumer, inputs.values(), within):
            partition = inputs[record.topic]
            is_acknowledged &= record.offset < acknowledged.get(partition, 0)
            is_replayed &= record.offset < replayed.get(partition, 0)
            event = partition_replay.fold_event(record)
            for alert in partition_replay.build_alerts(event):
                if alert.alert_id in computed.ids:
                    continue
                computed.ids.add(alert.alert_id)
                if not is_replayed:
                    computed.after_replay.add(alert.alert_id)
                if alert.alert_id not in raised.values_by_id:
                    computed.not_raised[alert.alert_id] = build_compared_alert(alert, record.timestamp)
                    if not is_acknowledged:
                        computed.pending.add(alert.alert_id)
            partition_replay.write_result(event)
            exemptions.add_event(event)
            counts.add_event(event)
    return computed


def _compare_alerts(
    computed: _ComputedAlerts,
    reference: _AlertsTopic | None,
    raised: _AlertsTopic,
    exemptions: ExemptionFinder,
    counts: ReplayCounts,
    against: str | None,
) -> Comparison:
    """Compare the raised alerts with the expected alerts: those of `reference`, or without it the computed alerts.

    A missing alert is exempted as PENDING first, then as ALERT_GONE if its event is older than the oldest record of a
    truncated partition (or less than `MAX_CLOCK_SKEW_MS` newer), then by `exemptions`. An extra alert is exempted as
    AFTER_REPLAY first (only with `reference`), then by `exemptions`. Differences are sorted.
    """
    expected = computed.ids if reference is None else reference.values_by_id.keys()
    found = Comparison(
        counts,
        against,
        computed=len(expected),
        raised=len(raised.values_by_id),
        same=len(expected & raised.values_by_id.keys()),
        duplicates=raised.duplicates,
    )
    for alert_id in expected - raised.values_by_id.keys():
        if reference is None:
            alert = computed.not_raised[alert_id]
        else:
            alert = decode_compared_alert(reference.values_by_id[alert_id])
        exemption = exemptions.find_exemption(alert)
        if alert_id in computed.pending:
            exemption = Exemption.PENDING
        elif alert.cause_ms < raised.oldest_ms.get(alert.partition, 0.0) + MAX_CLOCK_SKEW_MS:
            exemption = Exemption.ALERT_GONE
        _add_unmatched_alert(found, "missing", alert, exemption)
    for alert_id in raised.values_by_id.keys() - expected:
        alert = decode_compared_alert(raised.values_by_id[alert_id])
        is_after_replay = reference is not None and alert_id in computed.after_replay
        exemption = Exemption.AFTER_REPLAY if is_after_replay else exemptions.find_exemption(alert)
        _add_unmatched_alert(found, "extra", alert, exemption)
    found.differences.sort(key=lambda each: (each.alert.airport, each.alert.window_start, each.alert.alert_id))
    return found


def _add_unmatched_alert(found: Comparison, kind: str, alert: ComparedAlert, exemption: Exemption | None) -> None:
    """Add an alert that only one side has to the differences, or with an exemption only count the exemption."""
    if exemption is None:
        found.differences.append(Difference(kind, alert))
    else:
        found.not_comparable[exemption] += 1
