"""The pages for people, and the files that they load. They hold nothing of anybody: their scripts ask the REST API."""

from functools import partial
from typing import Final

from flask import Blueprint, Response, request

from chassis.web.http import Problem
from chassis.web.session_cookie import SessionCookie
from user_manager.rest.texts import choose_language, keep_chosen_language
from user_manager.rest.web_files import PAGES, KeptFile, PageVariant, WebFiles

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
"""Nothing is loaded from another origin, and no script or style stands in a page."""

_HEADERS: Final = {
    # With no-referrer browsers would send `Origin: null` with the forms, ADR 53.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_FOREVER: Final = "public, max-age=31536000, immutable"
_PAGE_VARIES: Final = "Accept-Encoding, Accept-Language, Cookie"


def build_web_blueprint(files: WebFiles, cookie: SessionCookie) -> Blueprint:
    """Build the routes of the pages (`/`, `/watch` …) and of what they load (`/web/<version>/…`).

    Pages are in the visitor's language, and are asked for anew each time, by their ETag. What they load has an address
    that changes with its content, and is kept for a year. Neither is in the OpenAPI document, which is for programs.
    """
    blueprint = Blueprint("web", __name__)
    # The style sheet in a page is allowed by its digest; browsers ignore any other inline style.
    policy = CONTENT_POLICY.replace("style-src 'self'", f"style-src 'self' {files.style_source}")

    def answer_page(path: str) -> Response:
        page = files.get_page(path, PageVariant(choose_language(), cookie.is_sent()))
        response = _build_response(page)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Vary"] = _PAGE_VARIES
        keep_chosen_language(response)
        return response

    for path, template in PAGES.items():
        name = template.removesuffix(".html")
        blueprint.add_url_rule(path, view_func=partial(answer_page, path), methods=["GET"], endpoint=name)

    @blueprint.app_context_processor
    def provide_template_values() -> dict[str, object]:
        """Give the templates of all pages of the service the visitor's language, and the addresses of files."""
        return files.build_template_values(files.texts[choose_language()])

    @blueprint.get("/web/<version>/<path:name>")
    def web_file(version: str, name: str) -> Response:
        found = files.find_static(name)
        if found is None:
            raise Problem(404, "There is no such file; reload the page.")
        response = _build_response(found)
        # A page of another version asks a replica that is newer or older: it gets what there is, and does not keep it.
        response.headers["Cache-Control"] = _FOREVER if version == files.version else "no-cache"
        response.headers["Vary"] = "Accept-Encoding"
        return response

    @blueprint.after_request
    def add_security_headers(response: Response) -> Response:
        response.headers.update(_HEADERS)
        response.headers["Content-Security-Policy"] = policy
        return response

    return blueprint


def _build_response(kept: KeptFile) -> Response:
    """Return the answer with a file, compressed if the client takes that; or 304 if the client has it."""
    is_compressed = request.accept_encodings.quality("gzip") > 0
    response = Response(kept.compressed if is_compressed else kept.content, content_type=kept.content_type)
    if is_compressed:
        response.headers["Content-Encoding"] = "gzip"
    response.set_etag(f"{kept.etag}-gzip" if is_compressed else kept.etag)
    response.make_conditional(request)
    return response
