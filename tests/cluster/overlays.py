"""An overlay, applied to a control plane as docs/deployment.md says, and what is true of it from then on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.control_plane import ControlPlane, Object, running_control_plane
from tests.cluster.definitions import install_definitions
from tests.manifests.rendering import Rendered, parse, prepare_manifests

NAMESPACES: Final = ("towerwatch", "towerwatch-gateway")


@dataclass(frozen=True)
class Applied:
    """A cluster to which an overlay was applied once, and kubectl's words about it."""

    cluster: ControlPlane
    rendered: Rendered
    overlay: str
    """The overlay's folder, as an argument of kubectl."""
    said: str
    warned: str
    status: int


@contextmanager
def applied_overlay(name: str, folder: Path, *, controls: bool) -> Iterator[Applied]:
    """Apply an overlay to an empty cluster without nodes, which runs during the block, with its data in `folder`.

    `controls`: with Kubernetes' controllers.
    """
    prepare_manifests(folder)
    overlay = f"manifests/overlays/{name}"
    with running_control_plane(folder, controls=controls, schedules=False) as cluster:
        install_definitions(cluster)
        text = cluster.kubectl("kustomize", overlay)
        assert text.returncode == 0, text.stderr
        done = cluster.kubectl("apply", "-k", overlay)
        yield Applied(cluster, parse(name, text.stdout), overlay, done.stdout, done.stderr, done.returncode)


def _read_objects(applied: Applied) -> list[Object]:
    """Return the overlay's objects as the API server has them, without what controllers write meanwhile."""
    done = applied.cluster.kubectl("get", "-k", applied.overlay, "--output", "json")
    assert done.returncode == 0, done.stderr
    found: list[Object] = json.loads(done.stdout)["items"]
    for each in found:
        each.pop("status", None)
        each["metadata"].pop("resourceVersion")
        each["metadata"].pop("managedFields", None)
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "user-manager"):
            # The autoscaler's.
            each["spec"].pop("replicas")
            each["metadata"].pop("generation")
            each["metadata"].pop("annotations")
    return found


def check_second_apply(applied: Applied) -> None:
    """Apply the overlay again, and fail if anything changes or differs, or is warned about.

    kubectl says "configured" of objects for which it sent a patch, also if the patch changed nothing: so objects are
    compared, with their generations.
    """
    before = _read_objects(applied)
    done = applied.cluster.kubectl("apply", "-k", applied.overlay)
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.rpartition(" ")[2] for line in done.stdout.splitlines()} <= {"unchanged", "configured"}
    assert _read_objects(applied) == before
    diff = applied.cluster.kubectl("diff", "-k", applied.overlay)
    assert (diff.returncode, diff.stdout, diff.stderr) == (0, "", "")


def check_server_side_apply(applied: Applied) -> None:
    """Apply the overlay twice on the server's side, and fail if anything differs afterwards, or is warned about."""
    for _ in range(2):
        done = applied.cluster.kubectl("apply", "-k", applied.overlay, "--server-side", "--force-conflicts")
        assert (done.returncode, done.stderr) == (0, "")
        diff = applied.cluster.kubectl("diff", "-k", applied.overlay, "--server-side", "--force-conflicts")
        assert (diff.returncode, diff.stdout, diff.stderr) == (0, "", "")
