"""Tests of the stream's recovery: a worker that is killed, and a broker that starts late."""

from pathlib import Path
from uuid import UUID, uuid4

from local.kafka import Broker
from tests.domain.corrected_logs import tell_statements
from tests.domain.logs import an_interest, expected_ids
from tests.domain.test_corrections import message
from tests.domain.test_rule import seen
from tests.ports import free_port
from tests.streams.events import interest_set, observed
from tests.streams.process import (
    is_everything_acknowledged,
    publish,
    read_alert_ids,
    read_dead_letters,
    running_worker,
    started_worker,
)
from tests.streams.traffic import generate_traffic
from tests.waiting import eventually
from towerwatch.topics import CATALOGUE


def test_the_next_worker_continues_where_a_killed_one_stopped(kafka: Broker, tmp_path: Path) -> None:
    """After kill -9 the next worker recovers the state from the changelog, and the alert ids are the model's."""
    traffic = generate_traffic(seed=2, airports=4)
    with running_worker(tmp_path, kafka.bootstrap_servers) as first:
        publish(kafka.bootstrap_servers, traffic.events)
        eventually(lambda: read_alert_ids(kafka.bootstrap_servers, traffic.interest_ids))
        first.kill()
    before = read_alert_ids(kafka.bootstrap_servers, traffic.interest_ids)
    assert before < traffic.alert_ids
    with running_worker(tmp_path, kafka.bootstrap_servers):
        eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers))
    assert read_alert_ids(kafka.bootstrap_servers, traffic.interest_ids) == traffic.alert_ids


def test_the_next_worker_knows_what_was_withdrawn_before_a_killed_one_stopped(kafka: Broker, tmp_path: Path) -> None:
    """What is told again has an id of its own, also if the next worker knows of the first time by the changelog alone.

    A flight that the killed worker counted can be retracted by the next one, and one that it retracted cannot.
    """
    interest = an_interest(interest_id=uuid4(), user_id=uuid4(), airport="LIPE")
    log = [
        message(0, 1, (0.1, 0.2, 0.3)),
        message(0, 1, (), (0.1,)),
        message(0, 1, (0.4,), (0.1,)),
        message(0, 1, (), (0.2, 0.4)),
    ]
    told = [set[UUID]().union(*tell_statements(interest, log[:end])[0]) for end in (2, 4)]
    flights = [observed("LIPE", number + 1, each) for number, each in enumerate(log)]
    with running_worker(tmp_path, kafka.bootstrap_servers) as first:
        for events in ([interest_set(interest, 1)], flights[:2]):
            publish(kafka.bootstrap_servers, events)
            eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers))
        assert read_alert_ids(kafka.bootstrap_servers, [interest.interest_id]) == told[0]
        first.kill()
    with running_worker(tmp_path, kafka.bootstrap_servers):
        publish(kafka.bootstrap_servers, flights[2:])
        eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers))
    assert read_alert_ids(kafka.bootstrap_servers, [interest.interest_id]) == told[1]
    assert len(told[1]) == 4


def test_a_worker_waits_for_its_broker_and_stops_on_sigterm(tmp_path: Path) -> None:
    """A worker started before the broker is ready only after the broker; SIGTERM ends the worker with 0, soon."""
    broker = Broker(tmp_path / "kafka", port=free_port(), topics=CATALOGUE)
    interest = an_interest(interest_id=uuid4(), user_id=uuid4())
    log = [seen(0, 1, (0.1, 0.2, 0.3))]
    with started_worker(tmp_path, broker.bootstrap_servers) as worker:
        assert not worker.is_ready()
        try:
            broker.start()
            publish(broker.bootstrap_servers, [interest_set(interest, 1), observed("KJFK", 1, log[0])])
            eventually(worker.is_ready)
            eventually(lambda: read_alert_ids(broker.bootstrap_servers, [interest.interest_id]))
            assert read_alert_ids(broker.bootstrap_servers, [interest.interest_id]) == expected_ids(interest, log)
            # A table write before the cluster has the changelog would fail, and its event would become a dead letter.
            assert read_dead_letters(broker.bootstrap_servers) == {}
            assert worker.terminate() == 0, worker.log()
        finally:
            broker.stop()
