"""The cluster itself: made, filled, brought up to date, deleted."""

from datetime import UTC, datetime
from typing import Final

from local.kind import clock, secrets
from local.kind.commands import CLUSTER, kubectl, require, run, run_quietly
from local.processes import ROOT

OVERLAY: Final = ROOT / "manifests" / "overlays" / "kind"
SECRETS: Final = OVERLAY / "secrets"
CLOCK: Final = OVERLAY / "clock.env"
IMAGE: Final = "towerwatch:kind"
NAMESPACE: Final = "towerwatch"

GATEWAY_API: Final = "v1.5.1"
GATEWAY_FABRIC: Final = "v2.6.5"
_FABRIC: Final = f"https://raw.githubusercontent.com/nginx/nginx-gateway-fabric/{GATEWAY_FABRIC}/deploy"
_DEFINITIONS: Final = (
    f"https://github.com/kubernetes-sigs/gateway-api/releases/download/{GATEWAY_API}/standard-install.yaml",
    f"{_FABRIC}/crds.yaml",
)
_CONTROLLER: Final = f"{_FABRIC}/default/deploy.yaml"

OURS: Final = ("user-manager", "collector", "streams", "notifier", "opensky", "mailbox")
_WAIT: Final = "--timeout=10m"


def up() -> None:
    """Make the cluster where there is none, and bring what is in it up to date. Raises LocalError."""
    require("docker", "kind", "kubectl")
    there = exists()
    if not there:
        run("kind", "create", "cluster", "--config", str(ROOT / "kind.yaml"), "--wait", "180s")
    run("docker", "build", "--target", "kind", "--tag", IMAGE, str(ROOT))
    run("kind", "load", "docker-image", IMAGE, "--name", CLUSTER)
    for manifest in _DEFINITIONS:
        # Some definitions are too long for the annotation that a client-side apply makes.
        run(*kubectl("apply", "--server-side", "--force-conflicts", "--filename", manifest))
    # The controller's manifest has resources of these kinds, which the API server takes a moment to know.
    run(*kubectl("wait", "--for=condition=Established", "customresourcedefinitions", "--all", _WAIT))
    run(*kubectl("apply", "--server-side", "--force-conflicts", "--filename", _CONTROLLER))
    run(*kubectl("--namespace", "nginx-gateway", "rollout", "status", "deployment/nginx-gateway", _WAIT))
    secrets.make(SECRETS)
    if not CLOCK.exists():
        clock.write(CLOCK, clock.for_daily_use(datetime.now(UTC)))
    apply(restart=there)


def apply(*, restart: bool) -> None:
    """Apply the overlay, and return when all of it is ready. `restart`: the image may be another by the same name."""
    # A Job cannot be changed; this one may always be run again.
    run(*kubectl("--namespace", NAMESPACE, "delete", "job/topics", "--ignore-not-found"))
    run(*kubectl("apply", "--kustomize", str(OVERLAY)))
    if restart:
        run(*kubectl("--namespace", NAMESPACE, "rollout", "restart", *(f"deployment/{name}" for name in OURS)))
    run(*kubectl("--namespace", NAMESPACE, "rollout", "status", "statefulset/kafka", _WAIT))
    # At once: some minutes after its end it is gone by itself.
    run(*kubectl("--namespace", NAMESPACE, "wait", "--for=condition=Complete", "job/topics", _WAIT))
    for name in ("user-db", "data-db"):
        run(*kubectl("--namespace", NAMESPACE, "rollout", "status", f"statefulset/{name}", _WAIT))
    for name in (*OURS, "prometheus"):
        run(*kubectl("--namespace", NAMESPACE, "rollout", "status", f"deployment/{name}", _WAIT))
    run(
        *kubectl("--namespace", "towerwatch-gateway", "wait", "--for=condition=Programmed", "gateway/towerwatch", _WAIT)
    )


def empty() -> None:
    """Delete everything of Towerwatch's in the cluster, with its data."""
    run(*kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait", _WAIT))


def down() -> None:
    """Delete the cluster with all that is in it, and the secrets that were made for it. Raises LocalError."""
    require("docker", "kind")
    run("kind", "delete", "cluster", "--name", CLUSTER)
    for made in (CLOCK, *(path for path in SECRETS.glob("*") if path.suffix != ".example")):
        made.unlink(missing_ok=True)


def exists() -> bool:
    return CLUSTER in run_quietly("kind", "get", "clusters").stdout.split()
