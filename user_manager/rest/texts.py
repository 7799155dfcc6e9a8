"""Texts of the pages, in one catalogue per language, and the language of a visitor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flask import Response, request

from chassis.texts import DEFAULT_LANGUAGE, LANGUAGES, Texts, load_catalogues

WEB: Final = Path(__file__).parents[2] / "web"
"""The folder of the pages, beside the services' own."""

LANGUAGE_COOKIE: Final = "language"
_COOKIE_LIFETIME_S: Final = 365 * 86_400


def load_texts(folder: Path = WEB / "texts") -> Mapping[str, Texts]:
    """Return the texts of each language, read once from `<language>.json` in the folder."""
    return load_catalogues(folder)


def translate(key: str, **values: object) -> str:
    """Return the text of a key in the language of the present request. Raises KeyError as `Texts.get` does."""
    return load_texts()[choose_language()].get(key, **values)


def choose_language() -> str:
    """Return the tag of the language of the present request.

    It is that of the query (`?language=it`), else of the cookie, else the one that the browser prefers.
    """
    for chosen in (request.args.get("language", ""), request.cookies.get(LANGUAGE_COOKIE, "")):
        if chosen in LANGUAGES:
            return chosen
    # Not best_match: it would prefer "en" to "it-IT" whatever their qualities, since only "en" matches to the letter.
    preferred = (tag.partition("-")[0].lower() for tag, quality in request.accept_languages if quality > 0)
    return next((tag for tag in preferred if tag in LANGUAGES), DEFAULT_LANGUAGE)


def keep_chosen_language(response: Response) -> None:
    """Make the browser keep the language that the present request's query chooses, if it chooses one.

    Only of a page that is opened: the one POST that stops mails (RFC 8058, 3.2) comes without a browser.
    """
    chosen = request.args.get("language", "")
    if chosen in LANGUAGES and request.method == "GET":
        lifetime = _COOKIE_LIFETIME_S
        response.set_cookie(LANGUAGE_COOKIE, chosen, max_age=lifetime, path="/", httponly=True, samesite="Lax")
