"""Two real HAProxy nodes before two colors of two servers each, on loopback."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.hosts import host_files
from bluegreen.routers.haproxy import HAProxyRouter
from bluegreen.routers.nodes import NodesRouter
from demo.haproxy import HAProxyNode, StaticBackends, haproxy_binary
from demo.processes import free_ports, wait_until
from tests.rigs.far_hosts import FarHosts
from tests.rigs.rig import Hook, ended, hooked, in_child
from tests.rigs.traffic import fresh_request

DEBIAN = "/usr/sbin/haproxy"
SERVICE = "shop"


class HAProxyRig:
    """
    See ``tests/rigs/rig.py``.

    :param binary: the nodes' HAProxy; the colors always run the wheel's
    :param tcp: the router uses host:port instead of the unix socket
    :param ssh: each node is on a host of its own, behind a real sshd
    """

    can = frozenset({"traffic", "restart", "backends"})
    steps = 10  # five checkpoints a node

    def __init__(self, name: str, binary: str | None = None, *, tcp: bool = False, ssh: bool = False) -> None:
        self.name, self.binary, self.tcp = name, binary or haproxy_binary(), tcp
        self.far: FarHosts | None = FarHosts() if ssh else None

    def __enter__(self) -> Self:
        self.workdir = Path(tempfile.mkdtemp(prefix="bg-"))  # short: a unix socket's path has 107 characters
        if self.far:
            self.far.start(self.workdir, 2)
        ports = free_ports(8)
        self.backends = StaticBackends(self.workdir, {"blue": ports[:2], "green": ports[2:4]}).start()
        self.nodes = [
            HAProxyNode(
                name, self.workdir, SERVICE, entry_port, self.backends.addresses, admin_port=admin, binary=self.binary
            ).start()
            for name, entry_port, admin in (("one", ports[4], ports[5]), ("two", ports[6], ports[7]))
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()
        self.backends.stop()
        if self.far:
            self.far.stop()
        shutil.rmtree(self.workdir, ignore_errors=True)

    def model(self, green: str = f"{SERVICE}-green", blue: str = f"{SERVICE}-blue") -> models.HAProxyRouter:
        nodes = [
            {
                "name": node.name,
                "socket": f"127.0.0.1:{node.admin_port}" if self.tcp else str(node.socket),
                "map": str(node.map_path),
                "entry": node.entry,
                **(self.far.section(number) if self.far else {}),
            }
            for number, node in enumerate(self.nodes)
        ]
        return models.HAProxyRouter.model_validate(
            {"type": "haproxy", "nodes": nodes, "backends": {"blue": blue, "green": green}}
        )

    def router(
        self, *, before: Mapping[int, Hook] | None = None, after: Mapping[int, Hook] | None = None, **backends: str
    ) -> NodesRouter:
        secrets = self.far.secrets if self.far else None
        router = HAProxyRouter(SERVICE, self.model(**backends), models.Entry(url="http://shop.test"), secrets)
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
            shutil.rmtree(f"{node.map_path}.new", ignore_errors=True)
            node.map_path.write_text("green 0\n")
            if not node.running:
                node.kill()
                node.start()
            node.command(f"clear map {node.map_path}")
            node.command(f"add map {node.map_path} green 0")
        for color in Color:
            self._each_server(color, "state ready")
            self._each_server(color, "weight 100%")
            self.wait_ready(color)

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
        self.nodes[number].command(f"set map {self.nodes[number].map_path} green {share}")

    def refuse_writes(self, number: int) -> None:
        # Root may write everywhere; nobody can put a file where a folder is.
        Path(f"{self.nodes[number].map_path}.new").mkdir()

    def kill_writer(self, at: int, write: Callable[[HAProxyRouter], Any]) -> bool:
        if self.far:
            return self.far.kill_program(at, lambda: write(self.router()))

        def work() -> None:
            host_files.checkpoint = dying_at(at)
            write(self.router())

        return ended(in_child(work)) == "killed"

    def race(self, writes: list[Callable[[HAProxyRouter], Any]]) -> list[str]:
        go, start = os.pipe()

        def work(write: Callable[[HAProxyRouter], Any]) -> None:
            os.close(start)
            router = self.router()
            if self.far:
                router.read()  # logins differ by more than writes take
            os.read(go, 1)  # returns when the parent closes its end
            write(router)

        children = [in_child(functools.partial(work, write)) for write in writes]
        os.close(start)
        os.close(go)
        return [ended(child) for child in children]

    def drain(self, color: Color) -> None:
        self._each_server(color, "state drain")

    def maintain(self, color: Color) -> None:
        self._each_server(color, "state maint")

    def errors(self, color: Color, rate: float) -> None:
        self.backends.set_error_rate(color, rate)

    def probe(self, number: int, count: int) -> Counter[str]:
        port = self.nodes[number].entry_port
        return Counter(fresh_request(port).headers.get("x-release-color", "none") for _ in range(count))

    def wait_ready(self, color: Color, ready: int = 2) -> None:
        def as_many() -> bool:
            healths = [node.health[color].ready for node in self.router().read().reachable]
            return set(healths) == {ready}

        wait_until(as_many, 10, f"{ready} {color} servers up")

    def _each_server(self, color: Color, command: str) -> None:
        for node in self.nodes:
            for server in self.backends.servers(color):
                node.command(f"set server {SERVICE}-{color}/{server} {command}")


def dying_at(number: int) -> Callable[[str], None]:
    """Make a checkpoint that kills its own process at the n-th call."""
    left = number

    def checkpoint(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return checkpoint
