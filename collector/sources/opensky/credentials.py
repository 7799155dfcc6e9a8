"""An API client's credentials, as OpenSky's account page gives them to download: `credentials.json`."""

import codecs
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, SecretStr, ValidationError


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of OAuth2's client credentials grant (RFC 6749, section 4.4)."""

    client_id: str
    client_secret: SecretStr


class _Download(BaseModel):
    client_id: str = Field(alias="clientId", min_length=1, strict=True)
    client_secret: SecretStr = Field(alias="clientSecret", min_length=1, strict=True)


def read_credentials(path: str) -> Credentials:
    """Read such a file; what else it says is ignored.

    Raises ValueError, whose text shows neither the path nor the content, when it cannot be read or is no such file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"the file cannot be read: {type(error).__name__}") from None
    try:
        download = _Download.model_validate_json(content.removeprefix(codecs.BOM_UTF8))  # some editors put it there
    except ValidationError:
        raise ValueError("the file must be JSON: an object with the texts clientId and clientSecret") from None
    return Credentials(download.client_id, download.client_secret)
