"""The programs of a control plane, built by build.sh from Go's module proxy."""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from local.processes import ROOT
from tests.skips import is_required, skip_unless_required

_BUILT: Final = ROOT / "build" / "cluster"
_NO_GO: Final = 3
"""The exit status of build.sh where no Go is found."""


def find_program(name: str) -> Path:
    """Return the path of etcd, kubectl or a kube-… program; the first call for each builds it, where it is not built.

    On a machine without Go the test is skipped, unless TOWERWATCH_REQUIRE_KUBERNETES is set. Fails if the build fails.
    """
    status, said = _build(name)
    if status == _NO_GO:
        skip_unless_required("KUBERNETES", "Go is not installed, which builds Kubernetes (https://go.dev/doc/install)")
    if status != 0:
        pytest.fail(f"tests/cluster/build.sh failed:\n{said}")
    return _BUILT / name


@cache
def _build(name: str) -> tuple[int, str]:
    """Run build.sh, which does nothing where the program is built; return its exit status and what it said."""
    done = subprocess.run(
        [ROOT / "tests" / "cluster" / "build.sh", name], capture_output=True, text=True, check=False, env=os.environ
    )
    return done.returncode, (done.stdout + done.stderr)[-3000:]


def require_tools() -> Path:
    """Return the folder with Gateway API's definitions; skip the test, or fail it, where `make tools` did not run."""
    folder = ROOT / "build" / "tools" / "gateway-api"
    if not folder.exists():
        program = "KUBERNETES" if is_required("KUBERNETES") else "KUSTOMIZE"
        skip_unless_required(program, "Gateway API's definitions are not installed (`make tools`, which needs Go)")
    return folder
