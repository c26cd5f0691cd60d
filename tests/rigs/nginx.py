"""Two real nginx nodes before two colors of two servers each, on loopback."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.routers.nginx import NginxRouter
from bluegreen.routers.nodes import NodesRouter
from demo.haproxy import StaticBackends
from demo.nginx import NginxNode, nginx_binary
from demo.processes import free_ports, wait_until
from tests.rigs.far_hosts import FarHosts
from tests.rigs.rig import Hook, hooked, killed_at, raced
from tests.rigs.traffic import fresh_request

DEBIAN = "/usr/sbin/nginx"
SERVICE = "shop"


def service_of(
    nodes: list[NginxNode], servers: Mapping[str, list[str]], far: Sequence[Mapping[str, Any]] = (), **changes: Any
) -> models.Service:
    """
    The service file over these nodes; ``router`` of the changes goes into its section.

    :param far: what each node says beside, such as ``ssh``
    """
    router = {
        "type": "nginx",
        "nodes": [node.catalog() | dict(more) for node, more in zip_longest(nodes, far, fillvalue={})],
        "backends": {color: f"{SERVICE}-{color}" for color in Color},
    } | changes.pop("router", {})
    whole = {
        "service": SERVICE,
        "entry": {"url": "http://shop.test"},
        "router": router,
        "colors": {color: {"targets": [f"http://{address}" for address in servers[color]]} for color in Color},
        "deploy": {"type": "command", "command": ["true"]},
    }
    return models.Service.model_validate(whole | changes)


class NginxRig:
    """
    See ``tests/rigs/rig.py``.

    :param binary: the nodes' nginx
    :param ssh: each node is on a host of its own, behind a real sshd
    """

    steps = 10  # five checkpoints a node

    def __init__(self, name: str, binary: str | None = None, *, ssh: bool = False) -> None:
        self.name, self.binary = name, binary or nginx_binary()
        self.far: FarHosts | None = FarHosts() if ssh else None
        self.can = frozenset({"traffic", "restart", "backends"})
        self.warnings: frozenset[str] = frozenset()

    def __enter__(self) -> Self:
        self.workdir = Path(tempfile.mkdtemp(prefix="bg-"))
        self.workdir.chmod(0o755)  # workers may be another user
        if self.far:
            self.far.start(self.workdir, 2)
        ports = free_ports(8)
        self.backends = StaticBackends(self.workdir, {"blue": ports[:2], "green": ports[2:4]}).start()
        self.nodes = [
            NginxNode(name, self.workdir, SERVICE, entry, self.backends.addresses, status, binary=self.binary).start()
            for name, entry, status in (("one", ports[4], ports[5]), ("two", ports[6], ports[7]))
        ]
        if self.nodes[0].hitless:
            self.can |= {"hitless"}
        else:
            self.warnings = frozenset({"reload-not-hitless"})
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()
        self.backends.stop()
        if self.far:
            self.far.stop()
        shutil.rmtree(self.workdir, ignore_errors=True)

    def router(
        self, *, before: Mapping[int, Hook] | None = None, after: Mapping[int, Hook] | None = None, **backends: str
    ) -> NodesRouter:
        names = {"backends": {color: f"{SERVICE}-{color}" for color in Color} | backends} if backends else {}
        far = [self.far.section(number) if self.far else {} for number in range(2)]
        service = service_of(self.nodes, self.backends.addresses, far, router=names)
        router = NginxRouter(service, service.router, self.far.secrets if self.far else None)
        if self.far:
            self.far.share(router)
        return hooked(router, before or {}, after or {}) if before or after else router

    def reset(self) -> None:
        for color in Color:
            if not self.backends.running(color):
                self.backends.start_color(color)
            self.backends.set_error_rate(color, 0)
            self.backends.set_health(color, healthy=True)
        for node in self.nodes:
            shutil.rmtree(f"{node.include}.new", ignore_errors=True)
            node.include.write_text(node.initial())
            if not node.running:
                node.kill()
                node.start()
        stale = [n for n in self.nodes if not self._initial(n)]
        for node in stale:
            node.reload()

    def _initial(self, node: NginxNode) -> bool:
        member = next(one for one in self.router().read().nodes if one.node == node.name)
        return member.stamp is None and member.settled

    def lose(self, number: int) -> None:
        self.nodes[number].kill()

    def bring_back(self, number: int) -> None:
        self.nodes[number].start()

    def reload(self, number: int) -> None:
        self.nodes[number].reload()

    def restart(self, number: int) -> None:
        self.nodes[number].stop()
        self.nodes[number].start()

    def crash(self, number: int) -> None:
        self.nodes[number].kill()
        self.nodes[number].start()

    def by_hand(self, number: int, share: int) -> None:
        node = self.nodes[number]
        block = f"_pool {{ {share}% {SERVICE}-green; * {SERVICE}-blue; }}"
        node.include.write_text(re.sub(r"_pool \{[^}]*\}", block, node.include.read_text(), count=1))
        node.reload()

    def refuse_writes(self, number: int) -> None:
        # Root may write everywhere; nobody can put a file where a folder is.
        Path(f"{self.nodes[number].include}.new").mkdir()

    def kill_writer(self, at: int, write: Callable[[Any], Any]) -> bool:
        if self.far:
            return self.far.kill_program(at, lambda: write(self.router()))
        return killed_at(at, lambda: write(self.router()))

    def race(self, writes: list[Callable[[Any], Any]]) -> list[str]:
        return raced(self.router, writes, read_first=self.far is not None)

    def drain(self, color: Color) -> None:
        # nginx has no drain: a color that takes no requests is one whose servers are gone.
        self.backends.stop_color(color)

    def errors(self, color: Color, rate: float) -> None:
        self.backends.set_error_rate(color, rate)

    def probe(self, number: int, count: int) -> Counter[str]:
        port = self.nodes[number].entry_port
        return Counter(fresh_request(port).headers.get("x-release-color", "none") for _ in range(count))

    def wait_ready(self, color: Color, ready: int = 2) -> None:
        wait_until(lambda: self.router().read().worst_health(color).ready == ready, 10, f"{ready} {color} servers up")
