"""The tools that no Python package of the project brings, in the versions that CI has them: kustomize, and schemas.

`make tools` (manifests/tools.sh) installs them below build/tools. A test that needs one skips where it is not there,
unless TOWERWATCH_REQUIRE_KUSTOMIZE is set.
"""

import os
import shutil
from pathlib import Path

import pytest

from local.processes import ROOT

_INSTALLED = ROOT / "build" / "tools"


def _found(path: Path | None, what: str) -> Path:
    if path is None or not path.exists():
        assert "TOWERWATCH_REQUIRE_KUSTOMIZE" not in os.environ, f"{what} is not installed"
        pytest.skip(f"{what} is not installed; `make tools` does it")
    return path


def kustomize() -> list[str]:
    """The command that renders a folder: the pinned kustomize, else one that the machine has."""
    if (_INSTALLED / "kustomize").exists():
        return [str(_INSTALLED / "kustomize"), "build"]
    for program, verb in (("kustomize", "build"), ("kubectl", "kustomize")):
        if "TOWERWATCH_REQUIRE_KUSTOMIZE" not in os.environ and (path := shutil.which(program)):
            return [path, verb]
    return [str(_found(None, "kustomize")), "build"]


def gateway_api_crds() -> list[Path]:
    """The definitions of Gateway API's kinds, the standard channel's."""
    return sorted(
        _found(_INSTALLED / "gateway-api", "Gateway API's definitions").glob("gateway.networking.k8s.io_*.yaml")
    )


def checker(name: str) -> Path:
    """A Python program in an environment of its own: `kubernetes-validate` or `checkov`."""
    return _found(_INSTALLED / "bin" / name, name)
