"""One request and what its answer must be: what smoke tests are made of, and the use of a session."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from pydantic import ConfigDict, Field

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
