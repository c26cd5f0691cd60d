"""How a release ends: finish or rollback, then the two teardowns that tell the truth."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

from airflow.providers.standard.operators.branch import BaseBranchOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException, DagRunTriggerException

from bluegreen import metrics
from bluegreen.catalog.durations import text
from bluegreen.core.errors import BlueGreenError, NotProven, RouterUnreachable
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase
from bluegreen.edge import (
    FINISH_TASK,
    KEEP_OLD_TASK,
    PLAN_TASK,
    SWITCH_TASK,
    WATCH_TASK,
    airflow_errors,
    connection_secrets,
    epoch_of,
    leave_out,
    need_healthy,
    plan_of,
)
from bluegreen.operators.base import BlueGreenOperator
from bluegreen.operators.reporting import leave_report
from bluegreen.operators.stateful import state_back
from bluegreen.release.drain import drain
from bluegreen.release.last_answer import looked_at_beside
from bluegreen.release.ports import Ports
from bluegreen.release.restore import Restored, restore
from bluegreen.release.shift import settle


class OutcomeOperator(BaseBranchOperator):
    """Choose ``finish`` after a healthy last watch, ``rollback`` after anything else; nothing where nothing was planned."""

    def choose_branch(self, context: Context) -> str | list[str]:
        """Return the task to go on with."""
        if not context["ti"].xcom_pull(task_ids=PLAN_TASK):
            return []
        plan, switched = plan_of(context), context["ti"].xcom_pull(task_ids=SWITCH_TASK) or {}
        if switched.get("release") != plan.release:
            self.log.info(
                "rollback: the full switch was not reached: %s", first_error(context) or "it was ended by hand"
            )
            return "rollback"
        try:
            need_healthy(context, plan, WATCH_TASK)
        except BlueGreenError as refused:
            self.log.info("rollback: %s", refused)
            return "rollback"
        self.log.info("finish: the last watch was healthy")
        return "finish"


class FinishOperator(BlueGreenOperator):
    """
    Settle first, so that no lease can run out any more, then drain the old color.

    :param service: name in the catalog (templated)
    """

    def act(self, context: Context) -> dict[str, Any]:
        """Settle and drain."""
        plan = plan_of(context)
        need_healthy(context, plan, WATCH_TASK)
        ports = self.ports(plan.service)
        settled = settle(ports, plan, epoch_of(context, [SWITCH_TASK, WATCH_TASK])).as_json()
        metrics.shifted(self.service, settled)
        self.mark(plan, "finish", f"{plan.version} is live on {plan.idle}")
        return settled | {"drained": drain(ports, plan.live).as_json()}


class KeepOldOperator(BlueGreenOperator):
    """
    Start ``retire__<service>`` now, to run when ``release.keep_old`` is over; Airflow's scheduler waits for it.

    :param service: name in the catalog (templated)
    """

    def act(self, context: Context) -> None:
        """
        Start it under a name of its own, so that a repeated task starts no second one.

        :raises DagRunTriggerException: always; so Airflow is asked for a run of another DAG
        """
        plan = plan_of(context)
        keep = plan.service.release.keep_old
        if keep is None:
            leave_out(self.log, f"keep_old is null: {plan.live} runs on until somebody starts retire__{self.service}")
        settled = context["ti"].xcom_pull(task_ids=FINISH_TASK)["reading"]["stamp"]["at"]
        # Airflow's TriggerDagRunOperator does the same, but its import takes every task of a release most of a second.
        raise DagRunTriggerException(
            trigger_dag_id=f"retire__{self.service}",
            dag_run_id=f"keep_old__{plan.epoch}__{plan.run}"[:250],
            conf={"release": plan.release, "reason": f"keep_old ({text(keep)}) is over"},
            run_after=datetime.fromisoformat(settled) + keep,
            reset_dag_run=False,
            skip_when_already_exists=True,
            wait_for_completion=False,
            allowed_states=[],
            failed_states=[],
            poke_interval=60,
            deferrable=False,
        )


class RollbackOperator(BlueGreenOperator):
    """
    Put the traffic back and say what is wrong with the new color. It needs nothing from XCom.

    :param service: name in the catalog (templated)
    """

    again = True

    def act(self, context: Context) -> dict[str, Any]:
        """Restore, then diagnose."""
        ports, run = self.way_back_ports(context), context["dag_run"].run_id
        why = _reason(context) or "the release failed"
        found, last = looked_at_beside(ports, lambda: restore(ports, why, self.task_id, run))
        metrics.restored(self.service, found.as_json(), self.task_id)
        left = state_back(context, ports, found)
        told = self._diagnosis(context, ports) if found.outcome in ("restored", "already", "stranded") else None
        found.need_roles(ports.name)
        ended = {"last_answer": last.as_json() if last else None, "diagnosis": told, "warnings": left}
        return found.as_json() | ended

    def _diagnosis(self, context: Context, ports: Ports) -> dict[str, Any] | None:
        """Say what is likely wrong; the traffic is back already, and nothing here may make that look otherwise."""
        from bluegreen.release.diagnose import diagnose  # noqa: PLC0415 - DNS and all: not with each parse of a DAG file

        try:
            found = diagnose(ports, connection_secrets, plan_of(context).versions)
            self.log.info("diagnosis:\n%s", found.text())
            return found.brief()
        except Exception as error:  # noqa: BLE001 - a diagnosis is welcome, never needed
            self.log.warning("no diagnosis: %s: %s", type(error).__name__, error)
            return None


class SafeOperator(BlueGreenOperator):
    """
    Teardown: however the run ended, the traffic is whole on a color that serves when this task is done.

    :param service: name in the catalog (templated)
    """

    again = True

    def act(self, context: Context) -> dict[str, Any]:
        """Restore what is ours and not final; prove what is."""
        if context["params"].get("dry_run"):
            leave_out(self.log, "dry run: nothing was touched")
        ports, run = self.way_back_ports(context), context["dag_run"].run_id
        why = _reason(context) or "the run ended"
        found, last = looked_at_beside(ports, lambda: restore(ports, why, self.task_id, run))
        metrics.restored(self.service, found.as_json(), self.task_id)
        left = state_back(context, ports, found)
        if found.outcome == "finished" and found.reading.split:
            found = Restored("finished", found.reading, ports.prove(found.reading.split), found.says)
            self.log.info("%s; %s", found.says, found.proof.reason if found.proof else "")
        if found.outcome in ("restored", "already", "finished") and found.proof and found.proof.proven is False:
            raise NotProven(
                found.proof.reason,
                service=ports.name,
                part="safe",
                next_step=f"look at once: bluegreen status {ports.name}",
            )
        found.need_roles(ports.name)
        return found.as_json() | {"last_answer": last.as_json() if last else None, "warnings": left}


class VerdictOperator(BlueGreenOperator):
    """
    Teardown: the run succeeds only when the router bears this release's own settled stamp, and ``safe`` proved it.

    It leaves the run's report before it decides the state: see ``operators.reporting``.

    :param service: name in the catalog (templated)
    """

    def execute(self, context: Context) -> Any:
        """Read the router and tell the truth in the run's state and note."""
        if context["params"].get("dry_run"):
            leave_report(context, self.service, "dry run", "nothing was touched")
            return self._note(context, "dry run: nothing was touched")
        try:
            ports, reading = self._router(context)
        except Exception as error:
            leave_report(context, self.service, "not promoted", f"the router cannot be asked: {error}")
            raise
        stamp, run = reading.stamp, context["dag_run"].run_id
        safe = context["ti"].xcom_pull(task_ids="safe") or {}
        if stamp and stamp.run == run and stamp.phase is Phase.SETTLED and safe.get("outcome") == "finished":
            by_hand = "; by hand: " + ", ".join(left) if (left := _left(context, "by_hand")) else ""
            note = f"{stamp.why}{by_hand}{_not_kept(context)}"
            leave_report(context, self.service, "promoted", note, ports, reading)
            return self._note(context, f"promoted: {note}")
        failed = context["ti"].xcom_pull(task_ids="safe", key="error")
        ended = safe.get("says") or failed or f"the safety net did not run: {reading.says()}"
        why = first_error(context) or "the run was ended by hand"
        note = self._note(context, f"NOT promoted: {why} | {ended}")
        leave_report(context, self.service, "not promoted", why, ports, reading)
        raise AirflowFailException(note)

    def _router(self, context: Context) -> tuple[Ports, Reading]:
        with airflow_errors(context):
            ports = self.way_back_ports(context)
            reading = ports.router.read()
            if not reading.reachable:  # retried: the truth is in the router, and nowhere else
                step = f"look at once: bluegreen status {self.service}"
                raise RouterUnreachable(reading.says(), service=self.service, part="verdict", next_step=step)
            return ports, reading

    def _note(self, context: Context, note: str) -> str:
        self.log.info("%s", note)
        # The listener writes it into the run's note, where the UI shows it.
        context["ti"].xcom_push(key="note", value=note)
        return note


def first_error(context: Context) -> str | None:
    """Return the text of the first step that failed, if one left any."""
    return next(iter(_left(context, "error")), None)


def _reason(context: Context) -> str | None:
    """Return ``first_error``; None where Airflow does not tell it now: no way back waits for the words of its reason."""
    with suppress(Exception):
        return first_error(context)
    return None


def _not_kept(context: Context) -> str:
    """Return a warning where nothing will retire the old color by itself: that must never fail a promoted release."""
    try:
        plan, started = plan_of(context), context["ti"].xcom_pull(task_ids=KEEP_OLD_TASK, key="trigger_run_id")
    except Exception:  # noqa: BLE001 - a warning is welcome, never needed
        return ""
    if started or plan.service.release.keep_old is None:
        return ""
    name = plan.service.service
    return (
        f"; {KEEP_OLD_TASK} did not succeed: {plan.live} runs on unless a run of retire__{name} waits, or you start one"
    )


def _left(context: Context, key: str) -> list[str]:
    """Return what the tasks left under a key, in the order of the steps: so the factory makes the tasks."""
    found = (context["ti"].xcom_pull(task_ids=task.task_id, key=key) for task in context["dag"].tasks)
    return list(dict.fromkeys(str(value) for value in found if value))
