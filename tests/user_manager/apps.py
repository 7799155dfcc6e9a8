"""The HTTP side as `__main__` wires it, on use cases that a test controls."""

from flask import Flask

from chassis.web import openapi
from chassis.web.http import create_app
from tests.user_manager.conftest import Service
from user_manager.rest.pages import pages
from user_manager.rest.routes import DESCRIPTION, PROBLEMS, users


def app_of(
    service: Service, *, allow_test_addresses: bool = False, registration_limit: str = "1000000/minute"
) -> Flask:
    """Everything that user_manager serves over HTTP."""
    app = create_app("user_manager", service.metrics, PROBLEMS, ready=lambda: True)
    app.register_blueprint(
        users(
            service.accounts,
            service.registrations,
            service.deletions,
            allow_test_addresses=allow_test_addresses,
            registration_limit=registration_limit,
        )
    )
    app.register_blueprint(pages(service.registrations, service.accounts))
    app.register_blueprint(openapi.create_blueprint("Towerwatch accounts", "1", DESCRIPTION))
    return app
