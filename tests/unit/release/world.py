"""A service in memory for the tests of the use cases: nodes, a clock, and targets that say what they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import DeployError, DeployFenced
from bluegreen.core.evidence import Proof
from bluegreen.core.ports import Deployed
from bluegreen.core.reading import Health
from bluegreen.release.adopt import adopt
from bluegreen.release.plan import Plan, Request, plan
from bluegreen.release.ports import Ports
from tests.rigs.memory import MemoryNode, MemoryRouter, memory_nodes

SERVICE = Service.model_validate(
    {
        "service": "shop",
        "entry": {"url": "http://shop.test"},
        "router": {
            "type": "haproxy",
            "backends": {"blue": "shop-blue", "green": "shop-green"},
            "nodes": [{"name": "one", "socket": "/one", "map": "/one.map", "entry": "127.0.0.1:1"}],
        },
        "colors": {"blue": {"targets": ["http://127.0.0.1:2"]}, "green": {"targets": ["http://127.0.0.1:3"]}},
        "deploy": {"type": "command", "command": ["true"]},
        "release": {
            "extend": "0s",
            "approvals": {"unknown": None},
            "canary": [{"share": 10, "watch": "5s"}],
            "watch": "5s",
            "interval": "20ms",
            "restore_within": "1s",
        },
    }
)


@dataclass(frozen=True)
class Note:
    """What the fence of the world's only role holds: who moved it last, and where to; None: it was left half-way."""

    epoch: int
    color: Color | None = None


@dataclass
class MemoryDeployer:
    """Says of each color what the world says; has one role, a worker."""

    world: World

    def deploy(self, color: Color, version: str, epoch: int, release: str) -> Deployed:
        self.world.runs[color] = version
        self.world.serve(color, ready=2)
        return self.status(color)

    def status(self, color: Color) -> Deployed:
        health = self.world.nodes[0].health[color]
        return Deployed(self.world.runs[color], health.ready, health.total)

    def diagnose(self, color: Color) -> str:
        return f"{color} as seen in a test"

    def retire(self, color: Color, epoch: int) -> None:
        if self.world.retire_breaks:
            raise self.world.retire_breaks
        self.world.serve(color, ready=0)
        self.world.runs[color] = ""

    def run_roles(self, color: Color, epoch: int, release: str, versions: Mapping[Color, str]) -> None:
        world = self.world
        if world.on_roles:
            world.on_roles()
        before = world.note
        if before and before.epoch > epoch:
            raise DeployFenced(f"fence has epoch {before.epoch}, found {epoch}", part="worker")
        world.note = Note(epoch)
        if before is None or before.color is not color:
            world.break_role("stop", color.other)
            world.workers.discard(color.other)
            world.break_role("start", color)
            world.workers.add(color)
            world.moved.append((color, versions.get(color)))
        world.note = Note(epoch, color)

    def roles(self) -> dict[str, Color | None]:
        return {"worker": self.world.note.color} if self.world.note else {}


@dataclass
class World:
    """Everything outside the use cases."""

    nodes: tuple[MemoryNode, ...] = field(default_factory=lambda: memory_nodes("one", "two", "three"))
    runs: dict[Color, str] = field(default_factory=lambda: {Color.BLUE: "1", Color.GREEN: "0"})
    time: datetime = datetime(2026, 11, 23, 12, tzinfo=UTC)
    said: list[str] = field(default_factory=list)
    workers: set[Color] = field(default_factory=lambda: {Color.BLUE})
    moved: list[tuple[Color, str | None]] = field(default_factory=list)
    note: Note | None = None
    on_roles: Callable[[], None] | None = None
    role_breaks: tuple[str, BaseException] | None = None
    retire_breaks: DeployError | None = None
    release: Plan = field(init=False, repr=False, compare=False)

    def break_role(self, verb: str, color: Color) -> None:
        """Let the next stop or start fail once, or kill its caller, where a test says so."""
        if self.role_breaks and self.role_breaks[0] == verb:
            (_, error), self.role_breaks = self.role_breaks, None
            raise error

    def ports(self, service: Service = SERVICE) -> Ports:
        return Ports(
            service=service,
            router=MemoryRouter("shop", self.nodes),
            deployer=MemoryDeployer(self),
            prove=self.prove,
            log=self.said.append,
            now=lambda: self.time,
            sleep=self.wait,
            clock=lambda: self.time.timestamp(),  # noqa: PLW0108 - the time is another object after each wait
        )

    def wait(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    def prove(self, split: Split) -> Proof:
        seen = {node.name: str(node.split) for node in self.nodes if node.reachable}
        return Proof(str(split), all(s == str(split) for s in seen.values()), f"the nodes route by {seen}")

    def serve(self, color: Color, ready: int) -> None:
        for node in self.nodes:
            node.health[color] = Health(ready, 2)

    def splits(self) -> set[str]:
        return {str(node.split) for node in self.nodes}


def claimed() -> World:
    """A world that a release has claimed, with its version on green."""
    made = World()
    adopt(made.ports(), "tests", "begin", "1")
    made.release = plan(made.ports(), request())
    made.runs[Color.GREEN] = "2"
    return made


def request(run: str = "run-1", version: str = "2", **more: object) -> Request:
    return Request(run=run, version=version, by="tests", **more)  # type: ignore[arg-type]
