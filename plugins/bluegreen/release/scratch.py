"""Both versions' tests on a database that may be destroyed, before and after the compatible half of the migrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bluegreen.catalog.migrations import VERSION
from bluegreen.catalog.models import Service
from bluegreen.core.errors import CheckFailed, MigrationFailed, MigrationRefused
from bluegreen.core.ports import Secrets
from bluegreen.migrations.ports import Phase
from bluegreen.release.migrate import execute, on_database, settings_of
from bluegreen.release.plan import Plan

Log = Callable[[str], None]


def try_on_scratch(plan: Plan, secrets: Secrets, log: Log) -> dict[str, Any]:
    """
    Run both versions' tests on a database that may be destroyed, before and after expand.

    The new version's tests before expand are told only: it may need what expand adds.

    :raises CheckFailed: the old version's tests fail before, or one's after
    :raises MigrationFailed: expand fails there
    """
    settings = settings_of(plan.service)
    assert settings.scratch is not None  # noqa: S101 - asked for where there is one
    on = on_database(plan.service, settings.scratch.database)
    old, new = plan.old_version or "", plan.version
    told = {"before": {"old": _test(on, secrets, old, log), "new": _test(on, secrets, new, log)}}
    _need(told["before"]["old"], f"{old}'s tests fail on the scratch database before anything is changed", plan)
    try:
        execute(on, secrets, Phase.EXPAND, plan.release, log)
    except (MigrationFailed, MigrationRefused) as error:
        untouched = "production's database was not touched"
        raise type(error)(
            f"on the scratch database: {error}", service=plan.service.service, part="scratch", next_step=untouched
        ) from error
    told["after"] = {"old": _test(on, secrets, old, log), "new": _test(on, secrets, new, log)}
    _need(told["after"]["old"], f"{old}'s tests fail on the changed schema: the migration is not compatible", plan)
    _need(told["after"]["new"], f"{new}'s tests fail on the changed schema", plan)
    return told


def _test(on: Service, secrets: Secrets, version: str, log: Log) -> str:
    """Run a version's tests; empty where they pass, else why not."""
    from bluegreen.migrations.databases import place_of  # noqa: PLC0415 - the driver is an extra
    from bluegreen.migrations.tool_process import ToolProcess  # noqa: PLC0415

    settings = settings_of(on)
    assert settings.scratch is not None  # noqa: S101 - for mypy
    place = place_of(on.service, settings.database, secrets)
    run = ToolProcess(place, settings, Path(), settings.scratch.timeout, lambda line: log(f"{version}: {line}"))
    argv: Sequence[str] = [word.replace(VERSION, version) for word in settings.scratch.test]
    try:
        run.execute(tuple(argv), online=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, the tests did not pass
        return str(error)
    return ""


def _need(failed: str, fact: str, plan: Plan) -> None:
    if failed:
        raise CheckFailed(
            f"{fact}: {failed}",
            service=plan.service.service,
            part="migrations.scratch",
            next_step="production's database was not touched; mend the migration, or the tests",
        )
