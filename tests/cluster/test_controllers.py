"""Kubernetes' controllers make of both overlays what they mean, and leave what was applied as it is."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.cluster.overlays import Applied, applied_overlay, check_second_apply, check_server_side_apply
from tests.manifests.rendering import OVERLAYS, Rendered
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.controllers, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module", params=OVERLAYS)
def applied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """Apply an overlay to a cluster without nodes."""
    with applied_overlay(request.param, tmp_path_factory.mktemp(request.param), controls=True) as found:
        yield found


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


def test_an_apply_after_the_controllers_changes_nothing(applied: Applied) -> None:
    """Not what they wrote either: the autoscaler's number of replicas stays, on the client's side and the server's."""
    assert applied.status == 0, applied.warned
    check_second_apply(applied)
    check_server_side_apply(applied)
