"""The check of references between resources: every referenced name must exist."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.manifests.rendering import Pod, Rendered, Resource, is_selected

GATEWAY_NAME: Final = "gateway.networking.k8s.io/gateway-name"

MADE_ELSEWHERE: Final = {
    # production: cert-manager creates it, because of the Gateway's annotation
    ("production", "Secret", "towerwatch-gateway", "towerwatch-tls"),
}


def find_dangling_references(rendered: Rendered) -> list[str]:
    """Return all references to something that does not exist, each as a sentence."""
    return [
        *(fault for pod in rendered.pods() for fault in _check_pod(rendered, pod)),
        *_check_selectors(rendered),
        *_check_role_bindings(rendered),
        *_check_gateway(rendered),
        *_check_autoscalers(rendered),
    ]


def _find_resource(rendered: Rendered, kind: str, namespace: str | None, name: str) -> Resource | None:
    """Return the resource with this exact name, or None."""
    found = [each for each in rendered.resources_of(kind, namespace) if each["metadata"]["name"] == name]
    return found[0] if found else None


def _list_keys(resource: Resource) -> set[str]:
    return set(resource.get("data", {})) | set(resource.get("stringData", {}))


def _check_pod(rendered: Rendered, pod: Pod) -> Iterator[str]:
    """Yield the dangling references of a pod: accounts, ConfigMaps, Secrets, volumes, ports of probes."""
    where = f"{pod.owner['kind']} {pod.name}"
    spec, container = pod.spec, pod.container

    def missing(kind: str, name: str) -> str | None:
        return None if _find_resource(rendered, kind, pod.namespace, name) else f"{where}: there is no {kind} {name}"

    def of_key(kind: str, name: str, key: str) -> str | None:
        found = _find_resource(rendered, kind, pod.namespace, name)
        if found is None:
            return f"{where}: there is no {kind} {name}"
        return None if key in _list_keys(found) else f"{where}: {kind} {name} has no key {key}"

    faults = [missing("ServiceAccount", spec["serviceAccountName"])]
    for source in container.get("envFrom", ()):
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if field in source:
                faults.append(missing(kind, source[field]["name"]))
    for variable in container.get("env", ()):
        for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
            if field in variable.get("valueFrom", {}):
                reference = variable["valueFrom"][field]
                faults.append(of_key(kind, reference["name"], reference["key"]))
    claims = {each["metadata"]["name"] for each in pod.owner["spec"].get("volumeClaimTemplates", ())}
    for volume in spec.get("volumes", ()):
        for kind, name, keys in _iter_sources(volume):
            faults += [missing(kind, name), *(of_key(kind, name, key) for key in keys)]
    volumes = {each["name"] for each in spec.get("volumes", ())} | claims
    mounted = {each["name"] for each in container.get("volumeMounts", ())}
    faults += [f"{where}: there is no volume {name}" for name in sorted(mounted - volumes)]
    faults += [f"{where}: nobody mounts the volume {name}" for name in sorted(volumes - mounted)]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        for action in ("httpGet", "tcpSocket", "grpc"):
            port = container.get(probe, {}).get(action, {}).get("port")
            if port is not None and port not in (*pod.ports, *pod.ports.values()):
                faults.append(f"{where}: its {probe} asks port {port}, which it does not have")
    annotations = pod.template["metadata"].get("annotations", {})
    scraped = annotations.get("prometheus.io/port")
    if scraped is not None and int(scraped) not in pod.ports.values():
        faults.append(f"{where}: is scraped at {scraped}, which it does not have")
    if pod.owner["kind"] == "StatefulSet":
        service = _find_resource(rendered, "Service", pod.namespace, pod.owner["spec"]["serviceName"])
        if service is None or service["spec"].get("clusterIP") != "None":
            faults.append(f"{where}: its serviceName is of no headless Service")
    yield from filter(None, faults)


def _iter_sources(volume: Resource) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the kind, the name and the listed keys of each resource that a volume mounts."""
    if "persistentVolumeClaim" in volume:
        yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], []
    for field, kind, name in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
        if field in volume:
            yield kind, volume[field][name], [item["key"] for item in volume[field].get("items", ())]
    for source in volume.get("projected", {}).get("sources", ()):
        for field, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
            if field in source:
                yield kind, source[field]["name"], [item["key"] for item in source[field].get("items", ())]


def _check_selectors(rendered: Rendered) -> Iterator[str]:
    """Yield the selectors of workloads, Services and budgets that select other pods than their own."""
    pods = list(rendered.pods())

    def selected(resource: Resource, selector: dict[str, str]) -> list[Pod]:
        namespace = resource["metadata"]["namespace"]
        return [pod for pod in pods if pod.namespace == namespace and is_selected(selector, pod.labels)]

    for pod in pods:
        if pod.owner["kind"] == "Job":
            continue
        if [each.name for each in selected(pod.owner, pod.owner["spec"]["selector"]["matchLabels"])] != [pod.name]:
            yield f"{pod.owner['kind']} {pod.name}: selects other pods than its own"
        for constraint in pod.spec.get("topologySpreadConstraints", ()):
            if [each.name for each in selected(pod.owner, constraint["labelSelector"]["matchLabels"])] != [pod.name]:
                yield f"{pod.owner['kind']} {pod.name}: is spread by other pods than its own"
        anti = pod.spec.get("affinity", {}).get("podAntiAffinity", {})
        for term in anti.get("requiredDuringSchedulingIgnoredDuringExecution", ()):
            if [each.name for each in selected(pod.owner, term["labelSelector"]["matchLabels"])] != [pod.name]:
                yield f"{pod.owner['kind']} {pod.name}: keeps away from other pods than its own"
    for kind, of in (("Service", _service_selector), ("PodDisruptionBudget", _budget_selector)):
        for resource in rendered.resources_of(kind, None):
            name = resource["metadata"]["name"]
            # One deployable each: a Service may be the second of its pods, as user-manager-grpc is.
            owners = [pod.name for pod in selected(resource, of(resource))]
            if kind == "PodDisruptionBudget" and GATEWAY_NAME in of(resource):
                # The gateway's pods are made by its controller, which labels them with the gateway's name.
                if (
                    _find_resource(rendered, "Gateway", resource["metadata"]["namespace"], of(resource)[GATEWAY_NAME])
                    is None
                ):
                    yield f"{kind} {name}: there is no Gateway {of(resource)[GATEWAY_NAME]}"
                continue
            if len(owners) != 1 or resource["metadata"]["labels"]["app.kubernetes.io/name"] != owners[0]:
                yield f"{kind} {name}: selects {owners or 'nothing'}"
                continue
            ports = next(pod for pod in pods if pod.name == owners[0]).ports
            for port in resource["spec"].get("ports", ()):
                if port["targetPort"] not in ports:
                    yield f"{kind} {name}: {owners[0]} has no port {port['targetPort']}"
                headless = resource["spec"].get("clusterIP") == "None"
                if headless and port["port"] != ports.get(port["targetPort"]):
                    yield f"{kind} {name}: is headless, and {port['port']} is not the port of the pods"


def _service_selector(service: Resource) -> dict[str, str]:
    return dict(service["spec"]["selector"])


def _budget_selector(budget: Resource) -> dict[str, str]:
    return dict(budget["spec"]["selector"]["matchLabels"])


def _check_role_bindings(rendered: Rendered) -> Iterator[str]:
    """Yield the dangling references of role bindings: roles and accounts."""
    for binding in (*rendered.resources_of("RoleBinding", None), *rendered.resources_of("ClusterRoleBinding", None)):
        name = binding["metadata"]["name"]
        if not _find_resource(rendered, binding["roleRef"]["kind"], None, binding["roleRef"]["name"]):
            yield f"binding {name}: there is no {binding['roleRef']['kind']} {binding['roleRef']['name']}"
        for subject in binding["subjects"]:
            if not _find_resource(rendered, subject["kind"], subject["namespace"], subject["name"]):
                yield f"binding {name}: there is no {subject['kind']} {subject['name']} in {subject['namespace']}"


def _check_gateway(rendered: Rendered) -> Iterator[str]:
    """Yield the dangling references of the Gateway, its routes and its authentication filters."""

    def missing(kind: str, namespace: str, name: str) -> bool:
        elsewhere = (rendered.overlay, kind, namespace, name) in MADE_ELSEWHERE
        return not elsewhere and _find_resource(rendered, kind, namespace, name) is None

    for gateway in rendered.resources_of("Gateway", None):
        namespace = gateway["metadata"]["namespace"]
        parameters = gateway["spec"]["infrastructure"]["parametersRef"]
        if missing(parameters["kind"], namespace, parameters["name"]):
            yield f"Gateway: there is no {parameters['kind']} {parameters['name']}"
        for listener in gateway["spec"]["listeners"]:
            for certificate in listener.get("tls", {}).get("certificateRefs", ()):
                if missing("Secret", namespace, certificate["name"]):
                    yield f"Gateway: there is no Secret {certificate['name']}"
    for route in rendered.resources_of("HTTPRoute", None):
        yield from _check_route(rendered, route, missing)
    for each in rendered.resources_of("AuthenticationFilter", None):
        secret = _find_resource(
            rendered, "Secret", each["metadata"]["namespace"], each["spec"]["basic"]["secretRef"]["name"]
        )
        if secret is None or secret["type"] != "nginx.org/htpasswd" or "auth" not in _list_keys(secret):
            yield "AuthenticationFilter: names no Secret of nginx.org/htpasswd with the key auth"


def _check_route(rendered: Rendered, route: Resource, missing: Callable[[str, str, str], bool]) -> Iterator[str]:
    """Yield the dangling references of a route: listeners, Services and filters."""
    name, namespace = route["metadata"]["name"], route["metadata"]["namespace"]
    for parent in route["spec"]["parentRefs"]:
        gateway = _find_resource(rendered, "Gateway", parent.get("namespace", namespace), parent["name"])
        listeners = {each["name"]: each for each in gateway["spec"]["listeners"]} if gateway else {}
        listener = listeners.get(parent["sectionName"])
        if listener is None:
            yield f"HTTPRoute {name}: there is no listener {parent['sectionName']}"
        elif namespace not in _find_allowed_namespaces(rendered, gateway or {}, listener):
            yield f"HTTPRoute {name}: the listener {parent['sectionName']} takes no route of {namespace}"
    for rule in route["spec"]["rules"]:
        for backend in rule.get("backendRefs", ()):
            service = _find_resource(rendered, "Service", namespace, backend["name"])
            if service is None or backend["port"] not in [port["port"] for port in service["spec"]["ports"]]:
                yield f"HTTPRoute {name}: there is no Service {backend['name']} with port {backend['port']}"
        for each in rule.get("filters", ()):
            extension = each.get("extensionRef")
            if extension and missing(extension["kind"], namespace, extension["name"]):
                yield f"HTTPRoute {name}: there is no {extension['kind']} {extension['name']}"


def _find_allowed_namespaces(rendered: Rendered, gateway: Resource, listener: Resource) -> set[str]:
    """Return the namespaces whose routes a listener accepts."""
    namespaces: dict[str, Any] = listener["allowedRoutes"]["namespaces"]
    if namespaces["from"] == "Same":
        return {gateway["metadata"]["namespace"]}
    labelled = {
        each["metadata"]["name"]: each["metadata"]["labels"] | {"kubernetes.io/metadata.name": each["metadata"]["name"]}
        for each in rendered.resources_of("Namespace", None)
    }
    selector = namespaces["selector"]["matchLabels"]
    return {name for name, labels in labelled.items() if is_selected(selector, labels)}


def _check_autoscalers(rendered: Rendered) -> Iterator[str]:
    """Yield the autoscalers without a target, or whose target has a replica count of its own."""
    for scaler in rendered.resources_of("HorizontalPodAutoscaler", None):
        target = scaler["spec"]["scaleTargetRef"]
        found = _find_resource(rendered, target["kind"], scaler["metadata"]["namespace"], target["name"])
        if found is None:
            yield f"autoscaler {scaler['metadata']['name']}: there is no {target['kind']} {target['name']}"
        elif "replicas" in found["spec"]:
            yield f"autoscaler {scaler['metadata']['name']}: an apply sets {target['name']} back to its replicas"
