"""What a service file may say of how a version gets onto a color: one model a kind of deployer."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from bluegreen.catalog.durations import Duration
from bluegreen.catalog.section import ConnectionId, Section, SshLogin, Url
from bluegreen.core.colors import Color

ROLE_NAME = r"^[a-z][a-z0-9_]{0,40}$"
"""No ``-``: it parts service and role in a fence file's name."""
SSH_ADDRESS = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[1-9]\d{0,4})?$"
SshAddress = Annotated[str, Field(pattern=SSH_ADDRESS, examples=["10.0.1.11"])]
RoleName = Annotated[str, Field(pattern=ROLE_NAME, examples=["worker", "cron"])]
Argv = Annotated[tuple[str, ...], Field(min_length=1)]
RoleKind = TypeVar("RoleKind")


def no_web(roles: dict[str, RoleKind]) -> dict[str, RoleKind]:
    """
    Return roles, of any kind of deployer, among which what serves has no place.

    :raises ValueError: it has
    """
    if "web" in roles:
        raise ValueError("web serves on both colors and starts at deploy, so it is no role here: leave it out")
    return roles


class Role(Section):
    """A part that runs on one color only: a worker, a cron job. COLOR, ROLE and VERSION are in the environment."""

    start: Argv = Field(description="starts it on COLOR, after the full switch")
    stop: Argv = Field(description="stops it on COLOR, and returns when it has ended")
    timeout: Duration = Field(timedelta(minutes=1), description="for each of the two")


class DeployCommands(Section):
    """What every deployer that runs commands has."""

    retire: Argv | None = Field(None, description="stops what runs on COLOR")
    diagnose: Argv | None = Field(None, description="prints what a person wants to see first")
    cwd: Path | None = None
    timeout: Duration = Field(timedelta(minutes=10), description="for each command")
    ready_within: Duration = Field(timedelta(minutes=2), description="from the command's end to healthy targets")
    fence: Path | None = Field(None, description="folder of the fence files; by default beside the user's state")
    roles: dict[RoleName, Role] = Field(default_factory=dict, description="parts that must run on one color only")
    secrets: dict[str, ConnectionId] = Field(
        default_factory=dict, description="environment variable -> connection whose password it gets"
    )

    @field_validator("roles")
    @classmethod
    def _no_web(cls, roles: dict[str, Role]) -> dict[str, Role]:
        return no_web(roles)


class CommandDeploy(DeployCommands):
    """A local command with COLOR, VERSION, SERVICE, EPOCH, RELEASE and TARGETS in its environment."""

    type: Literal["command"]
    command: Argv = Field(description="program and arguments; no shell")


class Upload(Section):
    """A file or folder that each host gets, whole or not at all."""

    source: str = Field(min_length=1, alias="from", description="file or folder on the Airflow workers")
    to: str = Field(pattern="^(/|~/)", description="its path there; missing folders above it are made")
    mode: str | None = Field(None, pattern="^0?[0-7]{3}$", description="like 0640; by default that of `from`")

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class SshDeploy(DeployCommands, SshLogin):
    """
    Uploads and commands on the hosts of a color, in this order: upload, commands, restart.

    Commands have what a local one has in their environment, and HOST. In paths and arguments $COLOR, $HOST, $SERVICE
    and $VERSION are replaced.
    """

    type: Literal["ssh"]
    hosts: dict[Color, tuple[SshAddress, ...]] = Field(description="the hosts of each color: name, or name:port")
    targets: dict[str, tuple[Url, ...]] = Field(
        default_factory=dict, description="host -> its targets, where their URLs do not name it"
    )
    upload: tuple[Upload, ...] = ()
    commands: tuple[Argv, ...] = Field((), description="run one after the other on each host; no shell")
    restart: Argv | None = Field(None, description="takes the version into service on a host")
    order: Literal["parallel", "rolling"] = Field(
        "parallel", description="rolling: host by host, each healthy before the next; the first failure ends it"
    )
    max_parallel: int = Field(10, ge=1, le=100, description="hosts at the same time")

    @field_validator("hosts")
    @classmethod
    def _hosts_of_both_colors(cls, hosts: dict[Color, tuple[str, ...]]) -> dict[Color, tuple[str, ...]]:
        for color in Color:
            named = hosts.get(color, ())
            if not named or len(set(named)) != len(named):
                raise ValueError(
                    f"{color} needs at least one host, each named once, found {', '.join(named) or 'none'}"
                )
            if odd := [host for host in named if int(host.rpartition("]")[2].partition(":")[2] or 22) > 65535]:
                raise ValueError(f"found {', '.join(odd)}, a port is 65535 at most")
        return hosts

    @model_validator(mode="after")
    def _has_work(self) -> Self:
        if not (self.upload or self.commands or self.restart):
            raise ValueError("nothing is deployed: give upload, commands or restart")
        known = {host for hosts in self.hosts.values() for host in hosts}
        if unknown := sorted(set(self.targets) - known):
            raise ValueError(f"targets names {', '.join(unknown)}, allowed are the hosts {', '.join(sorted(known))}")
        return self

    def targets_of(self, host: str, targets: tuple[str, ...]) -> tuple[str, ...]:
        """Return which of a color's targets a host serves."""
        named = self.targets.get(host)
        if named is not None:
            return tuple(target for target in targets if target in named)
        return tuple(target for target in targets if urlsplit(target).hostname == urlsplit(f"//{host}").hostname)

    def unmatched(self, color: Color, targets: tuple[str, ...]) -> list[str]:
        """Return the hosts without a target and the targets without one host of their own."""
        of = {host: self.targets_of(host, targets) for host in self.hosts[color]}
        served = [target for found in of.values() for target in found]
        return [host for host, found in of.items() if not found] + [t for t in targets if served.count(t) != 1]
