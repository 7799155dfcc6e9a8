"""Computation of what an installation for a number of people needs, from measured costs. Pure.

What is assumed about people stands in `Assumptions`; each cost in `UnitCosts` is a figure that another benchmark
printed. The rest is arithmetic, mostly linear in the number of people.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

GIB: Final = 1 << 30
_OFFERED_CREDITS: Final = 4_000
"""Credits a day of one account at OpenSky, in each bucket (docs/adr/0013)."""
_CREDITS_A_DAY_OF_AN_AIRPORT: Final = 60
"""Credits of one day of one airport, in both directions, from the record of the night."""
_LIVE_WORLD_CREDITS: Final = 4 * 86_400 // 90
"""Credits a day of a poll of the whole world every 90 s: live collection costs no more, at any number of airports."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Assumptions about people, the world and the installation. None of them was measured: change one, and compare."""

    interests_each: float = 3.0
    airports_heard: int = 4_000
    """Airports in the world where enough is heard to watch them; popularity falls as 1/rank (Zipf)."""
    movements_a_day: int = 200_000
    """Take-offs and landings that OpenSky hears in a day, in the world."""
    alerts_each_week: float = 1.0
    """The middle one of the levels that the pages suggest gives one alert a week."""
    share_in_worst_quarter: float = 0.02
    """Part of all people who are alerted in the worst quarter of an hour: a storm over one region."""
    minutes_until_mailed: float = 15.0
    """Time within which the mails of that quarter of an hour are to be sent."""
    changes_each_month: float = 1.0
    visits_each_week: float = 1.0
    requests_a_visit: float = 6.0
    peak: float = 5.0
    """Requests per second at the busiest time, as a multiple of the mean."""
    retained_days: int = 45
    copies: int = 3
    """Copies of Kafka's log (its replication factor)."""
    worker_memory: int = 4 * GIB
    leader_s: float = 60.0
    """Seconds of processor time that the leader may need to order the next collections."""
    comparison_s: float = 300.0
    """Seconds between two comparisons of the interests: one must end before the next begins."""
    start_s: float = 600.0
    """Seconds within which a worker that has lost its disk should judge windows again."""


@dataclass(frozen=True, slots=True)
class UnitCosts:
    """Costs and rates on the machine on which the benchmarks ran. `…_per_s`: a rate; `…_s`: seconds of one of them."""

    folded_flights_per_s: float
    """Flights per second that one worker of the stream folds from Kafka, in batches of ten."""
    alerts_per_s: float
    """Alerts per second that one worker of the stream raises."""
    index_bytes: float
    """Bytes of memory of one interest in a worker of the stream, with its entry on disk."""
    recovery_s: float
    """Seconds in which one interest is read from the changelog into RocksDB and the index."""
    mails_per_s: float
    """Alerts per second that one worker of the notifier sends, each in a mail of its own."""
    user_row: float
    person_row: float
    interest_row: float
    """Bytes of a row, with its indexes."""
    interest_record: float
    alert_record: float
    flight_record: float
    """Bytes of a record in the log (of a flight: its share of a record of ten)."""
    order_s: float
    order_bytes: float
    """Processor seconds and bytes that each person adds to ordering the next collections."""
    comparison_s: float
    comparison_bytes: float
    """Processor seconds and bytes that each interest adds to the comparison with the stream's."""
    page_requests_per_s: float
    """Requests of pages per second that one replica of the collector answers."""
    changes_per_s: float
    """Changes of interests per second that one replica of the collector stores."""


@dataclass(frozen=True, slots=True)
class Needs:
    """The needs of an installation for a number of people: workers, partitions, memory, disk, credits."""

    people: int
    interests: float
    airports: float
    """Airports that somebody watches."""
    interests_in_top_airport: float
    """Interests in the most popular airport; one partition holds all of them."""
    stream_workers: int
    notifier_workers: int
    partitions: int
    """Partitions of the topics, a multiple of twelve: each worker has at least one."""
    collector_replicas: int
    index_gib: float
    """Memory of all workers of the stream for interests."""
    worst_burst_s: float
    """Seconds in which one worker raises the alerts of the most popular airport, if a fifth of its interests fire."""
    user_db_gib: float
    data_db_gib: float
    log_gib: float
    """Size of Kafka's log, with its copies."""
    order_s: float
    order_gib: float
    comparison_s: float
    comparison_gib: float
    credits: float
    """Credits a day for the record of all watched airports."""
    accounts: float
    """Number of accounts at OpenSky that have these credits."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The number of people from which a part must be built in another way, and how."""

    people: float
    what: str
    remedy: str


def compute_shares(airports: int) -> list[float]:
    """Return the share of all interests that each of so many airports has, the most popular first (1/rank)."""
    whole = sum(1 / rank for rank in range(1, airports + 1))
    return [1 / rank / whole for rank in range(1, airports + 1)]


def compute_needs(people: int, costs: UnitCosts, given: Assumptions) -> Needs:
    """Compute what an installation for `people` people needs. A number of workers is at least one."""
    interests = people * given.interests_each
    shares = compute_shares(given.airports_heard)
    airports = sum(1 - (1 - share) ** interests for share in shares)
    index = interests * costs.index_bytes
    alerted = people * given.share_in_worst_quarter
    flights_per_s = given.movements_a_day * given.peak / 86_400
    stream_workers = max(
        _round_up(index / given.worker_memory),
        _round_up(interests * costs.recovery_s / given.start_s),
        _round_up(flights_per_s / costs.folded_flights_per_s),
    )
    notifier_workers = _round_up(alerted / (given.minutes_until_mailed * 60) / costs.mails_per_s)
    busiest_requests_per_s = people * given.visits_each_week * given.requests_a_visit * given.peak / (7 * 86_400)
    busiest_changes_per_s = people * given.changes_each_month * given.peak / (30 * 86_400)
    alerts = people * given.alerts_each_week / 7 * given.retained_days
    flights = given.movements_a_day * given.retained_days
    log = (
        interests * costs.interest_record * 2  # the topic and the stream's changelog
        + alerts * costs.alert_record
        + flights * costs.flight_record
    ) * given.copies
    credits_a_day = airports * _CREDITS_A_DAY_OF_AN_AIRPORT
    return Needs(
        people=people,
        interests=interests,
        airports=airports,
        interests_in_top_airport=interests * shares[0],
        stream_workers=stream_workers,
        notifier_workers=notifier_workers,
        partitions=12 * _round_up(max(stream_workers, notifier_workers) / 12),
        collector_replicas=_round_up(
            busiest_requests_per_s / costs.page_requests_per_s + busiest_changes_per_s / costs.changes_per_s
        ),
        index_gib=index / GIB,
        worst_burst_s=interests * shares[0] / 5 / costs.alerts_per_s,
        user_db_gib=people * costs.user_row / GIB,
        data_db_gib=(people * costs.person_row + interests * costs.interest_row) / GIB,
        log_gib=log / GIB,
        order_s=people * costs.order_s,
        order_gib=people * costs.order_bytes / GIB,
        comparison_s=interests * costs.comparison_s,
        comparison_gib=interests * costs.comparison_bytes / GIB,
        credits=credits_a_day,
        accounts=credits_a_day / _OFFERED_CREDITS,
    )


def find_limits(costs: UnitCosts, given: Assumptions, partitions: int = 12) -> list[Limit]:
    """Return which parts must be built in another way, and from how many people on, the smallest number first.

    `partitions`: the number of partitions that the topics have.
    """
    each = given.interests_each
    shares = compute_shares(given.airports_heard)
    affordable = _OFFERED_CREDITS / _CREDITS_A_DAY_OF_AN_AIRPORT
    recovered = given.start_s / costs.recovery_s
    mailed = partitions * costs.mails_per_s * given.minutes_until_mailed * 60 / given.share_in_worst_quarter
    return sorted(
        [
            Limit(
                _find_people(lambda people: compute_needs(people, costs, given).airports, affordable),
                f"the record of a night costs more than one account's credits ({affordable:.0f} airports)",
                "live, which costs the same for all airports; or an agreement with OpenSky",
            ),
            Limit(
                given.leader_s / costs.order_s,
                f"the order of the next collections takes the leader {given.leader_s:.0f} s of processor time",
                "keep the order between calls, and load only the people of the airports that are due",
            ),
            Limit(
                given.worker_memory / costs.order_bytes,
                f"… and more than {given.worker_memory / GIB:.0f} GiB of memory",
                "the same",
            ),
            Limit(
                given.comparison_s / costs.comparison_s / each,
                f"the comparison of all interests takes longer than the {given.comparison_s:.0f} s between two",
                "compare partition by partition, by counts and hashes that both sides keep",
            ),
            Limit(
                given.worker_memory / costs.comparison_bytes / each,
                f"… and more than {given.worker_memory / GIB:.0f} GiB of memory",
                "the same",
            ),
            Limit(
                partitions * recovered / each,
                f"{partitions} workers of the stream that lost their disks need {given.start_s:.0f} s to be back",
                "more partitions (new topics), or a standby of each partition",
            ),
            Limit(
                given.worker_memory / costs.index_bytes / each / shares[0],
                f"the most popular airport alone fills a worker of {given.worker_memory / GIB:.0f} GiB",
                "the key of the join becomes airport and a part of its people, flights go to each part",
            ),
            Limit(
                mailed,
                f"{partitions} workers of the notifier mail the worst quarter of an hour in its time",
                "more partitions of alerts.raised; and a mail provider that takes as many",
            ),
        ],
        key=lambda limit: limit.people,
    )


def _find_people(compute: Callable[[int], float], limit: float) -> float:
    """Return the number of people from which `compute`, which grows with them, is above the limit (by bisection)."""
    least, most = 1, 10**9
    if compute(most) <= limit:
        return math.inf
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if compute(middle) <= limit else (least, middle)
    return float(most)


def _round_up(number: float) -> int:
    """Return the smallest integer that is not smaller, at least 1."""
    return max(1, math.ceil(number))


def read_costs(figures: Mapping[tuple[str, str, str], float]) -> UnitCosts:
    """Return the costs from what the benchmarks printed: values by benchmark, figure and unit.

    Raises KeyError, with benchmark, figure and unit, if one is missing.
    """
    recovered = "recovery of 1,000,000 interests from the changelog into RocksDB, first batch folded"
    return UnitCosts(
        folded_flights_per_s=figures["stream_app", "the stream, tables in RocksDB, batches of 10", "flights/s"],
        alerts_per_s=figures["stream_alerts", "100,000 alerts at once", "alerts/s"],
        index_bytes=figures["stream_fold", "memory per interest, index", "bytes"],
        recovery_s=figures["stream_alerts", recovered, "s"] / 1_000_000,
        mails_per_s=figures["nightly", "replies at once: a mail for each alert", "alerts/s"],
        user_row=figures["rows", "row of users", "bytes"],
        person_row=figures["rows", "row of people", "bytes"],
        interest_row=figures["rows", "row of interests", "bytes"],
        interest_record=figures["rows", "log: an interest", "bytes"],
        alert_record=figures["rows", "log: an alert", "bytes"],
        flight_record=figures["rows", "log: a flight, 10 a batch", "bytes"],
        order_s=figures["rows", "order of the next collections", "µs a person"] / 1e6,
        order_bytes=figures["rows", "order of the next collections, memory", "bytes a person"],
        comparison_s=figures["rows", "comparison of all interests", "µs an interest"] / 1e6,
        comparison_bytes=figures["rows", "comparison of all interests, memory", "bytes an interest"],
        page_requests_per_s=figures["collector", "Listing", "requests/s"],
        changes_per_s=figures["collector", "Setting", "requests/s"],
    )
