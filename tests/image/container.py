"""Containers under the rights of the Pod Security level `restricted`, started by runc."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

USER: Final = 10001
DATA: Final = "/data"

_DEVICES: Final = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}


def _build_specification(rootfs: Path, command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return an OCI runtime specification: read-only root, no capabilities, no new privileges, the image's user.

    The container uses the machine's network, and file systems in memory as its volumes /tmp and /data.
    """
    writable = ["nosuid", "nodev", f"uid={USER}", f"gid={USER}"]  # the owner that fsGroup gives to volumes
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(rootfs), "readonly": True},
        "process": {
            "user": {"uid": USER, "gid": USER},
            "args": list(command),
            "env": [f"{name}={value}" for name, value in environment.items()],
            "cwd": "/app",
            "capabilities": {each: [] for each in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            _DEVICES,
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": writable},
            {"destination": DATA, "type": "tmpfs", "source": "tmpfs", "options": writable},
            {"destination": "/etc/hosts", "type": "bind", "source": "/etc/hosts", "options": ["bind", "ro"]},
        ],
        "linux": {"namespaces": [{"type": each} for each in ("pid", "mount", "ipc", "uts")]},
    }


class Container:
    """A running container; its command is process 1."""

    def __init__(self, name: str, state: Path, process: subprocess.Popen[bytes], log: Path) -> None:
        self._name = name
        self._state = state
        self._process = process
        self._log = log

    def log(self) -> str:
        return self._log.read_text()

    def wait_for_exit(self, within_s: float) -> int:
        """Wait until the command ends, and return its exit code; fail after `within_s` seconds."""
        return self._process.wait(within_s)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def signal(self, name: str) -> None:
        """Send a signal to process 1, as the kubelet does."""
        subprocess.run(["runc", "--root", str(self._state), "kill", self._name, name], check=True)


@contextmanager
def run_container(
    rootfs: Path, folder: Path, command: Sequence[str], image_environment: Sequence[str], **settings: str
) -> Iterator[Container]:
    """Run a container during the block, with the image's environment and these settings."""
    name = f"towerwatch-{uuid4().hex[:12]}"
    bundle = folder / name
    bundle.mkdir(parents=True)
    given = dict(each.split("=", 1) for each in image_environment)
    specification = _build_specification(rootfs, command, given | settings)
    (bundle / "config.json").write_text(json.dumps(specification), encoding="utf-8")
    state, log = folder / "runc", bundle / "log"
    runc = ["runc", "--root", str(state)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*runc, "run", "--bundle", str(bundle), name], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield Container(name, state, process, log)
    finally:
        subprocess.run([*runc, "delete", "--force", name], capture_output=True, check=False)
        process.kill()
        process.wait()
