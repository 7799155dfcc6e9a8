"""Tests of the whole stream: real workers and a real broker."""

from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from domain.airports import find_airport
from local.kafka import Broker
from tests.domain.logs import an_interest, expected_ids
from tests.domain.test_rule import seen
from tests.streams.events import Event, interest_removed, interest_set, observed
from tests.streams.process import (
    is_everything_acknowledged,
    publish,
    read_alert_ids,
    read_alerts,
    read_dead_letters,
    running_worker,
)
from tests.streams.traffic import generate_traffic
from tests.waiting import eventually
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, INTERESTS_CHANGED, partition_of

LICC = find_airport("LICC")


@pytest.fixture(scope="module")
def worker(kafka: Broker, tmp_path_factory: pytest.TempPathFactory):
    """A worker shared by all tests that leave it running."""
    with running_worker(tmp_path_factory.mktemp("streams"), kafka.bootstrap_servers) as worker:
        yield worker


def test_the_alerts_are_those_of_the_brute_force_model(kafka: Broker, worker) -> None:
    """Interests of all kinds, set before, amid and after their flights, with duplicates, raise exactly these ids."""
    traffic = generate_traffic(seed=1)
    publish(kafka.bootstrap_servers, traffic.events)
    eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers))
    raised = read_alerts(kafka.bootstrap_servers, traffic.interest_ids)
    assert {each.alert_id for each in raised} == {str(each) for each in traffic.alert_ids}
    assert len(raised) == len(traffic.alert_ids) > 300, "no alert is raised twice without a crash"

    # The same events once more raise no alert: all of them are duplicates.
    publish(kafka.bootstrap_servers, traffic.events)
    eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers))
    assert len(read_alerts(kafka.bootstrap_servers, traffic.interest_ids)) == len(raised)
    interest_counts = {icao: each["interests"] for icao, each in worker.airports().items()}
    assert {interest_counts[airport] for airport in traffic.airports} == {6}


def test_unusable_events_become_dead_letters_and_block_nothing(kafka: Broker, worker) -> None:
    """Unusable are bad bytes, no sequence, a wrong key, a wrong partition, and a size too large to publish again."""
    interest = an_interest(interest_id=uuid4(), user_id=uuid4(), airport="ZZZ1")
    log = [seen(0, 1, (0.1, 0.2, 0.3)), seen(1, 2)]
    good = observed("ZZZ1", 1, log[0])
    bad = [
        Event(FLIGHTS_OBSERVED, "ZZZ1", b"ZZZ1", b"\xff\xff\xff", 1),
        Event(FLIGHTS_OBSERVED, "ZZZ1", b"ZZZ1", None, 1),
        Event(FLIGHTS_OBSERVED, "ZZZ1", None, b"", 1),
        Event(FLIGHTS_OBSERVED, "ZZZ1", b"ZZZ1", good.value, None),
        Event(FLIGHTS_OBSERVED, "ZZZ1", b"ZZZ1", b"\x00" * 1_000_000, 1),
        Event(FLIGHTS_OBSERVED, "ZZZ2", b"ZZZ1", good.value, 99),
        Event(INTERESTS_CHANGED, "ZZZ1", b"nonsense", interest_set(interest, 1).value, 1),
        Event(INTERESTS_CHANGED, "ZZZ1", interest_set(interest, 1).key, b"\xff", 1),
        interest_removed(interest, None),
    ]
    assert partition_of("ZZZ2", FLIGHTS_OBSERVED) != good.partition
    valid = [interest_set(interest, 1), good, observed("ZZZ1", 2, log[1])]
    record_ids = publish(kafka.bootstrap_servers, [*bad, *valid])
    eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers))
    assert read_alert_ids(kafka.bootstrap_servers, [interest.interest_id]) == expected_ids(interest, log) != set()

    dead_letters = read_dead_letters(kafka.bootstrap_servers)
    for event, record_id in zip(bad, record_ids, strict=False):
        dead_letter = dead_letters[record_id]
        headers = {name: value.decode() for name, value in dead_letter.headers}
        assert headers["reason"]
        assert headers["dead-lettered-at"]
        if "left-out" in headers:
            assert (dead_letter.value, headers["left-out"]) == (b"", "1000004")
        else:
            assert (dead_letter.key, dead_letter.value) == (event.key, event.value)
    assert not dead_letters.keys() & set(record_ids[len(bad) :])


def test_the_pages_show_the_state(kafka: Broker, worker) -> None:
    """/metrics parses, /overview and /api/airports have the numbers, / the statistics; no page shows a user."""
    assert LICC is not None
    interest = an_interest(interest_id=uuid4(), user_id=uuid4(), airport="LICC")
    flights = [seen(0, 1, (0.1, 0.2, 0.3)), seen(1, 3, (2.5,))]
    publish(
        kafka.bootstrap_servers,
        [interest_set(interest, 1), *(observed("LICC", n + 1, e) for n, e in enumerate(flights))],
    )
    eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers))
    shown = worker.airports()["LICC"]
    assert (shown["departures"]["watermark"], shown["departures"]["hours"]) == ("2013-02-08T03:00Z", [3, 0, 1])
    assert (shown["arrivals"]["watermark"], shown["arrivals"]["hours"]) == (None, [])
    assert (shown["name"], shown["interests"]) == (LICC.name, 1)

    status, content_type, overview = worker.get("/overview")
    assert (status, content_type) == (200, "text/html; charset=utf-8")
    for text in ("LICC", LICC.name, "at most 3 an hour"):
        assert text in overview
    assert "<script>" not in overview

    families = {each.name: each for each in text_string_to_metric_families(worker.get("/metrics")[2])}
    raised = {tuple(sorted(each.labels.items())): each.value for each in families["alerts_raised"].samples}
    labels = (("bound", "high"), ("node", "local"), ("service", "streams"), ("state", "FIRING"))
    assert families["alerts_raised"].samples[0].name == "alerts_raised_total"
    assert raised[labels] >= 1
    assert {"stream_events", "stream_flights", "stream_stray_flights"} <= families.keys()
    sent = {each.labels.get("topic"): each.value for each in families["faust_messages_sent"].samples}
    assert sent[ALERTS_RAISED.name] >= 1

    assert "messages_received_total" in worker.get("/")[2]
    for path in ("/", "/overview", "/api/airports", "/metrics", "/assignment/", "/router/"):
        body = worker.get(path)[2]
        assert str(interest.interest_id) not in body
        assert str(interest.user_id) not in body


@pytest.mark.parametrize("path", ["/table/", "/table/airports", "/table/interests", "/tables/"])
def test_no_page_serves_the_table_entries(worker, path) -> None:
    """Faust's own pages would show each table's entries, with users' interests among them, to anybody."""
    status, _, body = worker.get(path)
    assert (status, "interests" in body) == (404, False)
