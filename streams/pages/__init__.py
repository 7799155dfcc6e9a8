"""Read-only pages on Faust's web server: what every worker of the group knows, for people and as JSON."""

from streams.pages.routes import serve_pages

__all__ = ["serve_pages"]
