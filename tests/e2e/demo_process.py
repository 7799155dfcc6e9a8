"""The demo as a process of a test, with its output in a file."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from local.ports import Ports
from local.processes import ROOT

PORTS = len(fields(Ports))
"""The number of ports of a stack with one worker of the stream."""


@contextlib.contextmanager
def run_demo(data: Path, port_base: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the demo with these options for the block, with its output in a file; stop it at the end."""
    command = [sys.executable, "-m", "local.demo", "--data", str(data), "--port-base", str(port_base), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"}
    output = data.with_suffix(".out").open("w+")
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True,
        start_new_session=True, preexec_fn=_ignore_sigint,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        output.close()


def _ignore_sigint() -> None:
    """Ignore SIGINT in the child, as shells without job control do for background jobs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def read_output(data: Path) -> str:
    """Return everything that a demo has printed so far."""
    return data.with_suffix(".out").read_text()
