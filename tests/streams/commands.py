"""The commands of `python -m streams`, run as an operator runs them."""

import json
import os
import subprocess
import sys
from typing import Any


def streams(bootstrap_servers: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams", *arguments],
        env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def verified(bootstrap_servers: str, *arguments: str) -> dict[str, Any]:
    """What `verify` says; fails unless its exit status says the same."""
    done = streams(bootstrap_servers, "verify", "--json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["equal"] == (done.returncode == 0)
    return found


def replayed(bootstrap_servers: str, output: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A replay to a topic; fails unless it succeeds."""
    done = streams(bootstrap_servers, "replay", "--from-beginning", "--output", output, *arguments)
    assert done.returncode == 0, done.stderr
    return done
