"""Tools that the project's Python packages do not contain: kustomize, and schemas, in the versions of CI.

`make tools` (manifests/tools.sh) installs them below build/tools. A test that needs a missing tool is skipped, unless
TOWERWATCH_REQUIRE_KUSTOMIZE is set.
"""

import shutil
from pathlib import Path

from local.processes import ROOT
from tests.skips import is_required, skip_unless_required

_INSTALLED = ROOT / "build" / "tools"


def _require(path: Path | None, what: str) -> Path:
    """Return the path of a tool; if it is not installed, skip the test, or fail if the tools are required."""
    if path is None or not path.exists():
        skip_unless_required("KUSTOMIZE", f"{what} is not installed (`make tools`, which needs Go)")
    return path


def find_kustomize() -> list[str]:
    """Return the command that renders a folder: the pinned kustomize, else the machine's."""
    if (_INSTALLED / "kustomize").exists():
        return [str(_INSTALLED / "kustomize"), "build"]
    for program, verb in (("kustomize", "build"), ("kubectl", "kustomize")):
        if not is_required("KUSTOMIZE") and (path := shutil.which(program)):
            return [path, verb]
    return [str(_require(None, "kustomize")), "build"]


def find_gateway_api_crds() -> list[Path]:
    """Return the files with the definitions of Gateway API's kinds (standard channel)."""
    return sorted(
        _require(_INSTALLED / "gateway-api", "Gateway API's definitions").glob("gateway.networking.k8s.io_*.yaml")
    )


def find_checker(name: str) -> Path:
    """Return the path of a Python program in an environment of its own: `kubernetes-validate` or `checkov`."""
    return _require(_INSTALLED / "bin" / name, name)
