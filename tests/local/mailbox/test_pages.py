"""The mailbox's pages over HTTP, from a real mailbox process."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest

from local.mailbox.html_part import POLICY
from local.mailbox.pages import MAILS_PER_PAGE
from local.mailbox.reading import find_mail_files
from local.mailbox.rendering import STATIC_FILES
from tests import plain_http
from tests.local.mailbox.process import RunningMailbox, deliver, deliver_bytes, running_mailbox
from tests.streams.pages.test_pages import compute_contrast
from tests.waiting import eventually

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMailbox]:
    """A mailbox for all tests of the module."""
    with running_mailbox(tmp_path_factory.mktemp("mailbox") / "mail") as running:
        yield running


@pytest.fixture
def mailbox(shared: RunningMailbox) -> RunningMailbox:
    """A mailbox without mails."""
    for path in find_mail_files(shared.maildir).values():
        path.unlink()
    return shared


def get_page(mailbox: RunningMailbox, path: str = "/") -> str:
    """Fetch a page."""
    return plain_http.get(f"{mailbox.url}{path}", timeout=60).raise_for_status().text


def find_subjects(page: str) -> list[str]:
    """Return the subjects of a list, in its order."""
    return [unescape(each) for each in re.findall(r'class="subject"[^>]*><bdi>(.*?)</bdi>', page)]


def open_only_mail(mailbox: RunningMailbox, part: str = "") -> str:
    """Fetch the page of the mailbox's only mail, or a part of it, by the link in the list."""
    (link,) = re.findall(r'class="subject" href="([^"]*)"', get_page(mailbox))
    return get_page(mailbox, link + part)


def test_the_list_shows_the_newest_mail_first(mailbox: RunningMailbox) -> None:
    """An empty mailbox says so; deleted mails vanish."""
    assert "No mail yet" in get_page(mailbox)
    for number in range(3):
        deliver(mailbox.port, f"mail {number}")
    assert find_subjects(get_page(mailbox)) == ["mail 2", "mail 1", "mail 0"]
    assert "from</span> <bdi>(nobody)" in get_page(mailbox)
    assert "to</span> <bdi>b@example.net" in get_page(mailbox)
    min(find_mail_files(mailbox.maildir).values(), key=lambda path: path.stat().st_mtime_ns).unlink()
    assert find_subjects(get_page(mailbox)) == ["mail 2", "mail 1"]


def test_a_long_list_has_pages(mailbox: RunningMailbox) -> None:
    """A page that does not exist is the nearest one."""
    for number in range(MAILS_PER_PAGE + 1):
        (mailbox.maildir / "new" / f"{number:04}.x").write_text(f"Subject: {number}\n\n")
    assert len(find_subjects(get_page(mailbox))) == MAILS_PER_PAGE
    assert f"{MAILS_PER_PAGE + 1} mails, page 1 of 2" in get_page(mailbox)
    for page in ("2", "3", "99999"):
        assert len(find_subjects(get_page(mailbox, f"/?page={page}"))) == 1
    for page in ("0", "-1", "x", "9" * 5000, "²"):
        assert len(find_subjects(get_page(mailbox, f"/?page={page}"))) == MAILS_PER_PAGE


def test_neighbours_are_linked(mailbox: RunningMailbox) -> None:
    """One can read one mail after the other."""
    for number in range(3):
        deliver(mailbox.port, f"mail {number}")
    newest, middle, oldest = re.findall(r'class="subject" href="([^"]*)"', get_page(mailbox))
    assert f'<a href="{newest}" rel="prev">Newer</a>' in get_page(mailbox, middle)
    assert f'<a href="{oldest}" rel="next">Older</a>' in get_page(mailbox, middle)
    assert 'rel="prev"' not in get_page(mailbox, newest)
    assert 'rel="next"' not in get_page(mailbox, oldest)


def test_whatever_a_mail_says_is_shown_as_text(mailbox: RunningMailbox) -> None:
    """Scripts in subject, sender, recipient, text, header names and file names are no elements of a page."""
    content = (
        f"Subject: =?utf-8?q?=3Cscript=3Ealert(1)=3C/script=3E?=\r\nFrom: {HOSTILE}@example.org\r\nTo: {HOSTILE}\r\n"
        f"X-<script>alert(1)</script>: {HOSTILE}\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
        f'--x\r\n\r\n{HOSTILE} </pre> https://e.org/"onclick=alert(1) javascript:alert(1)\r\n'
        f'--x\r\nContent-Type: a/b; name="{HOSTILE}"\r\n\r\n--x--\r\n'
    )
    deliver_bytes(mailbox.port, content.encode())
    assert find_subjects(get_page(mailbox)) == [HOSTILE]
    for page in (get_page(mailbox), open_only_mail(mailbox)):
        assert set(re.findall(r"<script[^>]*>", page)) <= set(re.findall(r'<script src="/static/mails.js[^>]*>', page))
        assert HOSTILE not in page
        assert not re.search(r"<[^>]*\sonclick", page)
        assert not re.search(r'href="(?!/|#|https?://)', page)


def test_links_of_the_text_can_be_followed(mailbox: RunningMailbox) -> None:
    """A confirmation link is broken over two lines in the source, and whole on the page."""
    link = "http://127.0.0.1:8520/users/confirm?token=" + "aB9._-" * 20 + "x"
    head = "Content-Transfer-Encoding: quoted-printable\r\nSubject: Confirm\r\n\r\n"
    quoted = link.replace("=", "=3D")
    deliver_bytes(mailbox.port, f"{head}Follow\r\n{quoted[:70]}=\r\n{quoted[70:]}\r\n".encode())
    page = open_only_mail(mailbox)
    assert f'<a href="{link}" target="_blank" rel="noopener noreferrer">{link}</a>' in page
    assert link not in open_only_mail(mailbox, "/source")


def test_headers_are_shown_decoded_and_as_sent(mailbox: RunningMailbox) -> None:
    """All headers are there, also those that the mailbox has added."""
    deliver_bytes(mailbox.port, b"Subject: =?utf-8?q?caf=C3=A9?=\r\nX-Long: one\r\n two\r\n\r\nHello\r\n")
    page = open_only_mail(mailbox)
    for name in ("Return-Path", "Delivered-To", "Subject", "X-Long"):
        assert f"<dt>{name}</dt>" in page
    assert "<pre>=?utf-8?q?caf=C3=A9?=</pre>" in page
    assert "<bdi>one two</bdi>" in page


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: broken\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\nno <b>boundary</b>\r\n",
        b"Subject: broken\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nno <b>boundary</b> here\r\n",
        b"Subject: broken\r\nContent-Type: application/octet-stream\r\n\r\nno <b>boundary</b>\r\n",
    ],
)
def test_a_mail_without_a_readable_part_is_listed_and_shown_raw(mailbox: RunningMailbox, content: bytes) -> None:
    """The same for malformed mails."""
    deliver_bytes(mailbox.port, content)
    assert find_subjects(get_page(mailbox)) == ["broken"]
    raw = open_only_mail(mailbox).partition("data-source>")[2].partition("</pre>")[0]
    assert "Subject: broken" in raw
    assert "no &lt;b&gt;boundary&lt;/b&gt;" in raw


def test_a_huge_mail_is_shown_in_part(mailbox: RunningMailbox) -> None:
    """Its source is there whole."""
    deliver(mailbox.port, "huge", "x" * 70 + ("\r\n" + "x" * 70) * 200_000)
    assert find_subjects(get_page(mailbox)) == ["huge"]
    assert 500_000 < len(open_only_mail(mailbox)) < 600_000
    assert len(open_only_mail(mailbox, "/source")) > 14_000_000


def test_the_html_part_has_its_own_strict_policy(mailbox: RunningMailbox) -> None:
    """No page of ours has any of it: it is framed, in a sandbox without scripts."""
    deliver_bytes(mailbox.port, f"Subject: x\r\nContent-Type: text/html\r\n\r\n<p>Hi{HOSTILE}\r\n".encode())
    page = open_only_mail(mailbox)
    (frame,) = re.findall(r"<iframe[^>]*>", page)
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in frame
    assert "Hi" not in page
    (src,) = re.findall(r'src="([^"]*)"', frame)
    answer = plain_http.get(f"{mailbox.url}{src}")
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert HOSTILE in answer.text


def test_every_response_has_the_headers_of_a_careful_server(mailbox: RunningMailbox) -> None:
    """The source is text for every browser, and error pages are no exception."""
    deliver(mailbox.port, "x")
    (link,) = re.findall(r'class="subject" href="([^"]*)"', get_page(mailbox))
    for path in ("/", link, f"{link}/source", f"{link}/html", "/static/mails.js", "/static/none", "/nothing"):
        headers = plain_http.get(f"{mailbox.url}{path}").headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        if path.endswith("/source"):
            assert headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "key",
    ["..%2F..%2Fsecret", "..%2fsecret", "%2e%2e%2fsecret", "secret", "new%2F1.x", "1.x%00", "..", ".hidden", "%ff"],
)
@pytest.mark.parametrize("part", ["", "/html", "/source"])
def test_only_mails_of_the_maildir_can_be_read(mailbox: RunningMailbox, key: str, part: str) -> None:
    """A key is compared with those that exist, and is never a part of a path."""
    (mailbox.maildir / "secret").write_text("Subject: secret\n\nsecret\n")
    (mailbox.maildir.parent / "secret").write_text("Subject: secret\n\nsecret\n")
    (mailbox.maildir / "new" / ".hidden").write_text("secret\n")
    (mailbox.maildir / "new" / "1.x").write_text("Subject: x\n\nhello\n")
    # httpx would normalize the path.
    request = httpx.Request("GET", mailbox.url, extensions={"target": f"/mails/{key}{part}".encode()})
    with httpx.Client(verify=False) as client:
        answer = client.send(request)
    assert answer.status_code in (400, 404)
    assert "secret\n" not in answer.text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "a@localhost.x"]
)
def test_a_foreign_host_name_is_rejected(mailbox: RunningMailbox, host: str) -> None:
    """A web page whose name begins to point to this machine must not read confirmation links."""
    deliver(mailbox.port, "Confirm your address")
    answer = plain_http.get(f"{mailbox.url}/", headers={"Host": host})
    assert answer.status_code in (400, 403)
    assert "Confirm" not in answer.text
    for own in ("localhost", "localhost:8026", "127.0.0.1", "[::1]:80", "10.1.2.3:8026"):
        assert plain_http.get(f"{mailbox.url}/", headers={"Host": own}).status_code == 200


def test_each_delivery_is_an_event(mailbox: RunningMailbox) -> None:
    """The event names no mail; the page is fetched anew."""
    with httpx.stream("GET", f"{mailbox.url}/events", timeout=60) as events:
        assert events.headers["Content-Type"] == "text/event-stream"
        lines = events.iter_lines()
        for number in range(2):
            deliver(mailbox.port, f"mail {number}")
            assert next(lines) == "data: delivered"
            assert next(lines) == ""


def test_it_ends_with_pages_open(tmp_path: Path) -> None:
    """An open page must not keep the mailbox running."""
    with running_mailbox(tmp_path / "mail") as running, httpx.stream("GET", f"{running.url}/events") as events:
        assert events.status_code == 200
        running.process.terminate()
        assert running.process.wait(60) == 0


def test_a_mail_that_moves_is_the_same_mail(mailbox: RunningMailbox) -> None:
    """A mail reader moves mails to `cur`, and adds flags to their names."""
    deliver(mailbox.port, "moved")
    before = open_only_mail(mailbox)
    (path,) = find_mail_files(mailbox.maildir).values()
    path.rename(mailbox.maildir / "cur" / f"{path.name}:2,S")
    assert open_only_mail(mailbox) == before
    eventually(lambda: find_subjects(get_page(mailbox)) == ["moved"])


def test_colours_have_the_required_contrast() -> None:
    """4.5 : 1 for every text on every ground that it stands on, light and dark (WCAG 2.2 AA)."""
    schemes = re.findall(r":root \{(.*?)\}", STATIC_FILES["mailbox.css"].body.decode(), re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colour = dict(re.findall(r"--([\w-]+): (#\w{6})", scheme))
        for back in ("ground", "card", "notice", "hover", "new"):
            for front in ("ink", "quiet", "link", "high"):
                if back in ("notice", "hover", "new") and front == "high":
                    continue
                assert compute_contrast(colour[front], colour[back]) >= 4.5, (front, back)
