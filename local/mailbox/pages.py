"""The web pages of the mailbox: the list, one mail, its HTML part, its source, and the events of new mails."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web

from chassis.aiohttp_server import BoundedAppRunner, read_host
from chassis.hosts import AllowedHosts
from local.mailbox.deliveries import DeliverySignal
from local.mailbox.errors import CannotListenError
from local.mailbox.html_part import POLICY, build_document
from local.mailbox.parsing import decode_source, parse_mail, summarize_mail
from local.mailbox.reading import StoredMail, find_mail_files, read_mail_file, read_stored_mail
from local.mailbox.rendering import STATIC_FILES, ListedMail, render_error, render_list, render_mail

MAILS_PER_PAGE: Final = 100

_HEAD_LENGTH: Final = 65_536
"""Bytes of a mail that are read for the list; headers after them are not shown there."""

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "frame-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-DNS-Prefetch-Control": "off",
    "Cache-Control": "no-store",
}
"""Default headers of every response: pages load nothing from other sites, and no other site may frame them."""

_NO_SUCH_MAIL: Final = "The mailbox has no mail of this address. It was deleted, or the address is not complete."


class MailPages:
    """The handlers of the pages' requests. A mail's key from a URL is never used as a path, only compared with keys."""

    def __init__(self, maildir: Path, deliveries: DeliverySignal) -> None:
        self._maildir = maildir
        self._deliveries = deliveries
        self._listed: dict[str, ListedMail] = {}
        """Cache of the mails that were listed before, by key; a mail never changes."""

    def list_mails(self) -> list[ListedMail]:
        """Return all mails, newest first. Reads the first bytes of those that were not listed before."""
        listed = {}
        for key, path in find_mail_files(self._maildir).items():
            mail = self._listed.get(key) or self._read_summary(key, path)
            if mail is not None:
                listed[key] = mail
        self._listed = listed
        return sorted(listed.values(), key=lambda mail: (mail.delivered_at, mail.key), reverse=True)

    def _read_summary(self, key: str, path: Path) -> ListedMail | None:
        """Read and summarize one mail, also if it has just been moved from `path`; None if it cannot be read."""
        stored = read_mail_file(key, path, _HEAD_LENGTH) or read_stored_mail(self._maildir, key, _HEAD_LENGTH)
        if stored is None:
            return None
        return ListedMail(key, stored.delivered_at, summarize_mail(stored.content))

    async def show_list(self, request: web.Request) -> web.Response:
        """Answer with a page of the list; an impossible page number counts as the nearest possible one."""
        mails = await asyncio.to_thread(self.list_mails)
        pages = max(-(-len(mails) // MAILS_PER_PAGE), 1)
        number = request.query.get("page", "1")
        page = min(max(int(number), 1), pages) if number.isdecimal() and len(number) < 10 else 1
        shown = mails[(page - 1) * MAILS_PER_PAGE : page * MAILS_PER_PAGE]
        return _answer_html(render_list(shown, len(mails), page, pages))

    async def show_mail(self, request: web.Request) -> web.Response:
        """Answer with the page of one mail, or 404."""
        return _answer_html(await asyncio.to_thread(self._render_mail, request.match_info["key"]))

    def _render_mail(self, key: str) -> str:
        """Render the page of one mail. Raises HTTPNotFound if there is no such mail."""
        stored, mails = self._read(key), self.list_mails()
        parsed = parse_mail(stored.content)
        keys = [mail.key for mail in mails]
        at = keys.index(key) if key in keys else None
        is_readable = (parsed.text is not None or parsed.html is not None) and not parsed.defects
        return render_mail(
            ListedMail(key, stored.delivered_at, summarize_mail(stored.content[:_HEAD_LENGTH])),
            parsed,
            None if is_readable else decode_source(stored.content),
            newer=keys[at - 1] if at else None,
            older=keys[at + 1] if at is not None and at + 1 < len(keys) else None,
        )

    async def show_html_part(self, request: web.Request) -> web.Response:
        """Answer with the document of a mail's HTML part, with its restrictive policy; 404 if it has none."""
        document = await asyncio.to_thread(self._build_document, request.match_info["key"])
        return _answer_html(document, POLICY)

    def _build_document(self, key: str) -> str:
        """Build the document of a mail's HTML part. Raises HTTPNotFound if there is no such mail or no such part."""
        parsed = parse_mail(self._read(key).content)
        if parsed.html is None:
            raise web.HTTPNotFound(text="The mail has no HTML part.")
        return build_document(parsed.html, parsed.images)

    async def show_source(self, request: web.Request) -> web.Response:
        """Answer with all bytes of one mail as plain text, or 404."""
        stored = await asyncio.to_thread(self._read, request.match_info["key"])
        return web.Response(body=stored.content, content_type="text/plain", charset="utf-8")

    async def stream_events(self, request: web.Request) -> web.StreamResponse:
        """Send a server-sent event, without data of the mail, after each delivery, until client or server close."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with self._deliveries.listen() as delivered:
            while not self._deliveries.is_closed:
                await delivered.wait()
                delivered.clear()
                await response.write(b"data: delivered\n\n")
        return response

    def _read(self, key: str) -> StoredMail:
        """Read all of one mail. Raises HTTPNotFound if the Maildir has no mail of this key."""
        stored = read_stored_mail(self._maildir, key)
        if stored is None:
            raise web.HTTPNotFound(text=_NO_SUCH_MAIL)
        return stored


async def start_pages(host: str, port: int, maildir: Path, deliveries: DeliverySignal) -> web.AppRunner:
    """Start to serve the pages, and return once the server listens; the caller calls `cleanup` of the result.

    Raises CannotListenError if the port is in use or not allowed.
    """
    # With handler_cancellation, the handler of an event stream ends when its page is closed.
    runner = BoundedAppRunner(
        make_app(maildir, deliveries), access_log=None, handler_cancellation=True, shutdown_timeout=1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise CannotListenError.on(host, port, error) from None
    return runner


def make_app(maildir: Path, deliveries: DeliverySignal) -> web.Application:
    """Make the application that serves all pages of a Maildir, which need not exist yet."""
    pages = MailPages(maildir, deliveries)
    app = web.Application(middlewares=[_reject_foreign_hosts_and_render_errors])
    app.router.add_get("/", pages.show_list)
    app.router.add_get("/events", pages.stream_events, allow_head=False)
    app.router.add_get("/static/{name}", _send_static_file)
    app.router.add_get("/mails/{key}", pages.show_mail)
    app.router.add_get("/mails/{key}/html", pages.show_html_part)
    app.router.add_get("/mails/{key}/source", pages.show_source)
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(_make_shutdown_handler(deliveries))
    return app


def _make_shutdown_handler(deliveries: DeliverySignal) -> Callable[[web.Application], Awaitable[None]]:
    """Make a function that ends all event streams, for the shutdown of the server."""

    async def close(_: web.Application) -> None:
        deliveries.close()

    return close


async def _send_static_file(request: web.Request) -> web.Response:
    """Answer with a static file, which browsers may cache: its URL in the pages changes with its content."""
    file = STATIC_FILES.get(request.match_info["name"])
    if file is None:
        raise web.HTTPNotFound(text="There is no such file.")
    headers = {"Content-Type": file.content_type, "Cache-Control": "max-age=31536000, immutable"}
    return web.Response(body=file.body, headers=headers)


def _answer_html(page: str, policy: str | None = None) -> web.Response:
    """Answer with an HTML page. `policy`: a Content-Security-Policy in place of the default one of the pages."""
    headers = {} if policy is None else {"Content-Security-Policy": policy}
    return web.Response(text=page, content_type="text/html", headers=headers)


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add the default headers to a response; headers that it has already stay."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


@web.middleware
async def _reject_foreign_hosts_and_render_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Reject a request for a host name other than `localhost` with 403, and answer HTTP errors with a page.

    This prevents DNS rebinding: the host name of a foreign web page is made to point to this machine, so that the page
    can read confirmation links. A browser sends that name as the host. Requests for an IP address are allowed.
    """
    if AllowedHosts().find_fault(read_host(request)) is not None:
        return _answer_error(HTTPStatus.FORBIDDEN, "Open this page by an IP address, or as localhost.")
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _answer_error(HTTPStatus(error.status), error.text or error.reason)


def _answer_error(status: HTTPStatus, detail: str) -> web.Response:
    """Answer with an error page."""
    return web.Response(status=status, text=render_error(status.phrase, detail), content_type="text/html")
