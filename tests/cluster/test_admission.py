"""A real API server takes both overlays whole, and real controllers make of them what they mean."""

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.cluster.control_plane import ControlPlane, Object, running_control_plane
from tests.cluster.definitions import install_definitions
from tests.manifests.rendering import OVERLAYS, Pod, Rendered, parse, prepare_manifests
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

NAMESPACES: Final = ("towerwatch", "towerwatch-gateway")


@dataclass(frozen=True)
class Applied:
    """A cluster to which an overlay was applied once, as docs/deployment.md says, and kubectl's words about it."""

    cluster: ControlPlane
    rendered: Rendered
    overlay: str
    """The overlay's folder, as an argument of kubectl."""
    said: str
    warned: str
    status: int


@pytest.fixture(scope="module", params=OVERLAYS)
def applied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """Apply an overlay to an empty cluster without nodes."""
    folder = tmp_path_factory.mktemp(request.param)
    prepare_manifests(folder)
    overlay = f"manifests/overlays/{request.param}"
    with running_control_plane(folder, schedules=False) as cluster:
        install_definitions(cluster)
        text = cluster.kubectl("kustomize", overlay)
        assert text.returncode == 0, text.stderr
        done = cluster.kubectl("apply", "-k", overlay)
        yield Applied(cluster, parse(request.param, text.stdout), overlay, done.stdout, done.stderr, done.returncode)


def test_everything_is_admitted_and_nothing_is_warned_about(applied: Applied) -> None:
    """Warnings are the API server's: of deprecated fields, of pods that the level `restricted` would refuse."""
    assert applied.status == 0, applied.warned
    assert applied.warned == ""
    assert Counter(line.rpartition(" ")[2] for line in applied.said.splitlines()) == {
        "created": len(applied.rendered.resources)
    }


def _read_objects(applied: Applied) -> list[Object]:
    """Return the overlay's objects as the API server has them, without what controllers write meanwhile."""
    done = applied.cluster.kubectl("get", "-k", applied.overlay, "--output", "json")
    assert done.returncode == 0, done.stderr
    found: list[Object] = json.loads(done.stdout)["items"]
    for each in found:
        each.pop("status", None)
        each["metadata"].pop("resourceVersion")
        each["metadata"].pop("managedFields", None)
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "user-manager"):
            # The autoscaler's.
            each["spec"].pop("replicas")
            each["metadata"].pop("generation")
            each["metadata"].pop("annotations")
    return found


def test_a_second_apply_changes_nothing(applied: Applied) -> None:
    """What the API server adds or writes otherwise would be a difference for ever.

    kubectl says "configured" of objects for which it sent a patch, also if the patch changed nothing: so objects are
    compared, with their generations.
    """
    before = _read_objects(applied)
    done = applied.cluster.kubectl("apply", "-k", applied.overlay)
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.rpartition(" ")[2] for line in done.stdout.splitlines()} <= {"unchanged", "configured"}
    assert _read_objects(applied) == before
    diff = applied.cluster.kubectl("diff", "-k", applied.overlay)
    assert (diff.returncode, diff.stdout, diff.stderr) == (0, "", "")


def test_server_side_apply_takes_over_and_changes_nothing_either(applied: Applied) -> None:
    """Flux applies so, and Argo CD can: a second synchronisation shows no difference."""
    for _ in range(2):
        done = applied.cluster.kubectl("apply", "-k", applied.overlay, "--server-side", "--force-conflicts")
        assert (done.returncode, done.stderr) == (0, "")
        diff = applied.cluster.kubectl("diff", "-k", applied.overlay, "--server-side", "--force-conflicts")
        assert (diff.returncode, diff.stdout, diff.stderr) == (0, "", "")


def test_a_change_is_a_difference(applied: Applied, tmp_path: Path) -> None:
    """The two tests above would see one."""
    changed = copy.deepcopy(applied.rendered.pod("streams").owner)
    changed["spec"]["minReadySeconds"] += 1
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(changed))
    diff = applied.cluster.kubectl("diff", "--filename", str(tmp_path / "changed.yaml"))
    assert diff.returncode == 1
    assert "minReadySeconds" in diff.stdout


def test_a_misspelt_field_is_refused(applied: Applied) -> None:
    """kubectl asks the API server to be strict."""
    changed = copy.deepcopy(applied.rendered.pod("streams").owner)
    changed["spec"]["minReadySecond"] = changed["spec"].pop("minReadySeconds")
    done = applied.cluster.kubectl("apply", "--dry-run=server", "--filename", "-", given=yaml.safe_dump(changed))
    assert done.returncode != 0
    assert 'unknown field "spec.minReadySecond"' in done.stderr


def test_a_loosened_template_is_warned_about(applied: Applied) -> None:
    """So an empty standard error means that each template is within `restricted`."""
    changed = copy.deepcopy(applied.rendered.pod("streams").owner)
    changed["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] = False
    done = applied.cluster.kubectl("apply", "--dry-run=server", "--filename", "-", given=yaml.safe_dump(changed))
    assert "would violate PodSecurity" in done.stderr


def _make_pod(pod: Pod) -> Object:
    """Return a Pod made of a template, as its controller would make it, but for names of claims."""
    spec = copy.deepcopy(pod.spec)
    for claim in pod.owner["spec"].get("volumeClaimTemplates", ()):
        name = claim["metadata"]["name"]
        spec.setdefault("volumes", []).append({"name": name, "persistentVolumeClaim": {"claimName": f"{name}-test"}})
    for constraint in spec.get("topologySpreadConstraints", ()):
        # Names a label that only a Deployment's controller gives.
        constraint.pop("matchLabelKeys", None)
    template = pod.template["metadata"]
    metadata = {"name": f"{pod.name}-test", "namespace": pod.namespace, "labels": template["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _try_pod(applied: Applied, pod: Object) -> tuple[int, str]:
    """Ask the API server whether it would take a pod; return the status and text of its answer."""
    namespace = pod["metadata"]["namespace"]
    answer = applied.cluster.post(f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)
    return answer.status_code, answer.text


def test_every_pod_template_is_within_the_level_restricted(applied: Applied) -> None:
    """The namespaces enforce that level, so that these pods would be refused."""
    for pod in applied.rendered.pods():
        status, text = _try_pod(applied, _make_pod(pod))
        assert status == 201, (pod.name, text)


_LOOSER: Final[dict[str, dict[str, Any]]] = {
    # Without the second, validation refuses the pod before Pod Security is asked.
    "privileged": {"privileged": True, "allowPrivilegeEscalation": True},
    "as root": {"runAsUser": 0, "runAsNonRoot": False},
    "with a capability": {"capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]}},
    "with a way to more rights": {"allowPrivilegeEscalation": True},
}


@pytest.mark.parametrize("how", _LOOSER)
def test_a_pod_with_more_rights_is_refused(applied: Applied, how: str) -> None:
    """In either namespace, whatever its image."""
    for namespace in NAMESPACES:
        pod = _make_pod(applied.rendered.pod("notifier"))
        pod["metadata"]["namespace"] = namespace
        # The account that each namespace has.
        pod["spec"]["serviceAccountName"] = "default"
        eventually(
            lambda namespace=namespace: (
                applied.cluster.api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default").is_success
            ),
            "the namespace's own account",
        )
        status, text = _try_pod(applied, pod)
        assert status == 201, text
        pod["spec"]["containers"][0]["securityContext"] |= _LOOSER[how]
        status, text = _try_pod(applied, pod)
        assert status == 403
        assert 'violates PodSecurity \\"restricted:latest\\"' in text


def _count_wanted_pods(rendered: Rendered) -> dict[str, int]:
    """Return the number of pods of each owner; where a HorizontalPodAutoscaler decides, its least."""
    least = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]["minReplicas"]
        for each in rendered.resources_of("HorizontalPodAutoscaler")
    }
    return {pod.name: least.get(pod.name, pod.owner["spec"].get("replicas", 1)) for pod in rendered.pods()}


def test_the_controllers_create_every_pod(applied: Applied) -> None:
    """They would go on being refused, without a word to kubectl."""
    wanted = _count_wanted_pods(applied.rendered)

    def count() -> dict[str, int]:
        pods = applied.cluster.list_objects("/api/v1/namespaces/towerwatch/pods")
        return dict(Counter(pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in pods))

    eventually(lambda: count() == wanted, f"{wanted}")
    refused = [
        event["message"]
        for event in applied.cluster.list_objects("/api/v1/namespaces/towerwatch/events")
        if event["reason"] == "FailedCreate"
    ]
    # A namespace's account and a claim's StorageClass may come a moment later than what needs them.
    assert not [message for message in refused if "PodSecurity" in message or "forbidden" in message]


def test_every_budget_finds_its_pods(applied: Applied) -> None:
    """A budget whose selector finds nothing protects nothing. nginx's pods are its controller's, which is not here."""
    wanted = _count_wanted_pods(applied.rendered)
    for budget in applied.rendered.resources_of("PodDisruptionBudget", None):
        name, namespace = budget["metadata"]["name"], budget["metadata"]["namespace"]
        path = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets/{name}"

        def found(path: str = path, number: int = wanted.get(name, 0)) -> bool:
            status = applied.cluster.api.get(path).json().get("status", {})
            return bool(status.get("expectedPods") == number and status.get("observedGeneration") == 1)

        eventually(found, f"the budget {name} finding {wanted.get(name, 0)} pods")


def test_every_autoscaler_finds_what_it_scales(applied: Applied) -> None:
    """It reads the scale of its target, and holds the least number also where no metrics are served."""
    scalers = applied.rendered.resources_of("HorizontalPodAutoscaler")
    assert bool(scalers) == (applied.rendered.overlay == "production")
    for scaler in scalers:
        path = f"/apis/autoscaling/v2/namespaces/towerwatch/horizontalpodautoscalers/{scaler['metadata']['name']}"

        def conditions(path: str = path) -> dict[str, str]:
            status = applied.cluster.api.get(path).json().get("status", {})
            return {each["type"]: each["status"] for each in status.get("conditions", ())}

        eventually(lambda conditions=conditions: conditions().get("AbleToScale") == "True", "the scale of its target")


def test_a_claim_of_each_stateful_pod_is_made(applied: Applied) -> None:
    """One for each pod that keeps data, of the size that the overlay says, and Prometheus' own."""
    size = "50Gi" if applied.rendered.overlay == "production" else "10Gi"
    names = {
        f"data-{pod.name}-{number}"
        for pod in applied.rendered.pods()
        if pod.owner["kind"] == "StatefulSet"
        for number in range(pod.owner["spec"]["replicas"])
    }

    def claims() -> dict[str, str]:
        found = applied.cluster.list_objects("/api/v1/namespaces/towerwatch/persistentvolumeclaims")
        return {each["metadata"]["name"]: each["spec"]["resources"]["requests"]["storage"] for each in found}

    eventually(lambda: set(claims()) == names | {"prometheus"}, "the claims")
    assert {name: asked for name, asked in claims().items() if name in names and re.search("kafka", name)} == {
        name: size for name in names if "kafka" in name
    }
