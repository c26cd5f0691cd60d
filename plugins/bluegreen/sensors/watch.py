"""The watch's sensor: takes the baseline, defers to the trigger, and turns its event into a task state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator, Context

from bluegreen import metrics
from bluegreen.catalog.durations import text
from bluegreen.core.errors import Unhealthy
from bluegreen.core.stamp import now_utc
from bluegreen.edge import airflow_errors, connection_secrets, epoch_of, leave_out, plan_of
from bluegreen.links import RELEASE_LINKS
from bluegreen.release.finished import not_finished
from bluegreen.release.plan import Plan
from bluegreen.release.watch import WatchSpec, baseline
from bluegreen.release.wiring import ports_for
from bluegreen.triggers.watch import WatchTrigger

SLACK = timedelta(minutes=2)
"""Beyond the watch's end: a triggerer that restarts, a restore that tries a dead node."""


class WatchSensor(BaseSensorOperator):
    """
    Watch one shift of a release.

    :param service: name in the catalog (templated)
    :param shift: task id of the shift that is watched
    :param canary: number of the canary step, from 0; None for the full switch
    """

    template_fields: Sequence[str] = ("service",)
    operator_extra_links = RELEASE_LINKS

    def __init__(self, *, service: str, shift: str, canary: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.service = service
        self.shift = shift
        self.canary = canary

    def execute(self, context: Context) -> None:
        """Take the baseline and defer."""
        plan = plan_of(context)
        if plan.skips("watch"):
            leave_out(self.log, plan.skip_reason)
        if not context["ti"].xcom_pull(task_ids=self.shift):
            leave_out(self.log, f"{self.shift} did not shift: nothing to watch")
        with airflow_errors(context):
            spec = self._spec(context, plan)
        rules = ", ".join(rule.says for rule in plan.service.release.rules)
        until = f"{spec.until:%H:%M:%S} UTC, {text(spec.until - spec.since)}"
        self.log.info("watching %s on %s until %s: that both colors serve, %s", plan.version, plan.idle, until, rules)
        self._defer(spec, spec.until - spec.since)

    def resume(self, context: Context, event: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
        """
        Pass on a healthy verdict; anything else fails the task.

        On SQLite Airflow gives the number of a deleted trigger to the next one, and so the last word of a watch that
        was marked by hand may come here: it is not ours, and our own watch goes on from its evidence.
        """
        ours = WatchSpec.model_validate(spec)
        if (event["release"], event["epoch"]) != (ours.release, ours.epoch):
            self.log.info("the word of another watch, epoch %s: ours goes on", event["epoch"])
            self._defer(ours, max(ours.until - now_utc(), timedelta()))
        context["ti"].xcom_push(key="end", value=event)
        self.log.info("%s: %s", event["says"], event["reason"])
        metrics.watched(self.service, event, self.task_id)
        with airflow_errors(context):
            if event["says"] != "healthy":
                put_back = "the traffic was put back; mend the version and start a new release"
                step = put_back if event["says"] == "unhealthy" else f"see bluegreen status {self.service}"
                raise Unhealthy(event["reason"], service=self.service, part=self.task_id, next_step=step)
        return event

    def _defer(self, spec: WatchSpec, span: timedelta) -> None:
        told = spec.model_dump(mode="json")
        trigger = WatchTrigger(told)
        self.defer(trigger=trigger, method_name="resume", kwargs={"spec": told}, timeout=span + SLACK)

    def _spec(self, context: Context, plan: Plan) -> WatchSpec:
        ports = ports_for(plan.service, connection_secrets, lambda line: self.log.info("%s", line))
        not_finished(ports, plan.run, ports.router.read())
        release, since = plan.service.release, ports.now()
        span = release.watch if self.canary is None else release.canary[self.canary].watch
        return WatchSpec(
            service=plan.service,
            run=plan.run,
            release=plan.release,
            epoch=epoch_of(context, [self.shift]),
            step=self.task_id,
            color=plan.idle,
            since=since,
            until=since + span,
            baseline=baseline(ports),
        )
