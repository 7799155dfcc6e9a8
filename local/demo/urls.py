"""The addresses of the stack's pages and interfaces."""

from local.ports import HOST, Ports
from local.stack import assign_worker_ports, build_public_url


def build_mailbox_url(ports: Ports) -> str:
    """Build the URL of the page that lists the mails."""
    return build_url(ports.mailbox_web, "/")


def build_url(port: int, path: str) -> str:
    return f"http://{HOST}:{port}{path}"


def list_urls(ports: Ports, workers: int) -> list[tuple[str, str]]:
    """Return the stack's web pages, each with a caption and its URL; the overview of each of the stream workers."""
    others = list(assign_worker_ports(ports, workers).values())[1:]
    return [
        ("Towerwatch for people", f"{build_public_url(ports)}/"),
        ("for programs: accounts", f"{build_public_url(ports)}/docs/accounts/docs"),
        ("the same: interests and flights", f"{build_public_url(ports)}/docs/flights/docs"),
        ("mails", build_mailbox_url(ports)),
        ("airports, as the stream sees them", build_url(ports.streams_web, "/overview")),
        *(("the same, of another worker", build_url(each.streams_web, "/overview")) for each in others),
        ("the same as JSON", build_url(ports.streams_web, "/api/airports")),
        ("metrics of the collector", build_url(ports.collector_http, "/metrics")),
        ("metrics of the notifier", build_url(ports.notifier_web, "/metrics")),
    ]
