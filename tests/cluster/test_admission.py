"""A real API server takes both overlays whole, and refuses what is looser. It and etcd run alone here."""

import copy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.cluster.control_plane import Object
from tests.cluster.overlays import NAMESPACES, Applied, applied_overlay, check_second_apply, check_server_side_apply
from tests.manifests.rendering import OVERLAYS, Pod

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module", params=OVERLAYS)
def applied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """Apply an overlay to an API server alone: no controller changes what it was given."""
    with applied_overlay(request.param, tmp_path_factory.mktemp(request.param), controls=False) as found:
        yield found


def test_everything_is_admitted_and_nothing_is_warned_about(applied: Applied) -> None:
    """Warnings are the API server's: of deprecated fields, of pods that the level `restricted` would refuse."""
    assert applied.status == 0, applied.warned
    assert applied.warned == ""
    assert Counter(line.rpartition(" ")[2] for line in applied.said.splitlines()) == {
        "created": len(applied.rendered.resources)
    }


def test_a_second_apply_changes_nothing(applied: Applied) -> None:
    """A field that the API server adds or writes otherwise would be a difference in each later diff."""
    check_second_apply(applied)


def test_server_side_apply_takes_over_and_changes_nothing_either(applied: Applied) -> None:
    """Flux applies so, and Argo CD can: a second synchronisation shows no difference."""
    check_server_side_apply(applied)


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


def _make_account(applied: Applied, namespace: str) -> str:
    """Make the account that a controller makes in each namespace, if it is not there yet, and return its name."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    answer = applied.cluster.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    assert answer.status_code in (201, 409), answer.text
    return "default"


@pytest.mark.parametrize("how", _LOOSER)
def test_a_pod_with_more_rights_is_refused(applied: Applied, how: str) -> None:
    """In either namespace, whatever its image."""
    for namespace in NAMESPACES:
        pod = _make_pod(applied.rendered.pod("notifier"))
        pod["metadata"]["namespace"] = namespace
        pod["spec"]["serviceAccountName"] = _make_account(applied, namespace)
        status, text = _try_pod(applied, pod)
        assert status == 201, text
        pod["spec"]["containers"][0]["securityContext"] |= _LOOSER[how]
        status, text = _try_pod(applied, pod)
        assert status == 403
        assert 'violates PodSecurity \\"restricted:latest\\"' in text
