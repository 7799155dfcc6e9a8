"""Prometheus' own programs."""

import os
import shutil
import subprocess

import pytest


def program(name: str) -> str:
    """Where a program of Prometheus is; skips the test where it is not installed and not required."""
    found = shutil.which(name)
    if found is None:
        assert "TOWERWATCH_REQUIRE_PROMTOOL" not in os.environ, f"{name} is not installed"
        pytest.skip(f"{name} is not installed; it comes with Debian's package prometheus")
    return found


def complaints(exposition: str) -> list[str]:
    """What `promtool check metrics` has to say."""
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"], input=exposition.encode(), capture_output=True, check=False
    )
    return (checked.stdout + checked.stderr).decode().splitlines()
