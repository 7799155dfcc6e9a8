"""Mails of every kind are byte for byte those that are recorded (`recorded_mails` says how to record them anew)."""

from base64 import b64encode
from io import BytesIO

import pytest
from PIL import Image

from chassis.texts import LANGUAGES
from tests.notifier.mail.recorded_mails import RECORDED, build_mails, format_mail, format_mails


@pytest.mark.parametrize("language", LANGUAGES)
def test_mails_are_those_that_are_recorded(language: str) -> None:
    """Headers, text, page and the charts' colours, in the order and the encoding in which they are sent."""
    recorded = (RECORDED / f"{language}.txt").read_text("utf-8")
    assert format_mails(language).splitlines() == recorded.splitlines()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_mail_that_is_written_again_is_the_same(language: str) -> None:
    """What is remembered from mails before, in another order and another language, changes no byte."""
    first = {name: mail.as_bytes() for name, mail in build_mails(language).items()}
    for other in LANGUAGES:
        build_mails(other)
    assert {name: mail.as_bytes() for name, mail in build_mails(language).items()} == first


def test_a_record_shows_each_byte_but_how_pictures_are_packed() -> None:
    """Another colour is another digest, another packing is not, and a bare line feed is an error."""

    def build(colour: int, level: int) -> bytes:
        file = BytesIO()
        Image.new("L", (40, 20), colour).save(file, "PNG", compress_level=level)
        text = b64encode(file.getvalue())
        return b"\r\n".join([b"A: 1", b"", *(text[at : at + 76] for at in range(0, len(text), 76)), b"--b"])

    assert build(1, 0) != build(1, 9)
    assert format_mail(build(1, 0)) == format_mail(build(1, 9)) != format_mail(build(2, 9))
    assert format_mail(b"A: 1\r\n\r\nx \r\n") == "A: 1\n\nx \n"
    with pytest.raises(ValueError, match="CRLF"):
        format_mail(b"A: 1\r\n\r\nx\ny\r\n")
