"""All references between the manifests' resources resolve."""

from collections.abc import Callable

import pytest

from tests.manifests.references import find_dangling_references
from tests.manifests.rendering import Pod, Rendered


def test_every_reference_resolves(rendered: Rendered) -> None:
    """This covers selectors, ports, ConfigMaps, Secrets and their keys, accounts, claims, volumes, roles and routes."""
    assert find_dangling_references(rendered) == []


def _container(rendered: Rendered, name: str) -> dict[str, object]:
    return Pod(rendered.pod(name).owner, rendered.pod(name).template).spec["containers"][0]


def _rename_config_map(rendered: Rendered) -> None:
    rendered.find_resource("ConfigMap", "common")["metadata"]["name"] += "x"


def _rename_secret(rendered: Rendered) -> None:
    rendered.find_resource("Secret", "user-db")["metadata"]["name"] = "other"


def _lose_account(rendered: Rendered) -> None:
    rendered.resources.remove(rendered.find_resource("ServiceAccount", "topics"))


def _lose_claim(rendered: Rendered) -> None:
    rendered.resources.remove(rendered.find_resource("PersistentVolumeClaim", "prometheus"))


def _label_pods_otherwise(rendered: Rendered) -> None:
    rendered.pod("streams").template["metadata"]["labels"]["app.kubernetes.io/name"] = "stream"


def _select_more(rendered: Rendered) -> None:
    del rendered.find_resource("Service", "user-manager")["spec"]["selector"]["app.kubernetes.io/name"]


def _rename_port(rendered: Rendered) -> None:
    _container(rendered, "collector")["ports"][1]["name"] = "rpc"  # type: ignore[index]


def _probe_elsewhere(rendered: Rendered) -> None:
    _container(rendered, "notifier")["livenessProbe"]["httpGet"]["port"] = "web"  # type: ignore[index]


def _headless_with_another_port(rendered: Rendered) -> None:
    rendered.find_resource("Service", "user-manager-grpc")["spec"]["ports"][0]["port"] = 9091


def _lose_volume(rendered: Rendered) -> None:
    rendered.pod("kafka").template["spec"]["volumes"].pop()


def _route_to_another_port(rendered: Rendered) -> None:
    rendered.find_resource("HTTPRoute", "collector")["spec"]["rules"][0]["backendRefs"][0]["port"] = 8080


def _lose_password_file(rendered: Rendered) -> None:
    rendered.resources.remove(rendered.find_resource("Secret", "operators"))


def _route_on_the_plain_listener(rendered: Rendered) -> None:
    rendered.find_resource("HTTPRoute", "user-manager")["spec"]["parentRefs"][0]["sectionName"] = "http"


def _bind_somebody_else(rendered: Rendered) -> None:
    rendered.find_resource("RoleBinding", "prometheus")["subjects"][0]["name"] = "default"


def _guard_another_gateway(rendered: Rendered) -> None:
    budget = rendered.find_resource("PodDisruptionBudget", "nginx", "towerwatch-gateway")
    budget["spec"]["selector"]["matchLabels"]["gateway.networking.k8s.io/gateway-name"] = "other"


def _ask_for_a_missing_key(rendered: Rendered) -> None:
    rendered.pod("topics").template["spec"]["volumes"][0]["configMap"]["items"] = [{"key": "x.py", "path": "x.py"}]


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (_rename_config_map, "there is no ConfigMap common"),
        (_rename_secret, "there is no Secret user-db"),
        (_lose_account, "there is no ServiceAccount topics"),
        (_lose_claim, "there is no PersistentVolumeClaim prometheus"),
        (_label_pods_otherwise, "Service streams: selects nothing"),
        (_select_more, "Service user-manager: selects"),
        (_rename_port, "collector has no port grpc"),
        (_probe_elsewhere, "its livenessProbe asks port web"),
        (_headless_with_another_port, "9091 is not the port of the pods"),
        (_lose_volume, "there is no volume"),
        (_route_to_another_port, "there is no Service collector with port 8080"),
        (_lose_password_file, "names no Secret of nginx.org/htpasswd"),
        (_route_on_the_plain_listener, "takes no route of towerwatch"),
        (_bind_somebody_else, "there is no ServiceAccount default"),
        (_ask_for_a_missing_key, "has no key x.py"),
        (_guard_another_gateway, "there is no Gateway other"),
    ],
)
def test_the_check_finds_a_broken_reference(
    overlays: dict[str, Rendered], break_it: Callable[[Rendered], None], said: str
) -> None:
    """One name is changed, and the fault contains it."""
    broken = overlays["production"].copy()
    break_it(broken)
    assert any(said in fault for fault in find_dangling_references(broken)), find_dangling_references(broken)


def test_an_autoscaled_deployment_has_no_number_of_its_own(overlays: dict[str, Rendered]) -> None:
    """Otherwise each `kubectl apply` would reset the replicas that the autoscaler has chosen."""
    broken = overlays["production"].copy()
    broken.pod("user-manager").owner["spec"]["replicas"] = 2
    assert any("sets user-manager back" in fault for fault in find_dangling_references(broken))
