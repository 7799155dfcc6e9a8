"""The cluster of this machine as its tests use it: kubectl, the demo's story, and requests meanwhile."""

import json
import os
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from local.kind import cluster, secrets
from local.processes import ROOT
from tests.cluster.machine.daemons import is_running
from tests.cluster.machine.layout import KUBECONFIG, PROGRAMS
from tests.service_process import bare_environment
from tests.waiting import eventually

STORY: Final = (sys.executable, "-m", "local.kind", "demo", "--given-cluster", "--starts-in", "240")
"""The command that tells the demo's story in this cluster; its pods have four minutes until its clock begins."""
_TELLS_WITHIN_S: Final = 1800.0
_PAUSE_S: Final = 0.2

Object = dict[str, Any]


def require_cluster() -> None:
    """Skip the test where `make cluster` did not run on this machine."""
    if not is_running("kube-apiserver"):
        pytest.skip("no cluster runs on this machine (`make cluster`, as root)")


def build_environment() -> dict[str, str]:
    """Return the environment in which `kubectl` is the one that was built, and talks to this cluster."""
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    return bare_environment() | {"PATH": path, "KUBECONFIG": str(KUBECONFIG)}


def kubectl(*arguments: str, timeout_s: float = 900) -> str:
    """Run kubectl in Towerwatch's namespace, and return its output; fail with its standard error if it fails."""
    done = subprocess.run(
        [PROGRAMS / "kubectl", "--kubeconfig", KUBECONFIG, "--namespace", cluster.NAMESPACE, *arguments],
        capture_output=True, text=True, check=False, timeout=timeout_s,
    )  # fmt: skip
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
    return done.stdout


def list_pods(namespace: str, selector: str) -> list[Object]:
    """Return the pods that a selector selects and that are not being deleted."""
    listed = json.loads(kubectl("--namespace", namespace, "get", "pods", "--selector", selector, "--output", "json"))
    return [pod for pod in listed["items"] if "deletionTimestamp" not in pod["metadata"]]


def wait_for_rollout(kind: str, name: str) -> None:
    """Wait until all pods of a Deployment or StatefulSet are new and ready."""
    kubectl("rollout", "status", f"{kind}/{name}", "--timeout=14m")


@contextmanager
def telling_story(folder: Path) -> Iterator[None]:
    """Tell the demo's story in the emptied cluster; the block begins when its clock runs, and its mails must be exact.

    It is `python -m local.kind demo` itself. Fails if a mail is missing or unexpected after the block.
    """
    log = folder / "story.log"
    with log.open("wb") as output:
        story = subprocess.Popen(
            [*STORY, "--empty"], cwd=ROOT, env=build_environment(),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:

        def runs() -> bool:
            assert story.poll() is None, log.read_text()[-3000:]
            return "The clock runs" in log.read_text()

        eventually(runs, "the story's begin", _TELLS_WITHIN_S)
        yield
        eventually(lambda: story.poll() is not None, "the story's end", _TELLS_WITHIN_S)
        assert story.returncode == 0, log.read_text()[-3000:]
        assert "every expected mail came" in log.read_text()
    finally:
        if story.poll() is None:
            story.kill()
        story.wait()


@contextmanager
def requesting(path: str) -> Iterator[Counter[str]]:
    """Send requests through the entry, one after the other on new connections, and count how each was answered."""
    answers: Counter[str] = Counter()
    stopping = threading.Event()
    trust = ssl.create_default_context(cafile=str(cluster.SECRETS / secrets.CERTIFICATE))

    def request() -> None:
        while not stopping.wait(_PAUSE_S):
            try:
                answer = httpx.get(f"https://localhost{path}", verify=trust, timeout=30, trust_env=False)
            except httpx.TransportError as error:
                answers[type(error).__name__] += 1
            else:
                answers[str(answer.status_code)] += 1

    thread = threading.Thread(target=request)
    thread.start()
    try:
        yield answers
    finally:
        stopping.set()
        thread.join()


def wait_for_answers(answers: Counter[str], count: int) -> None:
    """Wait until so many more requests are answered."""
    target = answers.total() + count
    eventually(lambda: answers.total() >= target, f"{count} more answers", 300)
