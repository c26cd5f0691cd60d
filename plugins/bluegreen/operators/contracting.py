"""The steps of ``contract__<service>``: look at everything, ask a person, execute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException

from bluegreen.catalog.load import load_service, services_folder
from bluegreen.core.errors import NotApproved, ReleaseRefused
from bluegreen.edge import airflow_errors, connection_secrets, leave_out
from bluegreen.links import EntryLink
from bluegreen.operators.base import BlueGreenOperator
from bluegreen.release.answer import APPROVE, REJECT
from bluegreen.release.contract import contract, ready
from bluegreen.release.question import word

READY_TASK, APPROVE_TASK, CONTRACT_TASK = "ready", "approve", "contract"
ANSWER_WITHIN = timedelta(hours=24)
"""How long a person is waited for."""


@contextmanager
def _noted(context: Context) -> Iterator[None]:
    """Leave what went wrong for the run's note."""
    try:
        yield
    except AirflowSkipException as skipped:
        context["ti"].xcom_push(key="note", value=f"nothing contracted: {skipped}")
        raise
    except Exception as error:
        context["ti"].xcom_push(key="note", value=f"NOT contracted: {error}")
        raise


class ReadyOperator(BlueGreenOperator):
    """
    See whether anything could still need what a contract takes away.

    :param service: name in the catalog (templated)
    """

    operator_extra_links = (EntryLink(),)

    def act(self, context: Context) -> dict[str, Any]:
        """Look at everything."""
        with _noted(context):
            found = ready(self.ports(), connection_secrets)
            if not found.pending:
                leave_out(self.log, "no contract migration is pending")
        self.log.info("to be executed, for good: %s", ", ".join(found.pending))
        return found.as_json()


class AskToContractOperator(HITLOperator):
    """
    Ask a person; a no, or no answer in time, fails the task for good, and touches nothing.

    Airflow's own operator raises what Airflow tries again, so that a no would be asked about once more.

    :param service: name in the catalog
    """

    def __init__(self, *, service: str, **kwargs: Any) -> None:
        super().__init__(
            subject=f"Execute the destructive migrations of {service}?",
            options=[APPROVE, REJECT],
            defaults=REJECT,
            response_timeout=ANSWER_WITHIN,
            **kwargs,
        )
        self.service = service

    def execute(self, context: Context) -> Any:
        """Write the form and wait."""
        found = context["ti"].xcom_pull(task_ids=READY_TASK) or {}
        pending = "".join(f"- {word(name)}\n" for name in found.get("pending", ()))
        self.body = (
            f"For good, there is no way back of it:\n\n{pending}\n{word(found.get('version'))} is live on "
            f"{word(found.get('live'))}. The log of `{READY_TASK}` says what was looked at; all of it is looked at again."
        )
        return super().execute(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return who said yes, and to what; anything else fails."""
        user = event.get("responded_by_user") or {}
        by = user.get("name") or user.get("id")
        with airflow_errors(context), _noted(context):
            if event.get("chosen_options") != [APPROVE] or not by:
                fact = f"{by} said no" if by else "nobody answered in time"
                step = "nothing was touched; start it again when it may be executed"
                raise NotApproved(fact, service=self.service, part=APPROVE_TASK, next_step=step)
        found = context["ti"].xcom_pull(task_ids=READY_TASK) or {}
        self.log.info("approved by %s", by)
        return {"chosen": APPROVE, "by": by, "checksums": found.get("checksums", {})}


class ContractOperator(BlueGreenOperator):
    """
    Execute the destructive half of the migrations; everything is looked at once more.

    :param service: name in the catalog (templated)
    """

    operator_extra_links = (EntryLink(),)

    def act(self, context: Context) -> dict[str, Any]:
        """Execute what is pending, as it was approved."""
        with _noted(context):
            approved = self._approved(context)
            done = contract(self.ports(), connection_secrets, context["dag_run"].run_id, approved)
        context["ti"].xcom_push(key="note", value=f"contracted: {', '.join(done['applied']) or 'nothing'}")
        return done

    def _approved(self, context: Context) -> dict[str, str] | None:
        """Return what somebody said yes to; a task that was marked success by hand left no answer."""
        service = load_service(services_folder(), self.service)
        if service.migrations and not service.migrations.contract.approve:
            return None
        answer = context["ti"].xcom_pull(task_ids=APPROVE_TASK) or {}
        if answer.get("chosen") != APPROVE:
            raise ReleaseRefused(
                f"{APPROVE_TASK} holds no approval",
                service=self.service,
                part=CONTRACT_TASK,
                next_step="marking it success does not approve; start again, and let it be answered in Airflow",
            )
        return dict(answer["checksums"])
