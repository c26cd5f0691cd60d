"""
`release`: what Airflow costs beside the work, and how fast a bad version is gone, on a real Airflow under load.

Good releases with short watches and chains of tasks that do nothing take turns on the same stack; then come releases
of a version that fails under traffic.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

from benchmarks.tables import Goal, cell, goals, table
from bluegreen.catalog.load import load_service
from bluegreen.core.errors import SecretMissing
from bluegreen.release.adopt import adopt
from bluegreen.release.wiring import ports_for
from demo.airflow import AirflowStack
from demo.load import Load, LoadProcess
from demo.processes import LOOPBACK
from demo.rest import AirflowApi, ApiError
from demo.shop import BAD, FIRST, LOAD_PATHS, ROOT, Shop

WATCH_S = 3.0
RATE = 200
CONNECTIONS = 20
RUN_WITHIN_S = 180.0
A_TASK_S, A_DEFERRAL_S, GONE_S = 0.5, 3.0, 2.0
WATCHES = "WatchSensor"

PLAIN, IMPORTING = "empty_chain", "empty_chain_importing"
CHAIN = '''"""An Airflow DAG: a chain of worker tasks that do nothing."""
from itertools import pairwise
from airflow.sdk import dag, task
{imports}

@dag(dag_id="{name}", schedule=None, is_paused_upon_creation=False)
def empty():
    @task
    def nothing() -> None: ...
    tasks = [nothing.override(task_id=f"nothing_{{number}}")() for number in range({tasks})]
    for before, after in pairwise(tasks):
        before >> after

empty()
'''
IMPORTS = """
from bluegreen.catalog.load import load_service, services_folder
from bluegreen.dagkit import release_dag
load_service(services_folder(), "{service}")
"""


@dataclass(frozen=True)
class Size:
    """How many runs of each kind; the first release warms everything up and is not counted."""

    good: int
    bad: int


FULL, QUICK = Size(good=7, bad=5), Size(good=2, bad=1)


@dataclass(frozen=True)
class Ran:
    """
    One DAG run, in seconds.

    :param whole: from its start to its end
    :param tasks: each task that ran and did not defer: from its start to its end
    :param watched: sum of the watches' lengths
    :param deferrals: tasks that deferred
    """

    whole: float
    tasks: Sequence[float]
    watched: float
    deferrals: int

    @property
    def between(self) -> float:
        """What lies between the tasks."""
        return self.whole - sum(self.tasks) - self.watched

    def beyond_work(self, a_start: float) -> float:
        """What is not work: between the tasks, and each task's own start."""
        return self.whole - sum(max(0.0, seconds - a_start) for seconds in self.tasks) - self.watched


@dataclass
class _Bad:
    """What the releases of the bad version have shown; all in seconds."""

    to_restored: list[float] = field(default_factory=list)
    to_last_answer: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def measure(workdir: Path, say: Callable[[str], None], *, quick: bool) -> dict[str, Any]:
    """Start a stack, run all releases and return the result."""
    size = QUICK if quick else FULL
    with _stack(workdir) as (api, airflow, load):
        bench = _Bench(api, load, say)
        chain = bench.good("2.0.0")
        tasks = len(chain.tasks) + chain.deferrals
        _add_chains(workdir, tasks)
        api.wait_dags({PLAIN, IMPORTING}, 120)
        found: dict[str, list[Ran]] = {"good": [], PLAIN: [], IMPORTING: []}
        for number in range(1, size.good + 1):
            found["good"].append(bench.good(f"2.{number}.0"))
            found[PLAIN].append(bench.chain(PLAIN))
            found[IMPORTING].append(bench.chain(IMPORTING))
        bad = _Bad()
        for _ in range(size.bad):
            bench.bad(bad)
        memory = airflow.memory_mib()
        final = load.stop()
    harmed = sum(series.failures.get("status_5xx", 0) for series in final.series if series.version == BAD)
    return _figures(found, bad, tasks) | {
        "failed_by_release": final.failed - harmed,
        "requests": final.requests,
        "memory_mib": {name: round(mib, 1) for name, mib in memory.items()} | {"total": round(sum(memory.values()))},
    }


@dataclass(frozen=True)
class _Bench:
    api: AirflowApi
    load: LoadProcess
    say: Callable[[str], None]

    def good(self, version: str) -> Ran:
        """Release a good version."""
        dag, run = self._run("release__shop", "success", {"version": version})
        return self._ran(dag, run, version)

    def chain(self, dag: str) -> Ran:
        """Run a chain of tasks that do nothing."""
        return self._ran(*self._run(dag, "success", {}), dag)

    def bad(self, into: _Bad) -> None:
        """Release the bad version, and look when its last answer came."""
        dag, run = self._run("release__shop", "failed", {"version": BAD, "canary_watch": "60s"})
        try:
            end = self.api.xcom(dag, run["dag_run_id"], "canary_1_watch", "end")
            at = {key: datetime.fromisoformat(end[key]).timestamp() for key in ("verdict_at", "restored_at")}
        except (ApiError, TypeError, KeyError) as error:
            into.problems.append(f"the watch left no restore: {error}; {self.api.note(dag, run['dag_run_id'])}")
            return
        into.to_restored.append(at["restored_at"] - at["verdict_at"])
        last = self._last_answer(BAD, since=_time(run["start_date"]))
        if last is None:
            into.problems.append("the bad version never answered")
        else:
            into.to_last_answer.append(last - at["verdict_at"])
        self.say(f"{BAD}: restored {into.to_restored[-1]:.2f} s after the verdict, last answer {into.to_last_answer}")

    def _last_answer(self, version: str, since: float) -> float | None:
        series = self.load.wait_for_next().series
        ends = [
            one.start + one.latency_s
            for one in self.load.records()
            if one.start >= since and series[one.series].version == version
        ]
        return max(ends, default=None)

    def _run(self, dag: str, wanted: str, conf: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        run_id = self.api.trigger(dag, conf)["dag_run_id"]
        run = self.api.wait_run(dag, run_id, RUN_WITHIN_S)
        if run["state"] != wanted:
            raise RuntimeError(f"{dag} {conf} is {run['state']}, wanted {wanted}: {run['note']}")
        return dag, run

    def _ran(self, dag: str, run: dict[str, Any], what: str) -> Ran:
        tasks = [task for task in self.api.task_instances(dag, run["dag_run_id"]) if task["state"] == "success"]
        deferred = [task for task in tasks if task["operator_name"] == WATCHES]
        seconds = [_time(task["end_date"]) - _time(task["start_date"]) for task in tasks if task not in deferred]
        whole = _time(run["end_date"]) - _time(run["start_date"])
        ran = Ran(whole, seconds, WATCH_S * len(deferred), len(deferred))
        self.say(f"{what}: {whole:.2f} s, {len(tasks)} tasks, {ran.between:.2f} s between them")
        return ran


def _figures(found: dict[str, list[Ran]], bad: _Bad, tasks: int) -> dict[str, Any]:
    a_start = median(seconds for ran in found[IMPORTING] for seconds in ran.tasks)
    deferrals = found["good"][0].deferrals
    result = {
        "tasks": tasks,
        "deferrals": deferrals,
        "releases": len(found["good"]),
        "release_s": _median(ran.whole for ran in found["good"]),
        "watch_s": found["good"][0].watched,
        "orchestration_s": _median(ran.beyond_work(a_start) for ran in found["good"]),
        "orchestration_s_max": round(max(ran.beyond_work(a_start) for ran in found["good"]), 3),
        "allowed_s": A_TASK_S * tasks + A_DEFERRAL_S * deferrals,
        "between_tasks_s": _median(ran.between for ran in found["good"]),
        "task_start_s": round(a_start, 3),
        "empty_chain_s": _median(ran.whole for ran in found[PLAIN]),
        "empty_chain_importing_s": _median(ran.whole for ran in found[IMPORTING]),
        "bad_releases": len(bad.to_restored),
        "verdict_to_restored_s": _median(bad.to_restored),
        "verdict_to_restored_s_max": round(max(bad.to_restored), 3) if bad.to_restored else None,
        "verdict_to_last_bad_answer_s": _median(bad.to_last_answer),
        "verdict_to_last_bad_answer_s_max": round(max(bad.to_last_answer), 3) if bad.to_last_answer else None,
    }
    missing = [name for name, value in result.items() if value is None]
    return result | ({"reasons": dict.fromkeys(missing, "; ".join(bad.problems))} if missing else {})


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    rows = [
        ("tasks that run, of which defer", f"{result['tasks']}, {result['deferrals']}"),
        ("a release, s (its watches)", f"{result['release_s']:.3g} ({result['watch_s']:g})"),
        ("orchestration, s (the slowest release)", _with_max(result, "orchestration_s")),
        ("of which between the tasks, s", result["between_tasks_s"]),
        ("start of one task, s", result["task_start_s"]),
        ("as many empty tasks, s", result["empty_chain_s"]),
        ("as many empty tasks that import the product, s", result["empty_chain_importing_s"]),
        ("verdict to restored and proven, s (the slowest)", _with_max(result, "verdict_to_restored_s")),
        ("verdict to the last bad answer, s (the latest)", _with_max(result, "verdict_to_last_bad_answer_s")),
        ("requests, failed by a release", f"{result['requests']:,}, {result['failed_by_release']}"),
        *((f"memory of the {name}, MiB", float(size)) for name, size in result["memory_mib"].items()),
    ]
    allowed = f"orchestration, s ({A_TASK_S:g} a task + {A_DEFERRAL_S:g} a deferral)"
    aims = [
        Goal(allowed, result["orchestration_s"], result["allowed_s"]),
        Goal("verdict to the last bad answer, s, the latest", result["verdict_to_last_bad_answer_s_max"], GONE_S),
        Goal("requests failed by a release", result["failed_by_release"], 0),
    ]
    text = f"Medians of {result['releases']} good and {result['bad_releases']} bad releases.\n"
    return "\n".join([table(("figure", ""), rows), text, goals(aims)])


def _with_max(result: dict[str, Any], name: str) -> str:
    values = (result[name], result[f"{name}_max"])
    return cell(None) if None in values else "{:.3g} ({:.3g})".format(*values)


@contextmanager
def _stack(workdir: Path) -> Iterator[tuple[AirflowApi, AirflowStack, LoadProcess]]:
    shutil.copytree(ROOT / "dags", workdir / "dags")
    shop = Shop(workdir / "shop", canary=WATCH_S, watch=WATCH_S)
    environment = {"BLUEGREEN_SERVICES": str(shop.services_folder), "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"}
    airflow = AirflowStack(workdir / "airflow", workdir / "dags", ROOT / "plugins", env=environment)
    targets = [(LOOPBACK, node.entry_port) for node in shop.nodes]
    load = LoadProcess(
        Load(targets, host_header="shop.test", connections=CONNECTIONS, rate=RATE, paths=LOAD_PATHS), workdir
    )
    try:
        shop.start()
        airflow.start()
        adopt(ports_for(load_service(shop.services_folder, shop.name), _no_secrets), "benchmark", "it begins", FIRST)
        api = AirflowApi(airflow.url, *airflow.login)
        api.wait_dags({"release__shop", "guardian"}, 120)
        load.start()
        yield api, airflow, load
    finally:
        load.kill()
        airflow.stop()
        shop.stop()


def _add_chains(workdir: Path, tasks: int) -> None:
    for name, imports in ((PLAIN, ""), (IMPORTING, IMPORTS.format(service="shop"))):
        text = CHAIN.format(name=name, tasks=tasks, imports=imports)
        fresh = workdir / f"{name}.tmp"
        fresh.write_text(text)
        fresh.replace(workdir / "dags" / f"{name}.py")


def _no_secrets(connection_id: str) -> NoReturn:
    raise SecretMissing("the bench has none", part=connection_id)


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _median(values: Any) -> float | None:
    values = list(values)
    return round(median(values), 3) if values else None
