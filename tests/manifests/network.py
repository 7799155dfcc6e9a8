"""The connections that the NetworkPolicies admit, by Kubernetes' rules, and the connections that are necessary."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from chassis.db.database import DatabaseSettings
from tests.manifests.environment import SETTINGS, build_environment, build_mounted_files
from tests.manifests.picture import parse_arrows
from tests.manifests.rendering import NAMESPACE, Rendered, Resource, is_selected


class Edge(NamedTuple):
    """A connection: the source may connect to a port of the destination."""

    source: str
    destination: str
    port: int
    protocol: str = "TCP"


@dataclass(frozen=True)
class Endpoint:
    """A pod, or an address outside of the cluster, that may be a source or destination of connections."""

    name: str
    namespace: str | None
    """The pod's namespace; None: an address outside of the cluster."""
    labels: dict[str, str] = field(default_factory=dict)
    ports: frozenset[tuple[int, str]] = frozenset()
    address: str = "93.184.216.34"


GATEWAY: Final = "gateway"
OUTSIDE: Final = "world"
API_SERVER: Final = "api-server"
DNS: Final = "dns"
NODE_DNS: Final = "node-dns"
CONTROLLER: Final = "gateway-controller"
PROOF: Final = "certificate-proof"
NEIGHBOUR: Final = "neighbour"
STRANGER: Final = "stranger"
_GATEWAY_POD: Final = {"gateway.networking.k8s.io/gateway-name": "towerwatch"}
"""The label that every implementation of Gateway API gives to the pods of a gateway (GEP-1762)."""
_COMMON_PORTS: Final = (25, 53, 80, 443, 465, 587, 3306, 6443, 8080, 8443, 9090, 9092)


def list_endpoints(rendered: Rendered) -> list[Endpoint]:
    """Return the manifests' pods and all other endpoints, each with the ports that another one could connect to."""
    ours = [
        Endpoint(pod.name, pod.namespace, pod.labels, frozenset((port, "TCP") for port in pod.ports.values()))
        for pod in rendered.pods()
    ]
    everything = frozenset((port, "TCP") for port in _COMMON_PORTS)
    return [
        *ours,
        Endpoint(GATEWAY, "towerwatch-gateway", _GATEWAY_POD, frozenset({(80, "TCP"), (443, "TCP"), (8080, "TCP")})),
        # cert-manager's pod, which exists while it proves to an ACME server that it owns the host name.
        Endpoint(
            PROOF, "towerwatch-gateway", {"acme.cert-manager.io/http01-solver": "true"}, frozenset({(8089, "TCP")})
        ),
        Endpoint(NEIGHBOUR, "towerwatch-gateway", {"app.kubernetes.io/name": "gateway"}, everything),
        Endpoint(CONTROLLER, "nginx-gateway", {}, frozenset({(8443, "TCP"), (9113, "TCP")})),
        Endpoint(DNS, "kube-system", {"k8s-app": "kube-dns"}, frozenset({(53, "UDP"), (53, "TCP"), (9153, "TCP")})),
        Endpoint(NODE_DNS, None, {}, frozenset({(53, "UDP"), (53, "TCP")}), address="169.254.20.10"),
        Endpoint(STRANGER, "default", {"app.kubernetes.io/name": "collector"}, everything),
        Endpoint(API_SERVER, None, {}, frozenset({(443, "TCP"), (6443, "TCP")}), address="10.96.0.1"),
        Endpoint(OUTSIDE, None, {}, everything),
    ]


def find_admitted_edges(rendered: Rendered) -> set[Edge]:
    """Return all edges from or to the manifests' pods, or the gateway, that the policies of both ends admit."""
    everybody = list_endpoints(rendered)
    policies = rendered.resources_of("NetworkPolicy", None)
    return {
        Edge(source.name, destination.name, port, protocol)
        for source in everybody
        for destination in everybody
        for port, protocol in destination.ports
        if "towerwatch" in f"{source.namespace} {destination.namespace}"
        and _is_admitted(policies, "Egress", source, destination, port, protocol)
        and _is_admitted(policies, "Ingress", destination, source, port, protocol)
    }


def _is_admitted(
    policies: list[Resource], way: str, subject: Endpoint, peer: Endpoint, port: int, protocol: str
) -> bool:
    """Return True if the policies of `subject` admit `peer` in a direction (`way`), or there are none; else False."""
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


def _rule_admits(rule: Resource, way: str, subject: Endpoint, peer: Endpoint, port: int, protocol: str) -> bool:
    """Return True if one rule of a policy admits the connection, False if not."""
    ports = rule.get("ports")
    if ports is not None and {"port": port, "protocol": protocol} not in ports:
        return False
    peers = rule.get("from" if way == "Ingress" else "to")
    return peers is None or any(_is_peer(each, subject, peer) for each in peers)


def _is_peer(described: Resource, subject: Endpoint, peer: Endpoint) -> bool:
    """Return True if a rule's description of peers includes this peer, False if not."""
    if "ipBlock" in described:
        block = described["ipBlock"]
        address = ip_address(peer.address)
        inside = peer.namespace is None and _within(address, block["cidr"])
        return inside and not any(_within(address, each) for each in block.get("except", ()))
    if "namespaceSelector" in described:
        # Kubernetes gives each namespace this label; the manifests select by no other.
        if not _selects(described["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace or ""}):
            return False
    elif peer.namespace != subject.namespace:
        return False
    return peer.namespace is not None and _selects(described.get("podSelector", {}), peer.labels)


def _within(address: object, network: str) -> bool:
    return address in ip_network(network)


def _selects(selector: Resource, labels: dict[str, str]) -> bool:
    """Return True if a label selector selects these labels, False if not."""
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return is_selected(selector.get("matchLabels", {}), labels)


def parse_drawn_edges(picture: str) -> set[tuple[str, str]]:
    """Return the connections in the data-flow picture, as source and destination. A topic counts as Kafka."""
    edges = set()
    for flow in parse_arrows(picture):
        tail, head = _get_endpoint_name(flow.tail), _get_endpoint_name(flow.head)
        # A consumer connects to Kafka, and a poller to its source: the connection is opposite to the arrow.
        edges.add((head, tail) if tail == "kafka" or flow.label == "poll" else (tail, head))
    return edges


def _get_endpoint_name(word: str) -> str:
    if word.startswith("["):
        return "kafka"
    return {"people": GATEWAY, "OpenSky": "OpenSky", "SMTP": "SMTP"}.get(word, word.replace("_", "-"))


def list_configured_targets(rendered: Rendered, name: str) -> Iterator[tuple[str, str, int]]:
    """Yield the purpose, host and port of each server that a service's settings contain."""
    pod = rendered.pod(name)
    environment = build_environment(rendered, pod)
    files = build_mounted_files(rendered, pod)
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


def resolve_target(rendered: Rendered, host: str, port: int) -> tuple[str, int]:
    """Return the name and port of the pods behind a host name, or OUTSIDE if it is no Service's name."""
    for each in rendered.resources_of("Service", NAMESPACE):
        service = each["metadata"]["name"]
        # One pod of a StatefulSet has a name of its own below its headless Service's.
        if host != service and not re.fullmatch(rf"{service}-[0-9]+\.{service}", host):
            continue
        (pod,) = (
            pod
            for pod in rendered.pods()
            if pod.namespace == NAMESPACE and is_selected(each["spec"]["selector"], pod.labels)
        )
        (wanted,) = (one for one in each["spec"]["ports"] if one["port"] == port)
        return pod.name, pod.ports[wanted["targetPort"]]
    return OUTSIDE, port


def list_necessary_edges(rendered: Rendered) -> set[Edge]:
    """Return all edges that the system needs, each group with a comment about its purpose."""
    edges = set()
    for name in SETTINGS:
        for _, host, port in list_configured_targets(rendered, name):
            edges.add(Edge(name, *resolve_target(rendered, host, port)))
    # Each worker of the stream shows the state of all workers: their pages request it from each other.
    edges.add(Edge("streams", "streams", rendered.pod("streams").ports["http"]))
    # Brokers replicate from each other, and connect to the controllers, the quorum's voters.
    edges.add(Edge("kafka", "kafka", rendered.pod("kafka").ports["clients"]))
    controllers = [pod.name for pod in rendered.pods() if pod.name == "kafka-controller"]
    for controller in controllers:
        edges |= {Edge(each, controller, 9093) for each in ("kafka", controller)}
    # Services with a route.
    for route in rendered.resources_of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule.get("backendRefs", ()):
                edges.add(Edge(GATEWAY, *resolve_target(rendered, backend["name"], backend["port"])))
    # Scraping, and the discovery of targets.
    for pod in rendered.pods():
        annotations = pod.template["metadata"].get("annotations", {})
        if annotations.get("prometheus.io/scrape") == "true":
            edges.add(Edge("prometheus", pod.name, int(annotations["prometheus.io/port"])))
    edges |= {Edge("prometheus", API_SERVER, port) for port in (443, 6443)}
    # DNS, for all pods.
    for asking in (GATEWAY, *(pod.name for pod in rendered.pods())):
        edges |= {Edge(asking, server, 53, protocol) for server in (DNS, NODE_DNS) for protocol in ("TCP", "UDP")}
    # The gateway is open to all sources, and its nginx fetches its configuration.
    edges |= {
        Edge(each, GATEWAY, port)
        for each in (OUTSIDE, STRANGER, CONTROLLER, DNS, NODE_DNS, API_SERVER)
        for port in (80, 443)
    }
    if any("cert-manager.io/cluster-issuer" in _annotations(each) for each in rendered.resources_of("Gateway", None)):
        edges.add(Edge(GATEWAY, PROOF, 8089))
    edges.add(Edge(GATEWAY, CONTROLLER, 8443))
    return edges


def _annotations(resource: Resource) -> dict[str, str]:
    return dict(resource["metadata"].get("annotations", {}))
