"""What all operators share: the service, its ports, and one use case to call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from airflow.sdk import BaseOperator, BaseOperatorLink, Context

from bluegreen.catalog.load import load_service, services_folder
from bluegreen.catalog.models import Service
from bluegreen.edge import PLAN_TASK, airflow_errors, connection_secrets
from bluegreen.links import RELEASE_LINKS
from bluegreen.release.finished import still_ours
from bluegreen.release.markers import Mark, Turn, marked
from bluegreen.release.plan import Plan
from bluegreen.release.ports import Ports
from bluegreen.release.wiring import ports_for, union


class BlueGreenOperator(BaseOperator):
    """
    One use case on one service.

    :param service: name in the catalog (templated)
    """

    template_fields: Sequence[str] = ("service",)
    operator_extra_links: Sequence[BaseOperatorLink] = RELEASE_LINKS
    again: ClassVar[bool] = False
    """Another try is worth it whatever a router said: traffic that is not back is worse than any delay."""

    def __init__(self, *, service: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.service = service
        self._used: list[Ports] = []

    def execute(self, context: Context) -> Any:
        """Do the use case; errors leave their text for the verdict. What it cost an API with other clients is told."""
        try:
            with airflow_errors(context, again=self.again):
                value = self.act(context)
        finally:
            calls = sum((ports.calls for ports in self._used), Counter[str]())
            if calls:
                self.say(f"calls to the API server: {', '.join(f'{n} {verb}' for verb, n in sorted(calls.items()))}")
        return {**value, "calls": dict(calls)} if calls and isinstance(value, dict) else value

    def act(self, context: Context) -> Any:
        """Call one use case and return JSON."""
        raise NotImplementedError

    def ports(self, service: Service | None = None) -> Ports:
        """Return ports of a frozen service, or of the catalog's."""
        used = ports_for(service or load_service(services_folder(), self.service), connection_secrets, self.say)
        self._used.append(used)
        return used

    def say(self, line: str) -> None:
        """Log one line for people."""
        self.log.info("%s", line)

    def unless_superseded(self, plan: Plan) -> None:
        """
        Let only a step go on whose release still holds the service: a newer one may have the color by now.

        :raises ReleaseFinished: the release is settled or restored already
        :raises TrafficConflict: another one holds the service
        """
        ports = self.ports(plan.service)
        still_ours(ports, plan.run, plan.release, ports.router.read())

    def mark(self, plan: Plan, turn: Turn, text: str) -> None:
        """Leave a line in the dashboards that the service file names; it fails nothing."""
        mark = Mark(turn, self.service, plan.run, plan.version, f"{self.service}: {text}")
        marked(plan.service.notify.markers, connection_secrets, mark, self.say)()

    def way_back_ports(self, context: Context) -> Ports:
        """Return ports that reach every node of the catalog, and of the frozen release where it can be read."""
        try:
            frozen = context["ti"].xcom_pull(task_ids=PLAN_TASK)
            known = [Plan.model_validate(frozen).service] if frozen else []
        except Exception as error:  # noqa: BLE001 - more nodes are welcome, never needed
            self.log.warning("the plan cannot be read, so only the catalog's nodes are known: %s", error)
            known = []
        return self.ports(union(load_service(services_folder(), self.service), known))
