"""Nodes that exist in a cluster and run nothing, and what stands for their kubelets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Final

import httpx

from tests.cluster.control_plane import ControlPlane, Object
from tests.waiting import eventually

_PAUSE_S: Final = 0.2


def add_node(cluster: ControlPlane, name: str, zone: str, cpus: float, memory_gib: float) -> None:
    """Add a ready node with so much that pods may ask for, and wait until the scheduler may use it."""
    has = {
        "cpu": f"{round(cpus * 1000)}m",
        "memory": f"{round(memory_gib * 1024)}Mi",
        "pods": "110",
        "ephemeral-storage": "100Gi",
    }
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now}
    node: Object = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": zone,
            },
        },
        "status": {"capacity": has, "allocatable": has, "conditions": [ready | {"reason": "Test", "message": ""}]},
    }
    answer = cluster.post("/api/v1/nodes", node)
    assert answer.status_code == 201, answer.text
    eventually(
        lambda: not cluster.api.get(f"/api/v1/nodes/{name}").json()["spec"].get("taints"), f"{name} being usable"
    )


@contextmanager
def acting_kubelets(cluster: ControlPlane) -> Iterator[None]:
    """Report to the API server, during the block, what the nodes' kubelets would report if all containers ran well.

    A pod on a node becomes running and ready; a pod of a Job succeeds; a deleted pod disappears.
    """
    stopping = threading.Event()
    faults: list[BaseException] = []

    def act() -> None:
        """Look at all pods again and again, until the block ends."""
        try:
            while not stopping.wait(_PAUSE_S):
                for pod in cluster.list_objects("/api/v1/pods"):
                    _act_on_pod(cluster.api, pod)
        except BaseException as fault:  # noqa: BLE001 - it is raised at the block's end, on the test's thread
            faults.append(fault)

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    if faults:
        raise faults[0]


def _act_on_pod(api: httpx.Client, pod: Object) -> None:
    """Make the next change of a pod that the kubelet of its node would make; do nothing for a pod without a node."""
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
    if "nodeName" not in pod["spec"]:
        return
    if "deletionTimestamp" in metadata:
        answer = api.request("DELETE", path, json={"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}})
    elif pod["status"].get("phase") == "Pending" or (_is_of_job(pod) and pod["status"].get("phase") == "Running"):
        status = {"status": build_pod_status(pod)}
        answer = api.patch(f"{path}/status", json=status, headers={"Content-Type": "application/merge-patch+json"})
    else:
        return
    # Gone or changed in between: the next look shows it.
    assert answer.is_success or answer.status_code in (404, 409), answer.text


def _is_of_job(pod: Object) -> bool:
    return any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences", ()))


def build_pod_status(pod: Object, restarts: int = 0) -> Object:
    """Return the status of a pod whose containers are ready, or, if it is of a Job, have succeeded.

    `restarts`: number of restarts of each container so far.
    """
    is_of_job = _is_of_job(pod)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # An address of its own, and none of loopback: the controller of EndpointSlices refuses those.
    address = str(IPv4Address("10.0.0.0") + int(pod["metadata"]["uid"][:6], 16))
    ended = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
    return {
        "phase": "Succeeded" if is_of_job else "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": now,
        "conditions": [
            {"type": kind, "status": "False" if is_of_job and kind != "PodScheduled" else "True",
             "lastTransitionTime": now}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": container["image"],
                "ready": not is_of_job,
                "started": not is_of_job,
                "restartCount": restarts,
                "state": ended if is_of_job else {"running": {"startedAt": now}},
            }
            for container in pod["spec"]["containers"]
        ],
    }  # fmt: skip
