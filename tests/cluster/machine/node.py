"""A node: containerd, kubelet and kube-proxy in a network namespace, with folders and cgroups of their own."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.cluster.machine.daemons import end_daemon, end_processes, is_running, list_shims, read_log, start_daemon
from tests.cluster.machine.layout import DNS, KEYS, PODS, PROGRAMS, Node
from tests.cluster.machine.network import connect_node, run
from tests.waiting import eventually

_CGROUPS: Final = Path("/sys/fs/cgroup")
_SHARES: Final = 8192
"""The weight of all pods of a node against other groups of the machine: else they weigh as much as one of them."""
_PAUSE: Final = "registry.k8s.io/pause:3.10.1"


def start_node(node: Node) -> None:
    """Start the node's programs, as far as they do not run, and wait until containerd answers."""
    connect_node(node)
    _make_cgroups(node)
    for folder in ("cni", "containerd", "state", "kubelet", "logs"):
        (node.folder / folder).mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("cni/10-towerwatch.conflist", json.dumps(_describe_network(node))),
        ("containerd.toml", _describe_containerd(node)),
        ("kubelet.yaml", json.dumps(_describe_kubelet(node))),
        ("kube-proxy.yaml", json.dumps(_describe_proxy(node))),
        # The names of the machine's own are of no use here, and its resolver may be one that the pods cannot reach.
        ("resolv.conf", "nameserver 127.0.0.1\n"),
    ):
        (node.folder / name).write_text(content)
    containerd = f"containerd-{node.number}"
    start_daemon(
        containerd, PROGRAMS / "containerd", "--config", node.folder / "containerd.toml", "--log-level", "warn",
        namespace=node.part,
    )  # fmt: skip

    def answers() -> bool:
        assert is_running(containerd), read_log(containerd)
        return subprocess.run([*ctr(node), "version"], capture_output=True, check=False).returncode == 0

    eventually(answers, "containerd's start")


def start_kubelet(node: Node) -> None:
    """Start the node's kubelet and kube-proxy, as far as they do not run."""
    start_daemon(
        f"kubelet-{node.number}", PROGRAMS / "kubelet",
        "--config", node.folder / "kubelet.yaml",
        "--kubeconfig", KEYS / f"{node.name}.conf",
        "--root-dir", node.folder / "kubelet",
        "--cert-dir", node.folder / "kubelet" / "pki",
        "--hostname-override", node.name,
        "--node-ip", node.address,
        "--node-labels", f"topology.kubernetes.io/zone={node.zone}",
        namespace=node.part,
    )  # fmt: skip
    start_daemon(
        f"kube-proxy-{node.number}", PROGRAMS / "kube-proxy", "--config", node.folder / "kube-proxy.yaml",
        namespace=node.part,
    )  # fmt: skip


def end_node(node: Node) -> None:
    """End the node's programs and all its containers: kubelet first, else it would start them anew."""
    for name in ("kubelet", "kube-proxy"):
        end_daemon(f"{name}-{node.number}")
    end_daemon(f"containerd-{node.number}")
    kill_containers(node)


def kill_containers(node: Node) -> None:
    """Kill each process in the node's cgroup, where only its containers are, and wait until none is left."""

    def kill() -> bool:
        pids = _list_container_processes(node)
        end_processes(pids)
        return not pids

    eventually(kill, f"the end of the containers of {node.name}")


def remove_node(node: Node) -> None:
    """Delete the node's mounts, cgroups and files, after its programs have ended."""
    end_processes(list_shims())
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in reversed([each for each in mounts if each.startswith(f"{node.folder}/")]):
        run("umount", "--lazy", place)
    for controller in _list_controllers():
        for folder, _, _ in os.walk(controller / node.part, topdown=False):
            eventually(lambda group=Path(folder): _remove_cgroup(group), f"the end of {folder}")  # type: ignore[misc]
    shutil.rmtree(node.folder, ignore_errors=True)


def ctr(node: Node) -> tuple[str | Path, ...]:
    """Return the command line of containerd's client for the images and containers of the node's kubelet."""
    return (PROGRAMS / "ctr", "--address", node.socket, "--namespace", "k8s.io")


def _remove_cgroup(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # the kernel still ends its last process
        return False
    return True


def _list_controllers() -> list[Path]:
    """Return the folders of the machine's cgroup controllers, each a hierarchy of its own (cgroups of version 1)."""
    return [path for path in _CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _make_cgroups(node: Node) -> None:
    """Make the node's cgroup for each controller, as its kubelet and containers need it, unless it exists."""
    for controller in _list_controllers():
        (controller / node.part).mkdir(exist_ok=True)
        if controller.name == "cpu":
            (controller / node.part / "cpu.shares").write_text(str(_SHARES))
        if controller.name == "cpuset":
            for name in ("cpuset.cpus", "cpuset.mems"):
                (controller / node.part / name).write_text((controller / name).read_text())


def _list_container_processes(node: Node) -> list[int]:
    pids = []
    for listed in (_CGROUPS / "pids" / node.part).rglob("cgroup.procs"):
        try:
            pids += [int(line) for line in listed.read_text().split()]
        except OSError:  # the container has just ended
            continue
    return pids


def _describe_network(node: Node) -> object:
    """Return the CNI configuration of the node's pods."""
    addresses = {
        "type": "host-local",
        "dataDir": str(node.folder / "addresses"),
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "towerwatch", "plugins": [bridge, ports]}


def _describe_containerd(node: Node) -> str:
    runc = shutil.which("runc", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    assert runc, "runc is not installed (`apt-get install runc`)"
    # CAP_SYS_RESOURCE, which root in a container often lacks, is needed to lower an OOM score.
    return f"""\
version = 3
root = "{node.folder}/containerd"
state = "{node.folder}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
  address = "{node.socket}"
[ttrpc]
  address = "{node.socket}.ttrpc"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{_PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{PROGRAMS}"]
    conf_dir = "{node.folder}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
      SystemdCgroup = false
"""


def _describe_kubelet(node: Node) -> object:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(KEYS / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(KEYS / f"{node.name}-server.crt"),
        "tlsPrivateKeyFile": str(KEYS / f"{node.name}-server.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.part}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS],
        "containerRuntimeEndpoint": f"unix://{node.socket}",
        "podLogsDir": str(node.folder / "logs"),
        "resolvConf": str(node.folder / "resolv.conf"),
        # The disk is the machine's, and others fill it.
        "evictionHard": {
            "memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 100,
    }  # fmt: skip


def _describe_proxy(node: Node) -> object:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0",
        "mode": "iptables",
        "clusterCIDR": PODS,
        "hostnameOverride": node.name,
        "clientConnection": {"kubeconfig": str(KEYS / "kube-proxy.conf")},
        # Left as they are: these limits are the machine's, and no namespace may set them.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
