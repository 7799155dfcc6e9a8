"""The rules for every pod: its rights, resources, probes, grace period and image."""

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Final

import pytest

from chassis.db.database import PoolConfig
from chassis.faust.worker import STOP_WITHIN_S
from chassis.web.wsgi import DRAIN_S
from local.kafka.jars import KAFKA_VERSION
from tests.manifests.environment import build_mounted_files
from tests.manifests.rendering import SERVICES, Pod, Rendered

_STANDARD: Final = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
}

_SERVICE_STOPS_WITHIN_S: Final = 20.0
"""Seconds that a stop of any service may take: the servers drain (5 s, gRPC too), then the background tasks end."""


def list_security_faults(pod: Pod) -> Iterator[str]:
    """Yield how a pod violates Pod Security's level `restricted`, or this project's further rules."""
    outside, inside = pod.spec.get("securityContext", {}), pod.container.get("securityContext", {})
    if not outside.get("runAsNonRoot") or "runAsNonRoot" in inside or "runAsUser" in inside:
        yield "may run as root"
    if not outside.get("runAsUser") or not outside.get("runAsGroup"):
        yield "has no user of its own, by number"
    if outside.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "may make any system call"
    if inside.get("allowPrivilegeEscalation") is not False:
        yield "may gain rights"
    if inside.get("capabilities") != {"drop": ["ALL"]}:
        yield "has capabilities"
    if inside.get("readOnlyRootFilesystem") is not True:
        yield "may write to its image"
    if inside.get("privileged") or any(pod.spec.get(each) for each in ("hostNetwork", "hostPID", "hostIPC")):
        yield "is not apart from its node"
    if [each for each in pod.spec.get("volumes", ()) if "hostPath" in each]:
        yield "reads its node's disk"
    if pod.spec.get("automountServiceAccountToken") is not (pod.name == "prometheus"):
        yield "has the wrong idea of whether it asks the API server"
    if pod.spec.get("enableServiceLinks") is not False:
        yield "takes a variable for each Service"
    if pod.spec["serviceAccountName"] != pod.name:
        yield "acts in the name of another"


def test_every_pod_has_as_few_rights_as_possible(rendered: Rendered) -> None:
    faults = [f"{pod.name} {fault}" for pod in rendered.pods() for fault in list_security_faults(pod)]
    assert faults == []


def _as_root(pod: Pod) -> None:
    pod.template["spec"]["containers"][0]["securityContext"]["runAsUser"] = 0


def _writable(pod: Pod) -> None:
    del pod.template["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"]


def _with_token(pod: Pod) -> None:
    del pod.template["spec"]["automountServiceAccountToken"]


def _with_a_capability(pod: Pod) -> None:
    pod.template["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] = ["NET_RAW"]


@pytest.mark.parametrize("loosen", [_as_root, _writable, _with_token, _with_a_capability])
def test_the_check_finds_an_unnecessary_right(overlays: dict[str, Rendered], loosen: Callable[[Pod], None]) -> None:
    """Each additional right is exactly one fault."""
    pod = overlays["kind"].copy().pod("streams")
    loosen(pod)
    assert len(list(list_security_faults(pod))) == 1


def test_namespaces_enforce_the_level_restricted(rendered: Rendered) -> None:
    """All namespaces of the resources are defined, with the level `restricted` for each mode."""
    for namespace in rendered.resources_of("Namespace", None):
        labels = namespace["metadata"]["labels"]
        assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "warn", "audit")} == {"restricted"}
    used = {each["metadata"]["namespace"] for each in rendered.resources if "namespace" in each["metadata"]}
    assert used == {each["metadata"]["name"] for each in rendered.resources_of("Namespace", None)}


def test_every_container_has_requests_and_limits(rendered: Rendered) -> None:
    """No request exceeds its limit, and empty volumes are smaller than the limit of ephemeral storage."""
    for pod in rendered.pods():
        for given in ("requests", "limits"):
            assert set(pod.container["resources"][given]) == {"cpu", "memory", "ephemeral-storage"}, pod.name
        for resource, needed in pod.container["resources"]["requests"].items():
            assert _amount(needed) <= _amount(pod.container["resources"]["limits"][resource]), (pod.name, resource)
        for volume in pod.spec.get("volumes", ()):
            if "emptyDir" in volume:
                limit = _amount(pod.container["resources"]["limits"]["ephemeral-storage"])
                assert _amount(volume["emptyDir"]["sizeLimit"]) < limit, pod.name


def _amount(quantity: str) -> float:
    """Return a quantity of Kubernetes as a number."""
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(quantity)).groups()  # type: ignore[union-attr]
    return float(number) * {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[unit]


def test_quantities_are_compared_by_their_units() -> None:
    """The check of limits depends on this."""
    assert _amount("1Gi") > _amount("1000Mi") > _amount("1") > _amount("100m")


def test_labels_are_the_standard_ones(rendered: Rendered) -> None:
    """Workloads and their pods have all standard labels; every resource has the label `part-of`."""
    for pod in rendered.pods():
        for labels in (pod.owner["metadata"]["labels"], pod.labels):
            assert set(labels) == _STANDARD, pod.name
            assert labels["app.kubernetes.io/name"] == pod.name
            assert labels["app.kubernetes.io/part-of"] == "towerwatch"
        tag = pod.container["image"].rpartition(":")[2].removeprefix("v")
        assert tag in (pod.labels["app.kubernetes.io/version"], "kind"), pod.name
    for resource in rendered.resources:
        assert resource["metadata"]["labels"]["app.kubernetes.io/part-of"] == "towerwatch", resource["metadata"]


def test_no_selector_contains_a_version(rendered: Rendered) -> None:
    """An upgrade changes the version, but selectors and volume claims cannot be changed."""
    for pod in rendered.pods():
        assert "app.kubernetes.io/version" not in pod.owner["spec"].get("selector", {}).get("matchLabels", {})
        for claim in pod.owner["spec"].get("volumeClaimTemplates", ()):
            assert "app.kubernetes.io/version" not in claim["metadata"].get("labels", {})


def test_images_are_pinned(rendered: Rendered) -> None:
    """Each image has a version, and all services have the same image."""
    images = {pod.name: pod.container["image"] for pod in rendered.pods()}
    for image in images.values():
        assert re.fullmatch(r"[a-z0-9./-]+:(v?[0-9]+\.[0-9]+\.[0-9]+|kind)", image), image
    ours = {images[name] for name in (*SERVICES, "topics")}
    assert len(ours) == 1
    assert images["kafka"] == f"apache/kafka:{KAFKA_VERSION}"


def test_every_pod_has_three_probes(rendered: Rendered) -> None:
    """Except for the Job. A pod that starts slowly, or waits, is not restarted: a start may take five minutes."""
    for pod in rendered.pods():
        if pod.owner["kind"] == "Job":
            continue
        startup, live, ready = (pod.container[f"{each}Probe"] for each in ("startup", "liveness", "readiness"))
        assert _compute_failure_time(live) > _compute_failure_time(ready), pod.name
        assert _compute_failure_time(live) >= 60, pod.name
        assert _compute_failure_time(startup) >= 300, pod.name
        if pod.name in SERVICES:
            assert live["httpGet"] == startup["httpGet"] == {"path": "/health/live", "port": "http"}
            assert ready["httpGet"] == {"path": "/health/ready", "port": "http"}
    for database in ("user-db", "data-db"):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            command = " ".join(rendered.pod(database).container[probe]["exec"]["command"])
            assert "MYSQL_PASSWORD_FILE" in command
            assert "SELECT 1" in command


def _compute_failure_time(probe: dict[str, int]) -> float:
    """Return for how many seconds a probe may fail before Kubernetes acts."""
    return probe["periodSeconds"] * probe.get("failureThreshold", 3)


def test_the_timeout_of_the_liveness_probe_is_longer_than_a_hanging_query(rendered: Rendered) -> None:
    """/health/live may wait behind requests that wait for the database, 10 s each."""
    for name in ("user-manager", "collector"):
        assert rendered.pod(name).container["livenessProbe"]["timeoutSeconds"] > 10


def test_the_grace_period_is_long_enough_for_a_stop(rendered: Rendered) -> None:
    """The grace period contains the pause before a stop, the stop, and some seconds more."""
    assert STOP_WITHIN_S <= _SERVICE_STOPS_WITHIN_S
    assert DRAIN_S < _SERVICE_STOPS_WITHIN_S
    routed = {"user-manager", "collector"}
    for name in SERVICES:
        pod = rendered.pod(name)
        pause = pod.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert (pause >= 5) == (name in routed), "only a service with routed requests needs a pause"
        assert pod.spec["terminationGracePeriodSeconds"] >= pause + _SERVICE_STOPS_WITHIN_S + 5


def test_a_rollout_keeps_the_number_of_replicas(rendered: Rendered) -> None:
    """A new pod is ready before an old one is stopped; each service has at least two replicas."""
    for name in SERVICES:
        owner = rendered.pod(name).owner
        assert owner["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        scaled = [each["spec"] for each in rendered.resources_of("HorizontalPodAutoscaler")]
        least = {each["scaleTargetRef"]["name"]: each["minReplicas"] for each in scaled}
        assert least.get(name, owner["spec"].get("replicas")) == 2
    assert rendered.pod("prometheus").owner["spec"]["strategy"] == {"type": "Recreate"}


def test_every_deployable_has_its_parts(rendered: Rendered) -> None:
    """Each workload has an account; each workload but the Job has a Service and a budget too."""
    for pod in rendered.pods():
        kinds = {
            each["kind"]
            for each in rendered.resources
            if each["metadata"].get("labels", {}).get("app.kubernetes.io/name") == pod.name
        }
        expected = {pod.owner["kind"], "ServiceAccount"}
        if pod.owner["kind"] != "Job":
            expected |= {"Service", "PodDisruptionBudget"}
        assert expected <= kinds, pod.name


def test_replicas_are_spread_over_nodes_and_zones(rendered: Rendered) -> None:
    """Different nodes are required, different zones are preferred."""
    for name in SERVICES:
        constraints = rendered.pod(name).spec["topologySpreadConstraints"]
        keys = {each["topologyKey"]: each["whenUnsatisfiable"] for each in constraints}
        assert keys == {
            "kubernetes.io/hostname": "DoNotSchedule",
            "topology.kubernetes.io/zone": "ScheduleAnyway",
        }


def test_a_pool_of_connections_fits_into_the_database(overlays: dict[str, Rendered]) -> None:
    """The database allows the full pools of all replicas of the autoscaler, and of one more during a rollout."""
    pool = PoolConfig()
    production = overlays["production"]
    (scaler,) = production.resources_of("HorizontalPodAutoscaler")
    most = scaler["spec"]["maxReplicas"] + 1
    config = production.find_resource("ConfigMap", "user-db-config")["data"]["towerwatch.cnf"]
    allowed = int(re.search(r"^max_connections = ([0-9]+)$", config, re.M)[1])  # type: ignore[index]
    assert most * (pool.size + pool.max_overflow) < allowed
    timeout_s = int(re.search(r"^wait_timeout = ([0-9]+)$", config, re.M)[1])  # type: ignore[index]
    assert pool.recycle_s < timeout_s


def test_pods_that_are_not_ready_do_not_block_the_drain_of_a_node(rendered: Rendered) -> None:
    """While a database is unavailable all replicas are not ready, and a budget would block every eviction.

    Pods with data must not be evicted while they recover: MySQL, and Kafka's replicas of a partition.
    """
    keep_data = {pod.name for pod in rendered.pods() if pod.owner["kind"] == "StatefulSet"}
    for budget in rendered.resources_of("PodDisruptionBudget", None):
        policy = budget["spec"].get("unhealthyPodEvictionPolicy")
        expected = None if budget["metadata"]["name"] in keep_data else "AlwaysAllow"
        assert policy == expected, budget["metadata"]["name"]


def test_data_is_in_a_folder_of_its_own(rendered: Rendered) -> None:
    """A new ext4 volume contains lost+found, which MySQL rejects and Kafka would take for a topic."""
    places = {
        **dict.fromkeys(("user-db", "data-db"), r"^datadir = (.+)$"),
        **dict.fromkeys(("kafka", "kafka-controller"), r"^log[.]dirs=(.+)$"),
    }
    stateful = [pod for pod in rendered.pods() if pod.owner["kind"] == "StatefulSet"]
    assert {pod.name for pod in stateful} <= set(places)
    for pod in stateful:
        (folder,) = re.findall(places[pod.name], "\n".join(build_mounted_files(rendered, pod).values()), re.M)
        (volume,) = (each["mountPath"] for each in pod.container["volumeMounts"] if each["name"] == "data")
        assert PurePosixPath(volume) in PurePosixPath(folder).parents, pod.name


def test_files_of_a_volume_can_be_read_and_written_by_the_pods_user(rendered: Rendered) -> None:
    """A volume belongs to root and the pod's fsGroup; a Secret is readable by these only."""
    for pod in rendered.pods():
        volumes = pod.spec.get("volumes", ())
        if volumes or "volumeClaimTemplates" in pod.owner["spec"]:
            assert pod.spec["securityContext"]["fsGroup"] == pod.spec["securityContext"]["runAsGroup"], pod.name
        for volume in volumes:
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440, pod.name
    owners = {"user-db": 999, "data-db": 999, "kafka": 1000, "kafka-controller": 1000, "prometheus": 65534}
    for pod in rendered.pods():
        # The users of the images: mysql, appuser, nobody, and the one of the Dockerfile.
        assert pod.spec["securityContext"]["runAsUser"] == owners.get(pod.name, 10001), pod.name


def test_the_scripts_of_probes_and_commands_are_mounted(rendered: Rendered) -> None:
    """Without its script a pod would never become ready."""
    for pod in rendered.pods():
        probes = (pod.container.get(f"{each}Probe", {}) for each in ("startup", "liveness", "readiness"))
        commands = [pod.container.get("command", []), *(probe.get("exec", {}).get("command", []) for probe in probes)]
        for path in (word for command in commands for word in command if word.startswith("/etc/towerwatch/")):
            assert path in build_mounted_files(rendered, pod), (pod.name, path)


def test_the_gateway_outlasts_a_node_and_a_rollout(rendered: Rendered) -> None:
    """The controller creates nginx from these settings: on two nodes, with resources and a pause before a stop."""
    (proxy,) = rendered.resources_of("NginxProxy", None)
    deployment = proxy["spec"]["kubernetes"]["deployment"]
    assert deployment["replicas"] == (1 if rendered.overlay == "kind" else 2)
    (constraint,) = deployment["pod"]["topologySpreadConstraints"]
    (gateway,) = rendered.resources_of("Gateway", None)
    selector = {"gateway.networking.k8s.io/gateway-name": gateway["metadata"]["name"]}
    assert constraint["labelSelector"]["matchLabels"] == selector
    assert constraint["topologyKey"] == "kubernetes.io/hostname"
    pause = deployment["container"]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 10 <= pause < deployment["pod"]["terminationGracePeriodSeconds"] - 15
    for given in ("requests", "limits"):
        assert set(deployment["container"]["resources"][given]) == {"cpu", "memory", "ephemeral-storage"}
