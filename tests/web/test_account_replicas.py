"""A deletion at which a replica dies, shown by two others in a real browser until it is complete."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from grpc import StatusCode
from playwright.sync_api import Browser
from sqlalchemy import select

from chassis.clock import SystemClock
from chassis.db.database import Database
from tests import plain_http
from tests.fakes.collector import FakeCollector
from tests.user_manager.conftest import Service
from tests.user_manager.process import StartProcess, process_starter
from tests.waiting import eventually
from tests.web.site import PATIENCE_S, wait_until_ready
from user_manager.model import Deletion

ANN = "ann@example.org"


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    fake = FakeCollector()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def start(tmp_path: Path, collector: FakeCollector) -> Iterator[StartProcess]:
    """Yield a function that starts a replica of user_manager; all share one database."""
    public = "http://127.0.0.1:8530"
    with process_starter(tmp_path, COLLECTOR_GRPC_TARGET=collector.target, PUBLIC_URL=public) as start:
        yield start


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Yield the use cases of one more replica, on the database that the processes share."""
    database = Database(f"sqlite:///{tmp_path}/user_manager.db")
    yield Service(database, clock=SystemClock())  # type: ignore[arg-type]
    database.close()


def count_deletions(service: Service) -> int:
    """Return the number of deletions that are recorded."""
    with service.database.reading() as session:
        return len(session.scalars(select(Deletion)).all())


def test_another_replica_shows_and_completes_the_deletion(
    browser: Browser, start: StartProcess, service: Service, collector: FakeCollector
) -> None:
    """The first replica is killed within the deletion, while the collector does not answer. The person asks again: the
    second replica says that it goes on, the third one shows the same, and both say when it is complete."""
    first = start()
    eventually(first.is_ready, "readiness of the first replica")
    registration = service.register_confirmed(ANN)
    secret = service.sign_in(ANN).text
    collector.prompt.clear()

    def delete_at_first() -> None:
        with suppress(httpx.TransportError):
            headers = {"Authorization": f"Bearer {registration.token}"}
            plain_http.delete(f"{first.base_url}/users/{ANN}", headers=headers)

    asking = threading.Thread(target=delete_at_first)
    asking.start()
    eventually(lambda: count_deletions(service) == 1, "the record of the deletion")
    first.kill()
    asking.join()
    collector.answer = StatusCode.UNAVAILABLE
    collector.prompt.set()

    second, third = start(), start()
    for replica in (second, third):
        eventually(replica.is_ready, "readiness of a replica")
    with browser.new_context() as context:
        context.set_default_timeout(PATIENCE_S * 1000)
        for name, value, same_site in (
            ("towerwatch-session", secret, "Strict"),
            ("towerwatch-signed-in", "yes", "Lax"),
        ):
            context.add_cookies(
                [{"name": name, "value": value, "url": second.base_url, "httpOnly": True, "sameSite": same_site}]  # type: ignore[typeddict-item]
            )
        page = context.new_page()
        page.goto(f"{second.base_url}/account")
        wait_until_ready(page)
        page.locator("#typed").fill(ANN)
        page.locator("#delete button").click()
        page.get_by_role("heading", name="Your account is being deleted").wait_for()
        assert page.locator("#deletion-steps li.done").count() == 1
        assert context.cookies() == []
        deletion_id = page.url.partition("#deletion=")[2]

        other = context.new_page()
        other.goto(f"{third.base_url}/account#deletion={deletion_id}")
        wait_until_ready(other)
        other.get_by_role("heading", name="Your account is being deleted").wait_for()
        without_script = plain_http.get(f"{third.base_url}/account/delete/{deletion_id}")
        assert "Your account is being deleted" in without_script.text

        collector.answer = StatusCode.OK
        for shown in (page, other):
            shown.bring_to_front()
            shown.get_by_role("heading", name="Your account is deleted").wait_for()
            assert shown.locator("#deletion-steps li.done").count() == 3
    assert set(collector.deleted) == {str(registration.account.user_id)}
    assert not service.accounts.is_registered(ANN)
    session = {"Cookie": f"towerwatch-session={secret}", "Sec-Fetch-Site": "same-origin"}
    for replica in (second, third):
        assert plain_http.get(f"{replica.base_url}/session", headers=session).status_code == 401
