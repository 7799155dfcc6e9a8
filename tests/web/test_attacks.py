"""Attacks on the running site, through its one address: sessions that are over, foreign hosts, and foreign frames.

What needs no second service is attacked in tests/user_manager/rest/test_sign_in.py and
tests/collector/rest/test_sessions.py: other people's ids on every route, requests of other pages, links used twice.
"""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import pytest
from sqlalchemy import update

from tests import plain_http
from tests.waiting import eventually
from tests.web.site import Person, Site
from tests.web.watched import set_interest
from user_manager.model import WebSession
from user_manager.rest.web_files import PAGES

SAME: Final = {"Sec-Fetch-Site": "same-origin"}
MAIL_PAGES: Final = ("/sign-in/x", "/confirm/x", "/unsubscribe/x", "/stop/x", "/token/x", "/not-me/x")


def end_session(site: Site, person: Person, cookie: dict[str, str], how: str) -> None:
    """End the session of the cookie: as its owner does, or as its age does."""
    if how == "signed out":
        assert plain_http.delete(f"{site.url}/session", headers=cookie | SAME).status_code == 204
    elif how == "account deleted":
        assert plain_http.delete(f"{site.url}/users/{person.email}", headers=cookie | SAME).status_code in (202, 204)
    elif how == "ended elsewhere":
        answer = plain_http.delete(f"{site.url}/users/{person.email}/sessions", headers=person.headers)
        assert answer.status_code == 204
    else:
        with site.accounts.database.transaction() as session:
            session.execute(
                update(WebSession)
                .where(WebSession.user_id == UUID(person.user_id))
                .values(last_used_at=datetime.now(UTC) - timedelta(days=31))
            )


@pytest.mark.parametrize("how", ["signed out", "ended elsewhere", "account deleted", "not used for a month"])
def test_a_stolen_cookie_opens_nothing_once_its_session_is_over(site: Site, ann: Person, how: str) -> None:
    """At both services: user_manager at once, the collector, which asks it, within the seconds that it trusts one."""
    interest = set_interest(site, ann)
    secret = site.accounts.sign_in(ann.email, "Chromium on Linux").text
    cookie = {"Cookie": f"towerwatch-session={secret}"}
    paths = ("/session", f"/users/{ann.email}", f"/users/{ann.email}/export", f"/users/{ann.email}/sessions")
    of_interests = ("/interests", f"/interests/{interest['interest_id']}/windows")
    for path in (*paths, *of_interests):
        assert plain_http.get(f"{site.url}{path}", headers=cookie | SAME, timeout=60).status_code == 200, path
    end_session(site, ann, cookie, how)
    for path in paths:
        assert plain_http.get(f"{site.url}{path}", headers=cookie | SAME, timeout=60).status_code == 401, path
    for path in of_interests:
        eventually(
            lambda path=path: plain_http.get(f"{site.url}{path}", headers=cookie | SAME, timeout=60).status_code == 401,
            f"the collector refuses {path}",
            90,
        )
    changed = plain_http.request(
        "PATCH",
        f"{site.url}/interests/{interest['interest_id']}",
        headers=cookie | SAME | {"If-Match": "*"},
        json={"high_value": 77},
    )
    assert changed.status_code == 401


@pytest.mark.parametrize("path", ["/", "/interests", "/session", "/sign-in/mail", "/account/delete", "/flights/KJFK"])
def test_no_service_answers_for_a_foreign_host(site: Site, path: str) -> None:
    """DNS rebinding: a foreign name that leads here gets nothing from pages, accounts or interests."""
    answer = plain_http.get(f"{site.url}{path}", headers={"Host": "evil.example"}, timeout=60)
    assert answer.status_code == 421
    assert "evil" not in answer.text


@pytest.mark.parametrize("path", [*PAGES, "/sign-in/mail", "/account/delete", *MAIL_PAGES])
def test_no_page_shows_in_a_frame(site: Site, path: str) -> None:
    """Clickjacking: each of them has a button that does something, or an error in its place."""
    headers = plain_http.get(f"{site.url}{path}", headers=SAME, timeout=60).headers
    assert headers["Content-Type"].startswith("text/html"), path
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "script-src 'unsafe" not in headers["Content-Security-Policy"]
