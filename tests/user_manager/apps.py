"""The HTTP app of user_manager, wired as in `__main__`, on use cases that a test controls."""

from functools import cache
from urllib.parse import urlsplit

from flask import Flask

from chassis.hosts import AllowedHosts
from chassis.web import openapi
from chassis.web.http import create_app
from chassis.web.limits import ClientRateLimit
from chassis.web.session_cookie import SessionCookie
from tests.user_manager.conftest import PUBLIC_URL, Service
from user_manager.rest.account_pages import build_account_pages_blueprint
from user_manager.rest.export_routes import build_export_blueprint
from user_manager.rest.pages import build_pages_blueprint
from user_manager.rest.reading import CredentialReader
from user_manager.rest.routes import DESCRIPTION, PROBLEMS, build_users_blueprint
from user_manager.rest.sessions import build_sessions_blueprint
from user_manager.rest.sign_in_pages import build_sign_in_pages_blueprint
from user_manager.rest.stop_pages import build_stop_pages_blueprint
from user_manager.rest.web_files import WebFiles
from user_manager.rest.web_pages import build_web_blueprint


def build_app(
    service: Service,
    *,
    allow_test_addresses: bool = False,
    registration_limit: str = "1000000/minute",
    public_url: str = PUBLIC_URL,
    hosts: AllowedHosts | None = None,
) -> Flask:
    """Build the Flask app with all HTTP routes of user_manager, whose cookie is that of `public_url`."""
    limit = ClientRateLimit(registration_limit)
    reader = CredentialReader(SessionCookie(public_url), service.sessions)
    app = create_app("user_manager", service.metrics, PROBLEMS, explain_unready=lambda: None, hosts=hosts)
    app.register_blueprint(
        build_users_blueprint(
            service.accounts,
            service.registrations,
            service.account_mails,
            service.deletions,
            allow_test_addresses=allow_test_addresses,
            limit=limit,
            read_credential=reader.read,
            forget_session=reader.cookie.delete_on,
        )
    )
    app.register_blueprint(
        build_sessions_blueprint(
            service.sign_ins, service.sessions, reader, allow_test_addresses=allow_test_addresses, limit=limit
        )
    )
    app.register_blueprint(
        build_sign_in_pages_blueprint(
            service.sign_ins, reader.cookie, service.lifetimes, allow_test_addresses=allow_test_addresses, limit=limit
        )
    )
    app.register_blueprint(build_export_blueprint(service.exports, limit=limit, read_credential=reader.read))
    app.register_blueprint(
        build_pages_blueprint(
            service.registrations, service.accounts, service.account_mails, reader.cookie, service.lifetimes
        )
    )
    app.register_blueprint(build_stop_pages_blueprint(service.alert_stops))
    files = read_web_files(urlsplit(public_url).path)
    app.register_blueprint(build_web_blueprint(files, reader.cookie))
    app.register_blueprint(build_account_pages_blueprint(files, service.deletions, service.sessions, reader))
    app.register_blueprint(
        openapi.create_blueprint("Towerwatch accounts", "1", DESCRIPTION, reader.cookie.name, has_start=False)
    )
    return app


@cache
def read_web_files(base: str) -> WebFiles:
    """Return the files of the pages, which are read and compressed once in a process: that takes 0.3 s of computing."""
    return WebFiles(base)
