"""The control plane of the cluster of one machine: that of the tests beside it, on the bridge, for real kubelets."""

import ssl
from typing import Final

import httpx

from tests.cluster.keys import CLIENTS, make_keys
from tests.cluster.machine.daemons import is_running, read_log, start_daemon
from tests.cluster.machine.layout import API, API_SERVICE, HOST, KEYS, NODES, PROGRAMS, RUN, SERVICES
from tests.waiting import eventually

_ETCD: Final = "http://127.0.0.1:23790"
_PEER: Final = "http://127.0.0.1:23800"
_STARTS_WITHIN_S: Final = 600.0


def write_keys() -> None:
    """Make the keys of the control plane and of all nodes, unless they exist; they are valid for a day."""
    if KEYS.exists():
        return
    kubelets = {node.name: (f"system:node:{node.name}", "system:nodes") for node in NODES}
    more = {
        "kube-proxy": ("system:kube-proxy", None),
        # By it the API server asks a kubelet for logs, and to run a command in a pod.
        "apiserver-kubelet": ("kube-apiserver-kubelet-client", "system:masters"),
    }
    make_keys(
        KEYS,
        API,
        (HOST, API_SERVICE, "127.0.0.1"),
        CLIENTS | more | kubelets,
        {f"{node.name}-server": node.address for node in NODES},
    )


def open_api() -> httpx.Client:
    """Return a client of the API server, as the administrator."""
    trust = ssl.create_default_context(cafile=str(KEYS / "ca.crt"))
    trust.load_cert_chain(str(KEYS / "admin.pem"))
    return httpx.Client(base_url=API, verify=trust, timeout=60, trust_env=False)


def start_control_plane() -> None:
    """Start etcd, the API server, controllers and scheduler, unless they run; wait until the API server serves."""
    start_daemon(
        "etcd", PROGRAMS / "etcd",
        "--data-dir", RUN / "etcd",
        "--listen-client-urls", _ETCD,
        "--advertise-client-urls", _ETCD,
        "--listen-peer-urls", _PEER,
        "--initial-advertise-peer-urls", _PEER,
        "--initial-cluster", f"default={_PEER}",
        "--unsafe-no-fsync",
        "--log-level", "warn",
    )  # fmt: skip
    start_daemon(
        "kube-apiserver", PROGRAMS / "kube-apiserver",
        "--etcd-servers", _ETCD,
        "--bind-address", HOST,
        "--advertise-address", HOST,
        "--secure-port", "6443",
        "--tls-cert-file", KEYS / "apiserver.crt",
        "--tls-private-key-file", KEYS / "apiserver.key",
        "--client-ca-file", KEYS / "ca.crt",
        "--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
        "--service-account-key-file", KEYS / "accounts.pub",
        "--service-account-signing-key-file", KEYS / "accounts.key",
        "--kubelet-client-certificate", KEYS / "apiserver-kubelet.pem",
        "--kubelet-client-key", KEYS / "apiserver-kubelet.pem",
        "--kubelet-certificate-authority", KEYS / "ca.crt",
        "--kubelet-preferred-address-types", "InternalIP",
        "--authorization-mode", "Node,RBAC",
        "--enable-admission-plugins", "NodeRestriction",
        "--service-cluster-ip-range", SERVICES,
        "--allow-privileged=true",
        "--profiling=false",
    )  # fmt: skip

    def is_ready() -> bool:
        assert is_running("kube-apiserver"), read_log("kube-apiserver")
        try:
            return api.get("/readyz").status_code == 200 and api.get("/api/v1/namespaces/default").is_success
        except httpx.TransportError:
            return False

    with open_api() as api:
        eventually(is_ready, "the API server's start", _STARTS_WITHIN_S)
    start_daemon(
        "kube-controller-manager", PROGRAMS / "kube-controller-manager",
        "--kubeconfig", KEYS / "controller-manager.conf",
        "--root-ca-file", KEYS / "ca.crt",
        "--service-account-private-key-file", KEYS / "accounts.key",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--secure-port", "0",
    )  # fmt: skip
    start_daemon(
        "kube-scheduler", PROGRAMS / "kube-scheduler",
        "--kubeconfig", KEYS / "scheduler.conf",
        "--leader-elect=false",
        "--secure-port", "0",
    )  # fmt: skip
