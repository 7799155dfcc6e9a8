"""`python -m tests.cluster.machine.policies`: enforces NetworkPolicies in the network namespace of a node.

It stands for what a network plugin does, by rules of nftables in the forward hook: there Services are resolved
already, and what the node itself sends to its pods (probes) does not come by. Named ports and `endPort` are not known.
Each refused packet is counted in the set `refused`. Runs until a signal.
"""

import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from tests.cluster.machine.control import open_api

TABLE: Final = "towerwatch_policies"
_PAUSE_S: Final = 0.5

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod with an address of its own."""

    address: str
    namespace: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Direction:
    """The policies of one direction: the pods that they close, and the edges that they open nevertheless."""

    closed: frozenset[str]
    rules: tuple[str, ...]
    """Matches of nftables, each for traffic that some policy allows."""


def main() -> None:
    """Look at policies and pods twice a second, and set the rules anew when they differ."""
    before = None
    with open_api() as api:
        while True:
            try:
                namespaces = {
                    each["metadata"]["name"]: each["metadata"].get("labels", {})
                    for each in _list(api, "/api/v1/namespaces")
                }
                pods = list_addressed(_list(api, "/api/v1/pods"))
                policies = _list(api, "/apis/networking.k8s.io/v1/networkpolicies")
                script = write_script(
                    read_direction("Egress", policies, pods, namespaces),
                    read_direction("Ingress", policies, pods, namespaces),
                )
            except (httpx.HTTPError, KeyError) as error:
                print(type(error).__name__, error, flush=True)
            else:
                if script != before:
                    subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)
                    before = script
            time.sleep(_PAUSE_S)


def list_addressed(pods: Iterable[Object]) -> list[Pod]:
    """Return the pods that have an address of their own and have not ended."""
    return [
        Pod(pod["status"]["podIP"], pod["metadata"]["namespace"], pod["metadata"].get("labels", {}))
        for pod in pods
        if pod["status"].get("podIP")
        and pod["status"].get("phase") in ("Pending", "Running")
        and not pod["spec"].get("hostNetwork")
    ]


def is_selected(selector: Object, labels: Mapping[str, str]) -> bool:
    """Return True if a label selector selects these labels, else False. An empty one selects everything."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for term in selector.get("matchExpressions", ()):
        value = labels.get(term["key"])
        holds = {
            "In": lambda: value in term["values"],  # noqa: B023 - called at once
            "NotIn": lambda: value not in term["values"],  # noqa: B023
            "Exists": lambda: value is not None,  # noqa: B023
            "DoesNotExist": lambda: value is None,  # noqa: B023
        }[term["operator"]]
        if not holds():
            return False
    return True


def read_direction(
    kind: str, policies: Sequence[Object], pods: Sequence[Pod], namespaces: Mapping[str, Mapping[str, str]]
) -> Direction:
    """Return what the policies say of the direction `kind`, Ingress or Egress."""
    near, far = ("daddr", "saddr") if kind == "Ingress" else ("saddr", "daddr")
    closed: set[str] = set()
    rules: list[str] = []
    for policy in policies:
        home, spec = policy["metadata"]["namespace"], policy["spec"]
        mine = {pod.address for pod in pods if pod.namespace == home and is_selected(spec["podSelector"], pod.labels)}
        if kind not in spec.get("policyTypes", ["Ingress"]) or not mine:
            continue
        closed |= mine
        for rule in spec.get(kind.lower(), ()):
            peers = _read_peers(rule.get("from" if kind == "Ingress" else "to", ()), home, far, pods, namespaces)
            ports = [
                f"{port.get('protocol', 'TCP').lower()} dport {port['port']}" if "port" in port
                else f"meta l4proto {port.get('protocol', 'TCP').lower()}"
                for port in rule.get("ports", ())
            ]  # fmt: skip
            for peer in peers:
                for port in ports or [""]:
                    rules.append(f"ip {near} {_write_set(mine)} {peer} {port}")
    return Direction(frozenset(closed), tuple(rules))


def _read_peers(
    peers: Sequence[Object],
    home: str,
    far: str,
    pods: Sequence[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
) -> list[str]:
    """Return a match of nftables for each kind of peer; one that matches everybody where none is named."""
    if not peers:
        return [""]
    matches = []
    addresses: set[str] = set()
    for peer in peers:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            left_out = [each for each in block.get("except", ()) if ":" not in each]
            if ":" not in block["cidr"]:
                whole = f"ip {far} {block['cidr']}" if not block["cidr"].endswith("/0") else ""
                matches.append(f"{whole} {f'ip {far} != {_write_set(left_out)}' if left_out else ''}")
            continue
        addresses |= {
            pod.address
            for pod in pods
            if (
                is_selected(peer["namespaceSelector"], namespaces[pod.namespace])
                if "namespaceSelector" in peer
                else pod.namespace == home
            )
            and is_selected(peer.get("podSelector", {}), pod.labels)
        }
    return [*matches, f"ip {far} {_write_set(addresses)}"] if addresses else matches


def write_script(egress: Direction, ingress: Direction) -> str:
    """Return the script of nft that replaces all rules at once; a packet has to be allowed in both directions."""
    refused = (
        "{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags dynamic,timeout; timeout 1h; size 4096; }"
    )
    lines = [
        f"table ip {TABLE} {{",
        f"  set refused {refused}",
        "  chain forward { type filter hook forward priority 10; policy accept; }",
        "  chain egress { }",
        "  chain ingress { }",
        "}",
        *(f"flush chain ip {TABLE} {chain}" for chain in ("forward", "egress", "ingress")),
        f"add rule ip {TABLE} forward ct state established,related accept",
        f"add rule ip {TABLE} forward jump egress",
        f"add rule ip {TABLE} forward jump ingress",
    ]
    for chain, near, direction in (("egress", "saddr", egress), ("ingress", "daddr", ingress)):
        if not direction.closed:
            continue
        start = f"add rule ip {TABLE} {chain}"
        lines.append(f"{start} ip {near} != {_write_set(direction.closed)} return")
        lines += [f"{start} {rule} return" for rule in direction.rules]
        packet = "ip saddr . ip daddr . meta l4proto . th dport"
        lines.append(f"{start} meta l4proto {{ tcp, udp }} update @refused {{ {packet} }} drop")
        lines.append(f"{start} drop")
    return "\n".join((*lines, ""))


def _write_set(members: Iterable[str]) -> str:
    return f"{{ {', '.join(sorted(members))} }}"


def _list(api: httpx.Client, path: str) -> list[Object]:
    return list(api.get(path).json()["items"])


if __name__ == "__main__":
    main()
