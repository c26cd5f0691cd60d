"""Airflow listeners: a run's note says what happened, and the pool of the way back is always there."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from airflow.jobs.job import Job
from airflow.listeners import hookimpl
from airflow.models.pool import Pool
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import object_session

POOL, SLOTS = "bluegreen_way_back", 4
TELLS = {
    "release": ["verdict"],
    "rollback": ["rollback"],
    "retire": ["retire"],
    "contract": ["ready", "approve", "contract"],
}
"""Kind of DAG -> the tasks that may leave the run's note."""
LONGEST_NOTE = 1000
"""Characters that Airflow's column holds; a longer note would fail in the scheduler's own transaction."""


@hookimpl
def on_starting(component: Any) -> None:
    """Make the pool when Airflow starts; tasks of a pool that is missing would wait for ever."""
    if not isinstance(component, Job):
        return
    # Scheduler, triggerer and DAG processor come here at the same moment: the second one is refused, and it is well.
    with suppress(IntegrityError), create_session() as session:
        if session.scalar(select(Pool).where(Pool.pool == POOL)) is None:
            session.add(Pool(pool=POOL, slots=SLOTS, description="Way back of releases", include_deferred=False))


@hookimpl
def on_dag_run_success(dag_run: Any, msg: str) -> None:  # noqa: ARG001 - Airflow's signature
    """Write what happened into the run's note."""
    _write_note(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:  # noqa: ARG001 - Airflow's signature
    """Write what happened into the run's note."""
    _write_note(dag_run)


def _write_note(dag_run: Any) -> None:
    session, tasks = object_session(dag_run), TELLS.get(dag_run.dag_id.partition("__")[0])
    if session is None or tasks is None:
        return
    found = XComModel.get_many(run_id=dag_run.run_id, dag_ids=dag_run.dag_id, task_ids=tasks, key="note", limit=1)
    row = session.scalars(found).first()
    said = str(XComModel.deserialize_value(row)) if row else ""
    if said and said not in (dag_run.note or ""):
        # Somebody's own words, such as the reason of a promotion, stay below.
        dag_run.note = (f"{said}\n\n{dag_run.note}" if dag_run.note else said)[:LONGEST_NOTE]
