"""What smoke tests are made of: a request and what its answer must be, a command in a pod, or a Job of a cluster."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from bluegreen.catalog.deploys import Argv
from bluegreen.catalog.durations import Duration
from bluegreen.catalog.section import Section


class SmokeTest(Section):
    """One request to every target of the idle color, and what its answer must be."""

    path: str = Field(pattern="^/")
    name: str | None = None
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | None = None
    status: int = Field(200, ge=100, le=599)
    expect_headers: dict[str, str] = Field(default_factory=dict, description="header -> regular expression")
    json_equals: dict[str, Any] = Field(default_factory=dict, description="JMESPath -> value", alias="json")
    contains: str | None = Field(None, description="regular expression that the body must hold")
    max_latency: Duration = Field(timedelta(seconds=5))

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class InsideTest(Section):
    """A test that runs where the idle color runs; it is passed when it ends well."""

    name: str | None = None
    timeout: Duration = Field(timedelta(minutes=5))


class ExecTest(InsideTest):
    """A command in a pod of the idle color; it must end with 0."""

    exec: Argv = Field(description="program and arguments; no shell", examples=[["/app/smoke-tests.sh"]])
    container: str | None = Field(None, min_length=1, description="by default the pod's first one")
    pods: Literal["one", "all"] = Field("one", description="in one ready pod, or in each")


class JobTest(InsideTest):
    """A Job of Kubernetes; it must complete. $COLOR, $SERVICE and $VERSION are replaced in its manifest."""

    job: Path = Field(description="YAML file of the Job, on the Airflow workers")


_KINDS: dict[str, type[Section]] = {"exec": ExecTest, "job": JobTest}


def _kind_of(given: Any) -> str:
    if isinstance(given, BaseModel):
        return f"[{type(given).__name__}]"
    named = [kind for key, kind in _KINDS.items() if isinstance(given, dict) and key in given]
    return f"[{(named[0] if named else SmokeTest).__name__}]"


Smoke = Annotated[
    Annotated[SmokeTest, Tag("[SmokeTest]")]
    | Annotated[ExecTest, Tag("[ExecTest]")]
    | Annotated[JobTest, Tag("[JobTest]")],
    Discriminator(_kind_of),
]
"""Told apart by their own key: ``path``, ``exec`` or ``job``."""
