"""The NetworkPolicies admit the necessary connections, and no others."""

from collections.abc import Callable

import pytest

from local.processes import ROOT
from tests.manifests.network import (
    API_SERVER,
    GATEWAY,
    NEIGHBOUR,
    OUTSIDE,
    STRANGER,
    Edge,
    find_admitted_edges,
    list_configured_targets,
    list_necessary_edges,
    parse_drawn_edges,
    resolve_target,
)
from tests.manifests.rendering import SERVICES, Rendered

_UNAVOIDABLE = {
    # The API server's address differs from cluster to cluster, and a policy cannot contain it. So Prometheus may
    # connect to any address at the API's two ports; pods with policies of their own still reject it.
    ("prometheus", OUTSIDE, 443),
    ("prometheus", OUTSIDE, 6443),
    ("prometheus", STRANGER, 443),
    ("prometheus", STRANGER, 6443),
    ("prometheus", GATEWAY, 443),
}


def _picture() -> str:
    """Return the data-flow picture of README."""
    readme = (ROOT / "README.md").read_text()
    return readme.partition("## How it works")[2].split("```")[1].strip("\n")


def test_the_policies_admit_exactly_the_necessary_edges(rendered: Rendered) -> None:
    """Settings, routes and scraping determine which connections are necessary."""
    allowed = {
        edge for edge in find_admitted_edges(rendered) if (edge.source, edge.destination, edge.port) not in _UNAVOIDABLE
    }
    needed = list_necessary_edges(rendered)
    assert sorted(allowed - needed) == []
    assert sorted(needed - allowed) == []


def test_the_settings_connect_what_the_picture_draws(rendered: Rendered) -> None:
    """The arrows of README's picture are the connections in the services' settings."""
    outside = {"OpenSky", "SMTP"}
    connected = set()
    for name in SERVICES:
        for what, host, port in list_configured_targets(rendered, name):
            if what != "database":  # the picture leaves the databases out
                connected.add((name, what if what in outside else resolve_target(rendered, host, port)[0]))
    for route in rendered.resources_of("HTTPRoute"):
        if route["metadata"]["name"] in SERVICES:
            connected.add((GATEWAY, route["metadata"]["name"]))
    assert connected == parse_drawn_edges(_picture())


def test_the_gateway_can_reach_only_ports_with_a_route(rendered: Rendered) -> None:
    """gRPC, the workers' pages, the databases and Kafka are not for people."""
    reached = {(edge.destination, edge.port) for edge in find_admitted_edges(rendered) if edge.source == GATEWAY}
    ours = {(name, port) for name, port in reached if name in {pod.name for pod in rendered.pods()}}
    assert ours == {("user-manager", 8080), ("collector", 8080), ("prometheus", 9090)}


def test_no_other_pod_can_connect_to_the_services(rendered: Rendered) -> None:
    """This holds for a pod with a service's labels in another namespace, and for a pod beside the gateway's nginx."""
    ours = {pod.name for pod in rendered.pods()}
    elsewhere = {STRANGER, NEIGHBOUR, OUTSIDE, API_SERVER}
    assert [
        each for each in find_admitted_edges(rendered) if each.source in elsewhere and each.destination in ours
    ] == []


def _open_a_database(rendered: Rendered) -> None:
    rendered.find_resource("NetworkPolicy", "user-db")["spec"]["ingress"][0].pop("from")


def _let_everything_out(rendered: Rendered) -> None:
    rendered.find_resource("NetworkPolicy", "collector")["spec"]["egress"].append({})


def _forget_the_default(rendered: Rendered) -> None:
    rendered.resources.remove(rendered.find_resource("NetworkPolicy", "default-deny"))


def _any_port(rendered: Rendered) -> None:
    rendered.find_resource("NetworkPolicy", "streams")["spec"]["ingress"][0]["from"].append({"namespaceSelector": {}})


@pytest.mark.parametrize("open_it", [_open_a_database, _let_everything_out, _any_port])
def test_the_check_finds_an_unnecessary_edge(
    overlays: dict[str, Rendered], open_it: Callable[[Rendered], None]
) -> None:
    """One rule is made wider."""
    broken = overlays["production"].copy()
    before = find_admitted_edges(broken)
    open_it(broken)
    if open_it is _open_a_database:  # no pod may send to it yet: widen a sender's policy too
        rule = broken.find_resource("NetworkPolicy", "notifier")["spec"]["egress"][0]
        rule["to"].append({"podSelector": {"matchLabels": {"app.kubernetes.io/name": "user-db"}}})
        rule["ports"].append({"protocol": "TCP", "port": 3306})
    assert find_admitted_edges(broken) - before
    assert find_admitted_edges(broken) - list_necessary_edges(broken) - {Edge(*each) for each in _UNAVOIDABLE}


def test_without_the_default_policy_a_pod_without_policies_is_open(overlays: dict[str, Rendered]) -> None:
    """The default policy is what closes the egress of the topics' Job to the outside."""
    broken = overlays["kind"].copy()
    _forget_the_default(broken)
    broken.resources.remove(broken.find_resource("NetworkPolicy", "topics"))
    broken.resources.remove(broken.find_resource("NetworkPolicy", "names"))
    assert Edge("topics", OUTSIDE, 443) in find_admitted_edges(broken)


def test_the_check_finds_a_missing_edge(overlays: dict[str, Rendered]) -> None:
    """A rule on one side only does not admit a connection."""
    broken = overlays["kind"].copy()
    broken.resources.remove(broken.find_resource("NetworkPolicy", "notifier-to-mailbox"))
    assert Edge("notifier", "mailbox", 8025) in list_necessary_edges(broken) - find_admitted_edges(broken)


def test_the_parser_of_pictures_finds_all_arrows() -> None:
    """The example has an arrow from each side, a corner, and a line that crosses another."""
    picture = """
people ──REST──▶ alpha ──▶ [topic] ─┐
                   ▲                ├─▶ beta
                   └──gRPC── gamma ─┘
""".strip("\n")
    assert parse_drawn_edges(picture) == {
        (GATEWAY, "alpha"),
        ("alpha", "kafka"),
        ("beta", "kafka"),
        ("gamma", "beta"),
        ("gamma", "alpha"),
    }
