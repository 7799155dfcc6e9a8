"""Credentials of an API client, read from the file `credentials.json` that OpenSky's account page offers."""

import codecs
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, SecretStr, ValidationError

from chassis.faults import explain_unreadable


@dataclass(frozen=True, slots=True)
class Credentials:
    """Client id and secret of OAuth2's client credentials grant (RFC 6749, section 4.4)."""

    client_id: str
    client_secret: SecretStr


class _CredentialsFile(BaseModel):
    """The content of `credentials.json`."""

    client_id: str = Field(alias="clientId", min_length=1, strict=True)
    client_secret: SecretStr = Field(alias="clientSecret", min_length=1, strict=True)


def read_credentials(path: str) -> Credentials:
    """Return the credentials in the JSON file at `path`; further members of the file are ignored.

    Raises ValueError if the file is unreadable or invalid. The error's text shows neither the path nor the content.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # a ValueError: a path with a NUL
        raise ValueError(f"the file cannot be read ({explain_unreadable(error)})") from None
    try:
        file = _CredentialsFile.model_validate_json(content.removeprefix(codecs.BOM_UTF8))  # some editors add a BOM
    except ValidationError:
        raise ValueError("the file must be JSON: an object with the texts clientId and clientSecret") from None
    return Credentials(file.client_id, file.client_secret)
