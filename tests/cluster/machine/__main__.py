"""`python -m tests.cluster.machine up | story | down`: a cluster of Kubernetes on this machine, without Docker."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import yaml

from local.processes import ROOT
from tests.cluster.definitions import describe_nginx_kinds
from tests.cluster.machine.control import start_control_plane, write_keys
from tests.cluster.machine.daemons import end_daemon, list_daemons, start_daemon
from tests.cluster.machine.images import make_our_image, make_stand_ins
from tests.cluster.machine.layout import KUBECONFIG, NODES, PROGRAMS, RUN, Node
from tests.cluster.machine.live import STORY, build_environment
from tests.cluster.machine.network import lay_bridge, remove_network, run
from tests.cluster.machine.node import ctr, end_node, remove_node, start_kubelet, start_node

_BUILT: Final = (
    "etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy",
    "containerd", "containerd-shim-runc-v2", "ctr", "bridge", "loopback", "host-local", "portmap",
)  # fmt: skip
_NEEDED: Final = ("go", "runc", "ip", "nft", "iptables", "buildah", "debootstrap", "mount", "nsenter")
_HERE: Final = Path(__file__).parent
_WAIT: Final = "--timeout=20m"


def main() -> int:
    """Bring the cluster up, tell the story in it, or tear it down.

    Return 0, or the story's own exit status (1 for missing or unexpected mails); 2 with a sentence if this machine
    cannot have the cluster.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.machine", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="build what is missing, and start the cluster, without Towerwatch")
    commands.add_parser("down", help="delete the cluster with its data; programs and images are kept")
    story = commands.add_parser("story", help="deploy Towerwatch, and tell the demo's story: all of `local.kind demo`")
    story.add_argument("--empty", action="store_true", help="first delete what is in the cluster")
    chosen = parser.parse_args()
    if obstacle := find_obstacle():
        print(f"cluster: {obstacle}", file=sys.stderr)
        return 2
    match chosen.command:
        case "up":
            bring_up()
            print(f"The cluster runs. In this shell: export KUBECONFIG={KUBECONFIG} PATH={PROGRAMS}:$PATH")
        case "story":
            return subprocess.run(
                [*STORY, *(("--empty",) if chosen.empty else ())], cwd=ROOT, env=build_environment(), check=False
            ).returncode
        case "down":
            tear_down()
    return 0


def find_obstacle() -> str | None:
    """Return why this machine cannot have the cluster, in one sentence, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux: it makes network namespaces, mounts and cgroups"
    if not Path("/sys/fs/cgroup/pids").is_dir():
        return "knows cgroups of version 1 alone so far: this machine has none of them"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin:/usr/local/go/bin"
    missing = [name for name in _NEEDED if shutil.which(name, path=path) is None]
    return f"needed, and not installed: {', '.join(missing)}" if missing else None


def bring_up() -> None:
    """Build what is not built yet, start control plane and nodes, and wait until nodes, names and parts are there."""
    _report("programs")
    subprocess.run([_HERE.parent / "build.sh", *_BUILT], check=True)
    _report("images")
    archives = (make_our_image(), make_stand_ins())
    _report("control plane")
    RUN.mkdir(parents=True, exist_ok=True)
    lay_bridge()
    write_keys()
    start_control_plane()
    _report("definitions and parts")
    kubectl("apply", "--server-side", "--filename", str(ROOT / "build" / "tools" / "gateway-api"))
    kubectl("apply", "--server-side", "--filename", "-", given=_describe_nginx_kinds())
    kubectl("wait", "--for=condition=Established", "customresourcedefinitions", "--all", _WAIT)
    kubectl("apply", "--filename", str(ROOT / "manifests" / "entry" / "namespace.yaml"))
    kubectl("apply", "--filename", "-", given=_describe_dns_program())
    kubectl("apply", "--filename", str(_HERE / "parts.yaml"))
    _report("nodes")
    for node in NODES:
        start_node(node)
        _import_images(node, archives)
        start_kubelet(node)
        start_daemon(
            f"policies-{node.number}", sys.executable, "-m", "tests.cluster.machine.policies", namespace=node.part
        )
    for name in ("provide", "forward"):
        start_daemon(name, sys.executable, "-m", f"tests.cluster.machine.{name}")
    for node in NODES:
        kubectl("wait", "--for=create", f"node/{node.name}", _WAIT)
    kubectl("wait", "--for=condition=Ready", "nodes", "--all", _WAIT)
    kubectl("--namespace", "kube-system", "rollout", "status", "deployment/dns", _WAIT)


def tear_down() -> None:
    """End all that runs of the cluster, and delete what it made but for images; also after some of it was killed."""
    for name in ("forward", "provide", "kube-controller-manager", "kube-scheduler"):
        end_daemon(name)
    for node in NODES:
        end_node(node)
    for name in list_daemons():
        end_daemon(name)
    for node in NODES:
        remove_node(node)
    remove_network()
    shutil.rmtree(RUN, ignore_errors=True)


def kubectl(*arguments: str, given: str | None = None) -> str:
    """Run kubectl as the administrator, and return its output; fail if it fails."""
    return run(PROGRAMS / "kubectl", "--kubeconfig", KUBECONFIG, *arguments, given=given)


def _import_images(node: Node, archives: tuple[Path, ...]) -> None:
    """Give the node's containerd the images that it does not have yet."""
    for archive in archives:
        mark = node.folder / f"{archive.stem}.key"
        key = archive.with_suffix(".key").read_text()
        if mark.exists() and mark.read_text() == key:
            continue
        run(*ctr(node), "images", "import", archive)
        mark.write_text(key)


def _describe_dns_program() -> str:
    program = (_HERE / "dns_server.py").read_text()
    meta = {"name": "dns", "namespace": "kube-system"}
    return yaml.safe_dump(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"dns_server.py": program}}
    )


def _describe_nginx_kinds() -> str:
    """Return definitions of NGINX's kinds without a schema, since no registry has its own."""
    return yaml.safe_dump_all(describe_nginx_kinds())


def _report(step: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {step}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
