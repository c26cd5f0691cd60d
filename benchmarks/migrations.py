"""
`migrations`: what a schema change costs an application that reads and writes a table of a million rows all the while.

The same ALTER twice while a long transaction holds the table, once by the product's runner and once by hand; then the
backfill, throttled beside the application and unthrottled without it; and the linter on five hundred files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.database_app import CONNECTIONS, RATE, Application, Seen
from benchmarks.machine import Meter, Used
from benchmarks.migration_files import STATEMENTS, migrations
from benchmarks.migrations_side import SAFE_SERVER, Side, retries
from benchmarks.observed import percentile_ms
from benchmarks.tables import Goal, goals, ratio, table
from bluegreen.catalog.migrations import Backfill
from bluegreen.core.errors import MigrationFailed
from bluegreen.migrations.backfill import Done
from bluegreen.migrations.lint import lint
from tests.rigs.postgres import postgres

HOLD_S = 2.5
"""How long the long transaction holds the table."""
AFTER_S = 1.0
"""Requests due so long after a change still belong to it."""
WARM_UP_S = 3.0
LINT_FILES = 500
LEAST_ROWS_PER_S = 20_000
LOCK_TIMEOUTS_MOST = 1.5
FIGURES = (("requests", ""), ("p50", "_ms"), ("p99", "_ms"), ("worst", "_ms"))
Window = tuple[float, float]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """
    How much is measured.

    :param rows: of the table
    :param rounds: each a stretch without a change, the naive change and the product's
    :param baseline_s: of such a stretch
    :param stretch_s: with and without the throttled backfill, in turn until it is done
    """

    rows: int
    rounds: int
    baseline_s: float
    stretch_s: float


FULL = Size(rows=1_000_000, rounds=5, baseline_s=8, stretch_s=6)
QUICK = Size(rows=100_000, rounds=1, baseline_s=4, stretch_s=1)


def measure(workdir: Path, say: Say, *, quick: bool) -> dict[str, Any]:
    """Measure all parts and return the result."""
    size = QUICK if quick else FULL
    whole = Meter([])
    with postgres(**SAFE_SERVER) as server:
        busy = Side(server, server.database(), workdir / "busy")
        busy.fill(size.rows)
        say(f"{size.rows:,} rows are there")
        quiet = Side(server, server.database(busy.dbname), workdir / "quiet")
        found = _locks(busy, size, workdir, say) | _throttled(busy, size, workdir, say) | _unthrottled(quiet, say)
        version = server.connect().info.parameter_status("server_version")
    return {
        "rows": size.rows,
        "rate": RATE,
        "connections": CONNECTIONS,
        "postgresql": version,
        "lock_timeout_ms": round(busy.settings.lock_timeout.total_seconds() * 1000),
        "held_s": HOLD_S,
        **found,
        **_linted(say),
        "cpu_share_of_everything": round(whole.used().everything, 3),
    }


@dataclass
class _Rounds:
    """When what was done, by the monotonic clock."""

    baseline: list[Window] = field(default_factory=list)
    naive: list[Window] = field(default_factory=list)
    expand: list[Window] = field(default_factory=list)
    retries: int = 0

    def one(self, side: Side, size: Size) -> None:
        """Measure one round."""
        self.baseline.append(_timed(lambda: time.sleep(size.baseline_s), after_s=0))
        self.naive.append(_change(side, side.naive))
        side.forget()
        side.told.clear()
        self.expand.append(_change(side, side.expand))
        self.retries += retries(side.told)


def _timed(action: Callable[[], object], after_s: float = AFTER_S) -> Window:
    begin = time.monotonic()
    action()
    end = time.monotonic() + after_s
    time.sleep(after_s)
    return begin, end


def _change(side: Side, action: Callable[[], object]) -> Window:
    time.sleep(AFTER_S)
    with side.held(HOLD_S):
        return _timed(action)


def _locks(side: Side, size: Size, workdir: Path, say: Say) -> dict[str, Any]:
    """Change the schema while the application works and a long transaction holds the table, by both ways in turn."""
    rounds = _Rounds()
    with Application(side.url, size.rows, workdir, "locks") as application:
        time.sleep(WARM_UP_S)
        for number in range(size.rounds):
            if number:
                side.forget()
            rounds.one(side, size)
        seen = application.stop()
    parts = {name: seen.within(*getattr(rounds, name)) for name in ("baseline", "naive", "expand")}
    say(", ".join(f"{name}: worst {part.worst_ms:.0f} ms" for name, part in parts.items()))
    return {
        **{f"{name}_worst_query_ms": part.worst_ms for name, part in parts.items()},
        **{f"{name}_p99_ms": part.p99_ms for name, part in parts.items()},
        **{f"{name}_requests": len(part.requests) for name, part in parts.items()},
        "expand_s": _lengths(rounds.expand),
        "naive_s": _lengths(rounds.naive),
        "expand_retries": rounds.retries,
        "failed_during_changes": dict(seen.failures),
    }


def _lengths(windows: Sequence[Window]) -> list[float]:
    return [round(end - begin - AFTER_S, 3) for begin, end in windows]


@dataclass
class _Stretches:
    """Stretches without the backfill and with it, in turn, so that whatever else the machine does meets both."""

    without: list[Window] = field(default_factory=list)
    beside: list[Window] = field(default_factory=list)
    used: dict[str, list[Used]] = field(default_factory=lambda: {"before": [], "during": []})
    done: Done | None = None

    def one(self, side: Side, seconds: float, pid: int) -> None:
        """Measure one of both; the backfill is ended by its time, and goes on in the next."""
        meter = Meter([pid])
        self.without.append(_timed(lambda: time.sleep(seconds), after_s=0))
        self.used["before"].append(meter.used())
        meter = Meter([pid])
        self.beside.append(_timed(lambda: self._go_on(side, seconds), after_s=0))
        self.used["during"].append(meter.used())

    def _go_on(self, side: Side, seconds: float) -> None:
        limits = side.settings.backfill.model_copy(update={"timeout": timedelta(seconds=seconds)})
        try:
            self.done = side.backfill(limits)
        except MigrationFailed as error:
            if "backfill.timeout" not in error.fact:
                raise

    @property
    def seconds(self) -> float:
        """Of the backfill, its pauses included."""
        return sum(end - begin for begin, end in self.beside)

    def everything(self, part: str) -> float:
        """The share of the machine that was taken by all."""
        return sum(one.everything * one.seconds for one in self.used[part]) / sum(
            one.seconds for one in self.used[part]
        )


def _throttled(side: Side, size: Size, workdir: Path, say: Say) -> dict[str, Any]:
    """Do the backfill with its default limits beside the application."""
    turns = _Stretches()
    with Application(side.url, size.rows, workdir, "throttled") as application:
        time.sleep(WARM_UP_S)
        while turns.done is None:
            turns.one(side, size.stretch_s, application.process.pid)
        seen = application.stop()
    done = turns.done
    before, during = seen.within(*turns.without), seen.within(*turns.beside)
    p99 = ratio(during.p99_ms, before.p99_ms)
    say(
        f"throttled: {done.rows / turns.seconds:,.0f} rows/s, p99 {before.p99_ms} ms before, {during.p99_ms} ms during it"
    )
    return {
        "throttled_rows_per_s": round(done.rows / turns.seconds),
        "throttled_s": round(turns.seconds, 1),
        "throttled_batches": done.batches,
        "throttled_batches_s": round(done.seconds, 1),
        "throttled_stretches": len(turns.beside),
        **_latencies("before", before),
        **_latencies("during", during),
        "throttled_p99_ratio": p99,
        "failed_beside_backfill": dict(seen.failures),
        "cpu_share_of_load": round(median(one.ours for one in turns.used["before"]), 3),
        **{f"cpu_share_{part}": round(turns.everything(part), 3) for part in turns.used},
    }


def _latencies(part: str, seen: Seen) -> dict[str, Any]:
    return {
        f"throttled_requests_{part}": len(seen.requests),
        f"throttled_p50_{part}_ms": percentile_ms(seen.latencies, 50),
        f"throttled_p99_{part}_ms": seen.p99_ms,
        f"throttled_worst_{part}_ms": seen.worst_ms,
    }


def _unthrottled(side: Side, say: Say) -> dict[str, Any]:
    """Do the backfill as fast as it goes, with nobody else at the database."""
    side.expand()
    meter, begin = Meter([]), time.monotonic()
    done = side.backfill(Backfill(share=1))
    seconds, used = time.monotonic() - begin, meter.used()
    say(f"unthrottled: {done.rows:,} rows in {seconds:.1f} s, {done.rows / seconds:,.0f} rows/s")
    return {
        "backfill_rows": done.rows,
        "backfill_s": round(seconds, 2),
        "backfill_rows_per_s": round(done.rows / seconds),
        "cpu_share_unthrottled": round(used.everything, 3),
    }


def _linted(say: Say) -> dict[str, Any]:
    files = migrations(LINT_FILES)
    seconds = []
    for _ in range(3):
        begin = time.monotonic()
        found = lint(files, database_type="postgresql")
        seconds.append(time.monotonic() - begin)
    say(f"lint: {LINT_FILES} files in {', '.join(f'{one:.2f}' for one in seconds)} s, {len(found)} findings")
    return {
        "lint_500_files_s": round(max(seconds), 3),
        "lint_500_files_s_p50": round(median(seconds), 3),
        "lint_statements": LINT_FILES * STATEMENTS,
        "lint_findings": len(found),
    }


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    stretches = [
        [name, *(result[f"{key}_{what}"] for what in ("requests", "p99_ms", "worst_query_ms")), _span(result, key)]
        for key, name in (("baseline", "no change"), ("expand", "the product's runner"), ("naive", "by hand"))
    ]
    beside = [
        [f"{name} the backfill", *(result[f"throttled_{what}_{name}{unit}"] for what, unit in FIGURES)]
        for name in ("before", "during")
    ]
    parts = [
        "The change while a long transaction holds the table:\n",
        table(["schema change", "requests", "p99, ms", "worst, ms", "s until it was made"], stretches),
        "The application beside the backfill with its default limits:\n",
        table(["stretches", "requests", "p50, ms", "p99, ms", "worst, ms"], beside),
        _under(result),
        goals(_goals(result)),
    ]
    return "\n".join(parts)


def _span(result: dict[str, Any], key: str) -> str:
    lengths = result.get(f"{key}_s")
    return f"{min(lengths):.2f} to {max(lengths):.2f}" if lengths else ""


def _under(result: dict[str, Any]) -> str:
    failed = sum(sum(result[name].values()) for name in ("failed_during_changes", "failed_beside_backfill"))
    return (
        f"PostgreSQL {result['postgresql']}, {result['rows']:,} rows, {result['rate']:g} requests/s on "
        f"{result['connections']} connections, {failed} failed. The table was held for {result['held_s']:g} s; the "
        f"runner tried {result['expand_retries']} times more in {len(result['expand_s'])} changes. Backfill: "
        f"{result['throttled_rows_per_s']:,} rows/s throttled, {result['backfill_rows_per_s']:,} rows/s unthrottled "
        f"without the application. Everything together took {result['cpu_share_before']:.0%} of the machine without a "
        f"backfill, {result['cpu_share_during']:.0%} during the throttled one, {result['cpu_share_unthrottled']:.0%} during "
        f"the other, {result['cpu_share_of_everything']:.0%} in all. {result['lint_statements']:,} statements "
        f"linted, {result['lint_findings']} findings.\n"
    )


def _goals(result: dict[str, Any]) -> list[Goal]:
    worst, baseline = result["expand_worst_query_ms"], result["baseline_worst_query_ms"]
    return [
        Goal("worst query during expand, ms above its baseline", round(worst - baseline, 1), _allowed(result)),
        Goal("s for 20,000 rows, unthrottled", ratio(LEAST_ROWS_PER_S, result["backfill_rows_per_s"]), 1),
        Goal("p99 of the application during the throttled backfill / before", result["throttled_p99_ratio"], 2),
        Goal("lint of 500 files, s", result["lint_500_files_s"], 10),
    ]


def _allowed(result: dict[str, Any]) -> float:
    return LOCK_TIMEOUTS_MOST * float(result["lock_timeout_ms"])
