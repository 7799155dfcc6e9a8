"""A real control plane of Kubernetes on loopback: etcd, the API server, the controllers and the scheduler; no node."""

import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from tests.cluster.keys import make_keys
from tests.cluster.programs import find_program
from tests.ports import free_port, free_ports
from tests.service_process import bare_environment, kill_with_parent
from tests.waiting import eventually

_STARTS_WITHIN_S: Final = 300.0

Object = dict[str, Any]


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane, and the administrator's ways to it."""

    folder: Path
    api: httpx.Client
    """Sends requests to the API server as the administrator."""

    def kubectl(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator, also if it fails; `given` is its standard input."""
        return subprocess.run(
            [find_program("kubectl"), *arguments],
            env=self.environment(),
            cwd=self.folder,
            input=given,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def environment(self) -> dict[str, str]:
        """Return the environment of a shell in which `kubectl` is the one that was built, and talks to this cluster."""
        path = f"{find_program('kubectl').parent}{os.pathsep}{os.environ['PATH']}"
        # With a home of its own: kubectl keeps what it discovers there, and would mix up two clusters of one address.
        own = {"PATH": path, "HOME": str(self.folder), "KUBECONFIG": str(self.folder / "keys" / "admin.conf")}
        # An apply takes 7 s of CPU so, and 11 s where Go collects its garbage more often.
        return bare_environment() | own | {"GOGC": "800"}

    def list_objects(self, path: str) -> list[Object]:
        """Return all objects at a path of the API, such as `/api/v1/pods`."""
        answer = self.api.get(path)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    def post(self, path: str, body: Object) -> httpx.Response:
        """Send an object to the API, and return the answer, also if it is an error."""
        return self.api.post(path, json=body)

    def apply_object(self, content: Object) -> None:
        """Apply one object by kubectl; fails if it is refused."""
        done = self.kubectl("apply", "--server-side", "--filename", "-", given=yaml.safe_dump(content))
        assert done.returncode == 0, done.stderr


@contextmanager
def running_control_plane(folder: Path, *, controls: bool = True, schedules: bool) -> Iterator[ControlPlane]:
    """Run a control plane during the block, with its data and logs in `folder`; end its processes afterwards.

    `controls`: with the controllers. `schedules`: with the scheduler. Ports are free ones of loopback. The control
    plane knows no node: a test makes them.
    """
    client_port, peer_port, port = *_pair(), free_port()
    server, etcd = f"https://127.0.0.1:{port}", f"http://127.0.0.1:{client_port}"
    keys = folder / "keys"
    make_keys(keys, server)
    with ExitStack() as stack:
        stack.enter_context(
            _running(
                folder, "etcd",
                "--data-dir", str(folder / "etcd"),
                "--listen-client-urls", etcd,
                "--advertise-client-urls", etcd,
                "--listen-peer-urls", f"http://127.0.0.1:{peer_port}",
                "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer_port}",
                "--initial-cluster", f"default=http://127.0.0.1:{peer_port}",
                "--unsafe-no-fsync",
                "--log-level", "warn",
            )
        )  # fmt: skip
        api_server = stack.enter_context(
            _running(
                folder, "kube-apiserver",
                "--etcd-servers", etcd,
                "--bind-address", "127.0.0.1",
                "--advertise-address", "127.0.0.1",
                "--endpoint-reconciler-type", "none",
                "--secure-port", str(port),
                "--tls-cert-file", str(keys / "apiserver.crt"),
                "--tls-private-key-file", str(keys / "apiserver.key"),
                "--client-ca-file", str(keys / "ca.crt"),
                "--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
                "--service-account-key-file", str(keys / "accounts.pub"),
                "--service-account-signing-key-file", str(keys / "accounts.key"),
                "--authorization-mode", "RBAC",
                "--service-cluster-ip-range", "10.96.0.0/16",
                # Else Pod Security would not be what refuses a privileged pod.
                "--allow-privileged=true",
                "--profiling=false",
            )
        )  # fmt: skip
        trust = ssl.create_default_context(cafile=str(keys / "ca.crt"))
        trust.load_cert_chain(str(keys / "admin.pem"))
        api = stack.enter_context(httpx.Client(base_url=server, verify=trust, timeout=60, trust_env=False))

        def is_ready() -> bool:
            assert api_server.poll() is None, (folder / "kube-apiserver.log").read_text()[-3000:]
            try:
                # The default ones are made by the API server itself after its start.
                return api.get("/readyz").status_code == 200 and api.get("/api/v1/namespaces/default").is_success
            except httpx.TransportError:
                return False

        eventually(is_ready, "the API server's start", _STARTS_WITHIN_S)
        if controls:
            stack.enter_context(
                _running(
                    folder, "kube-controller-manager",
                    "--kubeconfig", str(keys / "controller-manager.conf"),
                    "--root-ca-file", str(keys / "ca.crt"),
                    "--service-account-private-key-file", str(keys / "accounts.key"),
                    "--use-service-account-credentials",
                    "--leader-elect=false",
                    "--secure-port", "0",
                    # Nodes of a test send no heartbeats.
                    "--node-monitor-grace-period", "24h",
                )
            )  # fmt: skip
        if schedules:
            stack.enter_context(
                _running(
                    folder, "kube-scheduler",
                    "--kubeconfig", str(keys / "scheduler.conf"),
                    "--leader-elect=false",
                    "--secure-port", "0",
                )
            )  # fmt: skip
        yield ControlPlane(folder, api)


def _pair() -> tuple[int, int]:
    first = free_ports(2)
    return first, first + 1


@contextmanager
def _running(folder: Path, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program during the block, with its output in a log of its name; end it afterwards."""
    path = find_program(program)
    with (folder / f"{program}.log").open("wb") as log:
        process = subprocess.Popen(
            [path, *arguments], cwd=folder, env=bare_environment() | {"HOME": str(folder)}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True, preexec_fn=kill_with_parent,
        )  # fmt: skip
    try:
        yield process
    finally:
        # Nothing that it keeps is needed any more.
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
