"""
`watches`: what many watches at once cost one real Airflow triggerer, and how late their samples come.

The triggerer, the trigger, HAProxy, Prometheus and the requests are real. The task instances that wait are put beside
their triggers by Airflow's own models (`deferred.py`): 500 releases would be too slow here, and so would 500 tasks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import Meter, cores
from benchmarks.tables import Goal, goals, table
from benchmarks.watched import Watched
from bluegreen.core.stamp import now_utc
from demo.airflow import AirflowStack
from demo.processes import wait_until
from demo.rest import AirflowApi
from demo.shop import ROOT

DAG = '''"""An Airflow DAG: tasks that never start, for their pool has no slot."""
from airflow.sdk import dag, task

@dag(schedule=None, is_paused_upon_creation=False)
def watches():
    @task
    def watch(number): ...
    watch.expand(number=list(range({count})))

watches()
'''
NOT_NEEDED = ("scheduler", "dag-processor", "api-server")
SAMPLE_S, QUESTION_S = 1.0, 10.0
"""`release.interval` and `evidence.interval`, as they are where a service file does not say."""
NEARLY = 0.95
"""A source is asked too often when two questions are nearer to each other than this part of the interval."""
CORES, RSS_GIB, LATE_S, ENDS_WITHIN_S = 1.0, 1.0, 2.0, 180.0


@dataclass(frozen=True)
class Size:
    """
    How much is measured.

    :param watches: at once
    :param put_s: what it may take to write the triggers
    :param begin_s: from the first moment until all are under way
    :param steady_s: what is measured
    """

    watches: int
    put_s: float
    begin_s: float
    steady_s: float


def measure(workdir: Path, say: Callable[[str], None], *, quick: bool) -> dict[str, Any]:
    """Start everything, watch, and return the result."""
    size = Size(20, 15, 8, 15) if quick else Size(500, 30, 45, 90)
    (workdir / "dags").mkdir()
    (workdir / "dags" / "watches.py").write_text(DAG.format(count=size.watches))
    environment = {"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"}
    airflow = AirflowStack(
        workdir / "airflow", workdir / "dags", ROOT / "plugins", env=environment, default_pool_slots=0
    )
    with Watched(workdir / "w", size.watches, nodes=2, rate=1.0) as watched, airflow:
        _make_tasks(airflow, size.watches)
        say(f"{size.watches} task instances wait; the triggerer is alone from here on")
        return _watch(airflow, watched, size, workdir, say)


def _make_tasks(airflow: AirflowStack, count: int) -> None:
    rest = AirflowApi(airflow.url, *airflow.login)
    rest.wait_dags({"watches"}, 60)
    run = rest.trigger("watches")["dag_run_id"]
    wait_until(lambda: len(rest.task_instances("watches", run)) == count, 120, "the task instances", 1.0)
    for component in NOT_NEEDED:
        airflow.kill(component)


def _watch(
    airflow: AirflowStack, watched: Watched, size: Size, workdir: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    watched.shift()
    since = now_utc()
    until = since + timedelta(seconds=size.put_s + size.begin_s + size.steady_s)
    specs = watched.specs(until)
    (workdir / "specs.json").write_text(json.dumps(specs))
    _deferred(airflow, "put", workdir / "specs.json")
    put = (now_utc() - since).total_seconds()
    say(f"{len(specs)} watches are asked for after {put:.0f} s")
    if put > size.put_s:
        raise RuntimeError(f"the machine is too busy: the triggers were there after {put:.0f} s, wanted {size.put_s}")
    steady = put + size.begin_s, put + size.begin_s + size.steady_s
    time.sleep(size.begin_s)
    used, memory = _steady(airflow, size.steady_s)
    say(f"{used['cores']} cores, {memory:.2f} GiB; {used['cpu_share_of_everything']} of the machine was busy")
    queries = watched.queries()
    ends = _ends(airflow, workdir / "ends.json", size.watches, (until - now_utc()).total_seconds())
    leases = [(lease - until).total_seconds() for lease in watched.leases()]
    return {"watches": size.watches, **used, "rss_gib": round(memory, 3)} | _found(
        ends, queries, since.timestamp(), steady, leases
    )


def _steady(airflow: AirflowStack, seconds: float) -> tuple[dict[str, float], float]:
    """Measure the triggerer, all its processes; return shares of time and the most memory in GiB."""
    pids = airflow.pids("triggerer")
    meter, end, most = Meter(pids), time.monotonic() + seconds, 0.0
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 5.0))
        most = max(most, airflow.memory_mib()["triggerer"] / 1024)
    share = meter.used()
    return {
        "cores": round(share.ours * cores(), 3),
        "cpu_share_of_everything": round(share.everything, 3),
        "processes": len(pids),
        "nice": os.nice(0),
        "files_open_max": max(psutil.Process(pid).num_fds() for pid in pids),
    }, most


def _ends(airflow: AirflowStack, file: Path, count: int, seconds: float) -> list[dict[str, Any]]:
    """Wait until all watches have ended, and return what each said."""
    time.sleep(max(0.0, seconds))

    def all_of_them() -> list[dict[str, Any]]:
        _deferred(airflow, "take", file)
        ends: list[dict[str, Any]] = json.loads(file.read_text())
        return ends if len(ends) == count else []

    return wait_until(all_of_them, ENDS_WITHIN_S, "the end of every watch", 5.0)


def _deferred(airflow: AirflowStack, do: str, file: Path) -> None:
    environment = psutil.Process(airflow.pids("triggerer")[0]).environ()
    subprocess.run([sys.executable, "-m", "benchmarks.deferred", do, file], env=environment, cwd=ROOT, check=True)


def _found(
    ends: Sequence[dict[str, Any]],
    queries: dict[str, list[float]],
    began: float,
    steady: tuple[float, float],
    leases: Sequence[float],
) -> dict[str, Any]:
    """
    Return the figures of the watches' own rows and of Prometheus's log.

    :param began: what the rows' seconds count from, since 1970
    :param steady: from and until, in such seconds
    :param leases: by how many seconds each lease outlasts its watch
    """
    rows = [[row[0] for row in end["verdict"]["numbers"]["evidence"]["rows"][1:]] for end in ends]
    late = [b - a - SAMPLE_S for times in rows for a, b in pairwise(times) if steady[0] <= b <= steady[1]]
    asked = {name: [at - began for at in times] for name, times in queries.items()}
    # A watch looks once more when it ends, whenever that is.
    whole = [[at for at in times if steady[0] <= at <= steady[1]] for times in rows]
    return {
        "late_s_max": round(max(late), 3),
        "late_s_p50": round(sorted(late)[len(late) // 2], 3),
        "samples": len(late),
        "began_s_max": round(max(times[0] for times in rows) - min(times[0] for times in rows), 1),
        "late_s_max_with_begin": round(max(b - a - SAMPLE_S for times in rows for a, b in pairwise(times)), 3),
        "asking_prometheus": len(asked),
        "queries": sum(map(len, asked.values())),
        "queries_per_interval_max": max(_most(whole, SAMPLE_S), _most(asked.values(), QUESTION_S)),
        "renewals_missed": sum(end["renewals_missed"] for end in ends),
        "lease_left_s_min": round(min(leases), 1),
        "reasons": sorted({end["reason"] for end in ends if end["says"] != "healthy"})[:5],
        "says": {word: sum(end["says"] == word for end in ends) for word in sorted({end["says"] for end in ends})},
    }


def _most(each: Iterable[Sequence[float]], interval: float) -> int:
    """Return how many questions of one watch were asked within an interval, at most."""
    span = interval * NEARLY
    return max(
        sum(at <= other < at + span for other in times[n : n + 20]) for times in each for n, at in enumerate(times)
    )


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    plain = [name for name in result if name not in ("size", "began", "seconds", "machine", "says", "reasons")]
    rows = [(f"`{name}`", result[name]) for name in plain]
    rows.append(("`says`", ", ".join(f"{count} {word}" for word, count in result["says"].items())))
    aims = [
        Goal("cores of the triggerer", result["cores"], CORES),
        Goal("memory of the triggerer, GiB", result["rss_gib"], RSS_GIB),
        Goal("the latest sample, s", result["late_s_max"], LATE_S),
        Goal("questions to one source in an interval, of one watch", result["queries_per_interval_max"], 1),
        Goal("renewals of a lease that were missed", result["renewals_missed"], 0),
    ]
    return "\n".join([table(("figure", ""), rows), goals(aims)])
