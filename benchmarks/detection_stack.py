"""
Real canaries for `detection`: services behind real HAProxy nodes, a real load, counts by the product's own router.

A lane is one HAProxy node with a service for each pair of traffic and candidate, and a load for each traffic, whose
requests go to its services in turn. All lanes have the same application servers: one of the old color, one of the new
for each candidate, each with an error rate of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import Meter, Used, children_with
from bluegreen.analysis.simulation import End, Judge, follow
from bluegreen.catalog import models
from bluegreen.core.evidence import NodeCounters
from bluegreen.routers.haproxy import HAProxyRouter
from demo.haproxy import COLORS, HAProxyNode, StaticBackends
from demo.load import Load, LoadProcess
from demo.load.counts import STATUS_5XX
from demo.processes import LOOPBACK, free_ports

SHARE = 10
"""Per cent of each service's requests that go to the new color."""
WARM_UP_S = 2.0
CONNECTIONS = 12
_BACKEND = """
backend {service}-{color}
    option httpchk GET /health
    default-server check inter 2s
    http-response set-header X-Release-Color {color}
    server {server} {address}
"""
Samples = list[tuple[float, NodeCounters]]


@dataclass(frozen=True)
class Cell:
    """
    What one service lives through.

    :param rps: requests per second, both colors together
    :param baseline: error rate of the old color in per cent
    :param candidate: error rate of the new color in per cent
    """

    rps: int
    baseline: float
    candidate: float

    @property
    def service(self) -> str:
        """The service's name, which is also the first part of its paths."""
        return f"s{self.rps}-{self.candidate:g}"


@dataclass
class Watched:
    """
    All watches, and what the load and the machine did meanwhile.

    :param ends: by cell: of each watch, by rule
    :param requests: that the loads sent
    :param overdue: requests that were due and never sent
    :param failed_otherwise: requests that failed by anything but a color's own 500
    :param used: of each batch; `ours` is what load and application servers took
    """

    ends: dict[Cell, list[Mapping[str, End]]] = field(default_factory=lambda: defaultdict(list))
    requests: int = 0
    overdue: int = 0
    failed_otherwise: int = 0
    used: list[Used] = field(default_factory=list)


class Lane:
    """One node, its services, and their loads."""

    def __init__(self, name: str, workdir: Path, port: int, cells: Sequence[Cell], backends: StaticBackends) -> None:
        self.node = HAProxyNode(name, workdir, name, port, {}, extra_sections=_sections(cells, backends))
        # The product's contract, but the path says the service, and the share is the same for all.
        self.node.routing = [
            f"http-request set-var(txn.green) str(green),map_str_int({self.node.map_path},0)",
            "http-request set-var(txn.draw) rand(100)",
            "use_backend %[path,field(2,/)]-green if { var(txn.draw),sub(txn.green) lt 0 }",
            "use_backend %[path,field(2,/)]-blue",
        ]
        self.routers = {cell: _router(self.node, cell) for cell in cells}
        by_rps = defaultdict(list)
        for cell in cells:
            by_rps[cell.rps].append(("GET", f"/{cell.service}/"))
        self._loads = {rps: (rps * len(paths), paths) for rps, paths in by_rps.items()}

    def start(self, running: ExitStack) -> None:
        """Start the node, with the canary's share on it."""
        self.node.map_path.parent.mkdir(parents=True)
        self.node.map_path.write_text(f"green {SHARE}\n")
        self.node.start()
        running.callback(self.node.stop)

    def loads(self) -> list[LoadProcess]:
        """Return new loads, one for each traffic."""
        target = [(LOOPBACK, self.node.entry_port)]
        return [
            LoadProcess(
                Load(target, connections=CONNECTIONS, rate=rate, paths=paths),
                self.node.workdir,
                f"{self.node.name}-{rps}",
            )
            for rps, (rate, paths) in self._loads.items()
        ]


def _sections(cells: Sequence[Cell], backends: StaticBackends) -> str:
    greens = _green_servers(cells)
    texts = []
    for cell in cells:
        for color, number in (("blue", 0), ("green", greens[cell.candidate])):
            server, address = backends.servers(color)[number], backends.addresses[color][number]
            texts.append(_BACKEND.format(service=cell.service, color=color, server=server, address=address))
    return "".join(texts)


def _green_servers(cells: Sequence[Cell]) -> dict[float, int]:
    return {candidate: number for number, candidate in enumerate(dict.fromkeys(cell.candidate for cell in cells))}


def _router(node: HAProxyNode, cell: Cell) -> HAProxyRouter:
    names = {color: f"{cell.service}-{color}" for color in COLORS}
    router = models.HAProxyRouter.model_validate({"type": "haproxy", "nodes": [node.catalog()], "backends": names})
    return HAProxyRouter(cell.service, router)


def watch(
    workdir: Path,
    cells: Sequence[Cell],
    made: Mapping[str, Callable[[], Judge]],
    say: Callable[[str], None],
    *,
    lanes: int,
    batches: int,
    seconds: int,
) -> Watched:
    """
    Watch each cell in each lane and batch; every rule judges the same counts.

    :param cells: all have the same baseline
    :param made: by rule, makes what judges one watch
    :param seconds: of one watch
    """
    greens, found = _green_servers(cells), Watched()
    ports = iter(free_ports(1 + len(greens) + lanes))
    backends = StaticBackends(workdir, {"blue": [next(ports)], "green": [next(ports) for _ in greens]})
    backends.set_error_rate("blue", cells[0].baseline / 100)
    for candidate, number in greens.items():
        backends.set_error_rate("green", candidate / 100, backends.servers("green")[number])
    with ExitStack() as running:
        backends.start()
        running.callback(backends.stop)
        all_lanes = [Lane(f"lane{n}", workdir, next(ports), cells, backends) for n in range(lanes)]
        for lane in all_lanes:
            lane.start(running)
        for batch in range(batches):
            for cell, samples in _batch(all_lanes, seconds, found):
                ends = follow({rule: make() for rule, make in made.items()}, samples, samples[-1][0])
                found.ends[cell].append(ends)
            used = found.used[-1]
            say(f"batch {batch + 1} of {batches}: {found.requests} requests, machine {used.everything:.0%} busy")
    return found


def _batch(lanes: Sequence[Lane], seconds: int, found: Watched) -> list[tuple[Cell, Samples]]:
    loads = [load for lane in lanes for load in lane.loads()]
    with ExitStack() as running:
        for load in loads:
            running.callback(load.kill)
            load.start()
        time.sleep(WARM_UP_S)
        meter = Meter(children_with("static-"))
        samples = asyncio.run(_sampled(lanes, seconds))
        finals = [load.stop() for load in loads]
    found.used.append(meter.used(more_s=sum(final.cpu_s for final in finals)))
    found.requests += sum(final.requests for final in finals)
    found.overdue += sum(final.overdue for final in finals)
    found.failed_otherwise += sum(final.failed - final.failures.get(STATUS_5XX, 0) for final in finals)
    return samples


async def _sampled(lanes: Sequence[Lane], seconds: int) -> list[tuple[Cell, Samples]]:
    """Count once a second, as a watch does."""
    routers = [(cell, router) for lane in lanes for cell, router in lane.routers.items()]
    samples: list[Samples] = [[] for _ in routers]
    began = time.monotonic()
    for second in range(seconds + 1):
        await asyncio.sleep(max(0.0, began + second - time.monotonic()))
        at = max(float(second), time.monotonic() - began) if second else 0.0
        counted = await asyncio.gather(*(router.counters() for _, router in routers))
        for series, counters in zip(samples, counted, strict=True):
            series.append((at, counters))
    return [(cell, series) for (cell, _), series in zip(routers, samples, strict=True)]
