"""
`clusters`: whole switches of a service in Kubernetes under load, on each data plane that is really there.

What answers are kwok's pods; what sends requests to them are the kernel's rules of kube-proxy, an Envoy that Istio's pilot
feeds, and Traefik. `guide-kubectl` is the guide's own line, `kubectl patch service`, on the same Service.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.guide_side import until_proven
from benchmarks.observed import COLUMNS, REST_S, WARM_UP_S, Move, Observed
from benchmarks.ours import Switching
from benchmarks.tables import Goal, goals, ratio, table
from bluegreen.core.colors import Color, Split
from bluegreen.release.adopt import adopt
from bluegreen.release.ports import Ports
from bluegreen.release.wiring import ports_for
from demo.load import LoadProcess
from tests.rigs.kube_routers import SERVICE, KubeRig
from tests.rigs.registry import RIGS

KINDS = {"kube_service": 3.0, "istio": 5.0, "gateway_api": 5.0}
"""Kind of router -> seconds that a switch may take until it is proven, the slowest of all."""
GUIDE = "guide-kubectl"
SHOWN = (*COLUMNS, "calls")


@dataclass(frozen=True)
class Size:
    """
    How much is measured.

    :param rounds: chunks of each side, in turn
    :param moves: in a chunk
    :param rate: requests a second of each load
    """

    rounds: int
    moves: int
    rate: float = 150
    connections: int = 20


FULL = Size(rounds=5, moves=20)
QUICK = Size(rounds=1, moves=4)


class InCluster(Switching):
    """The product's use cases on one namespace."""

    def __init__(self, rig: KubeRig) -> None:
        self.name, self.rig = rig_name(rig), rig
        super().__init__(_ports(rig))
        self.calls = 0

    def move(self) -> Move:
        """Swap all traffic; what the API server was asked meanwhile is counted."""
        before = sum(self.ports.calls.values())
        made = super().move()
        self.calls += sum(self.ports.calls.values()) - before
        return made


class Kubectl:
    """The guide's line. It proves nothing, so the product's proof is asked again and again after it."""

    name = GUIDE

    def __init__(self, rig: KubeRig) -> None:
        self.rig, self.ports, self.calls = rig, _ports(rig), None

    def move(self) -> Move:
        """Patch the selector, and ask until every answer is the new color's."""
        node = self.rig.nodes[0]
        old = Color(node.get("Service", SERVICE)["spec"]["selector"]["color"])
        patch = {"spec": {"selector": {"color": str(old.other)}}}
        begin, clock = time.time(), time.monotonic()
        node.kubectl("patch", "service", SERVICE, "-p", json.dumps(patch))
        proven = until_proven(lambda: self.ports.prove(Split.whole_on(old.other)), clock, pause_s=0)
        return Move(begin, begin, str(old), str(old.other), *proven)


Side = InCluster | Kubectl


def measure(workdir: Path, say: Callable[[str], None], *, quick: bool) -> dict[str, Any]:
    """
    Run all chunks and return the result.

    :raises RuntimeError: a data plane is not there
    """
    size, seen = QUICK if quick else FULL, {}
    with ExitStack() as running:
        rigs = [running.enter_context(RIGS[kind][kind]()) for kind in KINDS]
        if lacking := [f"{rig_name(rig)}: {rig.no_traffic()}" for rig in rigs if rig.no_traffic()]:
            raise RuntimeError(f"no requests can be sent: {'; '.join(lacking)}")
        sides = [side for rig in rigs for side in _sides(rig)]
        for _ in range(size.rounds):
            for side in sides:
                seen.setdefault(side.name, Observed())
                say(_chunk(side, size, workdir, seen[side.name]))
    return {"rows": [_row(side, seen[side.name]) for side in sides], "rate": size.rate, "connections": size.connections}


def rig_name(rig: KubeRig) -> str:
    """Return the kind of router of a rig."""
    return str(rig.section()["type"])


def _sides(rig: KubeRig) -> list[Side]:
    ours = InCluster(rig)
    return [ours, Kubectl(rig)] if ours.name == "kube_service" else [ours]


def _chunk(side: Side, size: Size, workdir: Path, seen: Observed) -> str:
    side.rig.reset()
    if isinstance(side, InCluster):
        adopt(side.ports, "benchmark", "put right", "0", Color.BLUE)
    words = {"rate": size.rate, "connections": size.connections}
    loads = [LoadProcess(load, workdir, f"load{number}") for number, load in enumerate(side.rig.loads(**words))]
    try:
        for load in loads:
            load.start()
        time.sleep(WARM_UP_S + REST_S)
        made = []
        for _ in range(size.moves):
            made.append(side.move())
            time.sleep(REST_S)
        final = [load.stop() for load in loads]
    finally:
        for load in loads:
            load.kill()
    # The last load's clients are new each time; kept connections to a plain Service stay on their pods, and fail or do not.
    for told in final[:-1]:
        seen.requests += told.requests
        seen.failures.update(told.failures)
    seen.add(made, final[-1], loads[-1].records())
    proven = [move.proven_s for move in made if move.proven_s is not None]
    middle = f", proven in {median(proven):.3f} s" if proven else ""
    return f"{side.name}: {len(made)} moves, {sum(told.failed for told in final)} failed{middle}"


def _row(side: Side, seen: Observed) -> dict[str, Any]:
    row = seen.row(side.name) | {"calls": round(side.calls / len(seen.moves), 1) if side.calls else None}
    return seen.explained(row, "nobody counts there")


def _ports(rig: KubeRig) -> Ports:
    host, port = rig.address(rig.nodes[0])
    node = {**rig.catalog().router.nodes[0].model_dump(mode="json"), "entry": f"{host}:{port}"}
    service = rig.catalog(
        router={"nodes": [node]},
        entry={"url": f"http://{rig.host(rig.nodes[0])}"},
        health={"version": None},
        release={"canary": []},
    )
    return ports_for(service, rig.secrets, lambda _: None)


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    rows = {row["router"]: row for row in result["rows"]}
    wanted = [Goal(f"{kind}: failed requests", rows[kind]["failed"], 0) for kind in KINDS]
    wanted += [Goal(f"{kind}: shifts not proven", rows[kind]["not_proven"], 0) for kind in KINDS]
    wanted += [
        Goal(f"{kind}: slowest proven shift, s", rows[kind]["proven_s_max"], most) for kind, most in KINDS.items()
    ]
    aside = ratio(rows["kube_service"]["proven_s_p50"], rows[GUIDE]["proven_s_p50"])
    return "\n".join(
        [
            table(SHOWN, ([row[name] for name in SHOWN] for row in rows.values())),
            (
                f"{result['rate']:g} requests/s on {result['connections']} connections; to a plain Service as many again on "
                "connections that are new for each request. `calls` is what the API server was asked for one switch: claim, "
                f"shift and settling. A switch of `kube_service` is proven after {aside} times what `{GUIDE}` takes.\n"
            ),
            goals(wanted),
        ]
    )
