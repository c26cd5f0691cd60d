"""Operators that deploy to the idle color, for DAGs of one's own. Kinds of deployers have subclasses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from airflow.sdk import Context

from bluegreen.core.errors import ReleaseRefused
from bluegreen.links import EntryLink
from bluegreen.operators.base import BlueGreenOperator
from bluegreen.release.deploy_idle import deploy_idle
from bluegreen.release.ports import Ports


class IdleDeployOperator(BlueGreenOperator):
    """
    Bring a version onto a service's idle color; no traffic is moved. ``TrafficOperator`` moves it, in a later task.

    :param service: name in the catalog (templated)
    :param version: to deploy (templated)
    """

    template_fields: Sequence[str] = ("service", "version")
    operator_extra_links = (EntryLink(),)
    deploy_type: ClassVar[str | None] = None

    def __init__(self, *, version: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version

    def act(self, context: Context) -> dict[str, Any]:
        """Deploy, and say where to and what is ready there."""
        ports = self.ports()
        self._right_deployer(ports)
        run = f"{context['dag_run'].dag_id}.{context['dag_run'].run_id}"
        color, found = deploy_idle(ports, str(self.version), run=run, by=self.task_id)
        return {"color": color, "version": found.version, "ready": found.ready, "total": found.total}

    def _right_deployer(self, ports: Ports) -> None:
        kind = ports.service.deploy.type
        if self.deploy_type not in (None, kind):
            raise ReleaseRefused(
                f"the service's deploy.type is {kind}, this operator is for {self.deploy_type}",
                service=ports.name,
                next_step="use IdleDeployOperator, which takes any",
            )


class KubernetesDeployOperator(IdleDeployOperator):
    """Deploy to the Deployment of a service's idle color; see ``IdleDeployOperator``."""

    deploy_type: ClassVar[str | None] = "kubernetes"


class HelmDeployOperator(IdleDeployOperator):
    """Upgrade or install the Helm release of a service's idle color; see ``IdleDeployOperator``."""

    deploy_type: ClassVar[str | None] = "helm"
