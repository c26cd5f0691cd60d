"""What operators and sensors share: credentials from connections, what earlier tasks left, and errors that Airflow understands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk import BaseHook, Context
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)

from bluegreen.core.errors import BlueGreenError, ReleaseRefused, SecretMissing
from bluegreen.core.ports import Credentials
from bluegreen.release.plan import Plan

PLAN_TASK, SWITCH_TASK, WATCH_TASK = "plan", "switch", "watch"
FINISH_TASK, KEEP_OLD_TASK = "finish", "keep_old"
"""Tasks that every release has; canary steps stand between them."""

WAY_BACK: dict[str, Any] = {
    "pool": "bluegreen_way_back",
    "priority_weight": 1000,
    "weight_rule": "absolute",
    "retries": 5,
    "retry_delay": timedelta(seconds=2),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(seconds=20),
}
"""Task arguments of everything that puts traffic back: no release may take its slots (design, section 6)."""


def connection_secrets(connection_id: str) -> Credentials:
    """
    Return an Airflow connection's secrets, and where they are for.

    :raises SecretMissing: there is no such connection
    """
    try:
        connection = BaseHook.get_connection(connection_id)
    except AirflowNotFoundException as missing:
        raise SecretMissing(
            "there is no such Airflow connection", part=connection_id, next_step="airflow connections add …"
        ) from missing
    return credentials_of(connection)


def credentials_of(connection: Any) -> Credentials:
    """Return what an Airflow connection holds."""
    return Credentials(
        connection.login or "",
        connection.password or "",
        connection.host or "",
        connection.port,
        connection.extra_dejson or {},
    )


@contextmanager
def airflow_errors(context: Context) -> Iterator[None]:
    """Leave an error's text for the verdict, and tell Airflow whether another try may help."""
    try:
        yield
    except BlueGreenError as error:
        context["ti"].xcom_push(key="error", value=str(error))
        raise (AirflowException if error.retryable else AirflowFailException)(str(error)) from error


def leave_out(log: Any, reason: str) -> NoReturn:
    """
    Skip the task that calls it; Airflow itself writes no reason into the task's log.

    :raises AirflowSkipException: always
    """
    log.info("left out: %s", reason)
    raise AirflowSkipException(reason)


def plan_of(context: Context) -> Plan:
    """
    Return the frozen release.

    :raises AirflowSkipException: a dry run has none
    :raises ReleaseRefused: the plan task left none, as when it was marked success by hand
    """
    found = context["ti"].xcom_pull(task_ids=PLAN_TASK)
    if found:
        return Plan.model_validate(found)
    if context["params"].get("dry_run"):
        raise AirflowSkipException("dry run: nothing is done")
    raise ReleaseRefused("the plan left no release to go on with", next_step="start a new release")


def epoch_of(context: Context, steps: Sequence[str]) -> int:
    """Return the epoch that the latest of some steps left, in their order; the claim's when none did."""
    plan = plan_of(context)
    found = [context["ti"].xcom_pull(task_ids=step) or {} for step in steps]
    return next((int(left["epoch"]) for left in reversed(found) if left.get("release") == plan.release), plan.epoch)


def need_healthy(context: Context, plan: Plan, watch: str) -> None:
    """
    Let only a proven healthy verdict pass, or somebody's written reason.

    A watch that was marked success by hand left no verdict; its XCom ``promote``, which a person adds in the UI or by
    the REST API with the reason as value, stands in for one.

    :param watch: task id of the watch
    :raises ReleaseRefused: there is neither
    """
    ti = context["ti"]
    verdict = ti.xcom_pull(task_ids=watch) or {}
    # Airflow deletes what a task left only when it starts again: a cleared run must not go on with its old verdict.
    if (verdict.get("says"), verdict.get("release")) == ("healthy", plan.release) or plan.skips("watch"):
        return
    reason = str(ti.xcom_pull(task_ids=watch, key="promote") or "").strip()
    if not reason:
        raise ReleaseRefused(
            f"{watch} left no healthy verdict",
            service=plan.service.service,
            next_step=f"marking it success does not promote; add the XCom 'promote' with your reason to {watch} first",
        )
    ti.xcom_push(key="by_hand", value=f"{watch} without a verdict: {reason}")
