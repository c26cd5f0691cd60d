"""
Task instances that wait for a watch, written and read by Airflow's own models; run in Airflow's environment.

`put SPECS`: each task instance of the DAG is deferred to the product's trigger, with the row that Airflow itself writes
when a task defers. `take ENDS`: what the triggerer has left for them, a `WatchEnd` each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.sdk.serde import deserialize
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select

from bluegreen.triggers.watch import WatchTrigger

DAG = "watches"


def put(file: Path) -> None:
    """Defer one task instance for each spec of a JSON list."""
    specs = json.loads(file.read_text())
    with create_session() as session:
        waiting = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == DAG)).all()
        for task, spec in zip(waiting, specs, strict=True):
            trigger = Trigger.from_object(WatchTrigger(spec))
            session.add(trigger)
            session.flush()
            task.state, task.trigger_id, task.next_method = TaskInstanceState.DEFERRED, trigger.id, "resume"


def take(file: Path) -> None:
    """Write the ends of all that are not deferred any more as a JSON list."""
    with create_session() as session:
        tasks = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == DAG)).all()
        left = [task.next_kwargs for task in tasks if task.state != TaskInstanceState.DEFERRED]
    ends: list[Any] = [deserialize(kwargs) for kwargs in left if kwargs]
    if failed := next((end for end in ends if "event" not in end), None):
        sys.exit(f"a watch left no word: {failed}")
    file.write_text(json.dumps([end["event"] for end in ends]))


if __name__ == "__main__":
    {"put": put, "take": take}[sys.argv[1]](Path(sys.argv[2]))
