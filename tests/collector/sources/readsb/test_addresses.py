"""Tests of the setting LIVE_URLS: what is accepted, and what is refused with a sentence that shows no secret."""

import pytest

from collector.sources.readsb.addresses import parse_addresses
from collector.sources.regions import Circle

POINT = "https://api.adsb.lol/v2/point/{lat}/{lon}/{nm}"
PARIS = Circle(48.9, 2.5, 60)


@pytest.mark.parametrize(
    ("text", "url", "host"),
    [
        ("http://receiver.lan/data/aircraft.json", "http://receiver.lan/data/aircraft.json", "receiver.lan"),
        ("http://[fd00::7]:8080/data/aircraft.json", "http://[fd00::7]:8080/data/aircraft.json", "fd00::7"),
        ("https://ann:s%20ecret@Mine.Example/a.json", "https://ann:s%20ecret@mine.example/a.json", "mine.example"),
        ("https://flüge.example/a.json", "https://xn--flge-1ra.example/a.json", "xn--flge-1ra.example"),
        ("https://api.adsb.lol/v2/point/48.9/2.5/250", "https://api.adsb.lol/v2/point/48.9/2.5/250", "api.adsb.lol"),
        ("/run/readsb/aircraft.json", "/run/readsb/aircraft.json", ""),
        ("file:///run/readsb/a%20b.json", "/run/readsb/a b.json", ""),
        ("file://localhost/run/a.json", "/run/a.json", ""),
        ("FILE:/run/a.json", "/run/a.json", ""),
    ],
)  # fmt: skip
def test_urls_and_files_have_one_answer_for_all(text: str, url: str, host: str) -> None:
    """They take no region; the host is named without what may be secret."""
    (address,) = parse_addresses(f" {text} ")
    assert (address.fill_in(None), address.host, address.name) == (url, host, "url-1")
    with pytest.raises(ValueError, match="takes no region"):
        address.fill_in(PARIS)


@pytest.mark.parametrize(
    ("template", "url"),
    [
        (POINT, "https://api.adsb.lol/v2/point/48.9000/2.5000/60"),
        ("https://opendata.adsb.fi/api/v2/lat/{lat}/lon/{lon}/dist/{nm}",
         "https://opendata.adsb.fi/api/v2/lat/48.9000/lon/2.5000/dist/60"),
        ("https://example.org/near?where={lat},{lon}&nm={nm}&key=k".replace(",", "%2C"),
         "https://example.org/near?where=48.9000%2C2.5000&nm=60&key=k"),
    ],
)  # fmt: skip
def test_a_template_is_filled_in_for_a_region(template: str, url: str) -> None:
    """It is asked for regions alone."""
    (address,) = parse_addresses(template)
    assert address.takes_region
    assert address.fill_in(PARIS) == url
    with pytest.raises(ValueError, match="takes a region"):
        address.fill_in(None)


def test_several_are_numbered_and_their_secrets_are_not_shown() -> None:
    """Neither in their names, which logs and metrics have, nor in their `repr`."""
    text = f"{POINT}, https://ann:hunter2@receiver.example/a.json?key=hunter2 ,/run/hunter2/a.json"
    addresses = parse_addresses(text)
    assert [each.name for each in addresses] == ["url-1", "url-2", "url-3"]
    assert "hunter2" not in repr(addresses)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ftp://hunter2.example/a.json", "must be an http or https URL"),
        ("hunter2.example/a.json", "must be an http or https URL"),
        ("https://", "must be an http or https URL"),
        ("https://hunter2 .example/a.json", "no spaces"),
        ("https://hunter2.example:99999/a.json", "port"),
        ("https://hunter2.example/v2/point/{lat}/{lon}", "each of {lat}, {lon} and {nm} once"),
        ("https://hunter2.example/v2/point/{lon}/{nm}", "each of {lat}, {lon} and {nm} once"),
        ("https://hunter2.example/v2/point/{lat}/{lon}/{nm}/{lat}", "each of {lat}, {lon} and {nm} once"),
        ("https://hunter2.example/v2/point/{lat}/{lon}/{nm}/{radius}", "each of {lat}, {lon} and {nm} once"),
        ("https://hunter2.example/v2/point/{lat}/{lon}/{nm", "each of {lat}, {lon} and {nm} once"),
        ("https://{lat}.hunter2.example/{lon}/{nm}", "not in the host's name"),
        ("https://hunter2.example/v2/point/48.9/2.5/251", "250 nautical miles at most"),
        ("https://hunter2.example/api/v2/lat/48/lon/2/dist/999999999999", "250 nautical miles at most"),
        ("file://hunter2.example/run/a.json", "must name a file of this machine"),
        ("file:hunter2.json", "must name a file of this machine"),
        ("/run/hunter2/", "must name a file of this machine"),
        ("/run/hunter2\x00.json", "must name a file of this machine"),
        ("", "is empty"),
        ("/hunter2,", "address 2 is empty"),
        ("/run/a.json,/run/./hunter2/../a.json,file:///run/a.json", "address 3 is the same as address 1"),
        ("https://A.example/hunter2, https://a.example/hunter2", "address 2 is the same as address 1"),
        (f"{POINT},ftp://hunter2,/x/", "address 2 must be an http or https URL"),
        (f"{POINT},ftp://hunter2,/x/", "; address 3 must name a file"),
    ],
)
def test_what_cannot_be_meant_is_refused_without_the_value(text: str, expected: str) -> None:
    """All faults are told, each with the address's number, and none with the address, which may hold a secret."""
    with pytest.raises(ValueError) as caught:
        parse_addresses(text)
    assert expected in str(caught.value)
    assert "hunter2" not in str(caught.value)
