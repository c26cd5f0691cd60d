"""Operators that move traffic forward. Each kind of router has a subclass for DAGs of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

from airflow.sdk import Context

from bluegreen import metrics
from bluegreen.core.colors import Color
from bluegreen.core.errors import ReleaseRefused
from bluegreen.edge import epoch_of, leave_out, need_approved, need_healthy, plan_of
from bluegreen.links import EntryLink
from bluegreen.operators.base import BlueGreenOperator
from bluegreen.release.move import move
from bluegreen.release.ports import Ports
from bluegreen.release.shift import shift


class TrafficOperator(BlueGreenOperator):
    """
    Move a service's traffic and prove that it arrived; for DAGs of one's own.

    All of it is a release of its own: claimed, switched, proven, settled, and put back when it is not proven. A share
    below 100 is at risk until the next task moves it on; after ``lease`` the guard puts it back.

    :param service: name in the catalog (templated)
    :param to: ``idle``, ``live``, ``blue`` or ``green`` (templated)
    :param share: per cent of new requests for that color, 1 to 100
    :param lease: how long a share below 100 may stay
    """

    template_fields: Sequence[str] = ("service", "to")
    operator_extra_links = (EntryLink(),)
    router_type: ClassVar[str | None] = None

    def __init__(self, *, to: str = "idle", share: int = 100, lease: timedelta | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.to = to
        self.share = share
        self.lease = lease

    def act(self, context: Context) -> dict[str, Any]:
        """Move, prove, settle."""
        ports = self.ports()
        self._right_router(ports)
        run = f"{context['dag_run'].dag_id}.{context['dag_run'].run_id}"
        return move(ports, self.to, run=run, by=self.task_id, share=self.share, lease=self.lease).as_json()

    def _right_router(self, ports: Ports) -> None:
        kind = ports.service.router.type
        if self.router_type not in (None, kind):
            raise ReleaseRefused(
                f"the service's router is {kind}, this operator is for {self.router_type}",
                service=ports.name,
                next_step="use TrafficOperator, which takes any",
            )


class HAProxyTrafficOperator(TrafficOperator):
    """Move a service's traffic through HAProxy; see ``TrafficOperator``."""

    router_type: ClassVar[str | None] = "haproxy"


class NginxTrafficOperator(TrafficOperator):
    """Move a service's traffic through nginx; see ``TrafficOperator``."""

    router_type: ClassVar[str | None] = "nginx"


class KubernetesServiceTrafficOperator(TrafficOperator):
    """Move a service's traffic through a plain Kubernetes Service; see ``TrafficOperator``."""

    router_type: ClassVar[str | None] = "kube_service"


class IstioTrafficOperator(TrafficOperator):
    """Move a service's traffic through an Istio VirtualService; see ``TrafficOperator``."""

    router_type: ClassVar[str | None] = "istio"


class GatewayTrafficOperator(TrafficOperator):
    """Move a service's traffic through a route of the Gateway API; see ``TrafficOperator``."""

    router_type: ClassVar[str | None] = "gateway_api"


class ShiftOperator(BlueGreenOperator):
    """
    One step of a release: a share of the traffic for the new color.

    :param service: name in the catalog (templated)
    :param canary: number of the canary step, from 0; None for the full switch
    :param after: task ids of the steps before, in order
    :param watches: task ids of the canary steps' watches; the one before must have said healthy
    """

    def __init__(
        self, *, canary: int | None = None, after: Sequence[str] = (), watches: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.canary = canary
        self.after = after
        self.watches = watches

    def act(self, context: Context) -> dict[str, Any]:
        """Shift and prove; a step that the release leaves out is skipped."""
        plan = plan_of(context)
        steps = plan.service.release.canary
        if self.canary is not None and self.canary >= len(steps):
            leave_out(self.log, f"this release has {len(steps)} canary steps: {plan.skip_reason or 'as asked for'}")
        need_approved(context, plan, switch=self.canary is None)
        before = len(steps) if self.canary is None else self.canary
        if before:
            need_healthy(context, plan, self.watches[before - 1])
        share = 100 if self.canary is None else steps[self.canary].share
        done = shift(self.ports(plan.service), plan, self.task_id, share, epoch_of(context, self.after))
        left = done.as_json() | {"color": Color(plan.idle), "share": share}
        metrics.shifted(self.service, left)
        if share == 100:
            self.mark(plan, "switch", f"all traffic on {plan.idle}, {plan.version}; it is watched now")
        return left
