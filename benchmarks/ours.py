"""Our side of the switch bench: the product's own use cases on two nodes of a router."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.observed import Move
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import BlueGreenError, SecretMissing
from bluegreen.release.adopt import adopt
from bluegreen.release.plan import Plan, Request, plan
from bluegreen.release.ports import Ports
from bluegreen.release.restore import restore
from bluegreen.release.shift import settle, shift
from bluegreen.release.wiring import ports_for
from demo.haproxy import HAProxyNode, StaticBackends
from demo.nginx import NginxNode
from demo.processes import LOOPBACK, free_ports, wait_until

PROOF_PATH = "/api/products"
COLOR_HEADER = "X-App-Color"
"""Set by the application servers: both sides are judged by the same header, and no configuration needs to set it."""


class Switching:
    """
    Each move is a release without a deploy: `plan` claims, `shift` to 100 % writes and proves, `settle` ends it.

    The time is that of `shift`. The claim comes before and is in no window; the settling, with a proof of its own,
    follows at once and falls into the `during` window.
    """

    def __init__(self, ports: Ports) -> None:
        self.ports = ports
        self._numbers = count(1)

    def move(self) -> Move:
        """Swap all traffic to the other color."""
        prepared, number = time.time(), next(self._numbers)
        release = plan(
            self.ports, Request(f"bench-{number}", str(number), "benchmark", skip=("watch",), skip_reason="none")
        )
        begin, clock = time.time(), time.monotonic()
        try:
            shifted = shift(self.ports, release, "switch", 100, release.epoch)
            seconds = time.monotonic() - clock
            settle(self.ports, release, shifted.epoch)
        except BlueGreenError as error:
            restore(self.ports, str(error), "benchmark", release.run)
            return _moved(release, prepared, begin, None, str(error))
        return _moved(release, prepared, begin, seconds)


class Ours(Switching):
    """The product on two nodes of a router."""

    mends: tuple[str, ...] = ()

    def __init__(self, workdir: Path, backends: StaticBackends, router: str) -> None:
        self.name = router
        self.nodes = _nodes(workdir, backends, router)
        super().__init__(ports_for(_service(self.nodes, backends, router), _no_secrets, lambda _: None))

    @property
    def targets(self) -> list[tuple[str, int]]:
        """Where the load goes."""
        return [(LOOPBACK, node.entry_port) for node in self.nodes]

    def start(self) -> None:
        """Start the nodes, and take the service over as it stands."""
        for node in self.nodes:
            node.start()
        wait_until(lambda: self.ports.router.read().settled, 10, "our nodes to answer")
        adopt(self.ports, "benchmark", "it begins", "0", Color.BLUE)

    def stop(self) -> None:
        """Stop the nodes."""
        for node in self.nodes:
            node.stop()


def _moved(release: Plan, prepared: float, begin: float, proven_s: float | None, problem: str = "") -> Move:
    return Move(prepared, begin, str(release.live), str(release.idle), proven_s, problem)


def _nodes(workdir: Path, backends: StaticBackends, router: str) -> list[Any]:
    one, two = free_ports(2)
    if router == "haproxy":
        return [HAProxyNode(f"ours{n}", workdir, "shop", port, backends.addresses) for n, port in ((1, one), (2, two))]
    status = free_ports(2)
    return [
        NginxNode(f"ours{n}", workdir / router, "shop", port, backends.addresses, status[n - 1])
        for n, port in ((1, one), (2, two))
    ]


def _service(nodes: list[Any], backends: StaticBackends, router: str) -> Service:
    return Service.model_validate(
        {
            "service": "shop",
            "entry": {"url": "http://shop.test/", "path": PROOF_PATH, "color_header": COLOR_HEADER},
            "router": {
                "type": router,
                "backends": {color: f"shop-{color}" for color in backends.addresses},
                "nodes": [node.catalog() for node in nodes],
            },
            "colors": {
                color: {"targets": [f"http://{address}" for address in addresses]}
                for color, addresses in backends.addresses.items()
            },
            "health": {"version": None},  # a move deploys nothing: the servers say 1.0.0 for ever
            "deploy": {"type": "command", "command": ["/bin/true"]},
        }
    )


def _no_secrets(connection_id: str) -> NoReturn:
    raise SecretMissing("the bench has none", part=connection_id)
