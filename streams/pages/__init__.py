"""Read-only pages on Faust's web server: the state of the whole group of workers, for people and as JSON."""

from streams.pages.routes import serve_pages

__all__ = ["serve_pages"]
