"""What operators, sensors and triggers share: credentials from connections, what earlier tasks left, and errors that Airflow understands."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk import BaseHook, Context, get_current_context
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)

from bluegreen.catalog.models import Service
from bluegreen.catalog.section import connections
from bluegreen.core.errors import (
    BlueGreenError,
    ReleaseRefused,
    RouterError,
    SecretMissing,
    SecretPending,
    TrafficConflict,
)
from bluegreen.core.ports import Credentials, Secrets
from bluegreen.release.answer import APPROVE
from bluegreen.release.notify import Of, tell_conflict
from bluegreen.release.plan import Plan
from bluegreen.release.wiring import ports_for

PLAN_TASK, SWITCH_TASK, WATCH_TASK = "plan", "switch", "watch"
FINISH_TASK, KEEP_OLD_TASK = "finish", "keep_old"
"""Tasks that every release has; canary steps stand between them."""

APPROVE_CANARY_TASK, HOLD_TASK, APPROVE_SWITCH_TASK = "approve_canary", "hold", "approve_switch"
"""Tasks of a release where people are asked."""

LINT_TASK, SCRATCH_TASK, EXPAND_TASK, BACKFILL_TASK = "lint", "scratch", "expand", "backfill"
OLD_VERSION_TASK, CAUGHT_UP_TASK = "old_version", "caught_up"
"""Tasks of a release whose service has a database."""

SESSIONS_TASK, STATE_TASK = "sessions", "state_transfer"
"""Tasks of a release whose service keeps something that its users would miss."""

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
        raise _no_connection(connection_id) from missing
    return credentials_of(connection, connection.extra_dejson)


def secrets_of(service: Service) -> Secrets:
    """
    Begin to fetch every connection that a service names, on a triggerer's loop; who asks beside it waits for them.

    A triggerer's first look at any connection takes ten seconds of work, much more on a busy machine: meanwhile the
    lease must be renewed. One that cannot be had is missed only by who asks for it.
    """
    loop, home = asyncio.get_running_loop(), threading.get_ident()
    fetching = asyncio.create_task(_fetched(connections(service)))

    def secrets(connection_id: str) -> Credentials:
        if not fetching.done():
            if threading.get_ident() == home:
                raise SecretPending("is being fetched from Airflow", part=connection_id, next_step="ask again")
            asyncio.run_coroutine_threadsafe(_ended(fetching), loop).result()
        one = fetching.result().get(connection_id) or _no_connection(connection_id)
        if isinstance(one, SecretMissing):
            raise one
        return one

    return secrets


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])


async def _fetched(names: Iterable[str]) -> dict[str, Credentials | SecretMissing]:
    found: dict[str, Credentials | SecretMissing] = {}
    for name in names:
        try:
            connection = await BaseHook.aget_connection(name)
            found[name] = credentials_of(connection, await connection.aextra_dejson())
        except AirflowNotFoundException:
            found[name] = _no_connection(name)
        except Exception as error:  # noqa: BLE001 - a watch can do without most of them
            step = "see whether Airflow's API server and secrets backend answer"
            found[name] = SecretMissing(f"cannot be had: {type(error).__name__}", part=name, next_step=step)
    return found


def _no_connection(connection_id: str) -> SecretMissing:
    return SecretMissing(
        "there is no such Airflow connection",
        part=connection_id,
        next_step=f"add it under Admin, Connections, or as AIRFLOW_CONN_{connection_id.upper()}",
    )


def credentials_of(connection: Any, extra: Mapping[str, Any]) -> Credentials:
    """
    Return what an Airflow connection holds.

    :param extra: its type's own fields, which Airflow reads in one way on a loop and in another beside it
    """
    return Credentials(
        connection.login or "", connection.password or "", connection.host or "", connection.port, extra or {}
    )


@contextmanager
def airflow_errors(context: Context, *, again: bool = False) -> Iterator[None]:
    """
    Leave an error's text for the verdict, and tell Airflow whether another try may help.

    :param again: whatever a router said is worth another try
    """
    try:
        yield
    except BlueGreenError as error:
        context["ti"].xcom_push(key="error", value=str(error))
        if isinstance(error, TrafficConflict):
            _tell_of_conflict(context, error)
        retried = error.retryable or (again and isinstance(error, RouterError))
        raise (AirflowException if retried else AirflowFailException)(str(error)) from None  # the text says it all
    except AirflowException:
        raise
    except Exception as error:
        # Its text may hold anything, so it stays in the task's log; but nobody may read that the run was ended by hand.
        task = context["ti"].task_id
        context["ti"].xcom_push(key="error", value=f"{task} broke off ({type(error).__name__}): see the end of its log")
        raise


def _tell_of_conflict(context: Context, error: TrafficConflict) -> None:
    """Tell people when a release that holds the service meets another writer; one that was never claimed lost nothing."""
    ti = context["ti"]
    with suppress(Exception):  # the task fails with the conflict, whatever telling of it runs into
        if found := ti.xcom_pull(task_ids=PLAN_TASK):
            plan = Plan.model_validate(found)
            of = Of(plan.run, plan.release, plan.version)
            tell_conflict(ports_for(plan.service, connection_secrets), of, ti.task_id, str(error))


def leave_out(log: Any, reason: str) -> NoReturn:
    """
    Skip the task that calls it, with the reason in its log and for the report; Airflow itself writes it nowhere.

    :raises AirflowSkipException: always
    """
    log.info("left out: %s", reason)
    with suppress(RuntimeError):  # no task runs: there is no report either
        get_current_context()["ti"].xcom_push(key="left_out", value=reason)
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
    raise ReleaseRefused("left no release to go on with", part=PLAN_TASK, next_step="start a new release")


def epoch_of(context: Context, steps: Sequence[str]) -> int:
    """Return the epoch that the latest of some steps left, in their order; the claim's when none did."""
    plan = plan_of(context)
    found = [context["ti"].xcom_pull(task_ids=step) or {} for step in steps]
    return next((int(left["epoch"]) for left in reversed(found) if left.get("release") == plan.release), plan.epoch)


def need_healthy(context: Context, plan: Plan, watch: str) -> None:
    """
    Let only a proven healthy verdict pass, an approval of what could not be proven, or somebody's written reason.

    A watch that was marked success by hand left no verdict; its XCom ``promote``, which a person adds in the UI or by
    the REST API with the reason as value, stands in for one.

    :param watch: task id of the watch
    :raises ReleaseRefused: there is neither
    """
    ti = context["ti"]
    verdict = ti.xcom_pull(task_ids=watch) or {}
    # Airflow deletes what a task left only when it starts again: a cleared run must not go on with its old verdict.
    good = verdict.get("says") in ("healthy", "approved") and verdict.get("release") == plan.release
    if good or plan.skips("watch"):
        return
    reason = str(ti.xcom_pull(task_ids=watch, key="promote") or "").strip()
    if not reason:
        raise ReleaseRefused(
            f"{watch} left no healthy verdict",
            service=plan.service.service,
            next_step=f"marking it success does not promote; add the XCom 'promote' with your reason to {watch} first",
        )
    ti.xcom_push(key="by_hand", value=f"{watch} without a verdict: {reason}")


def need_approved(context: Context, plan: Plan, *, switch: bool) -> None:
    """
    Let only a release pass whose plan asks nobody, or to which everybody who was asked said yes.

    The frozen plan says who is asked, not the DAG: a service file that is edited meanwhile takes no approval away. There
    is no other way past one: a task that was marked success by hand, or skipped, left no answer.

    :param switch: before the full switch, where the approvals before it count too
    :raises ReleaseRefused: an answer is missing, or another release's
    """
    asked = plan.service.release.approvals
    needed = [APPROVE_CANARY_TASK] if asked.before_canary else []
    needed += [APPROVE_SWITCH_TASK] if asked.before_switch and switch else []
    for task in needed:
        answer = context["ti"].xcom_pull(task_ids=task) or {}
        if (answer.get("chosen"), answer.get("release")) != (APPROVE, plan.release):
            raise ReleaseRefused(
                f"{task} holds no approval",
                service=plan.service.service,
                next_step="marking it success does not approve; start again, and let it be answered in Airflow",
            )
