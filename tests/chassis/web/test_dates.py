"""The header `Date` of a service's answers is what its own clock shows."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from flask import Flask

from chassis.web.dates import send_dates
from chassis.web.http import Problem
from tests.fakes.clock import FakeClock


def test_each_answer_says_what_the_services_clock_shows() -> None:
    """In whole seconds, and also with an error."""
    app = Flask("example")
    clock = FakeClock(datetime(2031, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC))
    send_dates(app, clock)
    app.register_error_handler(Problem, lambda error: error.to_response())

    @app.get("/wrong")
    def fail() -> str:
        raise Problem(422, "No.")

    for path, status in (("/wrong", 422), ("/nothing", 404)):
        answer = app.test_client().get(path)
        assert answer.status_code == status
        assert parsedate_to_datetime(answer.headers["Date"]) == datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
