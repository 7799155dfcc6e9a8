"""The environment that a container is started with, and the files that it finds, as Kubernetes would make them."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from chassis.settings import Settings
from collector.settings import CollectorSettings
from notifier.settings import NotifierSettings
from streams.settings import StreamsSettings
from tests.manifests.rendering import Pod, Rendered
from user_manager.settings import UserManagerSettings

SETTINGS: Final[Mapping[str, type[Settings]]] = {
    "user-manager": UserManagerSettings,
    "collector": CollectorSettings,
    "streams": StreamsSettings,
    "notifier": NotifierSettings,
    "topics": Settings,
}
"""What reads the environment of a pod of ours."""

_REFERENCE: Final = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


def fields(pod: Pod, **values: str) -> dict[str, str]:
    """What the downward API would say of a pod on some node; `values` by the field's path, dots as underscores."""
    return {
        "spec.nodeName": values.get("spec_nodeName", "worker-1"),
        "status.podIP": values.get("status_podIP", "127.0.0.1"),
        "metadata.name": values.get("metadata_name", f"{pod.name}-0"),
        "metadata.labels['topology.kubernetes.io/zone']": values.get("zone", ""),
    }


def variables(rendered: Rendered, pod: Pod, **values: str) -> dict[str, str]:
    """The environment: ConfigMaps first, then the container's own, which may refer to those above them."""
    environment: dict[str, str] = {}
    for source in pod.container.get("envFrom", ()):
        (kind, field) = ("ConfigMap", "configMapRef") if "configMapRef" in source else ("Secret", "secretRef")
        environment |= _data(rendered, kind, pod.namespace, source[field]["name"])
    known = fields(pod, **values)
    for variable in pod.container.get("env", ()):
        if "value" in variable:
            given = _REFERENCE.sub(lambda match: environment.get(match[1], match[0]), variable["value"])
        else:
            given = known[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        environment[variable["name"]] = given
    return environment


def referred_to(pod: Pod) -> set[str]:
    """The variables that stand in the value of another one."""
    values = (each.get("value", "") for each in pod.container.get("env", ()))
    return {name for value in values for name in _REFERENCE.findall(value)}


def mounted(rendered: Rendered, pod: Pod) -> dict[str, str]:
    """The files that the pod finds: content by path, for all its ConfigMaps and Secrets."""
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
                data = _data(rendered, kind, pod.namespace, source[field][key])
                items = source[field].get("items")
                paths = {item["path"]: item["key"] for item in items} if items else {name: name for name in data}
                if "subPath" in mount:
                    files |= {mount["mountPath"]: data[paths[mount["subPath"]]]}
                else:
                    files |= {f"{mount['mountPath']}/{path}": data[name] for path, name in paths.items()}
    return files


def on_disk(environment: Mapping[str, str], files: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment with each path of `files` moved below `folder`, where the files are written."""
    moved = dict(environment)
    for path, content in files.items():
        target = folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        moved = {name: str(target) if value == path else value for name, value in moved.items()}
    return moved


def _data(rendered: Rendered, kind: str, namespace: str, name: str) -> dict[str, str]:
    (found,) = (each for each in rendered.of(kind, namespace) if each["metadata"]["name"] == name)
    data = dict(found.get("data", {}))
    return {key: base64.b64decode(value).decode() for key, value in data.items()} if kind == "Secret" else data
