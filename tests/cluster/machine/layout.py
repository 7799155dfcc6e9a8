"""Where the cluster of one machine keeps its files, and the addresses and names of its parts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.processes import ROOT

PROGRAMS: Final = ROOT / "build" / "cluster"
"""What build.sh makes."""
FILES: Final = ROOT / "build" / "machine"
"""All that the cluster writes: what outlives it, the images, and RUN."""
RUN: Final = FILES / "run"
"""What the running cluster writes; deleted with it."""
KEYS: Final = RUN / "keys"
KUBECONFIG: Final = KEYS / "admin.conf"

BRIDGE: Final = "towerwatch0"
HOST: Final = "172.30.0.1"
"""The address of the machine on the bridge, where the API server listens."""
API: Final = f"https://{HOST}:6443"
API_SERVICE: Final = "10.96.0.1"
"""The address of the Service `kubernetes`: the first of SERVICES, which each pod takes for the API server."""
SERVICES: Final = "10.96.0.0/16"
PODS: Final = "10.244.0.0/16"
DNS: Final = "10.96.0.10"
ENTRY_PORT: Final = 30443
"""The port of each node that leads to the entry's HTTPS."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster: a network namespace of this machine with a kubelet, containerd and kube-proxy in it."""

    number: int
    zone: str

    @property
    def name(self) -> str:
        """The node's name in the cluster."""
        return f"node-{self.number}"

    @property
    def part(self) -> str:
        """The name of what the machine has for this node alone: network namespace, end of the cable, cgroup."""
        return f"towerwatch{self.number}"

    @property
    def address(self) -> str:
        """The node's IP address on the bridge."""
        return f"172.30.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        """The network of the node's pods."""
        return f"10.244.{self.number}.0/24"

    @property
    def folder(self) -> Path:
        """The folder of all files of this node."""
        return RUN / self.name

    @property
    def socket(self) -> Path:
        """The socket of the node's containerd."""
        return self.folder / "containerd.sock"


NODES: Final = (Node(1, "a"), Node(2, "b"))
