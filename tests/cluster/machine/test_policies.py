"""The stand-in for a network plugin means by its rules what Kubernetes means by its policies."""

import re
from typing import Any

from hypothesis import given, strategies as st

from tests.cluster.machine.policies import Direction, Pod, is_selected, list_addressed, read_direction

NAMESPACES = {name: {"kubernetes.io/metadata.name": name} for name in ("ours", "theirs")}
LABELS = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["a", "b"]), max_size=2)
PORTS = (80, 443)

_terms = st.one_of(
    st.builds(lambda key, values: {"key": key, "operator": "In", "values": values},
              st.sampled_from(["app", "tier"]), st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=2)),
    st.builds(lambda key, operator: {"key": key, "operator": operator},
              st.sampled_from(["app", "tier"]), st.sampled_from(["Exists", "DoesNotExist"])),
)  # fmt: skip
_selectors = st.fixed_dictionaries(
    {}, optional={"matchLabels": LABELS, "matchExpressions": st.lists(_terms, max_size=1)}
)
_namespace_selectors = st.one_of(
    st.just({}), st.builds(lambda name: {"matchLabels": NAMESPACES[name]}, st.sampled_from(sorted(NAMESPACES)))
)
_peers = st.one_of(
    st.builds(lambda pods: {"podSelector": pods}, _selectors),
    st.builds(lambda names: {"namespaceSelector": names}, _namespace_selectors),
    st.builds(lambda names, pods: {"namespaceSelector": names, "podSelector": pods}, _namespace_selectors, _selectors),
)
_ports = st.lists(st.builds(lambda port: {"protocol": "TCP", "port": port}, st.sampled_from(PORTS)), max_size=2)
_rules = st.builds(
    lambda peers, ports: ({"from": peers} if peers else {}) | ({"ports": ports} if ports else {}),
    st.lists(_peers, max_size=2), _ports,
)  # fmt: skip
_policies = st.builds(
    lambda home, pods, rules, kinds: {
        "metadata": {"namespace": home},
        "spec": {"podSelector": pods, "ingress": rules, "policyTypes": kinds},
    },
    st.sampled_from(sorted(NAMESPACES)), _selectors, st.lists(_rules, max_size=2),
    st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
)  # fmt: skip
_pods = st.lists(st.tuples(st.sampled_from(sorted(NAMESPACES)), LABELS), min_size=2, max_size=4).map(
    lambda drawn: [Pod(f"10.0.0.{number}", *each) for number, each in enumerate(drawn)]
)


@given(_pods, st.lists(_policies, max_size=3))
def test_rules_admit_what_the_policies_admit(pods: list[Pod], policies: list[dict[str, Any]]) -> None:
    """Kubernetes' rules: closed if a policy selects the pod; then open for what any rule of any such policy names."""
    direction = read_direction("Ingress", policies, pods, NAMESPACES)
    for source in pods:
        for target in pods:
            for port in PORTS:
                assert lets_in(direction, source, target, port) == is_admitted(policies, source, target, port)


def lets_in(direction: Direction, source: Pod, target: Pod, port: int) -> bool:
    """Read the rules as nft does: each match of a rule must hold."""
    if target.address not in direction.closed:
        return True
    for rule in direction.rules:
        sets = dict(re.findall(r"ip (saddr|daddr) \{ ([^}]*) \}", rule))
        ports = re.findall(r"tcp dport (\d+)", rule)
        if (
            target.address in sets["daddr"].split(", ")
            and ("saddr" not in sets or source.address in sets["saddr"].split(", "))
            and (not ports or str(port) in ports)
        ):
            return True
    return False


def is_admitted(policies: list[dict[str, Any]], source: Pod, target: Pod, port: int) -> bool:
    """Decide by brute force, from the text of the API: https://kubernetes.io/docs/concepts/services-networking/."""
    closing = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == target.namespace
        and "Ingress" in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], target.labels)
    ]
    return not closing or any(
        (not rule.get("ports") or port in [each["port"] for each in rule["ports"]])
        and (not rule.get("from") or any(is_peer(peer, source, target) for peer in rule["from"]))
        for policy in closing
        for rule in policy["spec"]["ingress"]
    )


def is_peer(peer: dict[str, Any], source: Pod, target: Pod) -> bool:
    """Return True if the source is who the peer describes, seen from the target's namespace."""
    if "namespaceSelector" in peer:
        in_scope = selects(peer["namespaceSelector"], NAMESPACES[source.namespace])
    else:
        in_scope = source.namespace == target.namespace
    return in_scope and selects(peer.get("podSelector", {}), source.labels)


def selects(selector: dict[str, Any], labels: Any) -> bool:
    """Decide by brute force over all terms."""
    wanted = set(selector.get("matchLabels", {}).items()) <= set(labels.items())
    for term in selector.get("matchExpressions", []):
        has = term["key"] in labels
        if term["operator"] == "In":
            wanted &= has and labels[term["key"]] in term["values"]
        else:
            wanted &= has == (term["operator"] == "Exists")
    return wanted


def test_a_selector_that_excludes_values_takes_pods_without_the_label() -> None:
    """As Kubernetes says of NotIn."""
    term = {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}
    assert is_selected(term, {})
    assert is_selected(term, {"app": "b"})
    assert not is_selected(term, {"app": "a"})


def test_an_address_block_leaves_out_its_exceptions() -> None:
    """A whole block is named, everywhere is not; and what is left out is excluded in either."""

    def read(cidr: str) -> str:
        peer = {"ipBlock": {"cidr": cidr, "except": ["10.1.0.0/16"]}}
        policy = {
            "metadata": {"namespace": "ours"},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [peer]}]},
        }
        (rule,) = read_direction("Egress", [policy], [Pod("10.0.0.1", "ours", {})], NAMESPACES).rules
        return " ".join(rule.split())

    assert read("10.0.0.0/8") == "ip saddr { 10.0.0.1 } ip daddr 10.0.0.0/8 ip daddr != { 10.1.0.0/16 }"
    assert read("0.0.0.0/0") == "ip saddr { 10.0.0.1 } ip daddr != { 10.1.0.0/16 }"


def test_ended_pods_and_those_of_a_node_have_no_address_of_their_own() -> None:
    """An ended pod's address may already be another's."""

    def describe(phase: str, **spec: bool) -> dict[str, Any]:
        return {"metadata": {"namespace": "ours"}, "spec": spec, "status": {"phase": phase, "podIP": "10.0.0.1"}}

    assert list_addressed([describe("Running")]) == [Pod("10.0.0.1", "ours", {})]
    assert list_addressed([describe("Succeeded"), describe("Failed"), describe("Running", hostNetwork=True)]) == []
