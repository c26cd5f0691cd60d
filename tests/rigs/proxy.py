"""Two real proxy nodes before two colors of two servers each, on loopback: what the rigs of all proxies share."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from bluegreen.core.colors import Color
from bluegreen.routers.nodes import NodesRouter
from demo.haproxy import StaticBackends
from demo.load import Load
from demo.processes import free_ports, wait_until
from demo.traffic import fresh_request
from tests.rigs.far_hosts import FarHosts
from tests.rigs.rig import Hook, hooked, killed_at, raced

SERVICE = "shop"


class ProxyRig:
    """
    See ``tests/rigs/rig.py``. A kind gives its nodes, its router and how a node is put right.

    :param ssh: each node is on a host of its own, behind a real sshd
    """

    can = frozenset({"traffic", "counts", "restart", "backends", "health"})
    warnings: frozenset[str] = frozenset()
    steps = 10  # five checkpoints a node

    def __init__(self, name: str, *, ssh: bool = False) -> None:
        self.name = name
        self.far: FarHosts | None = FarHosts() if ssh else None

    def make_node(self, name: str, entry: int, own: int) -> Any:
        """Make a node; ``own`` is a port for whatever its kind needs."""
        raise NotImplementedError

    def make_router(self, **backends: str) -> Any:
        raise NotImplementedError

    def truth(self, node: Any) -> Path:
        """The file that holds a node's split."""
        raise NotImplementedError

    def initial(self, node: Any) -> str:
        """That file before the first release."""
        raise NotImplementedError

    def put_right(self) -> None:
        """Bring all nodes, which run, to what their files say."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.workdir = Path(tempfile.mkdtemp(prefix="bg-"))  # short: a unix socket's path has 107 characters
        self.workdir.chmod(0o755)  # workers may be another user
        if self.far:
            self.far.start(self.workdir, 2)
        ports = free_ports(8)
        self.backends = StaticBackends(self.workdir, {"blue": ports[:2], "green": ports[2:4]}).start()
        self.nodes = [self.make_node(*each) for each in (("one", ports[4], ports[5]), ("two", ports[6], ports[7]))]
        for node in self.nodes:
            node.start()
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()
        self.backends.stop()
        if self.far:
            self.far.stop()
        shutil.rmtree(self.workdir, ignore_errors=True)

    def catalog(self) -> list[dict[str, Any]]:
        """The nodes in a service file."""
        far = [self.far.section(number) if self.far else {} for number in range(2)]
        return [node.catalog() | more for node, more in zip(self.nodes, far, strict=True)]

    def router(
        self, *, before: Mapping[int, Hook] | None = None, after: Mapping[int, Hook] | None = None, **backends: str
    ) -> NodesRouter:
        router = self.make_router(**{str(color): f"{SERVICE}-{color}" for color in Color} | backends)
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
            shutil.rmtree(f"{self.truth(node)}.new", ignore_errors=True)
            self.truth(node).write_text(self.initial(node))
            if not node.running:
                node.kill()
                node.start()
        self.put_right()

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

    def refuse_writes(self, number: int) -> None:
        # Root may write everywhere; nobody can put a file where a folder is.
        Path(f"{self.truth(self.nodes[number])}.new").mkdir()

    def kill_writer(self, at: int, write: Callable[[Any], Any]) -> bool:
        if self.far:
            return self.far.kill_program(at, lambda: write(self.router()))
        return killed_at(at, lambda: write(self.router()))

    def race(self, writes: list[Callable[[Any], Any]]) -> list[str]:
        return raced(self.router, writes, read_first=self.far is not None)

    def errors(self, color: Color, rate: float) -> None:
        self.backends.set_error_rate(color, rate)

    def probe(self, number: int, count: int) -> Counter[str]:
        port = self.nodes[number].entry_port
        return Counter(fresh_request(port).headers.get("x-release-color", "none") for _ in range(count))

    def loads(self, **words: Any) -> list[Load]:
        """Load on both nodes."""
        return [Load([("127.0.0.1", node.entry_port) for node in self.nodes], host_header="shop.test", **words)]

    def wait_ready(self, color: Color, ready: int = 2) -> None:
        def as_many() -> bool:
            healths = [node.health[color].ready for node in self.router().read().reachable]
            return set(healths) == {ready}

        wait_until(as_many, 10, f"{ready} {color} servers up")
