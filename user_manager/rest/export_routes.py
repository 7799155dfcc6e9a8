"""The REST route of the export: all that is kept about a person as one file."""

from collections.abc import Callable
from typing import Final

from flask import Blueprint, Response

from chassis.credentials import Credential
from chassis.web.limits import ClientRateLimit
from chassis.web.openapi import ResponseDescription, describe
from user_manager.person_export import PersonExports
from user_manager.rest.export_models import Export
from user_manager.rest.routes import EMAIL

_DESCRIPTION: Final = (
    "A JSON file to save. It has the account, its sessions, what is kept of mails to it, the interests, and what is "
    "counted of changes; and it names what is kept elsewhere, and for how long. No token and no key is in it."
)


def build_export_blueprint(
    exports: PersonExports, *, limit: ClientRateLimit, read_credential: Callable[[], Credential]
) -> Blueprint:
    """Build the route of the export, which nothing may cache.

    `limit` is the rate of one client at this replica, since an export is dear; `read_credential` returns who sends the
    present request.
    """
    blueprint = Blueprint("export", __name__)

    @blueprint.get("/users/<address:email>/export")
    @describe(
        "Export everything that is kept about a person",
        auth="user",
        path=EMAIL,
        answers={
            200: ResponseDescription(
                Export, _DESCRIPTION, {"Content-Disposition": "It is a file to save, whose name holds no address."}
            )
        },
        problems=(404, 429, 502, 503),
    )
    def export_user(email: str) -> Response:
        limit.count_request()
        export = exports.export(read_credential(), email)
        file = Export.from_export(export)
        response = Response(file.model_dump_json(indent=2) + "\n", content_type="application/json")
        name = f"towerwatch-{export.exported_at:%Y-%m-%d}.json"
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @blueprint.after_request
    def forbid_caching(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint
