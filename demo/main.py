"""``make demo``: a good release goes live, a bad one puts itself back, on a real Airflow behind real HAProxy nodes."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from demo.airflow import AirflowStack
from demo.load import Load, LoadProcess, Snapshot
from demo.processes import LOOPBACK, require_free
from demo.rest import AirflowApi
from demo.shop import BAD, FIRST, GOOD, LOAD_PATHS, ROOT, Shop

RATE = 200
"""Requests per second of the load: enough for a verdict in seconds, little enough for a laptop."""

console = Console(highlight=False)


def main() -> None:
    """Run the demo; the exit code says whether everything was so."""
    options = _options()
    # Each ends it through every `finally`; a shell that starts it in the background would have Ctrl-C ignored.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    began = time.monotonic()
    try:
        with _stack(options.port) as (shop, airflow, load):
            rest = AirflowApi(airflow.url, *airflow.login)
            results = [_release(rest, shop, load, GOOD), _release(rest, shop, load, BAD)]
            ok = _tell(shop, results, load, time.monotonic() - began)
            if options.keep:
                load.start()  # without traffic, no further release would have evidence
                _keep(airflow, shop)
    except KeyboardInterrupt:
        console.print("\ninterrupted: everything was stopped")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - what it was stands in one line; the logs are in build/demo
        console.print(f"[red]demo failed:[/] {type(error).__name__}: {error}", soft_wrap=True)
        sys.exit(1)
    sys.exit(0 if ok else 1)


@contextmanager
def _stack(port: int) -> Iterator[tuple[Shop, AirflowStack, LoadProcess]]:
    work = ROOT / "build" / "demo"
    ports = [port, *range(port + 1, port + 7)]
    require_free(ports, "make demo (choose others with make demo PORT=...)")
    shutil.rmtree(work, ignore_errors=True)
    shop = Shop(_work_folder(work), ports[1:])
    airflow = AirflowStack(
        work / "airflow",
        ROOT / "dags",
        ROOT / "plugins",
        port=port,
        env={"BLUEGREEN_SERVICES": str(shop.services_folder), "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"},
    )
    targets = [(LOOPBACK, node.entry_port) for node in shop.nodes]
    load = LoadProcess(Load(targets, host_header="shop.test", connections=20, rate=RATE, paths=LOAD_PATHS), work)
    try:
        console.print(f"starting {FIRST} on blue, two HAProxy nodes, and Airflow …")
        with ThreadPoolExecutor() as threads:
            starting = threads.submit(shop.start)
            airflow.start()
            starting.result()
        _bluegreen(shop, "adopt", shop.name, "--version", FIRST, "--reason", "the demo begins")
        AirflowApi(airflow.url, *airflow.login).wait_dags({f"release__{shop.name}", "guardian"}, 60)
        load.start()
        yield shop, airflow, load
    finally:
        load.kill()
        airflow.stop()
        shop.stop()


def _release(rest: AirflowApi, shop: Shop, load: LoadProcess, version: str) -> dict[str, Any]:
    """Release a version with live progress; return what happened."""
    dag = f"release__{shop.name}"
    run = rest.trigger(dag, {"version": version})["dag_run_id"]
    console.print(f"\n[bold]release__{shop.name} {version}[/]  ({run})")
    with _progress(load) as states:
        ended = rest.wait_run(dag, run, 150, on_change=lambda task, state: states.update({task: state or "none"}))
    load.wait_for_next()
    note = rest.note(dag, run)
    console.print(f"  {ended['state']}: {note}", soft_wrap=True)
    watches = [
        rest.xcom(dag, run, task, "end")
        for task in ("canary_1_watch", "watch")
        if states.get(task) in ("success", "failed")
    ]
    return {"version": version, "run": run, "state": ended["state"], "note": note, "watches": [w for w in watches if w]}


@contextmanager
def _progress(load: LoadProcess) -> Iterator[dict[str, str]]:
    states: dict[str, str] = {}
    done = threading.Event()

    def draw() -> None:
        last = load.snapshot()
        with Live(console=console, refresh_per_second=4, transient=not console.is_terminal) as live:
            while not done.wait(0.5):
                now = load.snapshot()
                live.update(_line(states, last, now))
                last = now

    drawing = threading.Thread(target=draw)
    drawing.start()
    try:
        yield states
    finally:
        done.set()
        drawing.join()


def _line(states: dict[str, str], last: Snapshot, now: Snapshot) -> Text:
    shares = {color: max(0, now.of(color).requests - last.of(color).requests) for color in ("blue", "green")}
    total = sum(shares.values()) or 1
    blue = round(30 * shares["blue"] / total)
    line = Text("  ")
    line.append("█" * blue, style="blue").append("█" * (30 - blue), style="green")
    line.append(f"  blue {100 * shares['blue'] / total:3.0f} %  requests {now.requests:6d}  failed {now.failed:4d}  ")
    busy = [task for task, state in states.items() if state in ("running", "deferred", "queued")]
    line.append(", ".join(busy) or "…", style="bold")
    return line


def _tell(shop: Shop, results: list[dict[str, Any]], load: LoadProcess, seconds: float) -> bool:
    """Print the table, write the report, and say whether everything was as it should be."""
    status = json.loads(_bluegreen(shop, "status", shop.name, "--json", answers=(0, 1)))[0]
    final = load.stop()
    row = _figures(results, status, final, load)
    good = row["good"] == "promoted" and row["bad"] == "restored" and row["failed_by_release"] == 0
    good = good and status["live"] == row["live"] and row["harmed_by_bad_version"] > 0
    report = {"services": {shop.name: row}, "seconds": round(seconds, 1), "ok": good}
    (ROOT / "build" / "demo-report.json").write_text(json.dumps(report, indent=2) + "\n")
    table = Table(title="what happened", show_header=False)
    for key, value in row.items():
        table.add_row(key, str(value))
    console.print(table)
    console.print(f"{'ok' if good else '[red]NOT ok[/]'} after {seconds:.0f} s; build/demo-report.json")
    return good


def _figures(
    results: list[dict[str, Any]], status: dict[str, Any], final: Snapshot, load: LoadProcess
) -> dict[str, Any]:
    good, bad = results
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
        "p99_ms": load.p99_ms(),
    }


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return round((end - begin).total_seconds(), 3) if begin and end else None


def _keep(airflow: AirflowStack, shop: Shop) -> None:
    user, password = airflow.login
    console.print(f"\nAirflow {airflow.url}  user {user}  password {password}")
    console.print(f"the shop http://{shop.nodes[0].entry}/ and http://{shop.nodes[1].entry}/")
    console.print(f"BLUEGREEN_SERVICES={shop.services_folder} .venv/bin/bluegreen status shop", soft_wrap=True)
    console.print("Ctrl-C stops everything")
    threading.Event().wait()


def _bluegreen(shop: Shop, *arguments: str, answers: tuple[int, ...] = (0,)) -> str:
    """Run the project's own command, as a person would; other exit codes than ``answers`` end the demo."""
    environment = os.environ | {"BLUEGREEN_SERVICES": str(shop.services_folder), "PYTHONPATH": str(ROOT / "plugins")}
    command = [str(Path(sys.executable).with_name("bluegreen")), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in answers:
        raise RuntimeError(f"bluegreen {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument("--port", type=int, default=18080, help="of Airflow's UI; the six above it are taken too")
    return parser.parse_args()


def _work_folder(build: Path) -> Path:
    """Where the nodes run: in the clone, unless it lies too deep for the path of a unix socket."""
    return build if len(str(build)) < 60 else Path(tempfile.mkdtemp(prefix="bluegreen-demo-"))


if __name__ == "__main__":
    main()
