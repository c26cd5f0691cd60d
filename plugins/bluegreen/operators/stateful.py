"""The steps of a release about what users would miss: their sessions, and state that lives in the service."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import Context

from bluegreen.catalog.sessions import StateTransfer
from bluegreen.core.stamp import Stamp
from bluegreen.edge import PLAN_TASK, STATE_TASK, connection_secrets, leave_out, plan_of
from bluegreen.operators.base import BlueGreenOperator
from bluegreen.release.plan import Plan
from bluegreen.release.ports import Ports
from bluegreen.release.restore import Restored
from bluegreen.release.sessions import sessions_before, sessions_shifted
from bluegreen.release.state import reverse, transfer

_LOG = logging.getLogger("bluegreen")
BEGUN, BACK = "begun", "state_back"
"""XComs: which release began to bring state over, and what the way back of it said."""


class SessionsOperator(BlueGreenOperator):
    """
    Make sessions on one color and use them on the other; they live and die within this task.

    :param service: name in the catalog (templated)
    :param shift: task id of the shift that it follows; None before any traffic moves
    :param canary: number of that canary step, from 0; None for the full switch
    """

    def __init__(self, *, shift: str | None = None, canary: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shift = shift
        self.canary = canary

    def act(self, context: Context) -> dict[str, Any]:
        """Try both ways."""
        plan = plan_of(context)
        ports = self.ports(plan.service)
        if self.shift is None:
            return sessions_before(ports, plan, connection_secrets).as_json()
        if not context["ti"].xcom_pull(task_ids=self.shift):
            leave_out(self.log, f"{self.shift} did not shift: there is nothing to try")
        steps = plan.service.release.canary
        if self.canary is None and steps:
            leave_out(self.log, "tried after the first canary step, while both colors had traffic")
        share = 100 if self.canary is None else steps[self.canary].share
        return sessions_shifted(ports, plan, share, connection_secrets).as_json()


class StateTransferOperator(BlueGreenOperator):
    """
    Bring the live color's state to the idle one before it gets traffic.

    :param service: name in the catalog (templated)
    """

    def act(self, context: Context) -> dict[str, Any]:
        """Run the service's commands; that it began is known to the way back, however it ends."""
        plan = plan_of(context)
        context["ti"].xcom_push(key=BEGUN, value=plan.release)
        return transfer(self.ports(plan.service), plan, connection_secrets)


def state_back(context: Context, ports: Ports, found: Restored, of: Stamp | None = None) -> list[str]:
    """
    Bring state back once the traffic is, where the release had begun to bring it over; raises nothing.

    :param found: what the restore found or did
    :param of: another run's release, as the router named it; None for this run's own
    :returns: what went wrong, for people
    """
    try:
        plan = _begun(context, of)
        if plan is None or found.outcome not in ("restored", "already"):
            return []
        said = reverse(ports, plan, connection_secrets)
        context["ti"].xcom_push(key=BACK, value=said or "done")
    except Exception as error:  # noqa: BLE001 - the traffic is back, and nothing here may make that look otherwise
        _LOG.warning("state.reverse was not run: %s: %s", type(error).__name__, error)
        return [f"state.reverse was not run: {type(error).__name__}"]
    return [said] if said else []


def _begun(context: Context, of: Stamp | None) -> Plan | None:
    """Return the release that began to bring state over, and whose state nobody has brought back."""
    ti = context["ti"]
    where: dict[str, Any] = (
        {"dag_id": f"release__{context['dag_run'].dag_id.partition('__')[2]}", "run_id": of.run} if of else {}
    )
    frozen = ti.xcom_pull(task_ids=PLAN_TASK, **where)
    if not frozen or ti.xcom_pull(task_ids=STATE_TASK, key=BEGUN, **where) != frozen["release"]:
        return None
    if of is None and ti.xcom_pull(task_ids="rollback", key=BACK):
        return None
    plan = Plan.model_validate(frozen)
    return plan if isinstance(plan.service.state, StateTransfer) else None
