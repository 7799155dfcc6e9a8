"""Prometheus' own linter."""

import os
import shutil
import subprocess

import pytest


def complaints(exposition: str) -> list[str]:
    """What `promtool check metrics` has to say; skips the test where it is not installed and not required."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert "TOWERWATCH_REQUIRE_PROMTOOL" not in os.environ, "promtool is not installed"
        pytest.skip("promtool is not installed; it comes with Debian's package prometheus")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=exposition.encode(), capture_output=True, check=False
    )
    return (checked.stdout + checked.stderr).decode().splitlines()
