"""The commands of `python -m streams`, run as an operator runs them."""

import json
import os
import subprocess
import sys
from typing import Any


def run_command(bootstrap_servers: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m streams` with these arguments and return the ended process."""
    return subprocess.run(
        [sys.executable, "-m", "streams", *arguments],
        env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_verify(bootstrap_servers: str, *arguments: str) -> dict[str, Any]:
    """Run `verify --json` and return its output. Fails unless the exit status agrees with the output."""
    done = run_command(bootstrap_servers, "verify", "--json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["equal"] == (done.returncode == 0)
    return found


def run_replay(bootstrap_servers: str, output: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `replay` to the topic `output` and return the ended process. Fails unless the replay succeeds."""
    done = run_command(bootstrap_servers, "replay", "--from-beginning", "--output", output, *arguments)
    assert done.returncode == 0, done.stderr
    return done
