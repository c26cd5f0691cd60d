"""
`soak`: good releases in a row on the demo's stack, then rollbacks while every worker slot is taken.

None may be restored by mistake, and no request may fail. The rollback's time is a person's: from the click (the REST
call that the UI makes) until every answer through the entry is the old color's.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.tables import Goal, goals, table
from demo.processes import wait_until
from demo.rest import AirflowApi
from demo.shop import ROOT, Shop
from demo.stack import SLEEPERS, Stack, running, side_by_side

ROUTERS = {"shop": "haproxy", "pay": "nginx"}
WATCH_S = 5.0
RATE = 150
RUN_WITHIN_S = 180.0
WHOLE_S = 10.0


def measure(workdir: Path, say: Callable[[str], None], *, quick: bool) -> dict[str, Any]:
    """Run all releases of all services and return the result."""
    releases, rollbacks = (4, 1) if quick else (100, 5)
    dags = workdir / "dags"
    shutil.copytree(ROOT / "dags", dags)
    (dags / "sleepers.py").write_text(SLEEPERS)
    shops = [
        Shop(workdir / name, name=name, router=router, canary=WATCH_S, watch=WATCH_S, services_folder=workdir / "s")
        for name, router in ROUTERS.items()
    ]
    with running(shops, workdir / "airflow", RATE, dags=dags) as stack:
        each = releases // len(shops)
        rows = side_by_side({shop.name: partial(_releases, stack, shop, each, say) for shop in shops})
        ended = [state for row in rows.values() for state in row]
        whole = [_rollback(stack, stack.rest(), say) for _ in range(rollbacks)]
        finals = [load.stop() for load in stack.loads.values()]
    return {
        "releases": len(ended),
        "promoted": ended.count("success"),
        "restored_by_mistake": len(ended) - ended.count("success"),
        "requests": sum(final.requests for final in finals),
        "failed": sum(final.failed for final in finals),
        "failures": [dict(series.failures) for final in finals for series in final.series if series.failures],
        "rollback_to_whole_s": whole,
        "rollback_to_whole_s_max": max(whole),
    }


def _releases(stack: Stack, shop: Shop, count: int, say: Callable[[str], None]) -> list[str]:
    rest, dag, states = stack.rest(), f"release__{shop.name}", []
    for number in range(count):
        run = rest.trigger(dag, {"version": f"2.{number}.0"})["dag_run_id"]
        ended = rest.wait_run(dag, run, RUN_WITHIN_S)
        states.append(ended["state"])
        failed = stack.loads[shop.name].snapshot().failed
        say(f"{shop.name} 2.{number}.0: {ended['state']}, {failed} failed so far: {rest.note(dag, run)}")
    return states


def _rollback(stack: Stack, rest: AirflowApi, say: Callable[[str], None]) -> float:
    """Roll a release in its canary back while every worker slot is taken; return seconds until the traffic is whole."""
    shop = stack.shops[0]
    dag, load = f"release__{shop.name}", stack.loads[shop.name]
    run = rest.trigger(dag, {"version": f"3.{time.time_ns()}", "canary_watch": "10m"})["dag_run_id"]
    wait_until(lambda: rest.tasks(dag, run).get("canary_1_watch") == "deferred", 60, "the canary's watch", 0.1)
    new = str(rest.xcom(dag, run, "canary_1")["color"])
    sleepers = rest.trigger("sleepers")["dag_run_id"]
    wait_until(lambda: _takes_no_more(rest, sleepers), 60, "every slot to be taken", 0.2)
    clicked = time.time()
    back = rest.trigger(f"rollback__{shop.name}", {"reason": "the soak asks"})["dag_run_id"]
    state = rest.wait_run(f"rollback__{shop.name}", back, RUN_WITHIN_S)["state"]
    if state != "success":
        raise RuntimeError(f"the rollback is {state}: {rest.task_log(f'rollback__{shop.name}', back, 'rollback')}")
    rest.mark_run("sleepers", sleepers, "failed")
    rest.wait_run(dag, run, RUN_WITHIN_S)
    series = load.wait_for_next().series
    last = max(one.last_end or clicked for one in series if one.color == new)
    say(f"rolled back: the last answer of {new} came {last - clicked:.2f} s after the click")
    return round(max(0.0, last - clicked), 2)


def _takes_no_more(rest: AirflowApi, run: str) -> bool:
    states = [task["state"] for task in rest.task_instances("sleepers", run)]
    return states.count("running") > 0 and "queued" not in states and set(states) != {"running"}


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    rows = [(name.replace("_", " "), result[name]) for name in ("releases", "promoted", "requests", "failed")]
    aims = [
        Goal("releases restored by mistake", result["restored_by_mistake"], 0),
        Goal("failed requests", result["failed"], 0),
        Goal("rollback__ to whole on the old color, s, the slowest", result["rollback_to_whole_s_max"], WHOLE_S),
    ]
    return "\n".join([table(("figure", ""), rows), goals(aims)])
