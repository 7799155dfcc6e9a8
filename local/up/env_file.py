"""The file `.env`: variables as they are written there, or one sentence about the line that cannot be meant so."""

import io
import re
from pathlib import Path
from typing import Final

from dotenv.parser import Binding, parse_stream

from local.errors import LocalError

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET: Final = re.compile(r"(PASSWORD|SECRET|TOKEN|KEY|PROXY|USERNAME|CLIENT_ID)\Z")
"""The names of secrets, whose values look like anything: what others would take for a comment may be a part of them."""
_ADVICE: Final = "write the value between single quotes"


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a file, without the empty ones; of a name that comes twice, the last counts.

    Nothing is replaced in a value: `$` stands for itself. Single quotes keep everything as it is, but for `\\'`; double
    quotes know `\\n`, `\\"` and `\\\\`. Without quotes ` #` begins a comment, and spaces at both ends are dropped. A
    missing file has no variables. Raises LocalError, with the line's number and without its text, for a line that
    cannot be read, and for a secret of which a part would be lost.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise LocalError(f"{path.name} is not in UTF-8: save it so in your editor") from None
    except OSError as error:
        raise LocalError(f"{path.name} cannot be read: {error.strerror}") from None
    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        line = binding.original.line + _count_blank_lines(binding.original.string)
        fault = _find_fault(binding)
        if fault is not None:
            raise LocalError(f"{path.name}, line {line}: {fault}")
        if binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return {name: value for name, value in values.items() if value}


def find_lines(path: Path) -> dict[str, int]:
    """Return the number of the line on which a file sets each variable; of a name that comes twice, the last counts.

    Only for a file that `read_env_file` can read. A missing file sets none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    return {
        binding.key: binding.original.line + _count_blank_lines(binding.original.string)
        for binding in parse_stream(io.StringIO(text))
        if binding.key is not None
    }


def _count_blank_lines(text: str) -> int:
    """Return the number of line ends before the first character that is no white space."""
    return text[: len(text) - len(text.lstrip())].count("\n")


def _find_fault(binding: Binding) -> str | None:
    """Return what is wrong with a line or what it would lose of a secret; None: nothing."""
    if binding.error:
        return "is not NAME=value; close every quote, and put nothing behind it but a comment"
    if binding.key is None:
        return None
    if not _NAME.fullmatch(binding.key):
        return "has a name that no variable can have"
    if binding.value is None:
        return f"{binding.key} has no value; write {binding.key}=value"
    if "\0" in binding.value:
        return f"{binding.key} has a NUL character in it"
    return _find_loss(binding.key, binding.value, binding.original.string) if _SECRET.search(binding.key) else None


def _find_loss(name: str, value: str, original: str) -> str | None:
    """Return what the value of a secret loses of its line as it is written; None: nothing."""
    written = original.partition("=")[2].strip()
    if written[:1] not in ("'", '"'):
        return f"{name} has a # after a space, where a comment would begin; {_ADVICE}" if written != value else None
    quote = written[0]
    inside = written[1 : written.rindex(quote)]
    if quote == "'" and "\\\\" in inside:
        return f"{name} has two backslashes between single quotes, of which one would be lost; write it without quotes"
    escaped = re.findall(r"\\(.)", inside, re.DOTALL)
    if quote == '"' and not set(escaped) <= {'"', "\\"} and not name.endswith("KEY"):  # a PEM is written with \n
        return f"{name} has a backslash between double quotes; {_ADVICE}"
    return None
