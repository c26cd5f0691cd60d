"""
The DAG factory: every service of the catalog gets ``release__``, ``rollback__`` and ``retire__<service>``; one ``guardian``.

The layout is the design's section 6; which trigger rules and teardowns hold under which fault was measured there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, cast

from airflow.sdk import DAG, Param, TriggerRule, get_parsing_context
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from bluegreen.catalog.durations import PATTERN, text
from bluegreen.catalog.load import load_all, load_service, services_folder
from bluegreen.catalog.models import Service
from bluegreen.catalog.sessions import StateTransfer
from bluegreen.dagdocs import GUARDIAN_DOC, RELEASE_DOC, RETIRE_DOC, ROLLBACK_DOC, approvals_doc, task_doc
from bluegreen.deployers.fence import patience
from bluegreen.edge import (
    APPROVE_CANARY_TASK,
    APPROVE_SWITCH_TASK,
    FINISH_TASK,
    HOLD_TASK,
    KEEP_OLD_TASK,
    PLAN_TASK,
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
from bluegreen.operators.release_steps import DeployOperator, PlanOperator, PrewarmOperator, SmokeOperator
from bluegreen.operators.stateful import SessionsOperator, StateTransferOperator
from bluegreen.operators.traffic import ShiftOperator
from bluegreen.operators.way_back import GuardOperator, RetireOperator, RollbackNowOperator
from bluegreen.sensors.watch import WatchSensor
from bluegreen.triggers.overdue import tell_people

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = ("release", "rollback", "retire")
GUARD_EVERY = timedelta(seconds=15)


def release_dags() -> Iterator[DAG]:
    """
    Yield the DAGs of every sound service; only the one that is asked for while a task runs.

    A service whose file is broken is left out here and told by ``raise_catalog_errors``, so that it takes no other away.
    """
    wanted = get_parsing_context().dag_id
    if wanted:
        kind, _, name = wanted.partition("__")
        services = [load_service(services_folder(), name)] if kind in KINDS else []
    else:
        services = list(load_all(services_folder()).services.values())
    for service in services:
        yield release_dag(service)
        yield rollback_dag(service)
        yield retire_dag(service)


def raise_catalog_errors() -> None:
    """
    Make the broken service files one import error of their own.

    :raises CatalogError: naming file, line and key of each
    """
    if get_parsing_context().dag_id:
        return
    errors = load_all(services_folder()).errors
    if errors:
        raise type(errors[0])(" | ".join(str(error) for error in errors), file=str(services_folder()))


def release_dag(service: Service) -> DAG:
    """Build ``release__<service>``."""
    name, steps = service.service, service.release.canary
    with DAG(
        dag_id=f"release__{name}",
        schedule=None,
        description=service.description or f"Zero-downtime release of {name}",
        doc_md=RELEASE_DOC.format(
            service=name,
            shares=", ".join(f"{step.share} %" for step in steps) or "all",
            approvals=approvals_doc(service.release.approvals),
        ),
        params=_release_params(service),
        tags={"release", *service.tags},
        default_args={"owner": service.owner, "retries": 2, "retry_delay": timedelta(seconds=3)},
        # A second run that is to be refused, or to supersede the first, must be able to start.
        max_active_runs=1 if service.release.concurrent == "queue" else 2,
        deadline=_deadline(service),
        **_COMMON,
    ) as dag:
        forward = {"service": name, "trigger_rule": TriggerRule.NONE_FAILED}
        chain: list[Any] = [
            PlanOperator(task_id=PLAN_TASK, service=name),
            DeployOperator(task_id="deploy", execution_timeout=_longest_deploy(service), **forward),
            PrewarmOperator(task_id="prewarm", execution_timeout=timedelta(minutes=15), **forward),
            SmokeOperator(task_id="smoke", execution_timeout=timedelta(minutes=15), **forward),
        ]
        chain += _sessions(forward, service, SESSIONS_TASK)
        if service.release.approvals.before_canary:
            chain.append(ApproveOperator(task_id=APPROVE_CANARY_TASK, gate="before_canary", **forward))
        chain += _state(forward, service)  # after people were asked: nothing is to change between it and the traffic
        chain += _traffic(forward, service)
        _in_a_row(chain)
        _end(chain[-1], name)
    return _documented(dag, name)


def rollback_dag(service: Service) -> DAG:
    """Build ``rollback__<service>``."""
    name = service.service
    with DAG(
        dag_id=f"rollback__{name}",
        schedule=None,
        description=f"Put {name}'s traffic back",
        doc_md=ROLLBACK_DOC.format(service=name),
        params={"reason": _reason()},
        tags={"rollback", *service.tags},
        default_args={"owner": service.owner} | WAY_BACK,
        max_active_runs=1,
        **_COMMON,
    ) as dag:
        RollbackNowOperator(task_id="rollback", service=name, doc_md=task_doc("rollback_now", name))
    return dag


def retire_dag(service: Service) -> DAG:
    """Build ``retire__<service>``."""
    name, keep = service.service, service.release.keep_old
    waits = f"Every release starts a run that waits {text(keep)}" if keep is not None else "Nobody starts it but people"
    with DAG(
        dag_id=f"retire__{name}",
        schedule=None,
        description=f"End the way back of {name}'s last release, and stop its old color",
        doc_md=RETIRE_DOC.format(service=name, waits=waits),
        params={
            "reason": _reason(),
            "release": Param(
                None,
                type=["null", "string"],
                title="Only after this release",
                description="What the release itself fills in, run@epoch. Empty: the last one.",
            ),
        },
        tags={"retire", *service.tags},
        # Nobody looks on, and a node that is away may be back in a minute.
        default_args={"owner": service.owner, "retries": 5, "retry_delay": timedelta(minutes=1)},
        max_active_runs=1,
        **_COMMON,
    ) as dag:
        RetireOperator(task_id="retire", service=name, execution_timeout=_longest_deploy(service))
    return _documented(dag, name)


def guardian_dag() -> DAG:
    """Build ``guardian``, which looks at every service each 15 seconds."""
    with DAG(
        dag_id="guardian",
        description="Restores services whose lease has run out",
        doc_md=GUARDIAN_DOC,
        schedule=GUARD_EVERY,
        tags={"guardian"},
        default_args=WAY_BACK | {"retries": 0},
        # A look whose worker was killed seems to run for minutes: the next ones must not wait for it. Restores race
        # harmlessly.
        max_active_runs=3,
        **_COMMON,
    ) as dag:
        GuardOperator(task_id="guard", execution_timeout=timedelta(minutes=2))
    return _documented(dag, "")


_COMMON: dict[str, Any] = {
    "start_date": BEGIN,
    "catchup": False,
    "is_paused_upon_creation": False,
}


def _deadline(service: Service) -> DeadlineAlert | None:
    """Let Airflow look at how long a run takes: its scheduler finds the miss, a triggerer tells people."""
    after = service.release.deadline
    if after is None:
        return None
    told = AsyncCallback(tell_people, {"service": service.service, "after": text(after)})
    return DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, after, told, name="release.deadline")


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
    shifts, watches, chain = [PLAN_TASK], list[str](), list[Any]()
    for number in range(len(release.canary)):
        shift, watch = f"canary_{number + 1}", f"canary_{number + 1}_watch"
        chain += [
            ShiftOperator(task_id=shift, canary=number, after=list(shifts), watches=list(watches), **forward),
            *(_sessions(forward, service, f"{shift}_sessions", shift=shift, canary=0) if number == 0 else ()),
            WatchSensor(task_id=watch, shift=shift, canary=number, **forward),
        ]
        shifts += [shift, watch]  # a watch that held the traffic to ask has moved the epoch on
        watches.append(watch)
    if release.approvals.before_switch:
        if release.canary:
            chain.append(HoldOperator(task_id=HOLD_TASK, after=list(shifts), watches=list(watches), **forward))
            shifts.append(HOLD_TASK)
        chain.append(
            ApproveOperator(task_id=APPROVE_SWITCH_TASK, gate="before_switch", watches=list(watches), **forward)
        )
    chain += [
        ShiftOperator(task_id=SWITCH_TASK, after=list(shifts), watches=list(watches), **forward),
        *_sessions(forward, service, f"{SWITCH_TASK}_sessions", shift=SWITCH_TASK),
        WatchSensor(task_id=WATCH_TASK, shift=SWITCH_TASK, **forward),
    ]
    return chain


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


def _longest_deploy(service: Service) -> timedelta:
    deploy = service.deploy
    return service.release.drain + deploy.timeout + deploy.ready_within + patience(service)


def _documented(dag: DAG, name: str) -> DAG:
    for task in dag.tasks:
        cast("Any", task).doc_md = task_doc(task.task_id, name)  # no task of ours is mapped, where it could not be set
    return dag


def _in_a_row(tasks: Sequence[Any]) -> None:
    for before, after in pairwise(tasks):
        before >> after


def _release_params(service: Service) -> dict[str, Param]:
    steps, name = service.release.canary, service.service
    watches = ", ".join(text(step.watch) for step in steps) or "none"
    skippable = ["prewarm", "smoke", "canary", "watch"]
    return {
        "version": Param(
            type="string",
            minLength=1,
            maxLength=100,
            pattern=r"^\S+$",
            title="Version",
            description=f"What to release, as the deploy of {name} knows it: 1.5.0",
        ),
        "canary": Param(
            [step.share for step in steps],
            type="array",
            items={"type": "integer", "minimum": 1, "maximum": 99},
            maxItems=len(steps),
            title="Canary steps",
            description="Shares of the traffic in per cent, growing.",
            section="Traffic",
        ),
        "canary_watch": _duration("Watch after each canary step", f"Empty: as in the service file ({watches})."),
        "watch": _duration(
            "Watch after the full switch", f"Empty: as in the service file ({text(service.release.watch)})."
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Only show the exact changes, in the log of plan; nothing is touched.",
        ),
        "skip": Param(
            [],
            type="array",
            items={"type": "string", "enum": skippable},
            uniqueItems=True,
            examples=skippable,
            title="Leave out",
            description="Steps to leave out. Needs a reason. Approvals cannot be left out.",
            section="Exceptions",
        ),
        "skip_reason": Param(None, type=["null", "string"], maxLength=200, title="Reason", section="Exceptions"),
    }


def _reason() -> Param:
    return Param(
        "asked for in Airflow",
        type="string",
        minLength=1,
        maxLength=200,
        title="Reason",
        description="Stands in the stamp and in the report.",
    )


def _duration(title: str, description: str) -> Param:
    return Param(
        None,
        type=["null", "string"],
        pattern=PATTERN,
        title=title,
        description=description + " Like 30s or 5m.",
        section="Traffic",
    )
