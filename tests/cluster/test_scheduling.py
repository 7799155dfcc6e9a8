"""The real scheduler places production on nodes of the size that docs/deployment.md names, and not on smaller ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.control_plane import ControlPlane, Object, running_control_plane
from tests.cluster.definitions import install_definitions, install_storage
from tests.cluster.nodes import acting_kubelets, add_node
from tests.manifests.node_size import read_documented_node, read_node_too_small
from tests.manifests.rendering import prepare_manifests
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.controllers, pytest.mark.timeout(3600)]

_PODS: Final = "/api/v1/namespaces/towerwatch/pods"
_LEAST: Final = 17
"""The pods of production where nobody scales: two of each service, Kafka's six, two databases, Prometheus, the Job."""


@contextmanager
def running_production(folder: Path, nodes: int, cpus: float, memory_gib: float) -> Iterator[ControlPlane]:
    """Run a cluster of so many nodes in three zones, with production applied to it, until the end of the block."""
    prepare_manifests(folder)
    with running_control_plane(folder, schedules=True) as cluster:
        install_definitions(cluster)
        install_storage(cluster, volumes=12)
        for number in range(nodes):
            add_node(cluster, f"node-{number}", f"zone-{number % 3}", cpus, memory_gib)
        done = cluster.kubectl("apply", "-k", "manifests/overlays/production")
        assert done.returncode == 0, done.stderr
        yield cluster


def list_pods(cluster: ControlPlane) -> list[Object]:
    """Return the pods of Towerwatch that are not being deleted."""
    return [pod for pod in cluster.list_objects(_PODS) if "deletionTimestamp" not in pod["metadata"]]


def list_unplaced(cluster: ControlPlane) -> list[str]:
    """Return the names of the pods for which the scheduler said that no node has room or is allowed."""
    return [
        pod["metadata"]["name"]
        for pod in list_pods(cluster)
        if "nodeName" not in pod["spec"]
        and any(
            (each["type"], each["status"], each.get("reason")) == ("PodScheduled", "False", "Unschedulable")
            for each in pod["status"].get("conditions", ())
        )
    ]


def list_places(cluster: ControlPlane, name: str) -> list[str]:
    """Return the nodes of the pods with this name, one for each."""
    return sorted(
        pod["spec"].get("nodeName", "")
        for pod in list_pods(cluster)
        if pod["metadata"]["labels"]["app.kubernetes.io/name"] == name
    )


def are_all_placed(cluster: ControlPlane) -> bool:
    """Return True if all pods of production exist and have nodes, False if not yet."""
    pods = list_pods(cluster)
    return len(pods) >= _LEAST and all("nodeName" in pod["spec"] for pod in pods)


def test_production_fits_on_three_nodes_of_the_documented_size(tmp_path: Path) -> None:
    """No two brokers or controllers on one node, and each pod gets its node's zone, which Kafka spreads copies by.

    It also fits with as many of user-manager as the autoscaler may make.
    """
    with running_production(tmp_path, 3, *read_documented_node()) as cluster:
        eventually(lambda: are_all_placed(cluster), "a node for each pod", 400)
        for name in ("kafka", "kafka-controller"):
            assert list_places(cluster, name) == ["node-0", "node-1", "node-2"]
        for name in ("user-manager", "collector", "streams", "notifier"):
            assert len(set(list_places(cluster, name))) == 2, name
        for pod in list_pods(cluster):
            zone = pod["metadata"]["labels"].get("topology.kubernetes.io/zone")
            assert zone == f"zone-{pod['spec']['nodeName'].removeprefix('node-')}", pod["metadata"]["name"]
        scaler = '{"spec": {"minReplicas": 5}}'
        done = cluster.kubectl("-n", "towerwatch", "patch", "hpa", "user-manager", "--type", "merge", "-p", scaler)
        assert done.returncode == 0, done.stderr
        eventually(
            lambda: len(list_places(cluster, "user-manager")) == 5 and are_all_placed(cluster), "five of user-manager"
        )


def test_production_does_not_fit_on_the_nodes_that_are_called_too_small(tmp_path: Path) -> None:
    """Although they have nearly as much in all as the pods ask for."""
    with running_production(tmp_path, 3, *read_node_too_small()) as cluster:
        eventually(lambda: len(list_pods(cluster)) >= _LEAST, "the pods", 400)
        eventually(lambda: list_unplaced(cluster), "a pod without a node", 400)


def test_a_node_is_drained_and_a_fourth_takes_its_pods(tmp_path: Path) -> None:
    """Of four nodes one is drained as people do it: budgets let one of each go, and all find another place.

    A database is moved by hand, as docs/deployment.md says: its budget refuses the eviction.
    """
    with running_production(tmp_path, 4, *read_documented_node()) as cluster, acting_kubelets(cluster):
        eventually(lambda: are_all_placed(cluster), "a node for each pod", 400)
        (node,) = set(list_places(cluster, "data-db"))
        eventually(lambda: all(is_ready(pod) for pod in list_pods(cluster)), "the pods being ready", 400)
        drained = cluster.kubectl("drain", node, "--delete-emptydir-data", "--timeout=20s")
        assert drained.returncode != 0
        assert "disruption budget" in drained.stderr
        done = cluster.kubectl("-n", "towerwatch", "delete", "pod", "data-db-0")
        assert done.returncode == 0, done.stderr
        if node in list_places(cluster, "user-db"):
            assert cluster.kubectl("-n", "towerwatch", "delete", "pod", "user-db-0").returncode == 0
        drained = cluster.kubectl("drain", node, "--delete-emptydir-data", "--timeout=250s")
        assert drained.returncode == 0, drained.stderr
        eventually(lambda: are_all_placed(cluster), "another node for each pod", 400)
        for name in ("kafka", "kafka-controller"):
            assert len(set(list_places(cluster, name)) - {node}) == 3, name
        assert node not in {pod["spec"]["nodeName"] for pod in list_pods(cluster)}


def is_ready(pod: Object) -> bool:
    """Return True if a pod is ready, or has succeeded, False if not."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" or pod["status"].get("phase") == "Succeeded"
