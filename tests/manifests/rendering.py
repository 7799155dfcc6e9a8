"""The rendered manifests, as `kubectl apply -k` would send them, and look-ups of their resources."""

import copy
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from local.kind import secrets
from local.processes import ROOT
from tests.manifests.tools import find_kustomize

OVERLAYS: Final = ("kind", "production")
NAMESPACE: Final = "towerwatch"

SERVICES: Final = ("user-manager", "collector", "streams", "notifier")

Resource = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """The pod template of a Deployment, a StatefulSet or a Job, with its owner."""

    owner: Resource
    template: Resource

    @property
    def name(self) -> str:
        return str(self.owner["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.owner["metadata"]["namespace"])

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.template["metadata"]["labels"])

    @property
    def spec(self) -> Resource:
        return dict(self.template["spec"])

    @property
    def container(self) -> Resource:
        """The pod's only container; these tests do not support a second one."""
        (container,) = self.spec["containers"]
        assert "initContainers" not in self.spec
        return dict(container)

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", ())}


class Rendered:
    """All rendered resources of an overlay."""

    def __init__(self, overlay: str, resources: list[Resource]) -> None:
        self.overlay = overlay
        self.resources = resources

    def resources_of(self, kind: str, namespace: str | None = NAMESPACE) -> list[Resource]:
        """Return all resources of a kind in a namespace; `namespace` None: in any namespace, or in none."""
        return [
            each
            for each in self.resources
            if each["kind"] == kind and namespace in (None, each["metadata"].get("namespace"))
        ]

    def find_resource(self, kind: str, name: str, namespace: str | None = NAMESPACE) -> Resource:
        """Return the only resource with this name, without the hash that kustomize appends to generated names."""
        (found,) = (each for each in self.resources_of(kind, namespace) if self.plain_name(each) == name)
        return found

    @staticmethod
    def plain_name(resource: Resource) -> str:
        """Return a resource's name without the hash that kustomize appends to generated names."""
        name = str(resource["metadata"]["name"])
        generated = resource["kind"] in ("ConfigMap", "Secret")
        stem, _, end = name.rpartition("-")
        return stem if generated and len(end) == 10 else name

    def pods(self) -> Iterator[Pod]:
        """Yield the pod templates of the overlay."""
        for kind in ("Deployment", "StatefulSet", "Job"):
            for owner in self.resources_of(kind, None):
                yield Pod(owner, owner["spec"]["template"])

    def pod(self, name: str) -> Pod:
        """Return the pod template with this name."""
        (found,) = (pod for pod in self.pods() if pod.name == name)
        return found

    def copy(self) -> "Rendered":
        """Return a deep copy, which a test may break."""
        return Rendered(self.overlay, copy.deepcopy(self.resources))


def is_selected(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return True if the labels contain all labels of the selector, False if not."""
    return all(labels.get(name) == value for name, value in selector.items())


def prepare_manifests(folder: Path) -> Path:
    """Copy manifests/ into `folder` with secrets (new ones for kind, the examples for production); return the copy."""
    manifests = folder / "manifests"
    shutil.copytree(ROOT / "manifests", manifests, ignore=shutil.ignore_patterns("*.env.local", "secrets", "clock.env"))
    overlays = manifests / "overlays"
    secrets.make_secrets(overlays / "kind" / "secrets")
    shutil.copy(overlays / "kind" / "clock.env.example", overlays / "kind" / "clock.env")
    (overlays / "production" / "secrets").mkdir()
    for example in (ROOT / "manifests" / "overlays" / "production" / "secrets").glob("*.example"):
        shutil.copy(example, overlays / "production" / "secrets" / example.stem)
    return manifests


def render(manifests: Path, overlay: str) -> str:
    """Return the YAML of an overlay, rendered by kustomize."""
    command = [*find_kustomize(), str(manifests / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def parse(overlay: str, text: str) -> Rendered:
    """Return the resources of an overlay's YAML."""
    return Rendered(overlay, [each for each in yaml.safe_load_all(text) if each])
