"""Which answers of the collector are compressed: large ones, with nothing in them that must stay secret."""

import gzip

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.collector.conftest import ANN, ANNS, Service, wish

COMPRESSED = {
    "collector.list_interests", "collector.list_flights", "collector.usual_week", "collector.preview_interest",
    "windows.interest_windows",
}  # fmt: skip


def test_no_other_route_compresses(app: Flask) -> None:
    """A new one must hold no secret beside a text that a stranger chose (BREACH, ADR 65)."""
    operations = {name: view.operation for name, view in app.view_functions.items() if hasattr(view, "operation")}
    assert {name for name, each in operations.items() if each.is_compressed} == COMPRESSED
    assert len(operations) > 10


@pytest.mark.parametrize(
    "path", ["/interests?x=", "/flights/KJFK?limit=", "/flights/KJFK?cursor=", "/flights/KJFK/usual?x="]
)
def test_what_a_request_says_is_not_compressed(client: FlaskClient, service: Service, path: str) -> None:
    """Only errors repeat a text of the request, and no error is compressed."""
    service.set(wish(), ANN)
    answer = client.get(path + "A" * 3_000, headers=ANNS | {"Accept-Encoding": "gzip"})
    assert answer.status_code in (400, 422)
    assert "Content-Encoding" not in answer.headers


def test_no_compressed_answer_repeats_what_its_request_says(client: FlaskClient, service: Service) -> None:
    """A text that somebody chooses must not stand beside what it could be compared with."""
    interest = service.set(wish(), ANN)
    chosen = "2013-02-05T01:23:45.678Z"
    windows = client.get(
        f"/interests/{interest.interest_id}/windows?begin={chosen}", headers=ANNS | {"Accept-Encoding": "gzip"}
    )
    assert windows.headers["Content-Encoding"] == "gzip"
    assert b"01:23:45" not in gzip.decompress(windows.data)
