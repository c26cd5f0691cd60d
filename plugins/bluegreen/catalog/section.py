"""What every section of a service file is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PlainSerializer,
    SerializationInfo,
    TypeAdapter,
)

CONNECTION_ID = r"^[A-Za-z0-9_.-]+$"
WAY_BACK = "way back"
"""Context of validation: a broken file is read for its way back, and its ``release`` is not there."""
_HTTP = TypeAdapter(HttpUrl)


class Section(BaseModel):
    """A part of a service file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _http_url(value: str) -> str:
    if _HTTP.validate_python(value).username is not None:
        raise ValueError("a login stands in it; secrets only by connection id: take it out")
    return value.rstrip("/")


def _noted(value: str, info: SerializationInfo) -> str:
    if isinstance(info.context, set):
        info.context.add(value)
    return value


Url = Annotated[
    str, AfterValidator(_http_url), Field(description="http:// or https:// address", examples=["http://10.0.1.11:8080"])
]
HostPort = Annotated[str, Field(pattern=r"^\[?[A-Za-z0-9_.:-]+\]?:\d{1,5}$", examples=["10.0.0.5:443"])]
ConnectionId = Annotated[
    str, Field(pattern=CONNECTION_ID, description="id of an Airflow connection"), PlainSerializer(_noted)
]


def connections(section: Section) -> frozenset[str]:
    """
    Return every connection that a section or a whole service names, wherever in it.

    A new key is found by its type, ``ConnectionId``: whoever must have credentials before they are asked for, as the
    triggerer must, needs no list of keys.
    """
    found: set[str] = set()
    section.model_dump(context=found)
    return frozenset(found)


class SshLogin(Section):
    """How hosts are logged in to over SSH; their keys must be known."""

    connection: ConnectionId | None = Field(
        None, description="Airflow connection of type ssh: login, key or password; without one the user's own key"
    )
    known_hosts: Path | None = Field(None, description="instead of ~/.ssh/known_hosts of the user that we run as")
    sudo: bool = Field(False, description="run our program there as root; sudo must ask for no password")
    python: str = Field("python3", min_length=1, description="Python 3.9 or later on that host, name or path")
