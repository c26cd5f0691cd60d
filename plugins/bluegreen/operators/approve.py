"""People in the middle: the canary is held, somebody is asked, and only their yes lets the release go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context, Param

from bluegreen.catalog.models import Approval
from bluegreen.core.errors import NotApproved
from bluegreen.edge import HOLD_TASK, airflow_errors, connection_secrets, epoch_of, leave_out, need_healthy, plan_of
from bluegreen.links import RELEASE_LINKS
from bluegreen.operators.base import BlueGreenOperator
from bluegreen.release.answer import APPROVE, LONGEST_COMMENT, REJECT, Answer, approved, who
from bluegreen.release.finished import still_ours
from bluegreen.release.notify import Of, tell
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


class ApproveOperator(HITLOperator):
    """
    Ask people, with the evidence in the form; anything but a yes in time fails the task, and so ends the release.

    Airflow's ``ApprovalOperator`` skips what follows on a no, and a skipped task would let the next shift run; or it
    raises an error that Airflow tries again.

    :param service: name in the catalog
    :param gate: the key of ``release.approvals``
    :param watches: task ids of the canary steps' watches, whose verdict is shown
    """

    operator_extra_links = RELEASE_LINKS

    def __init__(self, *, service: str, gate: Gate, watches: Sequence[str] = (), **kwargs: Any) -> None:
        comment = Param(
            None,
            type=["null", "string"],
            format="multiline",
            maxLength=LONGEST_COMMENT,
            title="Comment",
            description="Stands in the report.",
        )
        kwargs["params"] = {"comment": comment}  # Airflow has put the DAG's in: they are no part of this form
        subject = f"May the release of {service} go on?"
        super().__init__(subject=subject, options=[APPROVE, REJECT], defaults=REJECT, **kwargs)
        self.service = service
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
        self.subject, self.body = form.subject, form.body
        self.assigned_users = [{"id": user, "name": user} for user in approval.by]
        self.response_timeout = until - now
        context["ti"].xcom_push(key="asked", value={"until": until.isoformat(), "of": list(approval.by)})
        if reading.stamp:
            why = f"{plan.by} releases {plan.version}; may it go on? Until {until:%H:%M:%S} UTC: {who(approval)}"
            of = Of(plan.run, plan.release, plan.version)
            tell(ports, "waiting", reading, reading.stamp.phase, self.task_id, why, of=of)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Keep the answer for the report, whatever it is; only a yes passes."""
        with airflow_errors(context):
            plan, ti = plan_of(context), context["ti"]
            answer = _answer(plan, event)
            ti.xcom_push(key="return_value", value=answer.as_json())
            asked = ti.xcom_pull(task_ids=self.task_id, key="asked")
            approval = self._approval(plan) or Approval()
            approved(answer, approval, datetime.fromisoformat(asked["until"]), self.service, self.task_id)
        self.log.info("approved by %s: %s", answer.by, answer.comment or "no comment")

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


def _answer(plan: Plan, event: Mapping[str, Any]) -> Answer:
    """Read what Airflow tells; nobody's answer, and what cannot be read, is a no."""
    user = event.get("responded_by_user") or {}
    comment = " ".join(str((event.get("params_input") or {}).get("comment") or "").split())
    return Answer(
        release=plan.release,
        chosen=APPROVE if event.get("chosen_options") == [APPROVE] else REJECT,
        by=user.get("name") or user.get("id"),
        user=user.get("id"),
        at=event.get("responded_at") or datetime.now(UTC),
        comment=comment[:LONGEST_COMMENT],
    )
