"""Prometheus' own programs, `promtool` among them, for tests."""

import shutil
import subprocess

from tests.skips import skip_unless_required


def find_program(name: str) -> str:
    """Return the path of a program of Prometheus; skip the test if it is not installed and not required."""
    found = shutil.which(name)
    if found is None:
        skip_unless_required("PROMTOOL", f"{name} is not installed (`apt-get install prometheus`)")
    return found


def check_metrics(exposition: str) -> list[str]:
    """Return the lines that `promtool check metrics` prints about metrics in text format; none if they are correct."""
    checked = subprocess.run(
        [find_program("promtool"), "check", "metrics"], input=exposition.encode(), capture_output=True, check=False
    )
    return (checked.stdout + checked.stderr).decode().splitlines()
