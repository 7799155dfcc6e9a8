"""The files of `web/` as they are served: read, rendered and compressed once, when the service starts."""

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from chassis.texts import LANGUAGES, Texts
from domain.airport_index import build_airport_index, load_sizes
from domain.airports import read_airports
from user_manager.rest.texts import WEB, load_texts

PAGES: Final[Mapping[str, str]] = {
    "/": "index.html",
    "/watch": "watch.html",
    "/told": "told.html",
    "/account": "account.html",
    "/register": "register.html",
}
"""The template of each page, by its path."""

STYLE: Final = "style.css"
"""The style sheet of all pages. The pages of mail links load it; the other pages contain it."""


@cache
def build_airports_file() -> bytes:
    """Return the index of airports that the pages search in; it is built once in a process."""
    index = build_airport_index(read_airports(), load_sizes())
    return json.dumps(index, ensure_ascii=False, separators=(",", ":")).encode()


GENERATED: Final[Mapping[str, Callable[[], bytes]]] = {"airports.json": build_airports_file}
"""What builds each file that is not in the folder, by the name under which it is served; called once at the start."""

_IMPORT: Final = re.compile(r"""^(?:import|export)\b[^;"]*"\./([\w.]+)";$""", re.MULTILINE)
"""A line, or several, by which one of our modules imports another."""

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file as it is answered, with and without compression."""

    content: bytes
    content_type: str
    compressed: bytes = field(init=False)
    etag: str = field(init=False)
    """Digest of the content, without quotes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "compressed", gzip.compress(self.content, 9, mtime=0))
        object.__setattr__(self, "etag", sha256(self.content).hexdigest()[:24])


@dataclass(frozen=True, slots=True)
class PageVariant:
    """The parameters of a page beside its path."""

    language: str
    is_signed_in: bool
    """True if the browser has a session, valid or not: only scripts, which ask, know more."""


class WebFiles:
    """All files of the pages. Immutable, so safe for several threads."""

    def __init__(
        self, base: str = "", folder: Path = WEB, generated: Mapping[str, Callable[[], bytes]] = GENERATED
    ) -> None:
        """Read the folder and render all pages. `base`: the path of the address under which people reach the service.

        Raises KeyError if a page uses a text that a catalogue does not have.
        """
        self.base = base
        self.texts = load_texts(folder / "texts")
        static = {path.name: path.read_bytes() for path in sorted((folder / "static").iterdir()) if path.is_file()}
        static |= {f"texts/{path.name}": path.read_bytes() for path in sorted((folder / "texts").glob("*.json"))}
        static |= {name: build() for name, build in generated.items()}
        templates = {path.name: path.read_bytes() for path in sorted(folder.glob("*.html"))}
        self.version = _compute_digest({**static, **templates})
        """A digest of all that pages are made of: an address with it always has the same content."""
        self._static = {name: KeptFile(content, _TYPES[Path(name).suffix]) for name, content in static.items()}
        self._style = static[STYLE].decode()
        self.style_source = f"'sha256-{b64encode(sha256(static[STYLE]).digest()).decode()}'"
        """The source for `style-src` that allows the style sheet in a page: its SHA-256 digest."""
        environment = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self._pages = {
            (path, variant): KeptFile(self._render(environment, path, variant), "text/html; charset=utf-8")
            for path in PAGES
            for variant in (PageVariant(tag, is_signed_in) for tag in LANGUAGES for is_signed_in in (False, True))
        }

    def build_url(self, name: str) -> str:
        """Return the address of a static file, as pages write it. Raises KeyError if there is no such file."""
        self._static[name]
        return f"{self.base}/web/{self.version}/{name}"

    def list_modules(self, name: str) -> list[str]:
        """Return the names of all modules that a module imports, also through others, in alphabetical order.

        A page names them, so that a browser asks for them together, and not for each once it has read another. Raises
        KeyError if there is no such module, or one imports a file that is not there.
        """
        found: set[str] = set()
        waiting = [name]
        while waiting:
            imported = _IMPORT.findall(self._static[waiting.pop()].content.decode())
            waiting += [each for each in imported if each not in found]
            found.update(imported)
        return sorted(found - {name})

    def find_static(self, name: str) -> KeptFile | None:
        """Return the static file that is served under a name, or None if there is none."""
        return self._static.get(name)

    def get_page(self, path: str, variant: PageVariant) -> KeptFile:
        """Return the page at a path of PAGES. Raises KeyError for another path or language."""
        return self._pages[path, variant]

    def build_template_values(self, texts: Texts) -> dict[str, object]:
        """Return what templates of any page know: the language, its texts, and addresses of files."""
        return {
            "base": self.base,
            "language": texts.language,
            "languages": LANGUAGES,
            "t": texts.get,
            "static": self.build_url,
            "list_modules": self.list_modules,
            # In the page itself, which is drawn without a second request (docs/adr/0072). The text is our own file.
            "style": Markup(self._style),
        }

    def _render(self, environment: Environment, path: str, variant: PageVariant) -> bytes:
        """Return one page in one language, for visitors or for people who may be signed in."""
        values = self.build_template_values(self.texts[variant.language])
        template = environment.get_template(PAGES[path])
        return template.render(**values, page_path=path, is_signed_in=variant.is_signed_in).encode()


def _compute_digest(files: Mapping[str, bytes]) -> str:
    """Return a digest of files with their names, in hexadecimal."""
    digest = sha256()
    for name, content in sorted(files.items()):
        digest.update(b"%d %s %d " % (len(name), name.encode(), len(content)))
        digest.update(content)
    return digest.hexdigest()[:16]
