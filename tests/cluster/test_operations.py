"""What docs/deployment.md says of upgrades and pruning, done word by word; and the Job that makes the topics."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.processes import ROOT
from tests.cluster.control_plane import ControlPlane, Object
from tests.cluster.nodes import acting_kubelets, build_pod_status
from tests.cluster.test_scheduling import are_all_placed, is_ready, list_pods, running_production
from tests.manifests.node_size import read_documented_node
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.controllers, pytest.mark.timeout(3600)]

_OVERLAY = "manifests/overlays/production"
_JOB = "/apis/batch/v1/namespaces/towerwatch/jobs/topics"
_SLICES = "/apis/discovery.k8s.io/v1/namespaces/towerwatch/endpointslices"


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run production on four nodes; nothing acts for their kubelets yet."""
    with running_production(tmp_path_factory.mktemp("production"), 4, *read_documented_node()) as cluster:
        yield cluster


def _read_block(heading: str, begin: str) -> str:
    """Return the block of shell commands below a heading of the document that begins with these words."""
    text = (ROOT / "docs" / "deployment.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    (block,) = (block for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) if block.startswith(begin))
    return str(block)


def _run_block(cluster: ControlPlane, block: str) -> None:
    """Run shell commands of the document in the folder of the manifests, and assert that none fails."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        env=cluster.environment(),
        cwd=cluster.folder,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _let_fail(cluster: ControlPlane, name: str) -> None:
    """Report, as its kubelet would, that the container of a Job's pod was restarted fifty times, and is ready now."""
    (pod,) = eventually(
        lambda: [
            each
            for each in list_pods(cluster)
            if each["metadata"]["labels"]["app.kubernetes.io/name"] == name and "nodeName" in each["spec"]
        ],
        f"the pod of the Job {name}",
    )
    ready = {"type": "Ready", "status": "True"}
    status = build_pod_status(pod, restarts=50) | {"phase": "Running", "conditions": [ready]}
    path = f"/api/v1/namespaces/towerwatch/pods/{pod['metadata']['name']}/status"
    answer = cluster.api.patch(path, json={"status": status}, headers={"Content-Type": "application/merge-patch+json"})
    assert answer.is_success, answer.text


def _list_conditions(cluster: ControlPlane, path: str) -> set[str]:
    return {each["type"] for each in cluster.api.get(path).json().get("status", {}).get("conditions", ())}


def test_the_job_goes_on_however_often_its_container_failed(production: ControlPlane) -> None:
    """The controller of Jobs counts restarts, and gave this one up after the third until now.

    Another Job like it, but for that limit, is told the same afterwards, and is given up.
    """
    spec = production.api.get(_JOB).json()["spec"]
    limited = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "limited", "namespace": "towerwatch"},
        "spec": {
            "backoffLimit": 3,
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/name": "limited"}},
                "spec": spec["template"]["spec"],
            },
        },
    }
    answer = production.post("/apis/batch/v1/namespaces/towerwatch/jobs", limited)
    assert answer.status_code == 201, answer.text
    _let_fail(production, "topics")
    _let_fail(production, "limited")
    other = _JOB.replace("topics", "limited")
    eventually(lambda: _list_conditions(production, other) & {"Failed", "FailureTarget"}, "the other Job's end", 600)
    # The controller counts ready pods, and judges them, at once.
    eventually(lambda: production.api.get(_JOB).json()["status"].get("ready") == 1, "the Job's pod being counted")
    assert not _list_conditions(production, _JOB) & {"Failed", "FailureTarget"}
    done = production.kubectl("-n", "towerwatch", "delete", "job", "limited", "--wait=false")
    assert done.returncode == 0, done.stderr


def test_the_job_is_deleted_and_applied_again(production: ControlPlane) -> None:
    """As each upgrade does. It cannot be changed: an apply with another image is refused while it is there."""
    with acting_kubelets(production):
        eventually(lambda: production.api.get(_JOB).json()["status"].get("succeeded") == 1, "the Job's success", 600)
        before = production.api.get(_JOB).json()["metadata"]["uid"]
        done = production.kubectl("-n", "towerwatch", "delete", "job", "topics", "--ignore-not-found")
        assert done.returncode == 0, done.stderr
        done = production.kubectl("apply", "-k", _OVERLAY)
        assert (done.returncode, done.stderr) == (0, "")
        eventually(lambda: production.api.get(_JOB).json()["status"].get("succeeded") == 1, "its success again", 600)
        assert production.api.get(_JOB).json()["metadata"]["uid"] != before


def test_each_service_finds_its_pods(production: ControlPlane) -> None:
    """A Service whose selector or port finds nothing leads nowhere, and nothing says so."""
    with acting_kubelets(production):
        services = production.list_objects("/api/v1/namespaces/towerwatch/services")

        def find_pods(service: Object) -> set[str]:
            """Return the ready pods to which the Service leads on each of its ports."""
            slices = [
                each
                for each in production.list_objects(_SLICES)
                if each["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
                and len(each.get("ports") or ()) == len(service["spec"]["ports"])
            ]
            return {
                endpoint["targetRef"]["name"]
                for each in slices
                for endpoint in each.get("endpoints") or ()
                if endpoint["conditions"]["ready"]
            }

        def read_wanted(service: Object) -> set[str]:
            """Return the pods with all labels of the Service's selector."""
            selector = service["spec"]["selector"].items()
            return {
                pod["metadata"]["name"]
                for pod in list_pods(production)
                if selector <= pod["metadata"]["labels"].items()
            }

        assert len(services) >= len(("user-manager", "collector", "user-db", "data-db", "kafka", "prometheus"))
        for service in services:
            eventually(
                lambda service=service: find_pods(service) == read_wanted(service) != set(),
                f"the pods of {service['metadata']['name']}",
                600,
            )


def _set_tag(cluster: ControlPlane, tag: str) -> None:
    path = Path(cluster.folder, _OVERLAY, "kustomization.yaml")
    text = path.read_text()
    changed = re.sub(r'newTag: ".*"', f'newTag: "{tag}"', text)
    assert changed != text
    path.write_text(changed)


def test_an_upgrade_goes_as_the_document_says(production: ControlPlane) -> None:
    """Each command ends well, and afterwards each pod of ours has the new image."""
    with acting_kubelets(production):
        eventually(lambda: are_all_placed(production), "a node for each pod", 600)
        eventually(lambda: all(is_ready(pod) for pod in list_pods(production)), "the pods being ready", 600)
        _set_tag(production, "0.2.0")
        refused = production.kubectl("apply", "--dry-run=server", "-k", _OVERLAY)
        assert "field is immutable" in refused.stderr
        _run_block(production, _read_block("Upgrading", "kubectl -n towerwatch delete job topics"))

        def images() -> set[str]:
            return {
                container["image"]
                for pod in list_pods(production)
                for container in pod["spec"]["containers"]
                if "towerwatch" in container["image"]
            }

        eventually(lambda: images() == {"registry.example.org/towerwatch:0.2.0"}, "the new image everywhere", 600)


def test_pruning_leaves_what_is_named_and_nothing_else(production: ControlPlane) -> None:
    """After a change of a setting the ConfigMap of before stays; the document's command takes it away, and no data."""
    path = "/api/v1/namespaces/towerwatch/{}"

    def names(kind: str) -> set[str]:
        return {
            each["metadata"]["name"]
            for each in production.list_objects(path.format(kind))
            if "app.kubernetes.io/part-of" in each["metadata"].get("labels", {})
        }

    with acting_kubelets(production):
        file = Path(production.folder, _OVERLAY, "user-manager.env")
        before, claims = names("configmaps"), names("persistentvolumeclaims")
        file.write_text(file.read_text() + "REGISTRATION_LIMIT=30/minute\n")
        done = production.kubectl("apply", "-k", _OVERLAY)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(names("configmaps")) == len(before) + 1
        secrets = names("secrets")
        _run_block(production, _read_block("Upgrading", "kubectl apply -k manifests/overlays/production --prune"))
        assert len(names("configmaps")) == len(before)
        assert len(before - names("configmaps")) == 1
        assert names("secrets") == secrets
        assert names("persistentvolumeclaims") == claims
        diff = production.kubectl("diff", "-k", _OVERLAY)
        assert (diff.returncode, diff.stdout) == (0, "")
