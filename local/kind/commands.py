"""Calls of the external programs that the cluster needs: docker, kind and kubectl."""

import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from local.errors import LocalError

CLUSTER: Final = "towerwatch"
CONTEXT: Final = f"kind-{CLUSTER}"
"""The name of the cluster in kubectl's configuration: every command names it, so that no other cluster is changed."""

_INSTALL_HINTS: Final = {
    "docker": "https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation (0.33 or newer)",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/ (1.36 or newer)",
}


def require_programs(*programs: str) -> None:
    """Raise LocalError if any of the programs is missing; the text names each and says where to get it.

    Raise LocalError, too, if docker is one of them and its engine does not answer.
    """
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        lines = "".join(f"\n  {program}: {_INSTALL_HINTS[program]}" for program in missing)
        raise LocalError(f"needed, and not installed:{lines}")
    if "docker" in programs and capture_command("docker", "info").returncode != 0:
        raise LocalError("docker is installed, but its engine does not answer: start it, or get the right to use it")


def run_command(*command: str) -> None:
    """Run a command, with its output on the console. Raises LocalError if it fails."""
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        raise LocalError(f"`{' '.join(command)}` failed with exit status {done.returncode}")


def capture_command(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command and return its output and exit status, also if it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def kubectl_command(*arguments: str) -> Sequence[str]:
    """Return the command line that runs kubectl with these arguments on our cluster; the caller runs it."""
    return ("kubectl", "--context", CONTEXT, *arguments)
