"""The modules that a page names, so that a browser asks for all of them together."""

import re
import shutil
from pathlib import Path

import pytest

from user_manager.rest.texts import WEB
from user_manager.rest.web_files import PageVariant, WebFiles

ABOUT_LINES = 'import {\n  href,\n} from "./words.js";\nimport "./account.js";\n'
NO_IMPORT = "\nconst note = 'import {x} from \"./nothing.js\";';\n"


def copy_web(folder: Path, beginnings: dict[str, str]) -> Path:
    """Copy `web/` into the folder, with a text put before some of the modules, and return where it is."""
    copied = folder / "web"
    shutil.copytree(WEB, copied)
    for name, text in beginnings.items():
        module = copied / "static" / name
        module.write_text(text + module.read_text("utf-8"), "utf-8")
    return copied


def test_a_page_names_all_modules_that_its_script_needs(tmp_path: Path) -> None:
    """Each once, also those that import each other in a circle or over several lines; never the script itself."""
    assert WebFiles().list_modules("account.js") == ["api.js", "clock.js", "dom.js", "page.js", "text.js"]
    files = WebFiles(folder=copy_web(tmp_path, {"text.js": ABOUT_LINES, "words.js": NO_IMPORT}))
    assert files.list_modules("account.js") == ["api.js", "clock.js", "dom.js", "page.js", "text.js", "words.js"]
    page = files.get_page("/account", PageVariant("en", True)).content.decode()
    named = re.findall(r'<link rel="modulepreload" fetchpriority="low" href="/web/[^/]+/([^"]+)">', page)
    assert named == files.list_modules("account.js")


def test_a_module_that_is_not_there_stops_the_service(tmp_path: Path) -> None:
    """At its start, and not in the browser of the first visitor."""
    with pytest.raises(KeyError, match="missing"):
        WebFiles(folder=copy_web(tmp_path, {"words.js": 'import "./missing.js";\n'}))
