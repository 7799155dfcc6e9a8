"""Ctrl-C while a command of this machine is still being imported, which takes seconds on a slow one."""

import signal
import subprocess
import sys

import pytest

from local.processes import ROOT

_INTERRUPT = """
import os, runpy, signal, sys

class Interruption:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("chassis"):
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interruption())
sys.argv = [sys.argv[1], "stop"]
runpy.run_module(sys.argv[0], run_name="__main__")
"""
"""Runs a module as a command, and interrupts it at its first import of ours."""


@pytest.mark.parametrize("module", ["local.demo", "local.up"])
def test_an_interrupted_import_prints_no_stack_trace(module: str) -> None:
    """The process ends by the signal at once, and says nothing."""
    ended = subprocess.run(
        [sys.executable, "-c", _INTERRUPT, module], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")
