"""The usage text of services without a command line of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("service", ["user_manager", "collector"])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_every_setting_and_requires_none(service: str, option: str) -> None:
    """Required settings are listed apart from optional ones; the exit code is 0, and the service does not start."""
    bare = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    ended = subprocess.run(
        [sys.executable, "-m", service, option],
        cwd=ROOT, env=bare, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    printed = dict(line.split(":", 1) for line in ended.stdout.splitlines() if ":" in line)
    assert re.fullmatch(rf" python -m {service}( \[movements\])?( \[--begin-anew\])?", printed["usage"])
    assert {"DATABASE_URL", "HTTP_PORT", "OPERATOR_TOKEN"} <= set(printed["needed"].split())
    assert {"LOG_LEVEL", "LISTEN_HOST"} <= set(printed["optional"].split())
    assert not set(printed["needed"].split()) & set(printed["optional"].split())
