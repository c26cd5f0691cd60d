"""The steps that change a service's database: those of a release, and those of ``contract__<service>``."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Context

from bluegreen.catalog.load import load_service, services_folder
from bluegreen.edge import connection_secrets, leave_out, plan_of
from bluegreen.links import EntryLink
from bluegreen.migrations.ports import Phase
from bluegreen.operators.base import BlueGreenOperator
from bluegreen.release.contract import contract, ready
from bluegreen.release.finished import still_ours
from bluegreen.release.migrate import backfill, caught_up, expand, lint_pending, old_version_works, try_on_scratch
from bluegreen.release.plan import Plan


class LintOperator(BlueGreenOperator):
    """
    Refuse a release whose migrations would break the old color, block the way back, or stop production.

    :param service: name in the catalog (templated)
    """

    def act(self, context: Context) -> list[dict[str, Any]]:  # noqa: ARG002 - before the plan: of the catalog's service
        """Lint what would be executed, and return what somebody answers for."""
        service = load_service(services_folder(), self.service)
        found = lint_pending(service, connection_secrets, Phase.EXPAND, self.say)
        return [one.as_json() for one in found]

    def say(self, line: str) -> None:
        """Log one line for people."""
        self.log.info("%s", line)


class _Step(LintOperator):
    """A step of a release that is still ours."""

    def ours(self, context: Context) -> Plan:
        """Return the frozen release; a newer one may hold the service by now."""
        plan = plan_of(context)
        still_ours(self.ports(plan.service), plan.run, plan.release, self.ports(plan.service).router.read())
        return plan


class ScratchOperator(_Step):
    """
    Run both versions' tests on a database that may be destroyed, before and after the migrations.

    :param service: name in the catalog (templated)
    """

    def act(self, context: Context) -> Any:
        """Try there."""
        return try_on_scratch(self.ours(context), connection_secrets, self.say)


class ExpandOperator(_Step):
    """
    Execute the compatible half of the migrations.

    :param service: name in the catalog (templated)
    """

    def act(self, context: Context) -> Any:
        """Execute what is pending."""
        plan = self.ours(context)
        done = expand(plan.service, connection_secrets, plan.release, self.say)
        if not done["applied"]:
            context["ti"].xcom_push(key="return_value", value=done)
            leave_out(self.log, "nothing was pending")
        return done


class BackfillOperator(_Step):
    """
    Fill what the migrations added, in small transactions, until nothing differs any more.

    :param service: name in the catalog (templated)
    """

    def act(self, context: Context) -> Any:
        """Do what is pending, or go on with it."""
        plan = self.ours(context)
        return backfill(plan.service, connection_secrets, self.say) or leave_out(self.log, "nothing was pending")


class OldVersionOperator(_Step):
    """
    Ask the live color its smoke tests again, on the changed schema.

    :param service: name in the catalog (templated)
    """

    def act(self, context: Context) -> Any:
        """Ask every target."""
        return old_version_works(self.ours(context), connection_secrets, self.say)


class CaughtUpOperator(_Step):
    """
    Wait until replication, consumers and copies are not behind any more.

    :param service: name in the catalog (templated)
    """

    def act(self, context: Context) -> Any:
        """Ask until then."""
        return caught_up(self.ours(context).service, connection_secrets, self.say)


class ReadyOperator(BlueGreenOperator):
    """
    See whether anything could still need what a contract takes away.

    :param service: name in the catalog (templated)
    """

    operator_extra_links = (EntryLink(),)

    def act(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - of the catalog's service
        """Look at everything."""
        found = ready(self.ports(), connection_secrets)
        if not found.pending:
            leave_out(self.log, "no contract migration is pending")
        self.log.info("to be executed, for good: %s", ", ".join(found.pending))
        return found.as_json()


class ContractOperator(BlueGreenOperator):
    """
    Execute the destructive half of the migrations; everything is looked at once more.

    :param service: name in the catalog (templated)
    """

    operator_extra_links = (EntryLink(),)

    def act(self, context: Context) -> dict[str, Any]:
        """Execute what is pending."""
        done = contract(self.ports(), connection_secrets, context["dag_run"].run_id)
        context["ti"].xcom_push(key="note", value=f"contracted: {', '.join(done['applied']) or 'nothing'}")
        return done


def ask_to_contract(service: str) -> ApprovalOperator:
    """Make the task that asks a person; a no, or no answer in time, ends the run and touches nothing."""
    pending = "{{ ti.xcom_pull(task_ids='ready')['pending'] | join(', ') }}"
    return ApprovalOperator(
        task_id="approve",
        subject=f"Execute the destructive migrations of {service}?",
        body=f"For good, there is no way back: **{pending}**. The log of `ready` says what was looked at.",
        fail_on_reject=True,
    )
