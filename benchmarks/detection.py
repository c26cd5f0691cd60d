"""
`detection`: how many requests a bad canary harms until a rule stops it, and how many good ones are stopped.

Every rule judges the same traffic: drawn by chance, and real on the stack, where each judges the counts of the same
watch. The product's rule is `sequential`, made as a watch makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.detection_stack import SHARE, Cell, Watched, watch
from benchmarks.rivals import RIVALS
from benchmarks.tables import Goal, cell, goals, ratio, table
from bluegreen.analysis.simulation import Detection, Judge, Traffic, compare, detection, watched
from bluegreen.analysis.verdict import FALSE_ALARMS
from bluegreen.catalog.evidence import SequentialRule

BASELINE = 0.5
CANDIDATES = (BASELINE, 2.0, 5.0, 20.0, 50.0, 100.0)
SECONDS = 300
OURS = "sequential"
RULES: Mapping[str, Callable[[], Judge]] = {
    **RIVALS,
    OURS: partial(watched, (SequentialRule(type="sequential"),), FALSE_ALARMS),
}
HARMED_MOST = 15
OF_FLAGGER_MOST = 0.1


@dataclass(frozen=True)
class Size:
    """
    How much is watched.

    :param good: drawn watches of a row whose candidate is as good as the old color
    :param bad: drawn watches of each other row
    :param lanes: real watches of each row at the same time
    :param batches: such times
    :param seconds: of one real watch
    """

    good: int
    bad: int
    lanes: int
    batches: int
    seconds: int = SECONDS


FULL = Size(good=2000, bad=500, lanes=4, batches=2)
QUICK = Size(good=20, bad=20, lanes=1, batches=1, seconds=61)


def measure(workdir: Path, say: Callable[[str], None], *, quick: bool) -> dict[str, Any]:
    """Watch drawn and real traffic and return the result."""
    size = QUICK if quick else FULL
    rows = [row for rps in (20, 100, 1000) for row in _drawn(rps, size, say)]
    cells = [Cell(rps, BASELINE, candidate) for rps in (20, 100) for candidate in CANDIDATES]
    real = watch(workdir, cells, RULES, say, lanes=size.lanes, batches=size.batches, seconds=size.seconds)
    for one in cells:
        found = {rule: detection([ends[rule] for ends in real.ends[one]]) for rule in RULES}
        rows += _rows(one, found, "stack", len(real.ends[one]))
    return {
        "rows": rows,
        "units": "baseline and candidate in per cent, stopped as a share",
        "canary_share": SHARE,
        "seconds_simulation": SECONDS,
        "seconds_stack": size.seconds,
        **_load(real),
    }


def _drawn(rps: int, size: Size, say: Callable[[str], None]) -> list[dict[str, Any]]:
    rows = []
    for candidate in CANDIDATES:
        runs = size.good if candidate == BASELINE else size.bad
        traffic = Traffic(rps, SHARE / 100, BASELINE / 100, candidate / 100, SECONDS)
        found = compare(RULES, traffic, runs)
        rows += _rows(Cell(rps, BASELINE, candidate), found, "simulation", runs)
        say(f"{rps} requests/s, {candidate:g} %: {runs} watches drawn, {found[OURS].stopped:.1%} stopped by ours")
    return rows


def _rows(one: Cell, found: Mapping[str, Detection], how: str, runs: int) -> list[dict[str, Any]]:
    return [
        {
            "rule": rule,
            "rps": one.rps,
            "baseline": one.baseline,
            "candidate": one.candidate,
            "stopped": round(seen.stopped, 4),
            "detected_s_p50": None if seen.detected_s_p50 is None else round(seen.detected_s_p50, 1),
            "harmed_mean": round(seen.harmed_mean, 2),
            "how": how,
            "runs": runs,
        }
        for rule, seen in found.items()
    ]


def _load(real: Watched) -> dict[str, Any]:
    whole = sum(used.seconds for used in real.used)
    return {
        "requests": real.requests,
        "overdue": real.overdue,
        "failed_otherwise": real.failed_otherwise,
        "cpu_share_of_load": round(sum(used.ours * used.seconds for used in real.used) / whole, 3),
        "cpu_share_of_everything": round(sum(used.everything * used.seconds for used in real.used) / whole, 3),
    }


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    kinds = dict.fromkeys((row["how"], row["rps"]) for row in result["rows"])
    head = (
        "Each cell: share of the canaries that were stopped, median seconds until then, failed requests of the canary "
        "until then (or to the end) in the mean of all.\n"
    )
    parts = [
        head,
        *(_table([row for row in result["rows"] if (row["how"], row["rps"]) == kind], result) for kind in kinds),
        _under(result),
        goals(_goals(result["rows"])),
    ]
    return "\n".join(parts)


def _table(rows: list[dict[str, Any]], result: dict[str, Any]) -> str:
    first = rows[0]
    runs = sorted({row["runs"] for row in rows}, reverse=True)
    seconds = result[f"seconds_{first['how']}"]
    title = f"{first['how']}, {first['rps']} requests/s, watches of {seconds} s, {' or '.join(map(str, runs))} a row:\n"
    by_candidate: dict[float, dict[str, str]] = {}
    for row in rows:
        by_candidate.setdefault(row["candidate"], {})[row["rule"]] = _cell(row)
    lines = [[f"{candidate:g} %", *(cells[rule] for rule in RULES)] for candidate, cells in by_candidate.items()]
    return f"{title}\n{table(['candidate fails', *RULES], lines)}"


def _cell(row: dict[str, Any]) -> str:
    after = "-" if row["detected_s_p50"] is None else f"{row['detected_s_p50']:g} s"
    return f"{100 * row['stopped']:.3g} %, {after}, {cell(row['harmed_mean'])}"


def _under(result: dict[str, Any]) -> str:
    return (
        f"Canary {result['canary_share']} %, the old color fails {BASELINE:g} %. On the stack {result['requests']:,} "
        f"requests, {result['overdue']} due but not sent, {result['failed_otherwise']} failed by anything but a color's "
        f"own 500. Load and application servers took {result['cpu_share_of_load']:.0%} of the machine, everything "
        f"together {result['cpu_share_of_everything']:.0%}.\n"
    )


def _goals(rows: list[dict[str, Any]]) -> list[Goal]:
    drawn = [row for row in rows if row["rule"] == OURS and row["how"] == "simulation"]
    alarms = [
        Goal(f"false alarms at {row['rps']} requests/s, share of good canaries", row["stopped"], FALSE_ALARMS)
        for row in drawn
        if row["candidate"] == BASELINE
    ]
    return [*alarms, *(goal for how in ("simulation", "stack") for goal in _harm(rows, how))]


def _harm(rows: list[dict[str, Any]], how: str) -> list[Goal]:
    mean = {
        (row["rule"], row["candidate"]): row["harmed_mean"] for row in rows if row["how"] == how and row["rps"] == 100
    }
    bad = [candidate for candidate in CANDIDATES if candidate >= 2]
    return [
        *(Goal(f"{how}: harmed at 100 requests/s and {c:g} %, mean", mean[OURS, c], HARMED_MOST) for c in bad),
        *(
            Goal(
                f"{how}: harmed at 100 requests/s and {c:g} %, of flagger's",
                ratio(mean[OURS, c], mean["flagger", c]),
                OF_FLAGGER_MOST,
            )
            for c in bad
            if c >= 20
        ),
    ]
