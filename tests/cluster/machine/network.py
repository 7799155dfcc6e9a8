"""The network of the cluster: a bridge of this machine, and a network namespace with a cable to it for each node."""

import subprocess
from pathlib import Path
from typing import Final

from tests.cluster.machine.layout import BRIDGE, HOST, NODES, Node

_SETTINGS: Final = (
    "net.ipv4.ip_forward=1",
    # What one pod sends to another of its node passes kube-proxy's rules and the NetworkPolicies, too.
    "net.bridge.bridge-nf-call-iptables=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
)


def lay_bridge() -> None:
    """Make the bridge with the machine's address on it, unless it exists."""
    if not Path("/sys/class/net", BRIDGE).exists():
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", f"{HOST}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")


def connect_node(node: Node) -> None:
    """Make the node's network namespace with routes to the pods of the others, unless it exists."""
    name = node.part
    if Path("/run/netns", name).exists():
        return
    run("ip", "netns", "add", name)
    run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "link", "set", name, "master", BRIDGE, "up")
    run("ip", "-n", name, "addr", "add", f"{node.address}/24", "dev", "eth0")
    for link in ("lo", "eth0"):
        run("ip", "-n", name, "link", "set", link, "up")
    run("ip", "-n", name, "route", "add", "default", "via", HOST)
    for other in NODES:
        if other != node:
            run("ip", "-n", name, "route", "add", other.pods, "via", other.address)
    run("ip", "route", "replace", node.pods, "via", node.address)
    run("nsenter", f"--net=/run/netns/{name}", "sysctl", "-qw", *_SETTINGS)


def remove_network() -> None:
    """Delete the bridge and the nodes' network namespaces, as far as they exist."""
    for node in NODES:
        if Path("/run/netns", node.part).exists():
            run("ip", "netns", "delete", node.part)
    for link in (BRIDGE, *(node.part for node in NODES)):
        if Path("/sys/class/net", link).exists():
            # An end of a cable goes with the other end's namespace, a moment later.
            subprocess.run(["ip", "link", "delete", link], capture_output=True, check=False)


def run(*command: str | Path, given: str | None = None) -> str:
    """Run a program and return its standard output; fail with its standard error if it fails."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))} failed: {done.stderr.strip()}"
    return done.stdout
