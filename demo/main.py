"""``make demo``: a good release goes live and a bad one puts itself back, of a service behind real HAProxy and one behind real nginx."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from demo.load import LoadProcess
from demo.processes import require_free
from demo.rest import AirflowApi
from demo.shop import BAD, FIRST, GOOD, PORTS, ROOT, Shop
from demo.stack import Stack, running, side_by_side

RATE = 200
"""Requests per second of the load: enough for a verdict in seconds, little enough for a laptop."""

ROUTERS = {"shop": "haproxy", "pay": "nginx"}
"""Service -> kind of router before it."""

console = Console(highlight=False)


def main() -> None:
    """Run the demo; the exit code says whether everything was so."""
    options = _options()
    # Each ends it through every `finally`; a shell that starts it in the background would have Ctrl-C ignored.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    began = time.monotonic()
    try:
        with _stack(options.port) as stack:
            good, bad = _release_all(stack, GOOD), _release_all(stack, BAD)
            ok = _tell(stack, good, bad, time.monotonic() - began)
            if options.keep:
                for load in stack.loads.values():
                    load.start()  # without traffic, no further release would have evidence
                _keep(stack)
    except KeyboardInterrupt:
        console.print("\ninterrupted: everything was stopped")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - what it was stands in one line; the logs are in build/demo
        console.print(f"[red]demo failed:[/] {type(error).__name__}: {error}", soft_wrap=True)
        sys.exit(1)
    sys.exit(0 if ok else 1)


@contextmanager
def _stack(port: int) -> Iterator[Stack]:
    build = ROOT / "build" / "demo"
    ports = [port, *range(port + 1, port + 1 + PORTS * len(ROUTERS))]
    require_free(ports, "make demo (choose others with make demo PORT=...)")
    shutil.rmtree(build, ignore_errors=True)
    # In the clone, unless it lies too deep for the path of a unix socket.
    work = build if len(str(build)) < 60 else Path(tempfile.mkdtemp(prefix="bluegreen-demo-"))
    shops = [
        Shop(work / name, ports[1 + PORTS * n :][:PORTS], name, router, services_folder=work / "services")
        for n, (name, router) in enumerate(ROUTERS.items())
    ]
    names = ", ".join(f"{shop.name} behind two {shop.router} nodes" for shop in shops)
    console.print(f"starting {FIRST} on blue of {names}, and Airflow …")
    with running(shops, build / "airflow", RATE, port=port) as stack:
        yield stack


def _release_all(stack: Stack, version: str) -> dict[str, dict[str, Any]]:
    """Release a version of every service at the same time, with live progress; return what happened to each."""
    console.print()
    lines = {shop.name: _Line(shop.name, stack.loads[shop.name]) for shop in stack.shops}
    work = {shop.name: partial(_release, stack.rest(), shop, lines[shop.name], version) for shop in stack.shops}
    with Live(console=console, refresh_per_second=4, transient=not console.is_terminal) as live:
        return side_by_side(work, lambda: live.update(Group(*(line.draw() for line in lines.values()))))


def _release(rest: AirflowApi, shop: Shop, line: _Line, version: str) -> dict[str, Any]:
    dag = f"release__{shop.name}"
    run = rest.trigger(dag, {"version": version})["dag_run_id"]
    console.print(f"[bold]release__{shop.name} {version}[/]  ({run})")
    states = line.states
    ended = rest.wait_run(dag, run, 150, on_change=lambda task, state: states.update({task: state or "none"}))
    line.load.wait_for_next()
    note = rest.note(dag, run)
    console.print(f"  {shop.name}: {ended['state']}: {note}", soft_wrap=True)
    watches = [
        rest.xcom(dag, run, task, "end")
        for task in ("canary_1_watch", "watch")
        if states.get(task) in ("success", "failed")
    ]
    return {"version": version, "run": run, "state": ended["state"], "note": note, "watches": [w for w in watches if w]}


class _Line:
    """One service's live progress: who answers, how many, and what Airflow is at."""

    def __init__(self, name: str, load: LoadProcess) -> None:
        self.name, self.load, self.states = name, load, dict[str, str]()
        self._last = load.snapshot()

    def draw(self) -> Text:
        """Return the line as of now."""
        now, last = self.load.snapshot(), self._last
        self._last = now
        shares = {color: max(0, now.of(color).requests - last.of(color).requests) for color in ("blue", "green")}
        total = sum(shares.values()) or 1
        blue = round(30 * shares["blue"] / total)
        line = Text(f"  {self.name:8} ")
        line.append("█" * blue, style="blue").append("█" * (30 - blue), style="green")
        line.append(
            f"  blue {100 * shares['blue'] / total:3.0f} %  requests {now.requests:6d}  failed {now.failed:4d}  "
        )
        busy = [task for task, state in self.states.items() if state in ("running", "deferred", "queued")]
        return line.append(", ".join(busy) or "…", style="bold")


def _tell(stack: Stack, good: dict[str, Any], bad: dict[str, Any], seconds: float) -> bool:
    """Print the table, write the report, and say whether everything was as it should be."""
    found = json.loads(stack.bluegreen("status", "--json", answers=(0, 1)))
    status = {one["service"]: one for one in found}
    rows = {
        shop.name: _figures(good[shop.name], bad[shop.name], status[shop.name], stack.loads[shop.name])
        for shop in stack.shops
    }
    ok = all(_as_promised(row, status[name]) for name, row in rows.items())
    report = {"services": rows, "seconds": round(seconds, 1), "ok": ok}
    (ROOT / "build" / "demo-report.json").write_text(json.dumps(report, indent=2) + "\n")
    table = Table("", *rows, title="what happened")
    for key in rows[stack.shops[0].name]:
        table.add_row(key, *(str(row[key]) for row in rows.values()))
    console.print(table)
    console.print(f"{'ok' if ok else '[red]NOT ok[/]'} after {seconds:.0f} s; build/demo-report.json")
    return ok


def _as_promised(row: dict[str, Any], status: dict[str, Any]) -> bool:
    told = (row["good"], row["bad"], row["failed_by_release"], row["live"])
    return told == ("promoted", "restored", 0, status["live"]) and row["harmed_by_bad_version"] > 0


def _figures(good: dict[str, Any], bad: dict[str, Any], status: dict[str, Any], load: LoadProcess) -> dict[str, Any]:
    final = load.stop()
    end = next((w for w in bad["watches"] if w["says"] == "unhealthy"), {})
    at = {key: datetime.fromisoformat(end[key]) for key in ("verdict_at", "restored_at") if end.get(key)}
    # What the bad version answers with an error is its own harm; every other failed request would be ours.
    harmed = sum(series.failures.get("status_5xx", 0) for series in final.series if series.version == BAD)
    last_bad = max((series.last_end or 0 for series in final.series if series.version == BAD), default=0)
    return {
        "good": "promoted" if good["state"] == "success" else good["state"],
        "bad": "restored" if bad["state"] == "failed" and end.get("restored") else bad["state"],
        "live": "green" if good["state"] == "success" else "blue",
        "live_version": status["deployed"][status["live"]]["version"] if status["live"] else None,
        "requests": final.requests,
        "failed_by_release": final.failed - harmed,
        "harmed_by_bad_version": harmed,
        "answers_of_bad_version": sum(series.requests for series in final.series if series.version == BAD),
        "verdict_to_restored_s": _seconds(at.get("verdict_at"), at.get("restored_at")),
        "verdict_to_last_bad_answer_s": round(last_bad - at["verdict_at"].timestamp(), 3)
        if "verdict_at" in at
        else None,
        "p99_ms": round(load.p99_ms() or 0.0, 1),
    }


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return round((end - begin).total_seconds(), 3) if begin and end else None


def _keep(stack: Stack) -> None:
    user, password = stack.airflow.login
    console.print(f"\nAirflow {stack.airflow.url}  user {user}  password {password}")
    for shop in stack.shops:
        console.print(f"{shop.name} http://{shop.nodes[0].entry}/ and http://{shop.nodes[1].entry}/")
    console.print(f"BLUEGREEN_SERVICES={stack.catalog} .venv/bin/bluegreen status", soft_wrap=True)
    console.print("Ctrl-C stops everything")
    threading.Event().wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument(
        "--port", type=int, default=18080, help=f"of Airflow's UI; the {PORTS * len(ROUTERS)} above it are taken too"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
