"""The rig of HAProxy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.routers.haproxy import HAProxyRouter
from demo.haproxy import HAProxyNode, haproxy_binary
from tests.rigs.proxy import SERVICE, ProxyRig

DEBIAN = "/usr/sbin/haproxy"


class HAProxyRig(ProxyRig):
    """
    See ``tests/rigs/rig.py``.

    :param binary: the nodes' HAProxy; the colors always run the wheel's
    :param tcp: the router uses host:port instead of the unix socket
    :param ssh: each node is on a host of its own, behind a real sshd
    """

    can = ProxyRig.can | {"readies", "hitless"}

    def __init__(self, name: str, binary: str | None = None, *, tcp: bool = False, ssh: bool = False) -> None:
        super().__init__(name, ssh=ssh)
        self.binary, self.tcp = binary or haproxy_binary(), tcp

    def make_node(self, name: str, entry: int, own: int) -> HAProxyNode:
        servers = self.backends.addresses
        return HAProxyNode(name, self.workdir, SERVICE, entry, servers, admin_port=own, binary=self.binary)

    def model(self, **backends: str) -> models.HAProxyRouter:
        tcp = [{"socket": f"127.0.0.1:{node.admin_port}"} if self.tcp else {} for node in self.nodes]
        nodes = [node | socket for node, socket in zip(self.catalog(), tcp, strict=True)]
        names = {str(color): f"{SERVICE}-{color}" for color in Color} | backends
        return models.HAProxyRouter.model_validate({"type": "haproxy", "nodes": nodes, "backends": names})

    def make_router(self, **backends: str) -> HAProxyRouter:
        secrets = self.far.secrets if self.far else None
        return HAProxyRouter(SERVICE, self.model(**backends), models.Entry(url="http://shop.test"), secrets)

    def truth(self, node: HAProxyNode) -> Path:
        return node.map_path

    def initial(self, node: Any) -> str:
        return "green 0\n"

    def put_right(self) -> None:
        for node in self.nodes:
            node.command(f"clear map {node.map_path}")
            node.command(f"add map {node.map_path} green 0")
        for color in Color:
            self._each_server(color, "state ready")
            self._each_server(color, "weight 100%")
            self.wait_ready(color)

    def by_hand(self, number: int, share: int) -> None:
        self.nodes[number].command(f"set map {self.nodes[number].map_path} green {share}")

    def drain(self, color: Color) -> None:
        self._each_server(color, "state drain")

    def maintain(self, color: Color) -> None:
        self._each_server(color, "state maint")

    def _each_server(self, color: Color, command: str) -> None:
        for node in self.nodes:
            for server in self.backends.servers(color):
                node.command(f"set server {SERVICE}-{color}/{server} {command}")
