"""
The tasks of a release in their order.

The layout is the design's section 6; which trigger rules and teardowns hold under which fault was measured there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import TriggerRule, chain

from bluegreen.catalog.migrations import SqlFiles
from bluegreen.catalog.models import Service
from bluegreen.catalog.sessions import StateTransfer
from bluegreen.deployers.fence import patience
from bluegreen.edge import (
    APPROVE_CANARY_TASK,
    APPROVE_SWITCH_TASK,
    BACKFILL_TASK,
    CAUGHT_UP_TASK,
    EXPAND_TASK,
    FINISH_TASK,
    HOLD_TASK,
    KEEP_OLD_TASK,
    LINT_TASK,
    OLD_VERSION_TASK,
    PLAN_TASK,
    SCRATCH_TASK,
    SESSIONS_TASK,
    STATE_TASK,
    SWITCH_TASK,
    WATCH_TASK,
    WAY_BACK,
)
from bluegreen.operators.approve import ApproveOperator, HoldOperator
from bluegreen.operators.ending import (
    FinishOperator,
    KeepOldOperator,
    OutcomeOperator,
    RollbackOperator,
    SafeOperator,
    VerdictOperator,
)
from bluegreen.operators.migrating import (
    BackfillOperator,
    CaughtUpOperator,
    ExpandOperator,
    LintOperator,
    OldVersionOperator,
    ScratchOperator,
)
from bluegreen.operators.release_steps import DeployOperator, PlanOperator, PrewarmOperator, SmokeOperator
from bluegreen.operators.stateful import SessionsOperator, StateTransferOperator
from bluegreen.operators.traffic import ShiftOperator
from bluegreen.sensors.watch import WatchSensor


def release_tasks(service: Service) -> None:
    """Make every task of a release, within its DAG."""
    name = service.service
    forward = {"service": name, "trigger_rule": TriggerRule.NONE_FAILED}
    steps: list[Any] = [
        *_lint(service),
        PlanOperator(task_id=PLAN_TASK, service=name),
        *_migrations(forward, service),
        DeployOperator(task_id="deploy", execution_timeout=longest_deploy(service), **forward),
        PrewarmOperator(task_id="prewarm", execution_timeout=timedelta(minutes=15), **forward),
        SmokeOperator(task_id="smoke", execution_timeout=timedelta(minutes=15), **forward),
    ]
    steps += _sessions(forward, service, SESSIONS_TASK)
    steps += _caught_up(forward, service)
    if service.release.approvals.before_canary:
        steps.append(ApproveOperator(task_id=APPROVE_CANARY_TASK, gate="before_canary", **forward))
    steps += _state(forward, service)  # after people were asked: nothing is to change between it and the traffic
    steps += _traffic(forward, service)
    chain(*steps)
    _end(steps[-1], name)


def longest_deploy(service: Service) -> timedelta:
    """Return how long a deploy or a retire may take: an upgrade, its way back, pods that it lacks, and the router's view."""
    deploy = service.deploy
    return service.release.drain + deploy.timeout + 4 * deploy.ready_within + patience(service)


def _lint(service: Service) -> list[Any]:
    longest = timedelta(minutes=15)
    name = service.service
    return [LintOperator(task_id=LINT_TASK, service=name, execution_timeout=longest)] if service.migrations else []


def _migrations(forward: dict[str, Any], service: Service) -> list[Any]:
    """Return what changes the schema before anything is deployed."""
    settings = service.migrations
    if settings is None:
        return []
    made: list[Any] = []
    if settings.scratch:
        longest = 5 * settings.scratch.timeout + settings.retry_for
        made.append(ScratchOperator(task_id=SCRATCH_TASK, execution_timeout=longest, **forward))
    # A statement that blocks nobody has no bound of its own: building an index of a large table takes hours.
    made.append(ExpandOperator(task_id=EXPAND_TASK, execution_timeout=timedelta(days=1), **forward))
    if isinstance(settings.tool, SqlFiles):
        longest = settings.backfill.timeout + timedelta(minutes=10)
        made.append(BackfillOperator(task_id=BACKFILL_TASK, execution_timeout=longest, **forward))
    made.append(OldVersionOperator(task_id=OLD_VERSION_TASK, execution_timeout=timedelta(minutes=15), **forward))
    return made


def _caught_up(forward: dict[str, Any], service: Service) -> list[Any]:
    settings = service.migrations
    if settings is None or not (settings.behind or settings.replica):
        return []
    waits = [one.within for one in settings.behind] + ([settings.replica.within] if settings.replica else [])
    longest = sum(waits, timedelta(minutes=5))
    return [CaughtUpOperator(task_id=CAUGHT_UP_TASK, execution_timeout=longest, **forward)]


def _sessions(forward: dict[str, Any], service: Service, task: str, **shift: Any) -> list[Any]:
    if service.sessions is None:
        return []
    return [SessionsOperator(task_id=task, execution_timeout=timedelta(minutes=5), **shift, **forward)]


def _state(forward: dict[str, Any], service: Service) -> list[Any]:
    if not isinstance(service.state, StateTransfer):
        return []
    longest = 2 * service.state.timeout + timedelta(minutes=1)
    return [StateTransferOperator(task_id=STATE_TASK, execution_timeout=longest, **forward)]


def _traffic(forward: dict[str, Any], service: Service) -> list[Any]:
    release = service.release
    shifts, watches, steps = [PLAN_TASK], list[str](), list[Any]()
    for number in range(len(release.canary)):
        shift, watch = f"canary_{number + 1}", f"canary_{number + 1}_watch"
        steps += [
            ShiftOperator(task_id=shift, canary=number, after=list(shifts), watches=list(watches), **forward),
            *(_sessions(forward, service, f"{shift}_sessions", shift=shift, canary=0) if number == 0 else ()),
            WatchSensor(task_id=watch, shift=shift, canary=number, **forward),
        ]
        shifts += [shift, watch]  # a watch that held the traffic to ask has moved the epoch on
        watches.append(watch)
    if release.approvals.before_switch:
        if release.canary:
            steps.append(HoldOperator(task_id=HOLD_TASK, after=list(shifts), watches=list(watches), **forward))
            shifts.append(HOLD_TASK)
        steps.append(
            ApproveOperator(task_id=APPROVE_SWITCH_TASK, gate="before_switch", watches=list(watches), **forward)
        )
    steps += [
        ShiftOperator(task_id=SWITCH_TASK, after=list(shifts), watches=list(watches), **forward),
        *_sessions(forward, service, f"{SWITCH_TASK}_sessions", shift=SWITCH_TASK),
        WatchSensor(task_id=WATCH_TASK, shift=SWITCH_TASK, **forward),
    ]
    return steps


def _end(last: Any, name: str) -> None:
    outcome = OutcomeOperator(task_id="outcome", trigger_rule=TriggerRule.ALL_DONE, **WAY_BACK)
    finish = FinishOperator(task_id=FINISH_TASK, service=name)
    keep_old = KeepOldOperator(task_id=KEEP_OLD_TASK, service=name)
    rollback = RollbackOperator(task_id="rollback", service=name, **WAY_BACK)
    # Without setups=: a teardown with setups does not run when its setup was killed. The last one decides the state.
    safe = SafeOperator(task_id="safe", service=name, **WAY_BACK).as_teardown()
    verdict = VerdictOperator(task_id="verdict", service=name, **WAY_BACK).as_teardown(on_failure_fail_dagrun=True)
    last >> outcome >> [finish, rollback] >> safe >> verdict
    # Beside safe, and before the task that decides: what goes wrong in it fails no release that is promoted.
    finish >> keep_old >> verdict
