"""Prometheus' own programs, `promtool` among them, for tests."""

import os
import shutil
import subprocess

import pytest


def find_program(name: str) -> str:
    """Return the path of a program of Prometheus; skip the test if it is not installed and not required."""
    found = shutil.which(name)
    if found is None:
        assert "TOWERWATCH_REQUIRE_PROMTOOL" not in os.environ, f"{name} is not installed"
        pytest.skip(f"{name} is not installed; it comes with Debian's package prometheus")
    return found


def check_metrics(exposition: str) -> list[str]:
    """Return the lines that `promtool check metrics` prints about metrics in text format; none if they are correct."""
    checked = subprocess.run(
        [find_program("promtool"), "check", "metrics"], input=exposition.encode(), capture_output=True, check=False
    )
    return (checked.stdout + checked.stderr).decode().splitlines()
