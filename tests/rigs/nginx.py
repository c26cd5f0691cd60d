"""The rig of nginx."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.routers.nginx import NginxRouter
from demo.nginx import NginxNode, nginx_binary
from tests.rigs.proxy import SERVICE, ProxyRig

DEBIAN = "/usr/sbin/nginx"


def service_of(nodes: list[NginxNode], servers: Mapping[str, list[str]], **changes: Any) -> models.Service:
    """The service file over these nodes; ``router`` of the changes goes into its section."""
    router = {
        "type": "nginx",
        "nodes": [node.catalog() for node in nodes],
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


class NginxRig(ProxyRig):
    """
    See ``tests/rigs/rig.py``.

    :param binary: the nodes' nginx
    :param ssh: each node is on a host of its own, behind a real sshd
    """

    def __init__(self, name: str, binary: str | None = None, *, ssh: bool = False) -> None:
        super().__init__(name, ssh=ssh)
        self.binary = binary or nginx_binary()

    def __enter__(self) -> Self:
        super().__enter__()
        if self.nodes[0].hitless:
            self.can |= {"hitless"}
        else:
            self.warnings = frozenset({"reload-not-hitless"})
        return self

    def make_node(self, name: str, entry: int, own: int) -> NginxNode:
        return NginxNode(name, self.workdir, SERVICE, entry, self.backends.addresses, own, binary=self.binary)

    def make_router(self, **backends: str) -> NginxRouter:
        router = {"nodes": self.catalog(), "backends": backends}
        service = service_of(self.nodes, self.backends.addresses, router=router)
        return NginxRouter(service, service.router, self.far.secrets if self.far else None)

    def truth(self, node: NginxNode) -> Path:
        return node.include

    def initial(self, node: NginxNode) -> str:
        return node.initial()

    def put_right(self) -> None:
        found = self.router().read().nodes
        for node, reading in zip(self.nodes, found, strict=True):
            if reading.stamp or not reading.settled:
                node.reload()

    def by_hand(self, number: int, share: int) -> None:
        node = self.nodes[number]
        block = f"_pool {{ {share}% {SERVICE}-green; * {SERVICE}-blue; }}"
        node.include.write_text(re.sub(r"_pool \{[^}]*\}", block, node.include.read_text(), count=1))
        node.reload()

    def drain(self, color: Color) -> None:
        # nginx has no drain: a color that takes no requests is one whose servers are gone.
        self.backends.stop_color(color)
