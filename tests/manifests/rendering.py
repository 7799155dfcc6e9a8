"""The manifests as `kubectl apply -k` would send them, and what is asked of them again and again."""

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
from tests.manifests.tools import kustomize

OVERLAYS: Final = ("kind", "production")
NAMESPACE: Final = "towerwatch"

SERVICES: Final = ("user-manager", "collector", "streams", "notifier")

Resource = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """What a Deployment, a StatefulSet or a Job makes its pods from."""

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
        """The only one: a second one needs a second look at these tests."""
        (container,) = self.spec["containers"]
        assert "initContainers" not in self.spec
        return dict(container)

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", ())}


class Rendered:
    """All resources of an overlay."""

    def __init__(self, overlay: str, resources: list[Resource]) -> None:
        self.overlay = overlay
        self.resources = resources

    def of(self, kind: str, namespace: str | None = NAMESPACE) -> list[Resource]:
        """All of a kind; with `namespace` None in any, or in none."""
        return [
            each
            for each in self.resources
            if each["kind"] == kind and namespace in (None, each["metadata"].get("namespace"))
        ]

    def one(self, kind: str, name: str, namespace: str | None = NAMESPACE) -> Resource:
        """The one whose name is `name`, but for the hash that kustomize puts behind a generated one's."""
        (found,) = (each for each in self.of(kind, namespace) if self.plain_name(each) == name)
        return found

    @staticmethod
    def plain_name(resource: Resource) -> str:
        name = str(resource["metadata"]["name"])
        generated = resource["kind"] in ("ConfigMap", "Secret")
        stem, _, end = name.rpartition("-")
        return stem if generated and len(end) == 10 else name

    def pods(self) -> Iterator[Pod]:
        for kind in ("Deployment", "StatefulSet", "Job"):
            for owner in self.of(kind, None):
                yield Pod(owner, owner["spec"]["template"])

    def pod(self, name: str) -> Pod:
        (found,) = (pod for pod in self.pods() if pod.name == name)
        return found

    def copy(self) -> "Rendered":
        """One to break."""
        return Rendered(self.overlay, copy.deepcopy(self.resources))


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in selector.items())


def prepared(folder: Path) -> Path:
    """A copy of manifests/ in `folder` with secrets: kind's own, and production's examples as they are."""
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
    """The YAML of an overlay."""
    command = [*kustomize(), str(manifests / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def parse(overlay: str, text: str) -> Rendered:
    return Rendered(overlay, [each for each in yaml.safe_load_all(text) if each])
