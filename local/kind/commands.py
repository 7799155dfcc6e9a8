"""The programs that the cluster needs, and their failures in plain words."""

import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from local.errors import LocalError

CLUSTER: Final = "towerwatch"
CONTEXT: Final = f"kind-{CLUSTER}"
"""What kind calls the cluster in kubectl's configuration: no other cluster is ever spoken to."""

_WHERE: Final = {
    "docker": "https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation (0.33 or newer)",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/ (1.36 or newer)",
}


def require(*programs: str) -> None:
    """Raises LocalError that names each of `programs` that is missing, and where it is to be had."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        lines = "".join(f"\n  {program}: {_WHERE[program]}" for program in missing)
        raise LocalError(f"needed, and not installed:{lines}")
    if "docker" in programs and run_quietly("docker", "info").returncode != 0:
        raise LocalError("docker is installed, but its engine does not answer: start it, or get the right to use it")


def run(*command: str) -> None:
    """Run with what it prints shown. Raises LocalError when it fails."""
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        raise LocalError(f"`{' '.join(command)}` failed with exit status {done.returncode}")


def run_quietly(*command: str) -> subprocess.CompletedProcess[str]:
    """Run and give back what it printed, however it ended."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def kubectl(*arguments: str) -> Sequence[str]:
    """A command of kubectl that speaks to our cluster."""
    return ("kubectl", "--context", CONTEXT, *arguments)
