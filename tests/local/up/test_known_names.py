"""What `make up` says of names in `.env` that nothing reads."""

import re

import pytest

from local.processes import ROOT
from local.up.known_names import find_unknown_names


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SMTP_HOSTS", "SMTP_HOST"),
        ("OPEN_SKY_CLIENT_ID", "OPENSKY_CLIENT_ID"),
        ("CREDIT_PER_DAY", "CREDITS_PER_DAY"),
        ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
        ("GRPC_SECRETS", None),
        ("BASE_PORT", None),
        ("MAILFROM", "MAIL_FROM"),
    ],
)
def test_a_misspelt_name_is_told_with_the_nearest_one(name: str, meant: str | None) -> None:
    """It would be ignored in silence. None: a name of another program's form, or too far from all, has no guess."""
    sentences = find_unknown_names(["SMTP_PORT", name])
    if meant is None:
        assert all(name in each for each in sentences)
    else:
        assert sentences == [f"{name} is no setting, and changes nothing; did you mean {meant}?"]


def test_all_names_of_the_example_are_known() -> None:
    """Nobody who uses what .env.example names is told that it does not exist; nor of what libraries read."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    names = re.findall(r"^#?([A-Z][A-Z_0-9]*)=", text, re.MULTILINE)
    assert len(names) > 30
    assert find_unknown_names([*names, "HTTPS_PROXY", "no_proxy", "TZ", "SSL_CERT_FILE", "SMTP_PASSWORD_FILE"]) == []
    assert find_unknown_names([]) == []


def test_a_name_in_small_letters_is_told_how_to_be_written() -> None:
    """The services would read it, and what starts them would not: SMTP_HOST decides if there is a mailbox."""
    (sentence,) = find_unknown_names(["smtp_host"])
    assert sentence == "smtp_host must be written in capitals, SMTP_HOST, or not all processes read it"


def test_a_name_without_a_likeness_is_told_too() -> None:
    """The sentence says where the names stand."""
    assert find_unknown_names(["COLOUR"]) == [
        "COLOUR is no setting, and changes nothing; README.md and .env.example name those that there are"
    ]
