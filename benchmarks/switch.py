"""
`switch`: whole switches of a service under load, ours and the guide's in turn.

Each chunk is one side's: a load of its own, and some moves under it. Ours and the guide's mended chunks alternate, so
that whatever else the machine does hits both. The guide's unmended configuration comes last, by itself.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from benchmarks import guide_haproxy, guide_nginx
from benchmarks.guide_haproxy import HAProxyGuide
from benchmarks.guide_nginx import NginxGuide
from benchmarks.machine import Meter, Used, children_with
from benchmarks.observed import COLUMNS, REST_S, WARM_UP_S, Move, Observed
from benchmarks.ours import COLOR_HEADER, Ours
from benchmarks.tables import Goal, goals, ratio, table
from demo.haproxy import COLORS, StaticBackends
from demo.load import Load, LoadProcess
from demo.nginx import KEEPALIVE_MIN_S
from demo.processes import free_ports
from demo.shop import LOAD_PATHS

SERVERS = 3  # of each color, as in the guide
SHOWN = (*COLUMNS, "last_old_answer_s_max", "moved_share")


@dataclass(frozen=True)
class Size:
    """
    How much is measured.

    :param rounds: pairs of chunks
    :param ours: moves in a chunk of ours on HAProxy
    :param nginx: moves in a chunk of ours on nginx, where each is several reloads
    :param guide: moves in a chunk of the guide's
    :param unmended: moves of the unmended configuration, in one chunk
    :param rate: requests a second, on `connections` connections
    :param period_s: from one move to the next, at least
    """

    rounds: int
    ours: int
    nginx: int
    guide: int
    unmended: int
    rate: float
    connections: int = 60
    period_s: float = 2.0


FULL = Size(rounds=11, ours=20, nginx=10, guide=6, unmended=10, rate=2500)
QUICK = Size(rounds=2, ours=5, nginx=5, guide=3, unmended=4, rate=1000)


class Side(Protocol):
    """Somebody who can move all traffic from one color to the other."""

    name: str

    @property
    def targets(self) -> list[tuple[str, int]]:
        """Where the load goes."""
        ...

    @property
    def mends(self) -> Sequence[str]:
        """What was changed before it ran."""
        ...

    def start(self) -> None:
        """Start it, all traffic on blue."""
        ...

    def stop(self) -> None:
        """Stop it."""
        ...

    def move(self) -> Move:
        """Move the traffic."""
        ...


def measure(workdir: Path, say: Callable[[str], None], *, quick: bool) -> dict[str, Any]:
    """Run all chunks and return the result."""
    size = QUICK if quick else FULL
    ports = iter(free_ports(2 * SERVERS))
    backends = StaticBackends(workdir, {c: [next(ports) for _ in range(SERVERS)] for c in COLORS})
    with ExitStack() as running:
        backends.start()
        running.callback(backends.stop)
        sides: list[Side] = [
            Ours(workdir, backends, "haproxy"),
            HAProxyGuide(workdir, backends, mended=True),
            Ours(workdir, backends, "nginx"),
            NginxGuide(workdir, backends),
            HAProxyGuide(workdir, backends, mended=False),
        ]
        for side in sides:
            side.start()
            running.callback(side.stop)
        bench = _Bench(size, workdir)
        for side, moves in _chunks(size, *sides):
            say(bench.chunk(side, moves))
    return bench.result(sides)


def _chunks(size: Size, *sides: Side) -> Iterator[tuple[Side, int]]:
    *turns, unmended = sides
    for _ in range(size.rounds):
        for side in turns:
            yield side, {"haproxy": size.ours, "nginx": size.nginx}.get(side.name, size.guide)
    yield unmended, size.unmended


@dataclass
class _Bench:
    size: Size
    workdir: Path
    seen: dict[str, Observed] = field(default_factory=lambda: defaultdict(Observed))
    used: list[Used] = field(default_factory=list)

    def chunk(self, side: Side, moves: int) -> str:
        """Measure one chunk; return a line for people."""
        load = LoadProcess(
            Load(
                side.targets,
                host_header="shop.test",
                connections=self.size.connections,
                rate=self.size.rate,
                paths=LOAD_PATHS,
                color_header=COLOR_HEADER,
            ),
            self.workdir,
        )
        try:
            load.start()
            servers = children_with("static-")
            if len(servers) != len(COLORS):
                raise RuntimeError(f"wanted one process of each color's servers to measure, found {servers}")
            meter = Meter(servers)
            time.sleep(WARM_UP_S + REST_S)
            made = [self._move(side) for _ in range(moves)]
            final = load.stop()
        finally:
            load.kill()
        self.used.append(meter.used(more_s=final.cpu_s))
        self.seen[side.name].add(made, final, load.records())
        proven = [move.proven_s for move in made if move.proven_s is not None]
        middle = f", proven in {median(proven):.3f} s" if proven else ""
        return f"{side.name}: {moves} moves, {final.requests} requests, {final.failed} failed{middle}"

    def _move(self, side: Side) -> Move:
        due = time.monotonic() + self.size.period_s
        made = side.move()
        # A slow move gets its whole windows, too.
        time.sleep(max(due - time.monotonic(), REST_S))
        return made

    def result(self, sides: Sequence[Side]) -> dict[str, Any]:
        whole = sum(used.seconds for used in self.used)
        rows = [_row(side, self.seen[side.name]) for side in sides]
        return {
            "rows": rows,
            "cpu_share_of_load": round(sum(used.ours * used.seconds for used in self.used) / whole, 3),
            "cpu_share_of_load_max": round(max(used.ours for used in self.used), 3),
            "cpu_share_of_everything": round(sum(used.everything * used.seconds for used in self.used) / whole, 3),
            "connections": self.size.connections,
            "rate": self.size.rate,
        }


def _row(side: Side, seen: Observed) -> dict[str, Any]:
    row = seen.row(side.name)
    row |= {"mends": list(side.mends)} if side.mends else {}
    return seen.explained(row, "no request was seen there")


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    rows = {row["router"]: row for row in result["rows"]}
    parts = [
        table(SHOWN, ([row[name] for name in SHOWN] for row in rows.values())),
        _under(result),
        goals(
            [
                *_goals(rows["haproxy"], proven_s=1, old_s=1),
                *_goals(rows["nginx"], proven_s=3, old_s=KEEPALIVE_MIN_S + 1),
                Goal("share of the machine for the load", result["cpu_share_of_load_max"], 0.6),
            ]
        ),
        *(_mends(rows[name]) for name in (guide_haproxy.MENDED, guide_nginx.MENDED)),
    ]
    return "\n".join(parts)


def _under(result: dict[str, Any]) -> str:
    used = [f"{result[f'cpu_share_of_{what}']:.0%}" for what in ("load", "load_max", "everything")]
    return (
        f"{result['rate']:g} requests/s on {result['connections']} keep-alive connections over two nodes. Load and "
        "application servers took {} of the machine (at most {} in a chunk), everything together {}.\n".format(*used)
    )


def _mends(row: dict[str, Any]) -> str:
    changed = "".join(f"- {mend}\n" for mend in row["mends"])
    return f"What was changed in the guide's files before `{row['router']}` ran:\n\n{changed}"


def _goals(row: dict[str, Any], proven_s: float, old_s: float) -> list[Goal]:
    slowest, name = ratio(row["proven_s_max"], row["proven_s_p50"]), row["router"]
    return [
        Goal(f"{name}: failed requests", row["failed"], 0),
        Goal(f"{name}: shifts not proven", row["not_proven"], 0),
        Goal(f"{name}: p99 during / before", ratio(row["p99_during_ms"], row["p99_before_ms"]), 2),
        Goal(f"{name}: slowest proven shift, s", row["proven_s_max"], proven_s),
        Goal(f"{name}: slowest / median proven shift", slowest, 5),
        Goal(f"{name}: last answer of the old color, s", row["last_old_answer_s_max"], old_s),
    ]
