"""A service that has no command line of its own still says how it is run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("service", ["user_manager", "collector"])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_setting_and_needs_none(service: str, option: str) -> None:
    """Those without a default apart from the others; exit code 0, and nothing is begun."""
    bare = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    ended = subprocess.run(
        [sys.executable, "-m", service, option],
        cwd=ROOT, env=bare, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    said = dict(line.split(":", 1) for line in ended.stdout.splitlines() if ":" in line)
    assert said["usage"] == f" python -m {service}"
    assert {"DATABASE_URL", "HTTP_PORT", "OPERATOR_TOKEN"} <= set(said["needed"].split())
    assert {"LOG_LEVEL", "LISTEN_HOST"} <= set(said["optional"].split())
    assert not set(said["needed"].split()) & set(said["optional"].split())
