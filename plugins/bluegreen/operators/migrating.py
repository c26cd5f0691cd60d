"""The steps of a release that change a service's database, and those that wait for it."""

from __future__ import annotations

from functools import partial
from typing import Any

from airflow.sdk import Context

from bluegreen.catalog.load import load_service, services_folder
from bluegreen.edge import connection_secrets, leave_out, plan_of
from bluegreen.migrations.ports import Phase
from bluegreen.operators.base import BlueGreenOperator
from bluegreen.release.migrate import (
    backfill,
    caught_up,
    expand,
    follow,
    lint_pending,
    old_version_works,
)
from bluegreen.release.plan import Plan
from bluegreen.release.scratch import try_on_scratch


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


class _Step(BlueGreenOperator):
    """A step of a release that is still ours."""

    def ours(self, context: Context) -> Plan:
        """Return the frozen release; a newer one may hold the service by now."""
        plan = plan_of(context)
        self.unless_superseded(plan)
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
        follow(plan, connection_secrets, self.say)
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
        still = partial(self.ours, context)
        done = backfill(plan.service, connection_secrets, self.say, still)
        return done or leave_out(self.log, "nothing was pending")


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
        plan = self.ours(context)
        follow(plan, connection_secrets, self.say)
        return caught_up(plan.service, connection_secrets, self.say)
