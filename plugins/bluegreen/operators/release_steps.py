"""The steps of a release that move no traffic: plan, deploy, prewarm, smoke."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Context

from bluegreen.catalog.durations import parse
from bluegreen.catalog.models import CanaryStep
from bluegreen.checks.prewarm import prewarm
from bluegreen.checks.smoke import smoke
from bluegreen.core.errors import ReleaseRefused
from bluegreen.edge import connection_secrets, leave_out, plan_of
from bluegreen.operators.base import BlueGreenOperator
from bluegreen.release.deploy import deploy
from bluegreen.release.migrate import would_change
from bluegreen.release.plan import Plan, Request, Skippable, dry_run, plan
from bluegreen.release.ports import Ports
from bluegreen.release.tally import tally


class PlanOperator(BlueGreenOperator):
    """
    Claim the service and freeze the release; the DAG run's params say what is asked for.

    :param service: name in the catalog (templated)
    """

    def act(self, context: Context) -> dict[str, Any]:
        """Plan, or tell what would be done."""
        ports, params = self.ports(), context["params"]
        request = _request(ports, context)
        if params["dry_run"]:
            changes = [*dry_run(ports, request), *would_change(ports.service, connection_secrets)]
            for line in changes:
                self.log.info("dry run: %s", line)
            context["ti"].xcom_push(key="changes", value=changes)
            leave_out(self.log, "dry run: nothing was touched; the changes are above and in XCom 'changes'")
        planned = plan(ports, request)
        context["ti"].xcom_push(key="counted", value=tally(ports))
        self.mark(planned, "start", f"release of {planned.version} to {planned.idle}, asked for by {planned.by}")
        return planned.as_json()


def _duration(ports: Ports, params: Any, name: str) -> timedelta | None:
    try:
        return parse(params[name]) if params[name] else None
    except ValueError as error:
        raise ReleaseRefused(
            str(error), service=ports.name, part=name, next_step="mend the params and start again"
        ) from error


def _request(ports: Ports, context: Context) -> Request:
    params, run = context["params"], context["dag_run"]
    watch = _duration(ports, params, "canary_watch")
    shares, steps = params["canary"], ports.service.release.canary
    if len(shares) > len(steps):
        raise ReleaseRefused(
            f"canary has {len(shares)} steps", service=ports.name, next_step=f"the service file allows {len(steps)}"
        )
    canary = [CanaryStep(share=share, watch=watch or step.watch) for share, step in zip(shares, steps, strict=False)]
    return Request(
        run=run.run_id,
        version=str(params["version"]),
        by=run.triggering_user_name or str(run.run_type.value),
        canary=[] if "canary" in params["skip"] else canary,
        watch=_duration(ports, params, "watch"),
        skip=tuple(params["skip"]),
        skip_reason=params["skip_reason"] or "",
        alive=lambda other: _lives(context, run.dag_id, other),
    )


def _lives(context: Context, dag: str, run: str) -> bool:
    """Tell whether a run still runs: one of a release, or one of a DAG of one's own, which claims as ``dag.run``."""
    own, _, of_it = run.partition(".")
    return any(
        context["ti"].get_dr_count(one, run_ids=[id_], states=["running"]) > 0
        for one, id_ in ((dag, run), (own, of_it))
        if id_
    )


def _unless_skipped(log: Any, plan: Plan, step: Skippable) -> None:
    if plan.skips(step):
        leave_out(log, plan.skip_reason)


class DeployOperator(BlueGreenOperator):
    """
    Bring the release's version onto the idle color.

    :param service: name in the catalog (templated)
    """

    def act(self, context: Context) -> dict[str, Any]:
        """Deploy and say what the targets report."""
        release = plan_of(context)
        found = deploy(self.ports(release.service), release)
        return {"color": release.idle, "version": found.version, "ready": found.ready, "total": found.total}


class PrewarmOperator(BlueGreenOperator):
    """
    Send requests to the idle color before it gets traffic.

    :param service: name in the catalog (templated)
    """

    def act(self, context: Context) -> Any:
        """Prewarm and return the counts."""
        release = plan_of(context)
        _unless_skipped(self.log, release, "prewarm")
        self.unless_superseded(release)  # its tests would tell of the wrong version
        if release.service.prewarm is None:
            leave_out(self.log, "the service file has no prewarm")
        return prewarm(release.service, release.idle, log=self.say)


class SmokeOperator(BlueGreenOperator):
    """
    Test the idle color before it gets traffic.

    :param service: name in the catalog (templated)
    """

    def act(self, context: Context) -> Any:
        """Run every smoke test on every target."""
        release = plan_of(context)
        _unless_skipped(self.log, release, "smoke")
        self.unless_superseded(release)  # its tests would tell of the wrong version
        credentials = release.service.entry.credentials(connection_secrets)
        return smoke(
            release.service,
            release.idle,
            release.version,
            credentials=credentials,
            log=self.say,
            inside=self.ports(release.service).deployer,
        )
