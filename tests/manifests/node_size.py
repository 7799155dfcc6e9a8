"""The resources that the pods request, and the nodes that docs/deployment.md asks for."""

import re
from dataclasses import dataclass
from typing import Final

from local.processes import ROOT
from tests.manifests.rendering import Rendered, Resource

NODES: Final = 3
_UNITS: Final = {"": 1.0, "m": 1e-3, "Mi": 2.0**-10, "Gi": 1.0}
"""CPUs are counted as they are, memory in GiB."""


@dataclass(frozen=True)
class Piece:
    """Pods of one owner: how many there may be, what each asks for, and the most of them on one of NODES nodes."""

    name: str
    replicas: int
    cpus: float
    memory_gib: float
    most_on_a_node: int


def read_documented_node() -> tuple[float, float]:
    """Return the CPUs and the GiB that docs/deployment.md wants free on each node."""
    text = " ".join((ROOT / "docs" / "deployment.md").read_text().split())
    found = re.search(r"each with ([0-9.]+) CPUs and ([0-9.]+) GiB free for requests", text)
    assert found is not None
    return float(found[1]), float(found[2])


def read_node_too_small() -> tuple[float, float]:
    """Return the CPUs and the GiB of the nodes of which docs/deployment.md says that they do not suffice."""
    text = " ".join((ROOT / "docs" / "deployment.md").read_text().split())
    found = re.search(r"on three nodes of ([0-9.]+) CPUs and ([0-9.]+) GiB a broker stays Pending", text)
    assert found is not None
    return float(found[1]), float(found[2])


def list_pieces(rendered: Rendered) -> list[Piece]:
    """Return the requests of the pods of each owner with its most replicas, and of the controller's nginx."""
    most = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]["maxReplicas"]
        for each in rendered.resources_of("HorizontalPodAutoscaler")
    }
    pieces = [
        _build_piece(
            pod.name,
            int(most.get(pod.name, pod.owner["spec"].get("replicas", 1))),
            pod.container["resources"],
            spread=_is_spread(pod.spec),
        )
        for pod in rendered.pods()
    ]
    (proxy,) = rendered.resources_of("NginxProxy", None)
    nginx = proxy["spec"]["kubernetes"]["deployment"]
    pieces.append(
        _build_piece("nginx", nginx["replicas"], nginx["container"]["resources"], spread=_is_spread(nginx["pod"]))
    )
    return pieces


def _build_piece(name: str, replicas: int, resources: Resource, *, spread: bool) -> Piece:
    requests = resources["requests"]
    most = -(-replicas // NODES) if spread else replicas
    return Piece(name, replicas, _read_amount(requests["cpu"]), _read_amount(requests["memory"]), most)


def _is_spread(spec: Resource) -> bool:
    """Return True if the scheduler must spread these pods evenly over the nodes, False if all may be on one."""
    if spec.get("affinity", {}).get("podAntiAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution"):
        return True
    return any(
        (each["topologyKey"], each["whenUnsatisfiable"], each["maxSkew"])
        == ("kubernetes.io/hostname", "DoNotSchedule", 1)
        for each in spec.get("topologySpreadConstraints", ())
    )


def _read_amount(quantity: str) -> float:
    """Return a quantity of CPUs, or of memory in GiB."""
    found = re.fullmatch(r"([0-9.]+)(m|Mi|Gi)?", str(quantity))
    assert found is not None, quantity
    return float(found[1]) * _UNITS[found[2] or ""]
