"""What every section of a service file is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter

CONNECTION_ID = r"^[A-Za-z0-9_.-]+$"
_HTTP = TypeAdapter(HttpUrl)


class Section(BaseModel):
    """A part of a service file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _http_url(value: str) -> str:
    if _HTTP.validate_python(value).username is not None:
        raise ValueError("a login stands in it; secrets only by connection id: take it out")
    return value.rstrip("/")


Url = Annotated[
    str, AfterValidator(_http_url), Field(description="http:// or https:// address", examples=["http://10.0.1.11:8080"])
]
HostPort = Annotated[str, Field(pattern=r"^\[?[A-Za-z0-9_.:-]+\]?:\d{1,5}$", examples=["10.0.0.5:443"])]
ConnectionId = Annotated[str, Field(pattern=CONNECTION_ID, description="id of an Airflow connection")]


class SshLogin(Section):
    """How hosts are logged in to over SSH; their keys must be known."""

    connection: ConnectionId | None = Field(
        None, description="Airflow connection of type ssh: login, key or password; without one the user's own key"
    )
    known_hosts: Path | None = Field(None, description="instead of ~/.ssh/known_hosts of the user that we run as")
    sudo: bool = Field(False, description="run our program there as root; sudo must ask for no password")
    python: str = Field("python3", min_length=1, description="Python 3.9 or later on that host, name or path")
