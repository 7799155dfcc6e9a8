"""How the people's pages are served: caching, compression, languages, and headers; without a browser."""

import gzip
import re
from base64 import b64encode
from hashlib import sha256

import pytest
from flask.testing import FlaskClient

from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, Service
from user_manager.rest.texts import WEB
from user_manager.rest.web_files import PAGES, PageVariant, WebFiles

pytestmark = ON_SQLITE


@pytest.fixture
def client(service: Service) -> FlaskClient:
    """A browser that keeps no cookie by itself."""
    return build_app(service).test_client(use_cookies=False)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_asked_for_each_time_and_sent_once(client: FlaskClient, path: str) -> None:
    """Its ETag is that of language, session and compression, so that no cache mixes them up."""
    tags = set()
    signed_in = {"Cookie": "__Host-towerwatch-signed-in=yes"}
    for headers in ({}, {"Accept-Language": "it"}, signed_in, {"Accept-Encoding": "gzip"}):
        page = client.get(path, headers=headers)
        assert (page.status_code, page.headers["Cache-Control"]) == (200, "no-cache")
        assert page.content_type == "text/html; charset=utf-8"
        assert {"Accept-Encoding", "Accept-Language", "Cookie"} == set(page.headers["Vary"].split(", "))
        tag = page.headers["ETag"]
        tags.add(tag)
        again = client.get(path, headers={**headers, "If-None-Match": tag})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
        assert client.head(path, headers=headers).headers["ETag"] == tag
    assert len(tags) == 4
    assert client.post(path).status_code == 405


def test_what_a_page_loads_is_kept_for_ever_under_an_address_of_its_content(client: FlaskClient) -> None:
    """Every address in the page is there; each is compressed for who takes that, and the same without."""
    page = client.get("/").text
    addresses = re.findall(r'(?:src|href)="(/web/[^"]+)"', page)
    assert len(addresses) >= 8
    for address in addresses:
        plain, packed = client.get(address), client.get(address, headers={"Accept-Encoding": "br, gzip"})
        assert (
            plain.headers["Cache-Control"] == packed.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        )
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.data) == plain.data != b""
        assert plain.headers["ETag"] != packed.headers["ETag"]
        assert plain.headers["X-Content-Type-Options"] == "nosniff"
        refused = client.get(address, headers={"Accept-Encoding": "gzip;q=0"})
        assert "Content-Encoding" not in refused.headers


@pytest.mark.parametrize("path", PAGES)
def test_the_style_sheet_in_a_page_is_the_only_one_that_its_policy_allows(client: FlaskClient, path: str) -> None:
    """A page is drawn without a second request; a style that somebody slips into it does not have this digest."""
    page = client.get(path)
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    (allowed,) = (each for each in page.headers["Content-Security-Policy"].split("; ") if each.startswith("style-src"))
    assert allowed == f"style-src 'self' 'sha256-{digest}'"
    assert style.encode() == (WEB / "static" / "style.css").read_bytes()
    assert 'rel="stylesheet"' not in page.text


def test_another_version_of_a_file_is_answered_and_not_kept(client: FlaskClient) -> None:
    """During a rolling update a page of one replica asks another one."""
    other = client.get("/web/0123456789abcdef/page.js")
    assert (other.status_code, other.headers["Cache-Control"]) == (200, "no-cache")


@pytest.mark.parametrize(
    "name",
    [
        "x.js",
        "base.html",
        "../base.html",
        "..%2Fbase.html",
        "texts/../../base.html",
        "texts/de.json",
        "texts/",
        "PAGE.JS",
    ],
)
def test_nothing_else_is_served(client: FlaskClient, name: str) -> None:
    """No template, and nothing outside the folder."""
    answer = client.get(f"/web/{WebFiles().version}/{name}")
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"


def test_below_a_path_all_addresses_begin_with_it(service: Service) -> None:
    """PUBLIC_URL may have a path, with which a proxy passes requests on or not."""
    files = WebFiles("/tower")
    for path in PAGES:
        for variant in (PageVariant("en", False), PageVariant("it", True)):
            page = files.get_page(path, variant).content.decode()
            addresses = re.findall(r'(?:src|href|action)="([^"#?][^"]*)"', page)
            assert len(addresses) > 8
            assert all(each.startswith("/tower/") for each in addresses), addresses
    own = {"Origin": "https://towerwatch.example"}
    app = build_app(service, public_url="https://towerwatch.example/tower")
    service.register_confirmed()
    path = f"/sign-in/{service.request_sign_in_token()}"
    client = app.test_client(use_cookies=False)
    answer = client.post(path, headers=own, environ_overrides={"SCRIPT_NAME": "/tower"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/tower/")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_holds_nothing_of_its_visitor(client: FlaskClient, path: str) -> None:
    """Whatever comes in the query, the cookies or the headers; only a language that there is chooses, and is kept."""
    hostile = '"><script>alert(1)</script>'
    page = client.get(
        path,
        query_string={"language": hostile, "interest": hostile},
        headers={
            "Cookie": f"language={hostile}",
            "User-Agent": hostile,
            "Referer": hostile,
            "Accept-Language": hostile,
        },
    )
    assert page.data == client.get(path).data
    assert "Set-Cookie" not in page.headers
    chosen = client.get(f"{path}?language=it")
    attributes = set(chosen.headers["Set-Cookie"].split("; "))
    assert {"language=it", "Max-Age=31536000", "HttpOnly", "Path=/", "SameSite=Lax"} <= attributes
    assert client.get(path, headers={"Cookie": "language=it"}).data == chosen.data != page.data
