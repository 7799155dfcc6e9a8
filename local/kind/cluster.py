"""The commands that create the cluster, deploy to it, and delete it."""

from datetime import UTC, datetime
from typing import Final

from local.errors import LocalError
from local.kind import clock, secrets
from local.kind.commands import CLUSTER, CONTEXT, capture_command, kubectl_command, require_programs, run_command
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


def bring_up() -> None:
    """Create the cluster if it does not exist, build the image, deploy everything, and wait until all of it is ready.

    Installs the gateway's definitions and controller, too. Makes the secrets and a daily clock if they do not exist; in
    a cluster that existed, restarts the pods. Raises LocalError if a program is missing or a command fails.
    """
    require_programs("docker", "kind", "kubectl")
    existed = cluster_exists()
    if not existed:
        run_command("kind", "create", "cluster", "--config", str(ROOT / "kind.yaml"), "--wait", "180s")
    run_command("docker", "build", "--target", "kind", "--tag", IMAGE, str(ROOT))
    run_command("kind", "load", "docker-image", IMAGE, "--name", CLUSTER)
    for manifest in _DEFINITIONS:
        # Some definitions are too long for the annotation that a client-side apply makes.
        run_command(*kubectl_command("apply", "--server-side", "--force-conflicts", "--filename", manifest))
    # The controller's manifest has resources of these kinds, which the API server accepts after a moment only.
    run_command(*kubectl_command("wait", "--for=condition=Established", "customresourcedefinitions", "--all", _WAIT))
    run_command(*kubectl_command("apply", "--server-side", "--force-conflicts", "--filename", _CONTROLLER))
    run_command(
        *kubectl_command("--namespace", "nginx-gateway", "rollout", "status", "deployment/nginx-gateway", _WAIT)
    )
    secrets.make_secrets(SECRETS)
    if not CLOCK.exists():
        clock.write_clock(CLOCK, clock.make_daily_clock(datetime.now(UTC)))
    deploy_overlay(restart=existed)


def deploy_overlay(*, restart: bool) -> None:
    """Apply the manifests of the overlay for kind, and wait until all that they describe is ready.

    The Job that makes the topics is deleted first, so it runs again. `restart`: also restart the pods of our own
    Deployments, for the image may be a new one with the same name. Each wait takes ten minutes at most. Raises
    LocalError if a command fails or a wait times out.
    """
    # A Job cannot be changed; this one may always be run again.
    run_command(*kubectl_command("--namespace", NAMESPACE, "delete", "job/topics", "--ignore-not-found"))
    run_command(*kubectl_command("apply", "--kustomize", str(OVERLAY)))
    if restart:
        run_command(
            *kubectl_command("--namespace", NAMESPACE, "rollout", "restart", *(f"deployment/{name}" for name in OURS))
        )
    run_command(*kubectl_command("--namespace", NAMESPACE, "rollout", "status", "statefulset/kafka", _WAIT))
    # The first of the waits: some minutes after its end the Job is deleted by itself.
    run_command(*kubectl_command("--namespace", NAMESPACE, "wait", "--for=condition=Complete", "job/topics", _WAIT))
    for name in ("user-db", "data-db"):
        run_command(*kubectl_command("--namespace", NAMESPACE, "rollout", "status", f"statefulset/{name}", _WAIT))
    for name in (*OURS, "prometheus"):
        run_command(*kubectl_command("--namespace", NAMESPACE, "rollout", "status", f"deployment/{name}", _WAIT))
    run_command(
        *kubectl_command(
            "--namespace", "towerwatch-gateway", "wait", "--for=condition=Programmed", "gateway/towerwatch", _WAIT
        )
    )


def delete_namespace() -> None:
    """Delete Towerwatch's namespace in the cluster, with all its data, and wait until it is deleted.

    Does nothing if the namespace does not exist. Raises LocalError if the command fails or times out.
    """
    run_command(*kubectl_command("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait", _WAIT))


def tear_down() -> None:
    """Delete the cluster with all that is in it, and its secrets and clock file on this machine.

    Raises LocalError if a program is missing or the deletion fails.
    """
    require_programs("docker", "kind")
    run_command("kind", "delete", "cluster", "--name", CLUSTER)
    for made in (CLOCK, *(path for path in SECRETS.glob("*") if path.suffix != ".example")):
        made.unlink(missing_ok=True)


def cluster_exists() -> bool:
    """Return True if kind has a cluster of our name on this machine, else False."""
    return CLUSTER in capture_command("kind", "get", "clusters").stdout.split()


def namespace_exists() -> bool:
    """Return True if the cluster of kubectl's context has Towerwatch's namespace, else False.

    Raises LocalError if kubectl has no such context, or the cluster does not answer.
    """
    done = capture_command(*kubectl_command("get", "namespace", NAMESPACE, "--ignore-not-found", "--output", "name"))
    if done.returncode != 0:
        raise LocalError(f"no cluster answers at kubectl's context {CONTEXT}: {done.stderr.strip()}")
    return bool(done.stdout.strip())
