"""Operators of ``rollback__<service>``, ``retire__<service>`` and ``guardian``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException

from bluegreen import metrics
from bluegreen.catalog.load import load_all, services_folder
from bluegreen.catalog.models import Service
from bluegreen.edge import PLAN_TASK, connection_secrets, leave_out
from bluegreen.links import EntryLink, OwnReportLink
from bluegreen.operators.base import BlueGreenOperator
from bluegreen.operators.reporting import leave_rollback_report
from bluegreen.operators.stateful import state_back
from bluegreen.release.guard import guard
from bluegreen.release.last_answer import looked_at_beside
from bluegreen.release.plan import Plan
from bluegreen.release.retire import retire
from bluegreen.release.rollback import rollback
from bluegreen.release.wiring import ports_for, union
from bluegreen.routers.registry import make_router


class RollbackNowOperator(BlueGreenOperator):
    """
    Go back, whatever stands: stop a release under way, or undo the last one while its old color is kept.

    :param service: name in the catalog (templated)
    """

    operator_extra_links = (OwnReportLink(), EntryLink())

    def act(self, context: Context) -> dict[str, Any]:
        """Roll back; the DAG run's param ``reason`` stands in the stamp, and both in the report."""
        run, why = context["dag_run"], context["params"]["reason"]
        by = run.triggering_user_name or str(run.run_type.value)
        try:
            ports = self.ports()
            was = ports.router.read().stamp
            found, last = looked_at_beside(ports, lambda: rollback(ports, run.run_id, why, by))
        except Exception as error:
            context["ti"].xcom_push(key="note", value=f"NOT rolled back: {error}")
            leave_rollback_report(context, self.service, "not rolled back", str(error))
            raise
        # Of a release under way its own run brings the state back: it ends by this.
        settled = found.reading.stamp and found.reading.stamp.run == run.run_id and was
        left = state_back(context, ports, found, of=was) if settled else []
        value = found.as_json() | {"last_answer": last.as_json() if last else None, "warnings": left}
        context["ti"].xcom_push(key="note", value=f"rolled back: {why} | {found.says}")
        metrics.restored(self.service, value, "person")
        leave_rollback_report(context, self.service, "rolled back", why, value)
        return value


class RetireOperator(BlueGreenOperator):
    """
    End the way back of the last release, then stop its old color.

    :param service: name in the catalog (templated)
    """

    operator_extra_links = (EntryLink(),)

    def act(self, context: Context) -> dict[str, Any]:
        """Retire; the DAG run's param ``reason`` stands in the stamp, ``release`` says for which release it was asked."""
        run, params = context["dag_run"], context["params"]
        by = run.triggering_user_name or str(run.run_type.value)
        try:
            found = retire(self.ports(), params["reason"], by, params["release"] or "")
        except Exception as error:
            context["ti"].xcom_push(key="note", value=f"NOT retired: {error}")
            raise
        context["ti"].xcom_push(key="note", value=found.says)
        if found.color is None:
            leave_out(self.log, found.says)
        return found.as_json()


class GuardOperator(BaseOperator):
    """Look at every service at the same time; restore those whose lease is out. One that fails keeps no other from it."""

    def execute(self, context: Context) -> dict[str, str]:
        """
        Guard all services.

        :raises AirflowException: a service could not be guarded, or a person must look at it; all others were guarded
        """
        catalog = load_all(services_folder())
        guarded = {**catalog.services, **catalog.way_back}
        with ThreadPoolExecutor(max_workers=16) as threads:
            runs = list(threads.map(_owner, guarded.values()))
            # Airflow is asked from this thread alone: its channel is not made for several.
            services = [self._known(context, *both) for both in zip(guarded.values(), runs, strict=True)]
            found = dict(zip(guarded, threads.map(self._guard, services), strict=True))
        failed = [text for text, ok in found.values() if not ok] + [str(error) for error in catalog.errors]
        if failed:
            raise AirflowException("a person must look: " + " | ".join(failed))
        return {name: text for name, (text, _) in found.items()}

    def _known(self, context: Context, service: Service, run: str | None) -> Service:
        """Return the service with the nodes that the release under way was planned with."""
        if run is None:
            return service
        dag_id = f"release__{service.service}"
        try:
            frozen = context["ti"].xcom_pull(dag_id=dag_id, run_id=run, task_ids=PLAN_TASK)
            return union(service, [Plan.model_validate(frozen).service]) if frozen else service
        except Exception as error:  # noqa: BLE001 - more nodes are welcome, never needed
            self.log.warning("%s: the plan of %s cannot be read: %s", service.service, run, error)
            return service

    def _guard(self, service: Service) -> tuple[str, bool]:
        try:
            found = guard(ports_for(service, connection_secrets), "guardian")
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are guarded
            metrics.guarded(service.service, None)
            return f"{service.service}: {error}", False
        metrics.guarded(service.service, found)
        self.log.info("%s: %s: %s", service.service, found.action, found.says)
        return f"{service.service}: {found.action}: {found.says}", found.action != "reported"


def _owner(service: Service) -> str | None:
    """Return the run whose release is under way, if there is one and the router tells."""
    try:
        stamp = make_router(service, connection_secrets).read().stamp
    except Exception:  # noqa: BLE001 - guard says it
        return None
    return stamp.run if stamp and stamp.phase.transitional else None
