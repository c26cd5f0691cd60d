"""People in the middle: the canary is held, somebody is asked, and only their yes lets the release go on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow.sdk import Context

from bluegreen.asking import AskOperator
from bluegreen.catalog.approvals import Approval
from bluegreen.core.errors import NotApproved
from bluegreen.edge import HOLD_TASK, airflow_errors, connection_secrets, epoch_of, leave_out, need_healthy, plan_of
from bluegreen.operators.base import BlueGreenOperator
from bluegreen.release.finished import still_ours
from bluegreen.release.plan import Plan
from bluegreen.release.question import Evidence, Gate, question
from bluegreen.release.shift import held_until, hold
from bluegreen.release.wiring import ports_for


class HoldOperator(BlueGreenOperator):
    """
    Let the last canary keep its share while people are asked.

    :param service: name in the catalog (templated)
    :param after: task ids of the shifts before, in order
    :param watches: task ids of the canary steps' watches; the last one must have said healthy
    """

    def __init__(self, *, after: Sequence[str], watches: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.after = after
        self.watches = watches

    def act(self, context: Context) -> dict[str, Any]:
        """Hold and say until when."""
        plan = plan_of(context)
        asked, steps = plan.service.release.approvals.before_switch, plan.service.release.canary
        if asked is None:
            leave_out(self.log, "this release was planned without an approval before the switch")
        if not steps:
            leave_out(self.log, f"no canary: all traffic is on {plan.live}")
        need_healthy(context, plan, self.watches[len(steps) - 1])
        epoch = epoch_of(context, self.after)
        held = hold(self.ports(plan.service), plan, self.task_id, steps[-1].share, epoch, asked)
        until = held_until(plan, held)
        return held.as_json() | {"until": until.isoformat() if until else None}


class ApproveOperator(AskOperator):
    """
    Ask whether a release may go on; see ``AskOperator``.

    :param service: name in the catalog
    :param gate: the key of ``release.approvals``
    :param watches: task ids of the canary steps' watches, whose verdict is shown
    """

    def __init__(self, *, gate: Gate, watches: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gate = gate
        self.watches = watches

    def execute(self, context: Context) -> Any:
        """Write the form and wait; the deadline of a canary that is held is its own, also when the task is repeated."""
        with airflow_errors(context):
            plan = plan_of(context)
            approval = self._approval(plan)
            if approval is None:
                leave_out(self.log, f"this release was planned without an approval {self.gate}")
            ports = ports_for(plan.service, connection_secrets, lambda line: self.log.info("%s", line))
            reading = ports.router.read()
            still_ours(ports, plan.run, plan.release, reading)
            now = ports.now()
            until = _held_until(context, plan) or now + approval.deadline
            if until <= now:
                raise NotApproved(
                    f"nobody answered until {until:%H:%M:%S} UTC",
                    service=self.service,
                    part=self.task_id,
                    next_step="start a new release",
                )
            form = question(plan, self.gate, until, self._evidence(context, plan))
        return self.ask(context, form, approval, until, ports, plan, reading)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Keep the answer for the report, whatever it is; only a yes passes."""
        with airflow_errors(context):
            plan = plan_of(context)
        self.answered(context, event, plan, self._approval(plan))

    def _approval(self, plan: Plan) -> Approval | None:
        approvals = plan.service.release.approvals
        return approvals.before_canary if self.gate == "before_canary" else approvals.before_switch

    def _evidence(self, context: Context, plan: Plan) -> Evidence:
        pull, steps = context["ti"].xcom_pull, len(plan.service.release.canary)
        watch = pull(task_ids=self.watches[steps - 1]) if self.watches and steps else None
        return Evidence(pull(task_ids="deploy"), pull(task_ids="prewarm"), pull(task_ids="smoke"), watch)


def _held_until(context: Context, plan: Plan) -> datetime | None:
    held = context["ti"].xcom_pull(task_ids=HOLD_TASK) or {}
    return datetime.fromisoformat(held["until"]) if held.get("release") == plan.release and held["until"] else None
