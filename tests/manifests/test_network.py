"""The policies admit what flows, and nothing else."""

from collections.abc import Callable

import pytest

from local.processes import ROOT
from tests.manifests.network import (
    API_SERVER,
    GATEWAY,
    NEIGHBOUR,
    STRANGER,
    WORLD,
    Edge,
    admitted,
    behind,
    drawn,
    necessary,
    told,
)
from tests.manifests.rendering import SERVICES, Rendered

_UNAVOIDABLE = {
    # The API server's address differs from cluster to cluster and a policy cannot name it, so Prometheus may ask any
    # address at the API's two ports; those that have policies refuse it all the same.
    ("prometheus", WORLD, 443),
    ("prometheus", WORLD, 6443),
    ("prometheus", STRANGER, 443),
    ("prometheus", STRANGER, 6443),
    ("prometheus", GATEWAY, 443),
}


def _picture() -> str:
    readme = (ROOT / "README.md").read_text()
    return readme.partition("## How it works")[2].split("```")[1].strip("\n")


def test_every_edge_is_needed_and_every_need_has_its_edge(rendered: Rendered) -> None:
    """What pods may say to each other, evaluated from the policies, is what settings, routes and scraping need."""
    allowed = {edge for edge in admitted(rendered) if (edge.source, edge.destination, edge.port) not in _UNAVOIDABLE}
    needed = necessary(rendered)
    assert sorted(allowed - needed) == []
    assert sorted(needed - allowed) == []


def test_the_settings_connect_what_the_picture_draws(rendered: Rendered) -> None:
    """README's picture of what flows, read arrow by arrow, against what each service is told to connect to."""
    outside = {"OpenSky", "SMTP"}
    connected = set()
    for name in SERVICES:
        for what, host, port in told(rendered, name):
            if what != "database":  # each service's own, which the picture leaves out
                connected.add((name, what if what in outside else behind(rendered, host, port)[0]))
    for route in rendered.of("HTTPRoute"):
        if route["metadata"]["name"] in SERVICES:
            connected.add((GATEWAY, route["metadata"]["name"]))
    assert connected == drawn(_picture())


def test_what_is_not_routed_cannot_be_reached_from_the_gateway(rendered: Rendered) -> None:
    """gRPC, the workers' pages, the databases and Kafka are no business of people's."""
    reached = {(edge.destination, edge.port) for edge in admitted(rendered) if edge.source == GATEWAY}
    ours = {(name, port) for name, port in reached if name in {pod.name for pod in rendered.pods()}}
    assert ours == {("user-manager", 8080), ("collector", 8080), ("prometheus", 9090)}


def test_nobody_from_elsewhere_gets_in(rendered: Rendered) -> None:
    """Not even a pod with one of our labels, in a namespace of its own; nor one beside the gateway's nginx."""
    ours = {pod.name for pod in rendered.pods()}
    elsewhere = {STRANGER, NEIGHBOUR, WORLD, API_SERVER}
    assert [each for each in admitted(rendered) if each.source in elsewhere and each.destination in ours] == []


def _open_a_database(rendered: Rendered) -> None:
    rendered.one("NetworkPolicy", "user-db")["spec"]["ingress"][0].pop("from")


def _let_everything_out(rendered: Rendered) -> None:
    rendered.one("NetworkPolicy", "collector")["spec"]["egress"].append({})


def _forget_the_default(rendered: Rendered) -> None:
    rendered.resources.remove(rendered.one("NetworkPolicy", "default-deny"))


def _any_port(rendered: Rendered) -> None:
    rendered.one("NetworkPolicy", "streams")["spec"]["ingress"][0]["from"].append({"namespaceSelector": {}})


@pytest.mark.parametrize("open_it", [_open_a_database, _let_everything_out, _any_port])
def test_an_edge_too_many_is_found(overlays: dict[str, Rendered], open_it: Callable[[Rendered], None]) -> None:
    """The check itself: one rule made wider."""
    broken = overlays["production"].copy()
    before = admitted(broken)
    open_it(broken)
    if open_it is _open_a_database:  # whoever cannot send still cannot: widen a sender, too
        rule = broken.one("NetworkPolicy", "notifier")["spec"]["egress"][0]
        rule["to"].append({"podSelector": {"matchLabels": {"app.kubernetes.io/name": "user-db"}}})
        rule["ports"].append({"protocol": "TCP", "port": 3306})
    assert admitted(broken) - before
    assert admitted(broken) - necessary(broken) - {Edge(*each) for each in _UNAVOIDABLE}


def test_without_the_default_all_that_has_no_policy_is_open(overlays: dict[str, Rendered]) -> None:
    """The check itself: the default is what closes the egress of the topics' Job to the world."""
    broken = overlays["kind"].copy()
    _forget_the_default(broken)
    broken.resources.remove(broken.one("NetworkPolicy", "topics"))
    broken.resources.remove(broken.one("NetworkPolicy", "names"))
    assert Edge("topics", WORLD, 443) in admitted(broken)


def test_a_missing_edge_is_found(overlays: dict[str, Rendered]) -> None:
    """The check itself: a rule on one side only admits nothing."""
    broken = overlays["kind"].copy()
    broken.resources.remove(broken.one("NetworkPolicy", "notifier-to-mailbox"))
    assert Edge("notifier", "mailbox", 8025) in necessary(broken) - admitted(broken)


def test_the_picture_is_read_as_it_is_drawn() -> None:
    """The reader of pictures: an arrow from each side, a corner, and a line that crosses."""
    picture = """
people ──REST──▶ alpha ──▶ [topic] ─┐
                   ▲                ├─▶ beta
                   └──gRPC── gamma ─┘
""".strip("\n")
    assert drawn(picture) == {
        (GATEWAY, "alpha"),
        ("alpha", "kafka"),
        ("beta", "kafka"),
        ("gamma", "beta"),
        ("gamma", "alpha"),
    }
