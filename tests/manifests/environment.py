"""The environment and the mounted files of a container, as Kubernetes would create them."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from chassis.settings import Settings
from collector.settings import CollectorSettings
from notifier.settings import NotifierSettings
from streams.settings import JoinSettings
from tests.manifests.rendering import Pod, Rendered
from user_manager.settings import UserManagerSettings

SETTINGS: Final[Mapping[str, type[Settings]]] = {
    "user-manager": UserManagerSettings,
    "collector": CollectorSettings,
    "streams": JoinSettings,
    "notifier": NotifierSettings,
    "topics": Settings,
}
"""The settings class that reads the environment of each of the services' pods."""

_REFERENCE: Final = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


def build_downward_fields(pod: Pod, **values: str) -> dict[str, str]:
    """Return the fields of the downward API for a pod; `values` replaces some, by path with underscores for dots."""
    return {
        "spec.nodeName": values.get("spec_nodeName", "worker-1"),
        "status.podIP": values.get("status_podIP", "127.0.0.1"),
        "metadata.name": values.get("metadata_name", f"{pod.name}-0"),
        "metadata.labels['topology.kubernetes.io/zone']": values.get("zone", ""),
    }


def build_environment(rendered: Rendered, pod: Pod, **values: str) -> dict[str, str]:
    """Return a container's environment: ConfigMaps first, then its own variables, which may refer to earlier ones."""
    environment: dict[str, str] = {}
    for source in pod.container.get("envFrom", ()):
        (kind, field) = ("ConfigMap", "configMapRef") if "configMapRef" in source else ("Secret", "secretRef")
        environment |= _read_data(rendered, kind, pod.namespace, source[field]["name"])
    known = build_downward_fields(pod, **values)
    for variable in pod.container.get("env", ()):
        if "value" in variable:
            given = _REFERENCE.sub(lambda match: environment.get(match[1], match[0]), variable["value"])
        else:
            source = variable["valueFrom"]
            if "configMapKeyRef" in source:
                reference = source["configMapKeyRef"]
                given = _read_data(rendered, "ConfigMap", pod.namespace, reference["name"])[reference["key"]]
            else:
                given = known[source["fieldRef"]["fieldPath"]]
        environment[variable["name"]] = given
    return environment


def find_referenced_variables(pod: Pod) -> set[str]:
    """Return the names of variables that the value of another variable refers to."""
    values = (each.get("value", "") for each in pod.container.get("env", ()))
    return {name for value in values for name in _REFERENCE.findall(value)}


def build_mounted_files(rendered: Rendered, pod: Pod) -> dict[str, str]:
    """Return the content of the files from a pod's ConfigMaps and Secrets, by their mounted paths."""
    files: dict[str, str] = {}
    volumes = {each["name"]: each for each in pod.spec.get("volumes", ())}
    for mount in pod.container.get("volumeMounts", ()):
        volume = volumes.get(mount["name"], {})
        sources = [volume, *volume.get("projected", {}).get("sources", ())]
        for source in sources:
            for field, kind, key in (
                ("configMap", "ConfigMap", "name"),
                ("secret", "Secret", "secretName" if source is volume else "name"),
            ):
                if field not in source:
                    continue
                data = _read_data(rendered, kind, pod.namespace, source[field][key])
                items = source[field].get("items")
                paths = {item["path"]: item["key"] for item in items} if items else {name: name for name in data}
                if "subPath" in mount:
                    files |= {mount["mountPath"]: data[paths[mount["subPath"]]]}
                else:
                    files |= {f"{mount['mountPath']}/{path}": data[name] for path, name in paths.items()}
    return files


def write_files(environment: Mapping[str, str], files: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Write mounted files below `folder`, and return the environment with their paths replaced."""
    moved = dict(environment)
    for path, content in files.items():
        target = folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        moved = {name: str(target) if value == path else value for name, value in moved.items()}
    return moved


def _read_data(rendered: Rendered, kind: str, namespace: str, name: str) -> dict[str, str]:
    """Return the decoded data of a ConfigMap or a Secret."""
    (found,) = (each for each in rendered.resources_of(kind, namespace) if each["metadata"]["name"] == name)
    data = dict(found.get("data", {}))
    return {key: base64.b64decode(value).decode() for key, value in data.items()} if kind == "Secret" else data
