"""The watch's sensor: takes the baseline, defers to the trigger, and turns its event into a task state."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Context

from bluegreen import metrics
from bluegreen.asking import AskOperator
from bluegreen.catalog.durations import text
from bluegreen.core.errors import Unhealthy
from bluegreen.core.evidence import Outlook
from bluegreen.core.stamp import Phase, now_utc
from bluegreen.edge import PLAN_TASK, airflow_errors, connection_secrets, epoch_of, leave_out, plan_of
from bluegreen.release.finished import still_ours
from bluegreen.release.plan import Plan
from bluegreen.release.ports import Ports
from bluegreen.release.question import Evidence, question
from bluegreen.release.shift import held_until, hold
from bluegreen.release.tally import grown
from bluegreen.release.watch import WatchSpec, baseline
from bluegreen.release.wiring import ports_for
from bluegreen.triggers.watch import WatchTrigger

SLACK = timedelta(minutes=2)
"""Beyond the watch's end: a triggerer that restarts, a restore that tries a dead node."""


class WatchSensor(AskOperator):
    """
    Watch one shift of a release; when the evidence is too little in the end, hold the traffic and ask a person.

    :param service: name in the catalog
    :param shift: task id of the shift that is watched
    :param canary: number of the canary step, from 0; None for the full switch
    """

    def __init__(self, *, shift: str, canary: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
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
            ports = self._ports(plan)
            reading = ports.router.read()
            still_ours(ports, plan.run, plan.release, reading)
            if reading.stamp and (reading.stamp.phase, reading.stamp.step) == (Phase.HELD, self.task_id):
                self._ask(context, plan, ports, None)  # Airflow repeats tasks: people are asked already
            spec = self._spec(context, plan, ports)
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
            if event["says"] == Outlook.UNKNOWN:
                plan = plan_of(context)
                self._ask(context, plan, self._ports(plan), event)
            if event["says"] != Outlook.HEALTHY:
                put_back = "the traffic was put back; mend the version and start a new release"
                step = put_back if event["says"] == "unhealthy" else f"see bluegreen status {self.service}"
                raise Unhealthy(event["reason"], service=self.service, part=self.task_id, next_step=step)
        return event

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """A yes stands in for a healthy verdict, from the epoch that holds the traffic."""
        with airflow_errors(context):
            plan = plan_of(context)
        answer = self.answered(context, event, plan, plan.service.release.approvals.unknown)
        epoch = context["ti"].xcom_pull(task_ids=self.task_id, key="held")["epoch"]
        return answer.as_json() | {"says": "approved", "epoch": epoch}

    def _ask(self, context: Context, plan: Plan, ports: Ports, end: dict[str, Any] | None) -> None:
        """
        Hold the traffic as it is and ask.

        :param end: how the watch ended; None where the task is repeated
        """
        asked = plan.service.release.approvals.unknown
        assert asked is not None  # noqa: S101 - such a watch puts the traffic back instead
        held = hold(ports, plan, self.task_id, self._share(plan), epoch_of(context, [self.shift]), asked)
        until = held_until(plan, held)
        assert until is not None  # noqa: S101 - a held stamp has a lease
        context["ti"].xcom_push(key="held", value=held.as_json())
        form = question(plan, "unknown", until, Evidence(watch=end), self._share(plan))
        self.ask(context, form, asked, until, ports, plan, held.reading)

    def _share(self, plan: Plan) -> int:
        return 100 if self.canary is None else plan.service.release.canary[self.canary].share

    def _ports(self, plan: Plan) -> Ports:
        return ports_for(plan.service, connection_secrets, lambda line: self.log.info("%s", line))

    def _defer(self, spec: WatchSpec, span: timedelta) -> None:
        told = spec.model_dump(mode="json")
        trigger = WatchTrigger(told)
        self.defer(
            trigger=trigger,
            method_name="resume",
            kwargs={"spec": told},
            timeout=span + spec.service.release.extend + SLACK,
        )

    def _spec(self, context: Context, plan: Plan, ports: Ports) -> WatchSpec:
        release, since = plan.service.release, ports.now()
        span = release.watch if self.canary is None else release.canary[self.canary].watch
        counted, past, begun = baseline(ports), None, dict[str, Any]()
        if self.canary is None:  # nothing serves beside the new color
            begun = context["ti"].xcom_pull(task_ids=PLAN_TASK, key="counted") or {}
            past = grown(begun.get("nodes") or {}, counted)[0][plan.live]
        return WatchSpec(
            service=plan.service,
            run=plan.run,
            release=plan.release,
            epoch=epoch_of(context, [self.shift]),
            step=self.task_id,
            color=plan.idle,
            since=since,
            until=since + span,
            baseline=counted,
            past=past,
            past_since=begun.get("at"),
        )
