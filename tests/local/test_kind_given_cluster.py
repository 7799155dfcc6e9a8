"""`python -m local.kind demo --given-cluster`: the story in a cluster that is not kind's, until it changes it."""

import subprocess
import sys
from pathlib import Path

import pytest

from local.processes import ROOT
from tests.service_process import bare_environment


def run_demo(programs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with nothing on its PATH but what is in `programs`."""
    return subprocess.run(
        [sys.executable, "-m", "local.kind", "demo", *arguments],
        cwd=ROOT, env=bare_environment() | {"PATH": str(programs)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def write_kubectl(folder: Path, script: str) -> Path:
    """Write a kubectl that writes its arguments down and then runs `script`; return where it writes."""
    program, calls = folder / "kubectl", folder / "calls"
    program.write_text(f'#!/bin/sh\necho "$@" >>{calls}\n{script}\n')
    program.chmod(0o755)
    return calls


def test_a_given_cluster_needs_kubectl_and_neither_docker_nor_kind(tmp_path: Path) -> None:
    """Without the flag all three are named."""
    done = run_demo(tmp_path, "--given-cluster")
    assert done.returncode == 2
    assert "kubectl" in done.stderr
    assert "docker" not in done.stderr
    done = run_demo(tmp_path)
    assert done.returncode == 2
    assert "docker" in done.stderr


def test_a_given_cluster_in_use_is_left_alone(tmp_path: Path) -> None:
    """Its namespace exists: nothing is deleted or applied, and the sentence says what would be."""
    calls = write_kubectl(tmp_path, "echo namespace/towerwatch")
    done = run_demo(tmp_path, "--given-cluster")
    assert done.returncode == 2
    assert "--empty" in done.stderr
    assert "Traceback" not in done.stderr
    (call,) = calls.read_text().splitlines()
    assert call.startswith("--context kind-towerwatch get namespace towerwatch ")


def test_a_given_cluster_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    """Kubectl's own words are handed on; nothing else is tried."""
    calls = write_kubectl(tmp_path, "echo no such context >&2; exit 1")
    done = run_demo(tmp_path, "--given-cluster", "--empty")
    assert done.returncode == 2
    assert "no such context" in done.stderr
    assert len(calls.read_text().splitlines()) == 1


@pytest.mark.parametrize("text", ["", "59", "86401", "nan", "inf", "soon", "-1"])
def test_a_time_until_the_begin_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    """It must be from a minute to a day, in seconds."""
    done = run_demo(tmp_path, "--given-cluster", f"--starts-in={text}")
    assert done.returncode == 2
    assert "no number of seconds from 60 to 86400" in done.stderr
