"""Ask a person in Airflow and wait: the form, the deadline, and the answer as the release reads it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context, Param

from bluegreen.catalog.approvals import Approval
from bluegreen.core.reading import Reading
from bluegreen.edge import airflow_errors
from bluegreen.links import RELEASE_LINKS
from bluegreen.release.answer import APPROVE, LONGEST_COMMENT, REJECT, Answer, approved, who
from bluegreen.release.notify import Of, tell
from bluegreen.release.plan import Plan
from bluegreen.release.ports import Ports
from bluegreen.release.question import Question


class AskOperator(HITLOperator):
    """
    Asks people, with the evidence in the form; anything but a yes in time fails the task, and so ends the release.

    Airflow's ``ApprovalOperator`` skips what follows on a no, and a skipped task would let the next shift run; or it
    raises an error that Airflow tries again.

    :param service: name in the catalog
    """

    operator_extra_links = RELEASE_LINKS

    def __init__(self, *, service: str, **kwargs: Any) -> None:
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

    def ask(  # everything that the form, the alert and the report say of it
        self,
        context: Context,
        form: Question,
        approval: Approval,
        until: datetime,
        ports: Ports,
        plan: Plan,
        reading: Reading,
    ) -> Any:
        """
        Tell people, write the form and wait; Airflow goes on in ``execute_complete``.

        :param until: the deadline, absolute UTC
        :param reading: the router as it is while they are asked
        """
        self.subject, self.body = form.subject, form.body
        self.assigned_users = [{"id": user, "name": user} for user in approval.by]
        self.response_timeout = until - ports.now()
        context["ti"].xcom_push(key="asked", value={"until": until.isoformat(), "of": list(approval.by)})
        if reading.stamp:
            why = f"{plan.by} releases {plan.version}; may it go on? Until {until:%H:%M:%S} UTC: {who(approval)}"
            of = Of(plan.run, plan.release, plan.version)
            tell(ports, "waiting", reading, reading.stamp.phase, self.task_id, why, of=of)
        return HITLOperator.execute(self, context)

    def answered(self, context: Context, event: Mapping[str, Any], plan: Plan, approval: Approval | None) -> Answer:
        """
        Return a yes; anything else is left for the report and fails the task.

        :param event: what Airflow tells of the answer
        """
        ti, answer = context["ti"], answer_of(plan, event)
        ti.xcom_push(key="return_value", value=answer.as_json())
        asked = ti.xcom_pull(task_ids=self.task_id, key="asked")
        with airflow_errors(context):
            until = datetime.fromisoformat(asked["until"])
            approved(answer, approval or Approval(), until, self.service, self.task_id)
        self.log.info("approved by %s: %s", answer.by, answer.comment or "no comment")
        return answer


def answer_of(plan: Plan, event: Mapping[str, Any]) -> Answer:
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
