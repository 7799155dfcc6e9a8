"""`python -m tests.cluster.machine.provide`: gives claims their volumes, and says of the Gateway that it is programmed.

It stands for the parts that a cluster has besides Kubernetes: a storage class that makes folders, as kind's does, and
the controller of a GatewayClass. Runs until a signal.
"""

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from tests.cluster.machine.control import open_api
from tests.cluster.machine.layout import NODES

CLASS: Final = "standard"
PROVISIONER: Final = "towerwatch.test/folder"
_GATEWAYS: Final = "/apis/gateway.networking.k8s.io/v1/namespaces/towerwatch-gateway/gateways"
_ENTRY: Final = "/apis/apps/v1/namespaces/towerwatch-gateway/deployments/entry"
_PAUSE_S: Final = 1.0

Object = dict[str, Any]


def main() -> None:
    """Look at all claims, volumes and the Gateway once a second; the API server may be away meanwhile."""
    with open_api() as api:
        while True:
            try:
                _make_volumes(api)
                _delete_volumes(api)
                _report_gateway(api)
            except (httpx.HTTPError, KeyError) as error:  # a kind that is not defined yet has no items
                print(type(error).__name__, error, flush=True)
            time.sleep(_PAUSE_S)


def _make_volumes(api: httpx.Client) -> None:
    """Make a volume for each claim for which the scheduler has chosen a node."""
    folders = {node.name: node.folder / "volumes" for node in NODES}
    existing = {volume["metadata"]["name"] for volume in _list(api, "/api/v1/persistentvolumes")}
    for claim in _list(api, "/api/v1/persistentvolumeclaims"):
        node = claim["metadata"].get("annotations", {}).get("volume.kubernetes.io/selected-node")
        name = f"claim-{claim['metadata']['uid']}"
        if claim["status"]["phase"] != "Pending" or node not in folders or name in existing:
            continue
        path = folders[node] / name
        path.mkdir(parents=True)
        path.chmod(0o777)
        answer = api.post("/api/v1/persistentvolumes", json=_describe_volume(name, claim, node, path))
        answer.raise_for_status()


def _describe_volume(name: str, claim: Object, node: str, path: Path) -> Object:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "capacity": claim["spec"]["resources"]["requests"],
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
            "hostPath": {"path": str(path), "type": "Directory"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim["metadata"]["namespace"],
                "name": claim["metadata"]["name"],
                "uid": claim["metadata"]["uid"],
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }


def _delete_volumes(api: httpx.Client) -> None:
    """Delete each volume whose claim is deleted, with its folder."""
    for volume in _list(api, "/api/v1/persistentvolumes"):
        if volume["status"].get("phase") in ("Released", "Failed"):
            api.delete(f"/api/v1/persistentvolumes/{volume['metadata']['name']}").raise_for_status()
            shutil.rmtree(volume["spec"]["hostPath"]["path"], ignore_errors=True)


def _report_gateway(api: httpx.Client) -> None:
    """Say of each Gateway that it is programmed, once the entry that stands for it is available."""
    entry = api.get(_ENTRY)
    if entry.is_error or not entry.json()["status"].get("availableReplicas"):
        return
    for gateway in _list(api, _GATEWAYS):
        if any(
            (each["type"], each["status"]) == ("Programmed", "True")
            for each in gateway.get("status", {}).get("conditions", ())
        ):
            continue
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {
            "type": "Programmed", "status": "True", "reason": "Programmed", "message": "by a stand-in",
            "lastTransitionTime": now, "observedGeneration": gateway["metadata"]["generation"],
        }  # fmt: skip
        answer = api.patch(
            f"{_GATEWAYS}/{gateway['metadata']['name']}/status",
            json={"status": {"conditions": [condition | {"type": "Accepted", "reason": "Accepted"}, condition]}},
            headers={"Content-Type": "application/merge-patch+json"},
        )
        answer.raise_for_status()


def _list(api: httpx.Client, path: str) -> list[Object]:
    return list(api.get(path).json()["items"])


if __name__ == "__main__":
    main()
