"""The name of a browser and of its system in plain words, so that people recognize their sessions. Pure."""

from typing import Final

UNKNOWN_DEVICE: Final = "An unknown browser"

_BROWSERS: Final = (
    ("Edg", "Edge"),  # before Chrome and Safari, which most others call themselves, too
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
)
_SYSTEMS: Final = (
    ("iPhone", "iPhone"),  # before macOS, which iOS calls itself, too
    ("iPad", "iPad"),
    ("Android", "Android"),  # before Linux, likewise
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def describe_device(user_agent: str) -> str:
    """Return browser and system of a header User-Agent in words, such as "Firefox on Linux".

    Nothing of the header itself is repeated: whoever sends it may write anything there.
    """
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), None)
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), None)
    if system is None:
        return browser or UNKNOWN_DEVICE
    return f"{browser or UNKNOWN_DEVICE} on {system}"
