"""What the use cases ask of the world. Small protocols; a further power is asked for with ``isinstance``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from bluegreen.core.colors import Color, Split
from bluegreen.core.evidence import NodeCounters, Proof
from bluegreen.core.reading import Health, Reading
from bluegreen.core.stamp import Expected, Stamp


@dataclass(frozen=True)
class Limits:
    """
    What a router cannot do.

    :param finest_step: the smallest share in per cent that it can make
    :param cas: whether compare-and-set holds against any writer, or only in the usual case
    :param renew: whether a lease may be renewed every few seconds
    :param follow_within: longest time until every client follows a shift
    :param arrives_within: how long new requests may still go the old way after a write, where nothing says when they
        do not; a proof that fails is tried again meanwhile
    :param sticky: clients are kept on a color, so that shares cannot be proven by fresh requests
    :param share_by: ``pods``: a share is made of a color's servers, which it has fewer of until the full switch
    """

    finest_step: int = 1
    cas: Literal["atomic", "best-effort"] = "atomic"
    renew: bool = True
    follow_within: timedelta = timedelta()
    arrives_within: timedelta = timedelta()
    sticky: bool = False
    share_by: Literal["weight", "pods"] = "weight"


@dataclass(frozen=True)
class Finding:
    """
    Something that ``check`` found.

    :param code: stable short name, ``exact-match-map``
    :param level: ``error`` means that a release would not do what it says
    :param where: node and place
    :param fact: what was found
    :param mend: what to write instead
    """

    code: str
    level: Literal["error", "warning"]
    where: str
    fact: str
    mend: str


class Router(Protocol):
    """What decides the split: one object, maybe many nodes (design, section 5)."""

    limits: Limits

    def read(self) -> Reading:
        """Ask every node; a node that does not answer stands in the reading with its error."""
        ...

    def shift(self, to: Split, expected: Expected | None, stamp: Stamp) -> Reading:
        """
        Write a split and its stamp, live and durable on every node.

        A forward stamp needs every node and moves all or none. A way-back stamp (restored, stranded) takes
        each node that it reaches.

        :param expected: (epoch, release) that must be there; None for a service without a stamp
        :raises RouterUnreachable: a node (forward) or every node (way back) does not answer
        :raises TrafficConflict: another (epoch, release) is there
        :raises RouterRefused: the node cannot take it
        :raises NotSettled: written, but not in force
        """
        ...

    def check(self) -> Sequence[Finding]:
        """Find what in the configuration would keep a shift from doing what it says."""
        ...


@runtime_checkable
class Renews(Protocol):
    """A router whose leases can be renewed."""

    limits: Limits

    def renew(self, identity: Expected, lease: datetime) -> Reading:
        """
        Keep the later lease on every node that bears ``identity``; the epoch stays.

        :raises TrafficConflict: no node bears it any more
        """
        ...


@runtime_checkable
class CatchesUp(Protocol):
    """A router whose nodes can be gone while it is written, and come back."""

    def catch_up(self) -> Reading:
        """Bring nodes that lag behind a claimed or final truth up to it; a transitional truth is left alone."""
        ...


@runtime_checkable
class Foresees(Protocol):
    """A router that knows before anything is done whether it will be able to make a split."""

    def foresee(self, to: Split) -> None:
        """
        Look whether a split can be made once the new color has as many servers as the live one.

        :raises UnsupportedSplit: it cannot
        """
        ...


@runtime_checkable
class TellsCalls(Protocol):
    """A router or deployer over somebody else's API, which has other clients, too."""

    @property
    def calls(self) -> Mapping[str, int]:
        """How often each verb was asked for, since it was made."""
        ...


@runtime_checkable
class Counts(Protocol):
    """A router that counts requests by color."""

    async def counters(self) -> NodeCounters:
        """Cumulative counts of every node that answers."""
        ...


@runtime_checkable
class KeepsConnections(Protocol):
    """A router that moves no connection that is open: its requests go where they went, also after a switch."""

    def connections(self, color: Color) -> int | None:
        """
        Count what clients have open to a color, over all nodes.

        :returns: None where the service file does not say how to count
        :raises BlueGreenError: a node does not tell
        """
        ...


@runtime_checkable
class Readies(Protocol):
    """A router whose servers can be taken out and put back."""

    def make_ready(self, color: Color) -> None:
        """Put servers that were drained or in maintenance back on each node that is reached."""
        ...


@dataclass(frozen=True)
class Deployed:
    """
    What runs on a color.

    :param version: the version that every ready target reports, or None when they differ or say nothing
    :param ready: targets that pass their health check
    :param total: targets in the catalog
    """

    version: str | None
    ready: int
    total: int

    @property
    def health(self) -> Health:
        """The same as servers ready of total."""
        return Health(self.ready, self.total)


class Deployer(Protocol):
    """What brings a version onto a color (design, section 5). Every call is idempotent."""

    def deploy(self, color: Color, version: str, epoch: int, release: str) -> Deployed:
        """
        Bring a version onto a color and wait until it is healthy.

        :raises DeployFenced: a higher epoch than ``epoch`` has the target
        :raises DeployError: it did not come up
        """
        ...

    def status(self, color: Color) -> Deployed:
        """Ask the targets."""
        ...

    def diagnose(self, color: Color) -> str:
        """Return what a person wants to see first when the color is broken."""
        ...

    def retire(self, color: Color, epoch: int) -> None:
        """
        Stop what runs on a color.

        :raises DeployFenced: a higher epoch than ``epoch`` has the target
        """
        ...


@runtime_checkable
class RunsRoles(Protocol):
    """
    A deployer of parts that run on one color only, such as workers and cron jobs.

    They begin on a color when the traffic is whole on it, and end on the other one before: two consumers would eat one
    queue, and one of them is of a version that is not live.
    """

    def run_roles(self, color: Color, epoch: int, release: str, versions: Mapping[Color, str]) -> None:
        """
        Let every role run on a color and not on the other: stopped there first, then started here. Idempotent.

        A role that does not stop is not started. One role's failure keeps no other from its color.

        :param epoch: of the write that gave the color its traffic; it fences both colors
        :param release: that write's release
        :param versions: version on each color, where it is known
        :raises DeployFenced: a higher epoch than ``epoch`` has a role, or somebody is moving it at this moment
        :raises DeployError: a role did not stop or start
        """
        ...

    def roles(self) -> Mapping[str, Color | None]:
        """
        Return the color that each role was brought to; None for one that was left half-way.

        Cheap, as the guard asks at each look. A role that nobody has ever moved, or that somebody is moving at this
        moment, is absent.

        :raises DeployError: what was noted cannot be read
        """
        ...


@dataclass(frozen=True)
class Ran:
    """
    How something that ran where a color runs has ended.

    :param where: a pod, a Job
    :param failure: why it is no success, empty where it is one
    :param ms: how long it took
    """

    where: str
    failure: str
    ms: float


@runtime_checkable
class RunsInside(Protocol):
    """A deployer that can run something where a color runs: a command in its pods, a Job beside them."""

    def run_command(
        self, color: Color, argv: Sequence[str], within: timedelta, *, container: str | None = None, each: bool = False
    ) -> Sequence[Ran]:
        """
        Run a command in a ready pod of a color.

        :param container: None for the first one
        :param each: in every ready pod
        :raises DeployError: there is no ready pod, or it cannot be told
        """
        ...

    def run_job(self, color: Color, version: str, file: Path, within: timedelta) -> Ran:
        """
        Run a Job to its end; one that failed is left for people to look at.

        :raises DeployError: it cannot be made
        """
        ...


class Prover(Protocol):
    """Requests through the entry."""

    def __call__(self, split: Split) -> Proof:
        """Send them, and hold the answers against the split."""
        ...


@dataclass(frozen=True)
class Credentials:
    """
    One connection: secrets, and where they are for. Never printed.

    :param login: user name
    :param password: password or token
    :param host: name or address; empty where the service file says it
    :param port: TCP port, or None
    :param extra: the connection type's own fields, such as ``private_key`` of ``ssh``
    """

    login: str = ""
    password: str = ""
    host: str = ""
    port: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return "Credentials(***)"


class Secrets(Protocol):
    """Where credentials come from: Airflow's connections, or the environment."""

    def __call__(self, connection_id: str) -> Credentials:
        """
        Return the credentials of a connection.

        :raises SecretMissing: there is none
        :raises SecretPending: it is on its way; only to who asks on the loop of a triggerer
        """
        ...
