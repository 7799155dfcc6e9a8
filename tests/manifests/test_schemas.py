"""The resources conform to Kubernetes' schemas, Gateway API's definitions and checkov's rules."""

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from local.processes import ROOT
from tests.manifests.rendering import OVERLAYS, Rendered
from tests.manifests.tools import find_checker, find_gateway_api_crds

_NO_SCHEMA = "Couldn't find schema for kind"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_own_kinds_conform_to_their_schemas(
    texts: dict[str, str], overlays: dict[str, Rendered], overlay: str, tmp_path: Path
) -> None:
    """The check is strict: a misspelt field is an error. Only kinds that are not Kubernetes' own have no schema."""
    file = tmp_path / f"{overlay}.yaml"
    file.write_text(texts[overlay])
    done = subprocess.run(
        [find_checker("kubernetes-validate"), "--strict", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = (done.stdout + done.stderr).splitlines()
    foreign = [each for each in overlays[overlay].resources if ".nginx.org/" in each["apiVersion"] or _gateway(each)]
    assert len([line for line in said if _NO_SCHEMA in line]) == len(foreign)


def test_the_check_finds_a_misspelt_field(texts: dict[str, str], tmp_path: Path) -> None:
    """One field of a Deployment is misspelt."""
    file = tmp_path / "misspelt.yaml"
    file.write_text(texts["kind"].replace("minReadySeconds", "minReadySecond"))
    done = subprocess.run(
        [find_checker("kubernetes-validate"), "--strict", str(file)], capture_output=True, check=False
    )
    assert done.returncode != 0


def _gateway(resource: dict[str, Any]) -> bool:
    return str(resource["apiVersion"]).startswith("gateway.networking.k8s.io/")


def _schemas() -> dict[tuple[str, str], dict[str, Any]]:
    """Return a strict schema of each kind and version of Gateway API; the API server only drops unknown fields."""
    schemas = {}
    documents = (each for file in find_gateway_api_crds() for each in yaml.safe_load_all(file.read_text()))
    for definition in documents:
        if definition["kind"] != "CustomResourceDefinition":
            continue
        group, kind = definition["spec"]["group"], definition["spec"]["names"]["kind"]
        for version in definition["spec"]["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            # Kubernetes' own part, which definitions leave to the API server.
            schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
            schemas[kind, f"{group}/{version['name']}"] = _strict(schema)
    return schemas


def _strict(schema: Any) -> Any:
    """Return a JSON schema that allows no additional properties, at any depth."""
    if isinstance(schema, dict):
        schema = {name: _strict(value) for name, value in schema.items()}
        if isinstance(schema.get("properties"), dict) and "type" in schema:
            schema.setdefault("additionalProperties", False)
        return schema
    return [_strict(each) for each in schema] if isinstance(schema, list) else schema


def _against_definitions(rendered: Rendered) -> list[str]:
    """Return all violations of Gateway API's definitions, each as a sentence."""
    schemas = _schemas()
    return [
        f"{each['kind']} {each['metadata']['name']}: {error.message}"
        for each in rendered.resources
        if _gateway(each)
        for error in jsonschema_rs.validator_for(schemas[each["kind"], each["apiVersion"]]).iter_errors(each)
    ]


def test_the_resources_of_gateway_api_conform_to_their_definitions(rendered: Rendered) -> None:
    assert _against_definitions(rendered) == []


def test_the_check_finds_an_invalid_route(overlays: dict[str, Rendered]) -> None:
    """One field is misspelt, and another one has a value that is not allowed."""
    broken = overlays["kind"].copy()
    rule = broken.find_resource("HTTPRoute", "collector")["spec"]["rules"][0]
    rule["matches"][0]["path"]["type"] = "Prefix"
    rule["backendRef"] = rule.pop("backendRefs")
    faults = _against_definitions(broken)
    assert any("Prefix" in fault for fault in faults)
    assert any("backendRef" in fault for fault in faults)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_checkov_reports_no_failures(texts: dict[str, str], overlay: str, tmp_path: Path) -> None:
    """Checks are skipped only if manifests/checkov.yaml or an annotation gives a reason."""
    file = tmp_path / f"{overlay}.yaml"
    file.write_text(texts[overlay])
    done = subprocess.run(
        [
            find_checker("checkov"),
            *("--config-file", str(ROOT / "manifests" / "checkov.yaml")),
            *("--framework", "kubernetes", "--file", str(file), "--output", "json"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    report = json.loads(done.stdout)
    failed = [(each["check_id"], each["resource"]) for each in report["results"]["failed_checks"]]
    assert failed == []
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 500
    # A reason that is no longer needed must be removed.
    skipped = {each["check_id"] for each in report["results"]["skipped_checks"]}
    assert skipped == {"CKV_K8S_38", "CKV_K8S_40"}
