"""From an alert to its end by the link in its mail: real notifier, broker, mailbox, user_manager and collector."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

from chassis.rpc import GrpcServer
from collector.interests import InterestStore
from local.kafka import Broker
from local.mailbox.reading import get_plain_text, read_mails
from tests.contracts.test_interests import SECRET, collector_database, interests, service, set_interest, target
from tests.notifier.alerts import ALERT
from tests.notifier.process import build_alert_event, publish, running_mailbox, running_notifier
from tests.ports import free_port
from tests.user_manager.apps import build_app
from tests.user_manager.conftest import Service
from tests.waiting import eventually
from towerwatch.users.v1.user_service_pb2_grpc import add_UserServiceServicer_to_server
from user_manager.alert_stops import AlertStops
from user_manager.collector_client import CollectorClient
from user_manager.rpc import SERVICE_NAME, STATUSES, UserService

__all__ = ["collector_database", "interests", "service", "target"]  # fixtures


def test_one_click_in_a_mail_stops_what_it_is_about(
    kafka: Broker, interests: InterestStore, target: str, service: Service, tmp_path: Path
) -> None:
    """The mail of an alert names the page that changes its interest; one POST to List-Unsubscribe, as mail programs
    send it, removes that interest and no other. No log of the notifier holds the link."""
    ann = service.register_confirmed("ann@example.org").account
    interest = set_interest(interests, user_id=ann.user_id)
    other = set_interest(interests, "LICC", user_id=ann.user_id)
    alert = replace(ALERT, alert_id=uuid4(), interest_id=interest.interest_id, user_id=ann.user_id)
    port = free_port()
    add = partial(add_UserServiceServicer_to_server, UserService(service.accounts, service.bounces, service.sessions))
    server = GrpcServer("127.0.0.1", port, {SERVICE_NAME: add}, STATUSES, service.metrics)
    server.start()
    client = CollectorClient(target, deadline_s=60, secrets=[SECRET])
    service.alert_stops = AlertStops(service.links, client)
    try:
        with (
            running_mailbox(tmp_path / "mail") as smtp_port,
            running_notifier(tmp_path, kafka.bootstrap_servers, f"127.0.0.1:{port}", smtp_port) as notifier,
        ):
            publish(kafka.bootstrap_servers, [build_alert_event(alert)])
            eventually(lambda: len(read_mails(tmp_path / "mail")) == 1)
            assert notifier.terminate() == 0
            log = notifier.log()
        (mail,) = read_mails(tmp_path / "mail")
        url = str(mail.message["List-Unsubscribe"]).strip("<>")
        lines = get_plain_text(mail).splitlines()
        assert f"https://towerwatch.example/watch?interest={interest.interest_id}" in lines
        assert url in lines
        assert mail.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert url.rpartition(".")[2] not in log
        browser = build_app(service).test_client()
        path = url.removeprefix("https://towerwatch.example")
        assert "fewer than 5 flights in an hour" in browser.get(path).text
        assert {each.interest_id for each in interests.list_of_user(ann.user_id)} == {
            interest.interest_id,
            other.interest_id,
        }
        for _ in range(2):
            assert browser.post(path, data={"List-Unsubscribe": "One-Click"}).status_code == 200
            assert interests.list_of_user(ann.user_id) == [other]
    finally:
        client.close()
        server.stop()
