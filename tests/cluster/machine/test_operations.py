"""What happens to pods and nodes, done to the cluster while it tells the demo's story, which stays exact."""

from pathlib import Path
from typing import Final

import pytest

from tests.cluster.machine.live import (
    kubectl,
    list_pods,
    requesting,
    require_cluster,
    telling_story,
    wait_for_answers,
    wait_for_rollout,
)
from tests.waiting import eventually

pytestmark = [pytest.mark.machine, pytest.mark.timeout(5400)]

_SERVICES: Final = ("user-manager", "notifier", "streams", "collector")
_STATEFUL: Final = ("kafka", "user-db", "data-db")


@pytest.fixture(autouse=True)
def _on_a_running_cluster() -> None:
    require_cluster()


def test_a_rollout_refuses_no_request() -> None:
    """Requests of new connections go on through the entry, while all pods of the services behind it are replaced."""
    for name, path in (("user-manager", "/docs/accounts/docs"), ("collector", "/docs/flights/docs")):
        before = {pod["metadata"]["uid"] for pod in list_pods("towerwatch", f"app.kubernetes.io/name={name}")}
        with requesting(path) as answers:
            wait_for_answers(answers, 5)
            kubectl("rollout", "restart", f"deployment/{name}")
            wait_for_rollout("deployment", name)
            wait_for_answers(answers, 5)
        after = {pod["metadata"]["uid"] for pod in list_pods("towerwatch", f"app.kubernetes.io/name={name}")}
        assert not before & after, "no pod was replaced"
        print(f"{name}: {dict(answers)} during a rollout")
        assert set(answers) == {"200"}, dict(answers)


def test_each_pod_is_deleted_once_during_the_story(tmp_path: Path) -> None:
    """One pod of each service, the broker and each database: another one follows, and no mail is lost or doubled."""
    with telling_story(tmp_path):
        for kind, names in (("deployment", _SERVICES), ("statefulset", _STATEFUL)):
            for name in names:
                delete_one_pod(kind, name)


def delete_one_pod(kind: str, name: str) -> None:
    """Delete one pod, and wait until another one is in its place and all are ready."""
    selector = f"app.kubernetes.io/name={name}"
    pods = list_pods("towerwatch", selector)
    kubectl("delete", "pod", pods[0]["metadata"]["name"])
    gone = pods[0]["metadata"]["uid"]

    def is_replaced() -> bool:
        uids = {pod["metadata"]["uid"] for pod in list_pods("towerwatch", selector)}
        return len(uids) == len(pods) and gone not in uids

    eventually(is_replaced, f"another pod of {name}")
    wait_for_rollout(kind, name)


def test_services_are_scaled_to_three_and_to_one_during_the_story(tmp_path: Path) -> None:
    """Partitions and tables move to new workers and back, and no mail is lost or doubled."""
    try:
        with telling_story(tmp_path):
            for count in (3, 1):
                for name in _SERVICES:
                    kubectl("scale", f"deployment/{name}", f"--replicas={count}")
                for name in _SERVICES:
                    wait_for_rollout("deployment", name)
                    assert len(list_pods("towerwatch", f"app.kubernetes.io/name={name}")) == count
    finally:
        for name in _SERVICES:
            kubectl("scale", f"deployment/{name}", "--replicas=2")


def test_a_node_is_drained_and_brought_back_during_the_story(tmp_path: Path) -> None:
    """Its services go to the other node by their budgets; its broker, whose disk is there, waits and comes back.

    The databases stay: their budget refuses an eviction (docs/deployment.md). So does the mailbox, which keeps what the
    story compares in its pod.
    """
    moved = ",".join((*_SERVICES, "kafka"))
    with telling_story(tmp_path):
        (broker,) = list_pods("towerwatch", "app.kubernetes.io/name=kafka")
        node = broker["spec"]["nodeName"]
        try:
            kubectl(
                "drain", node, "--delete-emptydir-data", f"--pod-selector=app.kubernetes.io/name in ({moved})",
                "--timeout=14m",
            )  # fmt: skip
            for name in _SERVICES:
                wait_for_rollout("deployment", name)
                places = {pod["spec"]["nodeName"] for pod in list_pods("towerwatch", f"app.kubernetes.io/name={name}")}
                assert node not in places, name
        finally:
            kubectl("uncordon", node)
        wait_for_rollout("statefulset", "kafka")
