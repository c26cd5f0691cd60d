"""What a service file may say of its users' sessions, and of state that lives in the service itself."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

import jmespath
from pydantic import Field, field_validator, model_validator

from bluegreen.catalog.deploys import Argv
from bluegreen.catalog.durations import Duration
from bluegreen.catalog.section import ConnectionId, Section
from bluegreen.catalog.smoke_tests import SmokeTest

LOGIN, PASSWORD, TOKEN = "$login", "$password", "$token"
_WRITTEN_OUT = re.compile(r"""(?i)pass(?:word|wd)?["']?\s*[:=]\s*["']?(?!\$password)[^\s"'&,}]""")


class SessionBearer(Section):
    """A session that a header carries instead of cookies."""

    find: str = Field(min_length=1, description="JMESPath of the token in the answer's JSON", examples=["access_token"])
    header: str = Field(
        "Authorization", pattern=r"^[A-Za-z0-9-]+$", description="it is sent back in", examples=["Authorization"]
    )
    value: str = Field(f"Bearer {TOKEN}", description=f"of that header; {TOKEN} is filled in")

    @field_validator("find")
    @classmethod
    def _is_jmespath(cls, find: str) -> str:
        try:
            jmespath.compile(find)
        except jmespath.exceptions.JMESPathError:
            raise ValueError("wanted a JMESPath, like access_token") from None
        return find

    @field_validator("value")
    @classmethod
    def _holds_the_token(cls, value: str) -> str:
        if TOKEN not in value:
            raise ValueError(f"does not say {TOKEN}: no session would be sent")
        return value


class CreateSession(Section):
    """A request that makes a session: a login, a cart. Its answer's cookies carry it, or a token."""

    path: str = Field(pattern="^/")
    method: Literal["GET", "POST", "PUT"] = "POST"
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | None = Field(
        None,
        description=f"{LOGIN} and {PASSWORD} are the connection's, written as the Content-Type wants it (JSON, form)",
        examples=[f'{{"user": "{LOGIN}", "password": "{PASSWORD}"}}'],
    )
    status: int = Field(200, ge=100, le=599)
    connection: ConnectionId | None = Field(None, description="whose login and password the body has")
    bearer: SessionBearer | None = Field(
        None, description="a token of the answer carries the session; without it its cookies do"
    )
    timeout: Duration = Field(timedelta(seconds=5), description="for the request")

    @model_validator(mode="after")
    def _login_is_a_connection(self) -> Self:
        if _WRITTEN_OUT.search(self.body or ""):
            raise ValueError(f"a password stands in the body; write {PASSWORD}, and give connection")
        wants = any(place in (self.body or "") for place in (LOGIN, PASSWORD))
        if wants and self.connection is None:
            raise ValueError(f"the body says {LOGIN} or {PASSWORD}: give connection, whose they are")
        if self.connection is not None and not wants:
            raise ValueError(f"connection is given, but the body says neither {LOGIN} nor {PASSWORD}")
        return self


class Sessions(Section):
    """A session that one color made must be good on the other one: tried before traffic moves, and at the first shift."""

    create: CreateSession
    use: SmokeTest = Field(description="what only somebody with the session is answered")
    lost: Literal["refuse", "allow"] = Field("refuse", description="what becomes of a release that loses sessions")
    reason: str = Field("", description="why they may be lost; stands in the report")

    @model_validator(mode="after")
    def _somebody_answers_for_it(self) -> Self:
        if self.lost == "allow" and not self.reason.strip():
            raise ValueError("lost: allow has no reason; give reason: it stands in the report")
        return self


class Stateless(Section):
    """The service keeps nothing in itself that its users would miss."""

    type: Literal["stateless"]
    reason: str = Field(min_length=10, description="where the state is instead", examples=["sessions are in Redis"])


class StateTransfer(Section):
    """
    Commands that bring state from one color to the other: COLOR is where to, FROM where from.

    They have what a deploy's command has in their environment, and FROM and FROM_TARGETS; no shell. Each may be run twice.
    """

    type: Literal["transfer"]
    transfer: Argv = Field(description="brings the live color's state to the idle one, before it gets traffic")
    check: Argv = Field(description="ends with 0 only where COLOR has what FROM has")
    reverse: Argv = Field(
        description="brings back what came since, after the traffic went back; also after a transfer that broke off"
    )
    cwd: Path | None = None
    timeout: Duration = Field(timedelta(minutes=10), description="for each command")
    secrets: dict[str, ConnectionId] = Field(
        default_factory=dict, description="environment variable -> connection whose password it gets"
    )


State = Annotated[Stateless | StateTransfer, Field(discriminator="type")]
