"""The gateway's routes: all public paths of the services are routed, and no others."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple
from unittest.mock import Mock
from urllib.parse import urljoin, urlsplit

import pytest
from flask import Flask

from chassis.metrics import Metrics, ServiceIdentity
from chassis.web import openapi
from chassis.web.http import create_app
from collector.rest import routes as collector_rest
from tests.manifests.rendering import Rendered, Resource
from user_manager.rest import pages, routes as accounts_rest
from user_manager.rest.account_pages import build_account_pages_blueprint
from user_manager.rest.export_routes import build_export_blueprint
from user_manager.rest.sessions import build_sessions_blueprint
from user_manager.rest.sign_in_pages import build_sign_in_pages_blueprint
from user_manager.rest.web_files import WebFiles
from user_manager.rest.web_pages import build_web_blueprint

_HIDDEN = ("/health/live", "/health/ready", "/metrics")
_DOCUMENT = "/openapi.json"
_DOCUMENTS = ("/docs/accounts/openapi.json", "/docs/flights/openapi.json")
_HEADERS = {
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


class RoutedRequest(NamedTuple):
    """The Service that answers a request, and the path that it gets; `service` None: a redirect to the path."""

    service: str | None
    path: str


def route_request(rendered: Rendered, path: str) -> RoutedRequest | None:
    """Return the destination of a request on the TLS listener, or None if no route matches.

    By Gateway API's precedence an exact match is first, then the longest prefix.
    """
    found: list[tuple[tuple[bool, int], Resource, str]] = []
    for route in rendered.resources_of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for match in rule["matches"]:
                kind, value = match["path"]["type"], match["path"]["value"]
                # A prefix consists of whole elements: /users is no prefix of /usersx.
                if path == value or (kind == "PathPrefix" and path.startswith(value.rstrip("/") + "/")):
                    found.append(((kind == "Exact", len(value)), rule, value))
    if not found:
        return None
    _, rule, value = max(found, key=lambda each: each[0])
    for each in rule["filters"]:
        if each["type"] == "RequestRedirect":
            return RoutedRequest(None, each["requestRedirect"]["path"]["replaceFullPath"])
        if each["type"] == "URLRewrite":
            rewrite = each["urlRewrite"]["path"]
            whole = rewrite["type"] == "ReplaceFullPath"
            path = rewrite["replaceFullPath"] if whole else rewrite["replacePrefixMatch"] + path.removeprefix(value)
    return RoutedRequest(rule["backendRefs"][0]["name"], path)


def _accounts() -> Flask:
    """Create the app of user_manager with all of its routes."""
    app = create_app(
        "user_manager", Metrics(ServiceIdentity("user_manager", "test")), accounts_rest.PROBLEMS, lambda: None
    )
    app.register_blueprint(
        accounts_rest.build_users_blueprint(
            *(Mock() for _ in range(4)),
            allow_test_addresses=False,
            limit=Mock(),
            read_credential=Mock(),
            forget_session=Mock(),
        )
    )
    app.register_blueprint(build_sessions_blueprint(Mock(), Mock(), Mock(), allow_test_addresses=False, limit=Mock()))
    app.register_blueprint(pages.build_pages_blueprint(Mock(), Mock(), Mock(), Mock(), Mock()))
    app.register_blueprint(
        build_sign_in_pages_blueprint(Mock(), Mock(), Mock(), allow_test_addresses=False, limit=Mock())
    )
    app.register_blueprint(build_export_blueprint(Mock(), limit=Mock(), read_credential=Mock()))
    app.register_blueprint(build_web_blueprint(WebFiles(), Mock()))
    app.register_blueprint(build_account_pages_blueprint(Mock(), Mock(), Mock(), Mock()))
    app.register_blueprint(openapi.create_blueprint("accounts", "1", "", has_start=False))
    return app


def _flights() -> Flask:
    """Create the app of collector with all of its routes."""
    app = create_app("collector", Metrics(ServiceIdentity("collector", "test")), collector_rest.PROBLEMS, lambda: None)
    app.register_blueprint(collector_rest.blueprint(Mock(), Mock(), Mock(), "token", *(Mock() for _ in range(6))))
    app.register_blueprint(openapi.create_blueprint("flights", "1", ""))
    return app


APPS: dict[str, tuple[Callable[[], Flask], str]] = {
    "user-manager": (_accounts, "/docs/accounts/"),
    "collector": (_flights, "/docs/flights/"),
}


def _paths(app: Flask) -> Iterator[str]:
    """Yield one path of each route of the app."""
    for rule in app.url_map.iter_rules():
        yield re.sub(r"<[^>]+>", "x", rule.rule)


@pytest.mark.parametrize("service", APPS)
def test_every_public_path_is_routed(rendered: Rendered, service: str) -> None:
    """The paths are those of the service's app; its documentation is below a path of its own."""
    make, prefix = APPS[service]
    paths = set(_paths(make())) - {
        *_HIDDEN,
        _DOCUMENT,
        *({"/"} if service == "collector" else ()),
    }  # people's / is user_manager's
    assert len(paths) > 8
    assert ("/" in paths) is (service == "user-manager")
    for path in paths:
        outside = prefix.rstrip("/") + path if path.startswith("/docs") else path
        assert route_request(rendered, outside) == RoutedRequest(service, path)


@pytest.mark.parametrize("path", [*_HIDDEN, _DOCUMENT, "/overview", "/api/airports", "/stats", "/graph", "/usersx"])
def test_paths_for_operators_are_not_routed(rendered: Rendered, path: str) -> None:
    """They are not routed by their own path, nor below a path that is rewritten."""
    prefixes = ("", "/docs", "/docs/accounts", "/docs/flights", "/users/..", "/docs/accounts/docs/..")
    for prefix in prefixes:
        outside = urlsplit(urljoin("https://localhost", prefix + path)).path  # nginx resolves .. in the same way
        if outside in _DOCUMENTS:
            continue
        there = route_request(rendered, outside)
        assert there is None or there.service is None or there.path.startswith(("/users", "/docs")), (outside, there)
        assert there is None or there.path not in (*_HIDDEN, _DOCUMENT)


@pytest.mark.parametrize("service", APPS)
def test_the_links_of_the_documentation_page_are_routed(rendered: Rendered, service: str) -> None:
    """The links are relative, and lead to the same service's files and document."""
    make, prefix = APPS[service]
    client = make().test_client()
    links = re.findall(r'(?:src|href)="([^"]+)"', client.get("/docs").text)
    assert len(links) == 4
    for link in (*links, "openapi.json"):
        there = route_request(rendered, urljoin(f"{prefix}docs", link))
        assert there is not None
        assert there.service == service
        assert client.get(there.path).status_code == 200
    sent = route_request(rendered, prefix.rstrip("/"))
    assert sent == RoutedRequest(None, f"{prefix}docs")


def test_operators_see_prometheus_with_a_password(rendered: Rendered) -> None:
    """Prometheus has the same external path as its route."""
    assert route_request(rendered, "/prometheus/graph") == RoutedRequest("prometheus", "/prometheus/graph")
    (rule,) = rendered.find_resource("HTTPRoute", "prometheus")["spec"]["rules"]
    assert rule["filters"][0]["extensionRef"]["kind"] == "AuthenticationFilter"
    assert "--web.external-url=/prometheus/" in rendered.pod("prometheus").container["args"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert rendered.pod("prometheus").container[probe]["httpGet"]["path"].startswith("/prometheus/-/")


def test_every_answer_has_the_security_headers(rendered: Rendered) -> None:
    """Each rule with a backend sets these headers; with the forms that sign in browsers have to send Origin."""
    for route in rendered.resources_of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            headers = [each["responseHeaderModifier"]["set"] for each in rule["filters"] if "Header" in each["type"]]
            if "backendRefs" in rule:
                signs_in = any(match["path"]["value"] == "/sign-in" for match in rule["matches"])
                expected = _HEADERS | ({"Referrer-Policy": "same-origin"} if signs_in else {})
                assert [{each["name"]: each["value"] for each in names} for names in headers] == [expected]


def test_plain_http_only_redirects_to_tls(rendered: Rendered) -> None:
    """The listener without TLS has only a route that redirects."""
    (gateway,) = rendered.resources_of("Gateway", None)
    listeners = {each["name"]: each for each in gateway["spec"]["listeners"]}
    assert {name: each["protocol"] for name, each in listeners.items()} == {"http": "HTTP", "https": "HTTPS"}
    assert listeners["https"]["tls"]["mode"] == "Terminate"
    plain = [
        route
        for route in rendered.resources_of("HTTPRoute", None)
        if any(parent["sectionName"] == "http" for parent in route["spec"]["parentRefs"])
    ]
    (rule,) = (rule for route in plain for rule in route["spec"]["rules"])
    assert rule == {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]}


def test_links_in_mails_lead_to_the_gateway(rendered: Rendered) -> None:
    """PUBLIC_URL is the gateway's address, and the links below it have a route."""
    url = urlsplit(rendered.find_resource("ConfigMap", "user-manager")["data"]["PUBLIC_URL"])
    (gateway,) = rendered.resources_of("Gateway", None)
    hosts = {each.get("hostname", "localhost") for each in gateway["spec"]["listeners"]}
    assert (url.scheme, {url.hostname}, url.path) == ("https", hosts, "")
    for path in ("/confirm/x", "/unsubscribe/x", "/stop/x"):
        assert route_request(rendered, path) == RoutedRequest("user-manager", path)
