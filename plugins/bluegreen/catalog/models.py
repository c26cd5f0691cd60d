"""
What a service file may say, as frozen models. Unknown keys are refused.

A new kind of router is one model here (of Kubernetes in ``kube.py``, of a deployer in ``deploys.py``, of evidence or rule
in ``evidence.py``), in the union beside its siblings, one module in its room and a line in that room's registry.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from bluegreen.catalog.alerts import Notify
from bluegreen.catalog.approvals import Approvals
from bluegreen.catalog.deploys import CommandDeploy, SshDeploy
from bluegreen.catalog.durations import Duration
from bluegreen.catalog.evidence import Evidence, Rule, SequentialRule, ThresholdRule, check_rules
from bluegreen.catalog.kube import GatewayApiRouter, IstioRouter, KubeSection, KubeServiceRouter
from bluegreen.catalog.kube_deploys import HelmDeploy, KubeColors, KubeDeploy
from bluegreen.catalog.migrations import Migrations
from bluegreen.catalog.section import WAY_BACK, ConnectionId, HostPort, Section, SshLogin, Url
from bluegreen.catalog.sessions import Sessions, State
from bluegreen.catalog.smoke_tests import InsideTest, Smoke
from bluegreen.catalog.sources import Sources
from bluegreen.core.colors import Color
from bluegreen.core.ports import Credentials, Secrets

SERVICE_NAME = r"^[a-z][a-z0-9-]{0,40}$"


def _seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


class Entry(Section):
    """The address that users reach the service by, through the router."""

    url: Url = Field(description="as users write it; its name is sent as Host and SNI to each node")
    color_header: str = Field("X-Release-Color", description="response header that says which color answered")
    path: str = Field(
        "/", pattern="^/", description="path that proof requests ask for; must be cheap and need no login"
    )
    ca_file: Path | None = Field(None, description="own certificate authority for https")
    connection: ConnectionId | None = Field(None, description="login of proof and smoke requests (HTTP basic)")

    def credentials(self, secrets: Secrets) -> Credentials | None:
        """
        Return the login of proof and smoke requests; None where they need none.

        :raises SecretMissing: its connection is not there
        """
        return secrets(self.connection) if self.connection else None


class Ssh(SshLogin):
    """A host that is reached over SSH; its key must be known."""

    host: str = Field(
        pattern=r"^[A-Za-z0-9_:][A-Za-z0-9_.:%-]*$", description="name or address; the connection's own is not used"
    )
    port: int = Field(22, ge=1, le=65535)


class HAProxyNode(Section):
    """One HAProxy process that carries the service."""

    name: str = Field(min_length=1, description="how logs and reports call it")
    socket: str = Field(
        description="stats socket at level admin: a path on this host, or host:port",
        examples=["/run/haproxy/admin.sock", "10.0.0.5:9999"],
    )
    map: Path = Field(description="the service's map file as haproxy.cfg names it")
    file: Path | None = Field(None, description="the same file as seen from here, where it is mounted elsewhere")
    config: Path | None = Field(
        None,
        description="haproxy.cfg on that host; `check` and `lines` read it",
        examples=["/etc/haproxy/haproxy.cfg"],
    )
    entry: HostPort = Field(description="where proof requests reach this node")
    ssh: Ssh | None = Field(None, description="where HAProxy runs; socket and map are then as seen on that host")

    @field_validator("ssh")
    @classmethod
    def _one_way_to_the_file(cls, ssh: Ssh | None, info: ValidationInfo) -> Ssh | None:
        if ssh and info.data.get("file"):
            raise ValueError("with ssh the map file is written on that host: take `file` out")
        return ssh


class NginxNode(Section):
    """One nginx process that carries the service; asked and written on its own host."""

    name: str = Field(min_length=1, description="how logs and reports call it")
    include: Path = Field(
        description="the service's file that nginx.conf includes in http { }; all services of one nginx in one folder"
    )
    status: Url = Field(
        description="location that answers what a worker runs by; on a loopback port of its own",
        examples=["http://127.0.0.1:9145/shop"],
    )
    log: Path = Field(description="access log of the service's requests by color, which the counters come from")
    entry: HostPort = Field(description="where proof requests reach this node")
    command: tuple[str, ...] = Field(
        ("nginx",),
        min_length=1,
        description="how nginx is called there, with options such as -c and -p; no shell",
        examples=[["sudo", "-n", "/usr/sbin/nginx"]],
    )
    reload: tuple[str, ...] | None = Field(
        None,
        description="program and arguments that reload it; by default the command with -s reload",
        examples=[["systemctl", "reload", "nginx"]],
    )
    config: Path | None = Field(
        None, description="nginx.conf on that host; `lines` reads it", examples=["/etc/nginx/nginx.conf"]
    )
    ssh: Ssh | None = Field(None, description="where nginx runs; paths and the status location are then as there")


class Sticky(Section):
    """What keeps a client on its color while green's share grows."""

    cookie: str = Field(
        pattern=r"^[A-Za-z0-9_]+$", description="cookie whose value is the client; one without it is drawn each time"
    )


def _names_differ(nodes: tuple[Any, ...]) -> tuple[Any, ...]:
    if len({node.name for node in nodes}) != len(nodes):
        raise ValueError("node names must differ")
    return nodes


def _both_colors_differ(backends: dict[Color, str]) -> dict[Color, str]:
    if set(backends) != set(Color):
        raise ValueError("backends needs both colors, blue and green")
    if len(set(backends.values())) != 2:
        raise ValueError("blue and green need backends of their own")
    return backends


class HAProxyRouter(Section):
    """HAProxy 2.6 or later: one map file a service, swapped at run time and on disk."""

    client_cookie: ClassVar[str | None] = None

    type: Literal["haproxy"]
    nodes: Annotated[tuple[HAProxyNode, ...], AfterValidator(_names_differ)] = Field(
        min_length=1, description="written in this order"
    )
    backends: Annotated[dict[Color, str], AfterValidator(_both_colors_differ)] = Field(
        description="the backend of each color in haproxy.cfg"
    )


class NginxRouter(Section):
    """Open-source nginx: one include file a service, tested and reloaded; without loss from 1.27.4 on."""

    type: Literal["nginx"]
    nodes: Annotated[tuple[NginxNode, ...], AfterValidator(_names_differ)] = Field(
        min_length=1, description="written in this order"
    )
    backends: Annotated[
        dict[Color, Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]], AfterValidator(_both_colors_differ)
    ] = Field(description="the upstream of each color in nginx.conf")
    sticky: Sticky | None = Field(None, description="without it each request is drawn by itself")

    @property
    def client_cookie(self) -> str | None:
        """The cookie that keeps a client on its color; None where each request is drawn by itself."""
        return self.sticky.cookie if self.sticky else None


Router = Annotated[
    HAProxyRouter | NginxRouter | KubeServiceRouter | IstioRouter | GatewayApiRouter, Field(discriminator="type")
]


class Health(Section):
    """How a target says that it is well, and which version it is."""

    path: str = Field("/health", pattern="^/")
    status: int = Field(200, ge=100, le=599)
    version: str | None = Field(
        "version", description="JMESPath of the version in the JSON answer; null when it says none"
    )
    timeout: Duration = Field(_seconds(2))


Deploy = Annotated[CommandDeploy | SshDeploy | KubeDeploy | HelmDeploy, Field(discriminator="type")]


class Prewarm(Section):
    """Requests to the idle color before it gets traffic."""

    paths: tuple[str, ...] = Field(min_length=1)
    requests: int = Field(100, ge=1, le=100_000, description="a path, over all targets")
    concurrency: int = Field(10, ge=1, le=1000)
    timeout: Duration = Field(_seconds(10), description="for one request")
    max_failures: int = Field(0, ge=0, description="5xx answers and broken requests that are still taken")


class CanaryStep(Section):
    """A share of the traffic for the new color, and how long it is watched."""

    share: int = Field(10, ge=1, le=99, description="per cent")
    watch: Duration = Field(timedelta(minutes=5))


class Release(Section):
    """How a release of the service goes."""

    canary: tuple[CanaryStep, ...] = Field((CanaryStep(),), description="growing shares; empty for none")
    watch: Duration = Field(timedelta(minutes=5), description="after the full switch")
    rules: tuple[Rule, ...] = Field(
        (SequentialRule(type="sequential"), ThresholdRule(type="threshold", metric="error_rate", max=5)),
        min_length=1,
        description="what every watch holds",
    )
    false_alarms: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="share of good versions that the sequential rules of one watch may put back, all together",
    )
    warm_up: Duration = Field(_seconds(0), description="after a shift: what is counted then is no evidence")
    extend: Duration = Field(
        timedelta(minutes=5), description="how much longer a watch goes on that has too little evidence at its end"
    )
    interval: Duration = Field(_seconds(1), ge=_seconds(0.01), description="between two samples of a watch")
    lease: Duration = Field(
        _seconds(60), ge=_seconds(1), description="how long traffic may stay at risk without a living owner"
    )
    restore_within: Duration = Field(_seconds(10), description="how long a restore tries nodes that do not answer")
    drain: Duration = Field(_seconds(30), description="how long finish waits for requests in flight on the old color")
    approvals: Approvals = Approvals()
    concurrent: Literal["queue", "refuse", "supersede"] = Field(
        "queue", description="a second release waits, is refused, or takes over while the first has moved no traffic"
    )
    keep_old: Annotated[Duration, Field(le=timedelta(days=3650))] | None = Field(
        timedelta(hours=24),
        description="how long the old color is kept after the release, for rollback__; then retire__ ends it. "
        "null: until somebody starts retire__",
    )
    deadline: Annotated[Duration, Field(ge=_seconds(1))] | None = Field(
        None,
        description="how long a run may take, from when it was asked for, until people are told; Airflow looks at it",
    )
    min_healthy: int = Field(1, ge=1, description="healthy servers that the new color has before the full switch")

    @field_validator("canary")
    @classmethod
    def _shares_grow(cls, canary: tuple[CanaryStep, ...]) -> tuple[CanaryStep, ...]:
        shares = [step.share for step in canary]
        if shares != sorted(set(shares)):
            raise ValueError(f"canary shares must grow, found {shares}")
        return canary


class ColorTargets(Section):
    """Where a color's servers are reached directly, past the router."""

    targets: tuple[Url, ...] = Field(min_length=1)


class Service(Section):
    """One service: the whole of ``include/services/<service>.yaml``."""

    service: str = Field(pattern=SERVICE_NAME, description="name; its DAG is release__<service>")
    description: str = ""
    owner: str = "release-engineering"
    tags: tuple[str, ...] = ()
    entry: Entry
    router: Router
    colors: dict[Color, ColorTargets]
    health: Health = Health()
    deploy: Deploy
    prewarm: Prewarm | None = None
    smoke: tuple[Smoke, ...] = Field((), description="tests of the new color before it gets traffic")
    sessions: Sessions | None = None
    state: State | None = None
    evidence: Evidence | None = None
    migrations: Migrations | None = None
    sources: Sources = Field((), description="who else counts requests and errors by color")
    release: Release = Field(Release(), validate_default=True)
    notify: Notify = Notify()

    @field_validator("colors")
    @classmethod
    def _both_colors(cls, colors: dict[Color, ColorTargets]) -> dict[Color, ColorTargets]:
        if set(colors) != set(Color):
            raise ValueError("colors needs both, blue and green")
        shared = set(colors[Color.BLUE].targets) & set(colors[Color.GREEN].targets)
        if shared:
            raise ValueError(f"a target belongs to one color only, found {', '.join(sorted(shared))} in both")
        return colors

    @field_validator("deploy")
    @classmethod
    def _rolling_is_matched(cls, deploy: Deploy, info: ValidationInfo) -> Deploy:
        colors: dict[Color, ColorTargets] = info.data.get("colors", {})
        if not isinstance(deploy, SshDeploy) or deploy.order != "rolling":
            return deploy
        for color, found in colors.items():
            if odd := deploy.unmatched(color, found.targets):
                raise ValueError(
                    f"rolling waits for the targets of each host, and of {color} these have no match or several: "
                    f"{', '.join(odd)}; give deploy.targets, or order: parallel"
                )
        return deploy

    @field_validator("smoke")
    @classmethod
    def _somebody_runs_it(cls, smoke: tuple[Smoke, ...], others: ValidationInfo) -> tuple[Smoke, ...]:
        inside = [test for test in smoke if isinstance(test, InsideTest)]
        if inside and "deploy" in others.data and not isinstance(others.data["deploy"], KubeColors):
            raise ValueError(f"exec and job need deploy.type kubernetes or helm, found {others.data['deploy'].type}")
        return smoke

    @field_validator("release")
    @classmethod
    def _rules_have_evidence(cls, release: Release, others: ValidationInfo) -> Release:
        if "evidence" in others.data and "sources" in others.data:  # else they are wrong themselves, which is told
            check_rules(release.rules, others.data["evidence"], [source.name for source in others.data["sources"]])
        return release

    @field_validator("release")
    @classmethod
    def _settles_within_the_lease(cls, release: Release, info: ValidationInfo) -> Release:
        router = info.data.get("router")
        if isinstance(router, KubeSection) and info.context != WAY_BACK:  # which has no lease
            router.need_lease(release.lease)
        return release

    @field_validator("release")
    @classmethod
    def _enough_targets(cls, release: Release, info: ValidationInfo) -> Release:
        if isinstance(info.data.get("deploy"), KubeColors):
            return release  # one target is a Service, and has any number of pods
        targets = min((len(color.targets) for color in info.data.get("colors", {}).values()), default=None)
        if targets is not None and release.min_healthy > targets:
            raise ValueError(f"min_healthy is {release.min_healthy}, but a color has {targets} targets only")
        return release

    def frozen(self) -> dict[str, Any]:
        """JSON from which ``Service.model_validate`` makes the same service again: what a release holds on to."""
        return self.model_dump(mode="json")
