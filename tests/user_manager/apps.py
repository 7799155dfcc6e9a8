"""The HTTP app of user_manager, wired as in `__main__`, on use cases that a test controls."""

from flask import Flask

from chassis.web import openapi
from chassis.web.http import create_app
from tests.user_manager.conftest import Service
from user_manager.rest.pages import build_pages_blueprint
from user_manager.rest.routes import DESCRIPTION, PROBLEMS, build_users_blueprint


def build_app(
    service: Service, *, allow_test_addresses: bool = False, registration_limit: str = "1000000/minute"
) -> Flask:
    """Build the Flask app with all HTTP routes of user_manager."""
    app = create_app("user_manager", service.metrics, PROBLEMS, explain_unready=lambda: None)
    app.register_blueprint(
        build_users_blueprint(
            service.accounts,
            service.registrations,
            service.account_mails,
            service.deletions,
            allow_test_addresses=allow_test_addresses,
            registration_limit=registration_limit,
        )
    )
    app.register_blueprint(build_pages_blueprint(service.registrations, service.accounts, service.account_mails))
    app.register_blueprint(openapi.create_blueprint("Towerwatch accounts", "1", DESCRIPTION))
    return app
