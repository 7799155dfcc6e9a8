"""Which connections the NetworkPolicies admit, by Kubernetes' own rules, and which ones there must be."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from chassis.db.database import DatabaseSettings
from tests.manifests.environment import SETTINGS, mounted, variables
from tests.manifests.picture import flows
from tests.manifests.rendering import NAMESPACE, Rendered, Resource, matches


class Edge(NamedTuple):
    """One may connect to a port of another."""

    source: str
    destination: str
    port: int
    protocol: str = "TCP"


@dataclass(frozen=True)
class Party:
    """Who may connect, or be connected to."""

    name: str
    namespace: str | None
    """None: no pod, but an address outside the cluster."""
    labels: dict[str, str] = field(default_factory=dict)
    ports: frozenset[tuple[int, str]] = frozenset()
    address: str = "93.184.216.34"


GATEWAY: Final = "gateway"
WORLD: Final = "world"
API_SERVER: Final = "api-server"
DNS: Final = "dns"
NODE_DNS: Final = "node-dns"
CONTROLLER: Final = "gateway-controller"
PROOF: Final = "certificate-proof"
NEIGHBOUR: Final = "neighbour"
STRANGER: Final = "stranger"
_GATEWAY_POD: Final = {"gateway.networking.k8s.io/gateway-name": "towerwatch"}
"""What every implementation of Gateway API puts on the pods of a gateway (GEP-1762)."""
_COMMON_PORTS: Final = (25, 53, 80, 443, 465, 587, 3306, 6443, 8080, 8443, 9090, 9092)


def parties(rendered: Rendered) -> list[Party]:
    """Our pods, and those that we did not make: of each, the ports that somebody could want of it."""
    ours = [
        Party(pod.name, pod.namespace, pod.labels, frozenset((port, "TCP") for port in pod.ports.values()))
        for pod in rendered.pods()
    ]
    everything = frozenset((port, "TCP") for port in _COMMON_PORTS)
    return [
        *ours,
        Party(GATEWAY, "towerwatch-gateway", _GATEWAY_POD, frozenset({(80, "TCP"), (443, "TCP"), (8080, "TCP")})),
        # cert-manager's, for the minute that it proves to an ACME server whose name it is.
        Party(PROOF, "towerwatch-gateway", {"acme.cert-manager.io/http01-solver": "true"}, frozenset({(8089, "TCP")})),
        Party(NEIGHBOUR, "towerwatch-gateway", {"app.kubernetes.io/name": "gateway"}, everything),
        Party(CONTROLLER, "nginx-gateway", {}, frozenset({(8443, "TCP"), (9113, "TCP")})),
        Party(DNS, "kube-system", {"k8s-app": "kube-dns"}, frozenset({(53, "UDP"), (53, "TCP"), (9153, "TCP")})),
        Party(NODE_DNS, None, {}, frozenset({(53, "UDP"), (53, "TCP")}), address="169.254.20.10"),
        Party(STRANGER, "default", {"app.kubernetes.io/name": "collector"}, everything),
        Party(API_SERVER, None, {}, frozenset({(443, "TCP"), (6443, "TCP")}), address="10.96.0.1"),
        Party(WORLD, None, {}, everything),
    ]


def admitted(rendered: Rendered) -> set[Edge]:
    """All edges from or to a pod of ours, or the gateway, that both its ends' policies admit."""
    everybody = parties(rendered)
    policies = rendered.of("NetworkPolicy", None)
    return {
        Edge(source.name, destination.name, port, protocol)
        for source in everybody
        for destination in everybody
        for port, protocol in destination.ports
        if "towerwatch" in f"{source.namespace} {destination.namespace}"
        and _may(policies, "Egress", source, destination, port, protocol)
        and _may(policies, "Ingress", destination, source, port, protocol)
    }


def _may(policies: list[Resource], way: str, subject: Party, peer: Party, port: int, protocol: str) -> bool:
    """Whether the policies of `subject` admit `peer` that way; without any all is admitted."""
    if subject.namespace is None:
        return True
    ours = [
        each["spec"]
        for each in policies
        if each["metadata"]["namespace"] == subject.namespace
        and way in each["spec"]["policyTypes"]
        and _selects(each["spec"]["podSelector"], subject.labels)
    ]
    rules = [rule for spec in ours for rule in spec.get(way.lower(), ())]
    return not ours or any(_rule_admits(rule, way, subject, peer, port, protocol) for rule in rules)


def _rule_admits(rule: Resource, way: str, subject: Party, peer: Party, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    if ports is not None and {"port": port, "protocol": protocol} not in ports:
        return False
    peers = rule.get("from" if way == "Ingress" else "to")
    return peers is None or any(_is_peer(each, subject, peer) for each in peers)


def _is_peer(described: Resource, subject: Party, peer: Party) -> bool:
    if "ipBlock" in described:
        block = described["ipBlock"]
        address = ip_address(peer.address)
        inside = peer.namespace is None and _within(address, block["cidr"])
        return inside and not any(_within(address, each) for each in block.get("except", ()))
    if "namespaceSelector" in described:
        # Kubernetes gives each namespace this label; ours are asked for no other.
        if not _selects(described["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace or ""}):
            return False
    elif peer.namespace != subject.namespace:
        return False
    return peer.namespace is not None and _selects(described.get("podSelector", {}), peer.labels)


def _within(address: object, network: str) -> bool:
    return address in ip_network(network)


def _selects(selector: Resource, labels: dict[str, str]) -> bool:
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return matches(selector.get("matchLabels", {}), labels)


def drawn(picture: str) -> set[tuple[str, str]]:
    """Who connects to whom by the picture of what flows. A topic is Kafka; what is polled is connected to."""
    edges = set()
    for flow in flows(picture):
        tail, head = _party(flow.tail), _party(flow.head)
        # A consumer asks Kafka, and who polls asks its source: the connection goes against the arrow.
        edges.add((head, tail) if tail == "kafka" or flow.label == "poll" else (tail, head))
    return edges


def _party(word: str) -> str:
    if word.startswith("["):
        return "kafka"
    return {"people": GATEWAY, "OpenSky": "OpenSky", "SMTP": "SMTP"}.get(word, word.replace("_", "-"))


def told(rendered: Rendered, name: str) -> Iterator[tuple[str, str, int]]:
    """Whom a service is told to connect to, by its settings: the setting, host, and port of each."""
    pod = rendered.pod(name)
    environment = variables(rendered, pod)
    files = mounted(rendered, pod)
    for server in environment["KAFKA_BOOTSTRAP_SERVERS"].split(","):
        yield "kafka", *_host_and_port(server)
    for variable in ("USER_MANAGER_GRPC_TARGET", "COLLECTOR_GRPC_TARGET"):
        if variable in environment:
            yield "grpc", *_host_and_port(environment[variable])
    if issubclass(SETTINGS[name], DatabaseSettings):
        url = urlsplit(files[environment["DATABASE_URL_FILE"]])
        yield "database", url.hostname or "", url.port or 3306
    if "opensky_url" in SETTINGS[name].model_fields:
        for variable, default in (("OPENSKY_URL", "opensky_url"), ("OPENSKY_TOKEN_URL", "opensky_token_url")):
            url = urlsplit(environment.get(variable) or SETTINGS[name].model_fields[default].default)
            yield "OpenSky", url.hostname or "", url.port or {"http": 80, "https": 443}[url.scheme]
    if "SMTP_HOST" in environment:
        yield "SMTP", environment["SMTP_HOST"], int(environment["SMTP_PORT"])


def _host_and_port(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host, int(port)


def behind(rendered: Rendered, host: str, port: int) -> tuple[str, int]:
    """The pods behind a host name, and the port that they listen on; the world where it is no Service's."""
    for each in rendered.of("Service", NAMESPACE):
        service = each["metadata"]["name"]
        # One pod of a StatefulSet has a name of its own below its headless Service's.
        if host != service and not re.fullmatch(rf"{service}-[0-9]+\.{service}", host):
            continue
        (pod,) = (
            pod
            for pod in rendered.pods()
            if pod.namespace == NAMESPACE and matches(each["spec"]["selector"], pod.labels)
        )
        (wanted,) = (one for one in each["spec"]["ports"] if one["port"] == port)
        return pod.name, pod.ports[wanted["targetPort"]]
    return WORLD, port


def necessary(rendered: Rendered) -> set[Edge]:
    """Every edge that there must be, and what it is for."""
    edges = set()
    for name in SETTINGS:
        for _, host, port in told(rendered, name):
            edges.add(Edge(name, *behind(rendered, host, port)))
    # Each worker of the stream shows what all of them know: their pages ask each other.
    edges.add(Edge("streams", "streams", rendered.pod("streams").ports["http"]))
    # Brokers copy from each other, and find their controllers where the quorum's voters are said to be.
    edges.add(Edge("kafka", "kafka", rendered.pod("kafka").ports["clients"]))
    controllers = [pod.name for pod in rendered.pods() if pod.name == "kafka-controller"]
    for controller in controllers:
        edges |= {Edge(each, controller, 9093) for each in ("kafka", controller)}
    # What has a route.
    for route in rendered.of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule.get("backendRefs", ()):
                edges.add(Edge(GATEWAY, *behind(rendered, backend["name"], backend["port"])))
    # Scraping, and asking where to scrape.
    for pod in rendered.pods():
        annotations = pod.template["metadata"].get("annotations", {})
        if annotations.get("prometheus.io/scrape") == "true":
            edges.add(Edge("prometheus", pod.name, int(annotations["prometheus.io/port"])))
    edges |= {Edge("prometheus", API_SERVER, port) for port in (443, 6443)}
    # Names, for all.
    for asking in (GATEWAY, *(pod.name for pod in rendered.pods())):
        edges |= {Edge(asking, server, 53, protocol) for server in (DNS, NODE_DNS) for protocol in ("TCP", "UDP")}
    # The gateway: from everywhere, and its nginx fetches its configuration.
    edges |= {
        Edge(each, GATEWAY, port)
        for each in (WORLD, STRANGER, CONTROLLER, DNS, NODE_DNS, API_SERVER)
        for port in (80, 443)
    }
    if any("cert-manager.io/cluster-issuer" in _annotations(each) for each in rendered.of("Gateway", None)):
        edges.add(Edge(GATEWAY, PROOF, 8089))
    edges.add(Edge(GATEWAY, CONTROLLER, 8443))
    return edges


def _annotations(resource: Resource) -> dict[str, str]:
    return dict(resource["metadata"].get("annotations", {}))
