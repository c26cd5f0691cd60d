"""
The DAG factory: ``release__``, ``rollback__``, ``retire__`` and ``contract__<service>`` of the catalog; one ``guardian``.

Every service has the first three, one with a database the fourth. ``dagtasks.py`` has a release's tasks in their order,
``dagparams.py`` the form of its run.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from airflow.sdk import DAG, Param, chain, get_parsing_context
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from bluegreen.catalog.durations import text
from bluegreen.catalog.load import load_all, load_service, services_folder
from bluegreen.catalog.models import Service
from bluegreen.dagdocs import CONTRACT_DOC, GUARDIAN_DOC, RELEASE_DOC, RETIRE_DOC, ROLLBACK_DOC, approvals_doc, task_doc
from bluegreen.dagparams import reason_param, release_params
from bluegreen.dagtasks import longest_deploy, release_tasks
from bluegreen.edge import WAY_BACK
from bluegreen.operators.contracting import (
    APPROVE_TASK,
    CONTRACT_TASK,
    READY_TASK,
    AskToContractOperator,
    ContractOperator,
    ReadyOperator,
)
from bluegreen.operators.way_back import GuardOperator, RetireOperator, RollbackNowOperator
from bluegreen.triggers.overdue import tell_people

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = ("release", "rollback", "retire", "contract")
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
        if service.migrations:
            yield contract_dag(service)


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
        params=release_params(service),
        tags={"release", *service.tags},
        default_args={"owner": service.owner, "retries": 2, "retry_delay": timedelta(seconds=3)},
        # A second run that is to be refused, or to supersede the first, must be able to start.
        max_active_runs=1 if service.release.concurrent == "queue" else 2,
        deadline=_deadline(service),
        **_COMMON,
    ) as dag:
        release_tasks(service)
    return _documented(dag, name)


def rollback_dag(service: Service) -> DAG:
    """Build ``rollback__<service>``."""
    name = service.service
    with DAG(
        dag_id=f"rollback__{name}",
        schedule=None,
        description=f"Put {name}'s traffic back",
        doc_md=ROLLBACK_DOC.format(service=name),
        params={"reason": reason_param()},
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
            "reason": reason_param(),
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
        RetireOperator(task_id="retire", service=name, execution_timeout=longest_deploy(service))
    return _documented(dag, name)


def contract_dag(service: Service) -> DAG:
    """Build ``contract__<service>``."""
    name = service.service
    with DAG(
        dag_id=f"contract__{name}",
        schedule=None,
        description=f"Execute the destructive half of {name}'s migrations",
        doc_md=CONTRACT_DOC.format(service=name),
        tags={"contract", *service.tags},
        default_args={"owner": service.owner, "retries": 2, "retry_delay": timedelta(seconds=10)},
        max_active_runs=1,
        **_COMMON,
    ) as dag:
        approve = service.migrations is not None and service.migrations.contract.approve
        steps: list[Any] = [ReadyOperator(task_id=READY_TASK, service=name, execution_timeout=timedelta(minutes=15))]
        steps += [AskToContractOperator(task_id=APPROVE_TASK, service=name)] if approve else []
        steps.append(ContractOperator(task_id=CONTRACT_TASK, service=name, execution_timeout=timedelta(days=1)))
        chain(*steps)
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


def _documented(dag: DAG, name: str) -> DAG:
    for task in dag.tasks:
        cast("Any", task).doc_md = task_doc(task.task_id, name)  # no task of ours is mapped, where it could not be set
    return dag
