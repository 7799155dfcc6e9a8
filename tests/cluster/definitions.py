"""The parts of a cluster of docs/deployment.md that Towerwatch finds there: the gateway's kinds, and storage."""

from typing import Final

from tests.cluster.control_plane import ControlPlane, Object
from tests.cluster.programs import require_tools

_NGINX_KINDS: Final = {
    "NginxProxy": ("nginxproxies", "v1alpha2"),
    "AuthenticationFilter": ("authenticationfilters", "v1alpha1"),
}
"""The kinds of NGINX Gateway Fabric that the manifests use, with their plural and version."""


def install_definitions(cluster: ControlPlane) -> None:
    """Define the kinds of Gateway API and of NGINX Gateway Fabric, and wait until the API server serves them.

    NGINX's kinds are defined without a schema, since no registry has its own: any content is admitted.
    """
    done = cluster.kubectl("apply", "--server-side", "--filename", str(require_tools()))
    assert done.returncode == 0, done.stderr
    for kind in describe_nginx_kinds():
        cluster.apply_object(kind)
    done = cluster.kubectl(
        "wait", "--for=condition=Established", "customresourcedefinitions", "--all", "--timeout=240s"
    )
    assert done.returncode == 0, done.stderr


def describe_nginx_kinds() -> list[Object]:
    """Return definitions of NGINX's kinds."""
    return [_define_without_schema(kind, plural, version) for kind, (plural, version) in _NGINX_KINDS.items()]


def _define_without_schema(kind: str, plural: str, version: str) -> Object:
    """Return the definition of a namespaced kind of gateway.nginx.org whose content is anything."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.gateway.nginx.org"},
        "spec": {
            "group": "gateway.nginx.org",
            "scope": "Namespaced",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "versions": [
                {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}},
            ],
        },
    }


def install_storage(cluster: ControlPlane, volumes: int) -> None:
    """Make a default StorageClass, and as many volumes of it, which any node can have; a claim takes one."""
    cluster.apply_object(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    )
    for number in range(volumes):
        answer = cluster.post(
            "/api/v1/persistentvolumes",
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"volume-{number}"},
                "spec": {
                    "capacity": {"storage": "100Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "standard",
                    "persistentVolumeReclaimPolicy": "Retain",
                    "nfs": {"server": "127.0.0.1", "path": f"/{number}"},
                },
            },
        )
        assert answer.status_code == 201, answer.text
