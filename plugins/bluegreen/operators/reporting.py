"""
Collects what a run left behind and leaves its report: two files, and XCom ``report`` of the task that writes it.

A release's report is written by its ``verdict``: the last teardown runs however the run was ended, with retries, and it
can still ask the router. A listener would run inside the scheduler, which may reach neither router nor folder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from airflow.sdk import Context

from bluegreen import metrics
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import now_utc
from bluegreen.edge import PLAN_TASK, connection_secrets
from bluegreen.release.ports import Ports
from bluegreen.release.report import Ran, Step, report
from bluegreen.release.report_file import reports_folder, write
from bluegreen.release.report_text import markdown
from bluegreen.release.tally import tally

_LOG = logging.getLogger("bluegreen")
_NEVER_RAN = ("skipped", "upstream_failed", "removed", "none")


def leave_report(
    context: Context,
    service: str,
    outcome: str,
    reason: str,
    ports: Ports | None = None,
    reading: Reading | None = None,
) -> None:
    """
    Leave a release's report; what goes wrong with it is a warning and changes nothing.

    :param ports: to count once more; None where the router cannot be asked
    :param reading: the router at the end
    """
    try:
        ti = context["ti"]
        ran = Ran(
            kind="release",
            outcome=outcome,
            reason=reason,
            version=context["params"].get("version"),
            plan=ti.xcom_pull(task_ids=PLAN_TASK),
            reading=reading.as_json() if reading else None,
            begun=ti.xcom_pull(task_ids=PLAN_TASK, key="counted"),
            ended=tally(ports) if ports else None,
            changes=ti.xcom_pull(task_ids=PLAN_TASK, key="changes") or (),
            database=_database(ports) if outcome == "not promoted" else None,
            **_run(context, service),
        )
        _leave(context, ran, _steps(context))
    except Exception as error:  # noqa: BLE001 - the run's state is the truth about the traffic, not about its report
        _LOG.warning("no report: %s: %s", type(error).__name__, error)


def leave_rollback_report(
    context: Context, service: str, outcome: str, reason: str, value: dict[str, Any] | None = None
) -> None:
    """
    Leave a rollback's report; what goes wrong with it is a warning and changes nothing.

    :param value: what the rollback did, as JSON; None where it was refused or failed
    """
    try:
        ran = Ran(
            kind="rollback",
            outcome=outcome,
            reason=reason,
            reading=value["reading"] if value else None,
            **_run(context, service),
        )
        task, state = context["ti"].task_id, "success" if value else "failed"
        _leave(context, ran, [Step(task, state, value, error=None if value else reason)])
    except Exception as error:  # noqa: BLE001 - as above
        _LOG.warning("no report: %s: %s", type(error).__name__, error)


def _database(ports: Ports | None) -> dict[str, Any] | None:
    if ports is None or ports.service.migrations is None:
        return None
    from bluegreen.release.database_state import database_state  # noqa: PLC0415 - only where something failed

    return database_state(ports.service, connection_secrets)


def _run(context: Context, service: str) -> dict[str, Any]:
    run = context["dag_run"]
    return {
        "service": service,
        "run": run.run_id,
        "by": run.triggering_user_name or str(run.run_type.value),
        "began": run.start_date.isoformat() if run.start_date else None,
        "written": now_utc().isoformat(),
    }


def _leave(context: Context, ran: Ran, steps: Sequence[Step]) -> None:
    made = report(ran, steps)
    told = made.as_json()
    context["ti"].xcom_push(key="report", value=told)
    metrics.released(ran.service, told)
    for line in markdown(told).splitlines():
        _LOG.info("%s", line)
    _LOG.info("report: %s", write(made, reports_folder()))


def _steps(context: Context) -> list[Step]:
    """Return what each task of the run left, in the order of the steps; each question costs Airflow a request."""
    states, own = _states(context), context["ti"].task_id
    return [_step(context, task.task_id, states) for task in context["dag"].tasks if task.task_id != own]


def _step(context: Context, task: str, states: dict[str, Any]) -> Step:
    state = str(states[task]) if states.get(task) else None

    def left(key: str, *, asked: bool = True) -> Any:
        return context["ti"].xcom_pull(task_ids=task, key=key) if asked or not states else None

    ran = state not in (None, *_NEVER_RAN)
    value = left("return_value", asked=ran) if task != PLAN_TASK else None
    return Step(
        task=task,
        state=state,
        value=value if isinstance(value, dict) else None,  # a smoke test leaves a list, the outcome a task's name
        end=left("end", asked=ran and task.endswith("watch")),
        error=left("error", asked=ran and state != "success"),
        left_out=left("left_out", asked=state == "skipped"),
        by_hand=left("by_hand", asked=ran),
    )


def _states(context: Context) -> dict[str, Any]:
    run = context["dag_run"]
    try:
        found: dict[str, Any] = context["ti"].get_task_states(dag_id=run.dag_id, run_ids=[run.run_id])
        return dict(found[run.run_id])
    except Exception as error:  # noqa: BLE001 - the report has the rest
        _LOG.warning("the steps' states are not known: %s: %s", type(error).__name__, error)
        return {}
