"""Prometheus' own linter accepts the served metrics, except for names that the original system fixed."""

from tests.chassis.promtool import check_metrics
from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service
from user_manager.housekeeping import Housekeeping

pytestmark = ON_SQLITE

FIXED = ("active_users_total", "cache_cleanup_duration_seconds", "cache_cleaned_entries_total")
"""Metric names that dashboards use, although the linter rejects them: a gauge should not end in _total."""


def test_promtool_accepts_the_metrics(service: Service) -> None:
    """`promtool check metrics` accepts what is served after requests of each kind."""
    housekeeping = Housekeeping(
        service.database, service.accounts, service.answers, service.limits, service.clock, service.metrics
    )
    client = build_app(service).test_client()
    client.post("/users", json={"email": "ann@example.org", "name": "Ann"})
    client.get("/users", headers={"Authorization": f"Bearer {OPERATOR_TOKEN}"})
    client.open("/nowhere", method="STRANGE")
    housekeeping.update_user_gauge()
    housekeeping.delete_expired_answers()
    service.deletions.resume_due_deletions()
    service.bounces.report("nobody", service.clock.now())
    exposition = client.get("/metrics").data
    found = check_metrics(exposition.decode())
    assert [line for line in found if line.partition(" ")[0] not in FIXED] == []
    for name in (b"http_requests_total{", b"http_request_duration_seconds_bucket{", *(n.encode() for n in FIXED)):
        assert name in exposition
