"""The buttons of every task: where a release's story ends, its report, where the traffic is, and the entry."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.utils.helpers import build_airflow_dagrun_url

from bluegreen.catalog.load import load_service, services_folder


class _TaskLink(BaseOperatorLink):
    """To a page of a task of the same run; of the very task where none is named."""

    task: str = ""
    page: str = ""

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the page's address; Airflow may stand under a path."""
        run = build_airflow_dagrun_url(dag_id=ti_key.dag_id, run_id=ti_key.run_id)
        return f"{run}/tasks/{self.task or ti_key.task_id}{self.page}"


class OutcomeLink(_TaskLink):
    """From any task of a release to the log of the one that says how it ended, with the report in it."""

    name = "What happened"
    task = "verdict"


class ReportLink(_TaskLink):
    """To the report as JSON."""

    name = "Report"
    task, page = "verdict", "/xcom"


class OwnReportLink(_TaskLink):
    """To the report of a run that has one task only."""

    name = "Report"
    page = "/xcom"


class TrafficLink(_TaskLink):
    """To the log of the one that puts the traffic back, or says that nothing was to be put back."""

    name = "Where the traffic is"
    task = "safe"


class EntryLink(BaseOperatorLink):
    """To the address that users reach the service by."""

    name = "Entry"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the entry of the operator's service."""
        return load_service(services_folder(), str(getattr(operator, "service", ""))).entry.url


RELEASE_LINKS = (OutcomeLink(), ReportLink(), TrafficLink(), EntryLink())
"""Of every task of a release."""
