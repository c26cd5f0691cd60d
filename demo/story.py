"""What happens in the demo: runs of the DAGs, one after the other, each with what it was seen to do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from demo.load import LoadProcess
from demo.rest import AirflowApi, ApiError
from demo.shop import DESTRUCTIVE, GOOD
from demo.shop_database import ShopDatabase
from demo.stack import Released, Stack

LONGEST_RUN_S = 900
_WATCHES = ("canary_1_watch", "watch")
_SAME = ("live", "split", "stamp", "deployed")
"""What a release that is refused must leave as it was, of ``bluegreen status --json``."""


@dataclass(frozen=True)
class Run:
    """
    A DAG run that has ended.

    :param states: state by task, in the order they started
    """

    dag: str
    id: str
    state: str
    note: str
    states: Mapping[str, str]

    @property
    def failed(self) -> list[str]:
        """The tasks that failed, without those that were never tried."""
        return [task for task, state in self.states.items() if state == "failed"]


@dataclass
class Line:
    """One service's live progress: who answers, how many, and what Airflow is at."""

    name: str
    load: LoadProcess
    states: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._last = self.load.snapshot()

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
        busy = [
            task for task, state in self.states.items() if state in ("running", "deferred", "queued", "awaiting_input")
        ]
        return line.append(", ".join(busy) or "…", style="bold")


@dataclass
class Story:
    """
    One service's part of the demo.

    :param rest: a client of this thread's own
    """

    stack: Stack
    shop: Released
    line: Line
    rest: AirflowApi
    console: Console

    def release(self, version: str) -> dict[str, Any]:
        """Release a version; say what happened to it, and what the watches and the migrations left."""
        run = self.run(f"release__{self.shop.name}", {"version": version}, version)
        watches = [self._end(run, task) for task in _WATCHES if run.states.get(task) in ("success", "failed")]
        told = {"version": version, "run": run.id, "state": run.state, "note": run.note}
        return told | {"watches": [one for one in watches if one], "migrated": self._migrated(run)}

    def _end(self, run: Run, task: str) -> Any:
        """Return what a watch left; None where Airflow ran its task twice, and the second one had nothing to watch."""
        try:
            return self.rest.xcom(run.dag, run.id, task, "end")
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def change_database(self) -> dict[str, Any]:
        """
        Let a destructive release be refused; then take away, with a yes, what the good release made superfluous.

        :returns: what was seen, for the report
        """
        database = self.shop.database
        if database is None:
            return {}
        told = {"wrong_names_while_both_wrote": database.wrong_names(), "columns_expanded": database.columns()}
        told |= self._refused(database)
        contract = f"contract__{self.shop.name}"
        early = self.run(contract, {}, "while blue is kept for a way back")
        told["contract_before_retire"] = "refused" if early.failed == ["ready"] else early.state
        self.run(f"retire__{self.shop.name}", {"reason": f"{GOOD} is good"}, "blue")
        time.sleep(1)  # the soak time of the demo's file
        last = self.run(contract, {}, "for good", answer="Approve")
        told["contract"] = "executed" if last.state == "success" else last.state
        told["columns_contracted"] = database.columns()
        return told | {"executed": database.history(), "wrong_names": database.wrong_names()}

    def _refused(self, database: ShopDatabase) -> dict[str, Any]:
        before = self._seen(database)
        database.add_destructive()
        run = self.run(f"release__{self.shop.name}", {"version": DESTRUCTIVE}, f"{DESTRUCTIVE}, drops a column")
        database.remove_destructive()
        after = self._seen(database)
        refused = run.state == "failed" and run.failed[:1] == ["lint"]
        return {
            "destructive": "refused by lint" if refused else run.state,
            "touched_by_destructive": [key for key in before if before[key] != after[key]],
        }

    def _seen(self, database: ShopDatabase) -> dict[str, Any]:
        """Return everything that a release could touch: traffic, stamp, what is deployed, the schema and its history."""
        (status,) = json.loads(self.stack.bluegreen("status", self.shop.name, "--json"))
        seen = self.line.load.wait_for_next()
        # All of it is green's: blue's count must stand still.
        told = {"blue_requests": seen.of("blue").requests, "failed": seen.failed}
        told |= {"columns": database.columns(), "history": database.history()}
        return told | {key: status[key] for key in _SAME}

    def _migrated(self, run: Run) -> dict[str, Any]:
        done = {}
        for task in ("expand", "backfill", "old_version"):
            if run.states.get(task) == "success":
                done[task] = self.rest.xcom(run.dag, run.id, task)
        return done

    def run(self, dag: str, conf: Mapping[str, Any], what: str, answer: str = "") -> Run:
        """
        Start a run, wait for its end, and print both.

        :param answer: to the task ``approve``, as a person gives it in the UI
        """
        run = self.rest.trigger(dag, dict(conf))["dag_run_id"]
        self.console.print(f"[bold]{dag} {what}[/]  ({run})", soft_wrap=True)
        self.line.states.clear()
        ended = self.rest.wait_run(dag, run, LONGEST_RUN_S, on_change=self._watching(dag, run, answer))
        self.line.load.wait_for_next()
        note = self.rest.note(dag, run)
        self.console.print(f"  {self.shop.name}: {ended['state']}: {note}", soft_wrap=True)
        return Run(dag, run, ended["state"], note, self.rest.tasks(dag, run))

    def _watching(self, dag: str, run: str, answer: str) -> Callable[[str, str | None], None]:
        def changed(task: str, state: str | None) -> None:
            self.line.states[task] = state or "none"
            if answer and (task, state) == ("approve", "awaiting_input"):
                time.sleep(2.5)  # Airflow fails a task that is answered in its first second
                self.rest.answer(dag, run, task, answer, "the demo")

        return changed
