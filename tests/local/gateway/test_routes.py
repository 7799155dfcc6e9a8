"""The gateway's routes are those that the manifests give to the gateway on Kubernetes."""

from functools import cache
from typing import Any, Final

import pytest
import yaml
from hypothesis import given, strategies as st

from local.gateway.routes import ANSWER_HEADERS, ROUTES, Route, find_destination
from local.processes import ROOT
from tests.manifests.rendering import Rendered
from tests.manifests.test_routes import route_request

_MANIFEST: Final = ROOT / "manifests" / "base" / "routes.yaml"
_NOT_HERE: Final = {"prometheus"}
"""The routes of what one machine does not have."""
_OF_TLS: Final = {"Strict-Transport-Security"}
"""The headers that only who ends TLS may set (RFC 6797, 7.2)."""


@cache
def load_manifests() -> Rendered:
    """Return the routes of the manifests, but those of what one machine does not have."""
    resources = [each for each in yaml.safe_load_all(_MANIFEST.read_text()) if each["kind"] == "HTTPRoute"]
    for each in resources:
        each["metadata"]["namespace"] = "towerwatch"
    return Rendered("base", [each for each in resources if each["metadata"]["name"] not in _NOT_HERE])


def parse_rule(rule: dict[str, Any]) -> set[Route]:
    """Return a rule of the manifests as routes of ours. Fails for anything in it that no route of ours can say."""
    assert rule.keys() <= {"matches", "filters", "backendRefs"}
    service, replacements, headers = None, [], {}
    if "backendRefs" in rule:
        ((service,),) = ([each["name"].replace("-", "_")] for each in rule["backendRefs"])
    for each in rule["filters"]:
        match each:
            case {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": values, **others}} if not others:
                headers = {value["name"]: value["value"] for value in values}
            case {"type": "URLRewrite", "urlRewrite": {"path": path, **others}} if not others and service:
                (kind,) = path.keys() - {"type"}
                replacements.append(path[kind])
            case {"type": "RequestRedirect", "requestRedirect": {"path": path, "statusCode": 302, **others}} if (
                not others and service is None and path["type"] == "ReplaceFullPath"
            ):
                replacements.append(path["replaceFullPath"])
            case _:
                pytest.fail(f"local/gateway/routes.py cannot say {each}")
    if service is not None:
        ours = {**ANSWER_HEADERS, "Referrer-Policy": headers["Referrer-Policy"]}
        assert {name: value for name, value in headers.items() if name not in _OF_TLS} == ours
    assert len(replacements) <= 1
    return {
        Route(
            match["path"]["value"],
            service,
            is_prefix={"PathPrefix": True, "Exact": False}[match["path"]["type"]],
            replacement=next(iter(replacements), None),
            referrer_policy=headers.get("Referrer-Policy", "no-referrer"),
        )
        for match in rule["matches"]
        if match.keys() == {"path"} or pytest.fail(f"local/gateway/routes.py cannot say {match}")
    }


def test_the_routes_are_those_of_the_manifests() -> None:
    """Each route stands in both places, with the same service, rewriting and redirect; and no other does.

    If this fails, add to ROUTES in local/gateway/routes.py what manifests/base/routes.yaml has, or the other way round.
    """
    rules = (rule for route in load_manifests().resources for rule in route["spec"]["rules"])
    there = set().union(*map(parse_rule, rules))
    assert set(ROUTES) == there
    assert len(ROUTES) == len(there)


_WORDS: Final = sorted({part for route in ROUTES for part in route.path.split("/")} | {"x", "usersx", "metrics", ".."})


@given(st.lists(st.sampled_from(_WORDS), max_size=6).map(lambda words: "/" + "/".join(words)))
def test_any_path_goes_to_the_same_service_as_by_the_manifests(path: str) -> None:
    """Exact matches go first, then the longest prefix of whole elements; the service gets the same path."""
    there = route_request(load_manifests(), path)
    here = find_destination(path)
    expected = None if there is None else (there.service and there.service.replace("-", "_"), there.path)
    assert (None if here is None else (here.service, here.path)) == expected


@pytest.mark.parametrize(
    "path",
    [
        "/metrics", "/health/live", "/health/ready", "/openapi.json", "/overview", "/api/airports", "/stats",
        "/graph", "/explain/x", "/usersx", "/users.x", "/watch/x", "/accounts", "/webx", "/docs/",
        "/docs/accounts/metrics",
        "/docs/accounts/openapi.json/x", "/prometheus/graph", "/collector", "//users", "/Users",
    ],
)  # fmt: skip
def test_what_is_for_operators_has_no_route(path: str) -> None:
    """Health, metrics, the workers' pages and whatever else the services have is not reached by the gateway."""
    assert find_destination(path) is None
