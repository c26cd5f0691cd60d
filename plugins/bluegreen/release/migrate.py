"""The compatible half of a service's migrations: linted, executed, filled; and what must be caught up before traffic moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any

from bluegreen.catalog.migrations import Database, Migrations
from bluegreen.catalog.models import Service
from bluegreen.checks.smoke import smoke
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed, MigrationRefused
from bluegreen.core.ports import Secrets
from bluegreen.migrations.findings import Finding, refuse
from bluegreen.migrations.lint import lint
from bluegreen.migrations.ports import KeepsFiles, Migration, Phase, Tool
from bluegreen.migrations.registry import make_tool
from bluegreen.release.plan import Plan
from bluegreen.release.replicated import Replicated, databases, replica_of

Log = Callable[[str], None]
LOOKS_EVERY = 5.0
"""Seconds between two looks whether a backfill is still wanted."""


def settings_of(service: Service) -> Migrations:
    """
    Return how a service's database is changed.

    :raises MigrationRefused: its file does not say
    """
    if service.migrations is None:
        raise MigrationRefused(
            "it has no migrations", service=service.service, part="migrations", next_step="add the section"
        )
    return service.migrations


def lint_pending(service: Service, secrets: Secrets, phase: Phase, log: Log) -> list[Finding]:
    """
    Lint what would be executed now; see ``lint_these``.

    :raises MigrationFailed: the database or the tool does not answer
    """
    return lint_these(pending_of(service, secrets, phase, log), service, secrets, phase, log)


def lint_these(
    pending: Sequence[Migration], service: Service, secrets: Secrets, phase: Phase, log: Log
) -> list[Finding]:
    """
    Lint what is to be executed.

    :param pending: see ``pending_of``
    :returns: findings that somebody answers for
    :raises MigrationRefused: there are others; names each, with the safe form. Nothing was touched
    """
    settings, tool = settings_of(service), _tool(service, secrets)
    before = _applied(tool, phase, pending)
    names = {name for one in pending for name in (one.name, PurePath(one.name).name)}
    accept = [one for one in settings.accept if one.file in names]
    found = lint(pending, database_type=settings.database.type, accept=accept, before=before)
    log(f"pending in {phase}: {', '.join(one.name for one in pending) or 'nothing'}; the linter found {len(found)}")
    for one in found:
        log(str(one))
    refuse(found, service.service)
    if phase is Phase.EXPAND and (files := _backfill_files(tool)):
        from bluegreen.migrations import backfill_file  # noqa: PLC0415 - it parses SQL

        for file in files:
            backfill_file.read(file)
    return found


def pending_of(service: Service, secrets: Secrets, phase: Phase, log: Log) -> list[Migration]:
    """
    Return what would be executed now, of each of the service's databases: a try before may have ended between two.

    :raises MigrationRefused: files are wrong, or were changed after they were applied
    :raises MigrationFailed: the database or the tool does not answer
    """
    found = [_tool(on_database(service, one), secrets).pending(phase) for one in _ordered(service, secrets, phase, log)]
    return list({one.name: one for pending in sorted(found, key=len, reverse=True) for one in pending}.values())


def statements(service: Service, secrets: Secrets, phase: Phase) -> list[str]:
    """
    Return what would be executed now, a line each: every statement with its time-outs. Nothing is changed.

    :raises MigrationRefused: see ``pending_of``
    :raises MigrationFailed: see ``pending_of``
    """
    tool = make_tool(service, secrets)
    if isinstance(tool, KeepsFiles):
        return tool.plan(phase)
    return [line for one in tool.pending(phase) for line in (f"-- {one.name}", one.sql)]


def follow(plan: Plan, secrets: Secrets, log: Log) -> None:
    """
    Hold the databases, where each color has one, against where the traffic is.

    :raises MigrationFailed: the live color writes to the one that is not replicated from
    """
    if replica := replica_of(plan.service):
        Replicated(plan.service, replica, secrets, log).follow(plan.live)


def expand(service: Service, secrets: Secrets, run: str, log: Log) -> dict[str, Any]:
    """
    Execute the compatible half, linted once more: files may have changed since.

    With a database a color, the one that nobody writes to goes first: replication carries rows, not columns.

    :raises MigrationRefused: see ``lint_pending``; or the history does not fit the files
    :raises MigrationBlocked: a lock or a connection could not be had in time; a next try goes on
    :raises MigrationFailed: a statement failed; a next release goes on from there
    """
    accepted = lint_pending(service, secrets, Phase.EXPAND, log)
    applied = execute(service, secrets, Phase.EXPAND, run, log)
    return {"applied": applied, "accepted": [one.as_json() for one in accepted]}


def execute(service: Service, secrets: Secrets, phase: Phase, run: str, log: Log) -> list[str]:
    """
    Execute what is pending of a phase, on each of the service's databases in their order.

    :returns: names, in order
    :raises MigrationBlocked: see ``expand``
    :raises MigrationFailed: see ``expand``
    """
    done: dict[str, None] = {}
    for database in _ordered(service, secrets, phase, log):
        done |= dict.fromkeys(_tool(on_database(service, database), secrets, run, log).apply(phase))
    return list(done)


def backfill(
    service: Service, secrets: Secrets, log: Log, still: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """
    Do each backfill that is pending, or go on with it; with a database a color, on the one that is written to.

    :param still: asked between batches, each ``LOOKS_EVERY`` seconds; raises where nobody wants it any more
    :returns: rows, batches and drift of each, by name
    :raises MigrationFailed: out of time, the drift is not 0, or what the server says; a next try goes on
    """
    settings, files = settings_of(service), backfills_left(service, secrets)
    if not files:
        return {}
    from bluegreen.migrations import backfill as filling  # noqa: PLC0415 - the driver is an extra

    connect, sleep = connect_to(service, written_database(service, secrets, log), secrets), _looking(still)
    done = {}
    for one in files:
        still()
        say = partial(_named, log, one.name)
        found = filling.run(connect, one, settings.backfill, say, lock_timeout=settings.lock_timeout, sleep=sleep)
        done[one.name] = found.as_json()
    return done


def _named(log: Log, name: str, line: str) -> None:
    log(f"{name}: {line}")


def _looking(still: Callable[[], object]) -> Callable[[float], None]:
    """Return a pause that asks now and then whether the work is wanted at all."""
    asked = time.monotonic()

    def pause(seconds: float) -> None:
        nonlocal asked
        if time.monotonic() - asked >= LOOKS_EVERY:
            still()
            asked = time.monotonic()
        time.sleep(seconds)

    return pause


def backfills_of(service: Service, secrets: Secrets) -> list[Migration]:
    """
    Return a service's backfills in their order.

    :raises MigrationRefused: they are for another database than PostgreSQL
    """
    files = _backfill_files(_tool(service, secrets))
    if files and settings_of(service).database.type != "postgresql":
        raise MigrationRefused(
            "backfills are for PostgreSQL only",
            service=service.service,
            part=files[0].name,
            next_step="let the application fill what it reads, and take the file away",
        )
    return files


def backfills_left(service: Service, secrets: Secrets) -> list[Migration]:
    """
    Return the backfills that are not done, in their order.

    With a database a color each has its own note of them, but rows go from one to the other: done on one is done.

    :raises MigrationFailed: a database does not answer
    """
    files = backfills_of(service, secrets)
    if not files:
        return []
    from bluegreen.migrations import backfill_state  # noqa: PLC0415 - the driver is an extra

    left = {one.name for one in files}
    for database in dict.fromkeys(databases(service).values()):
        left &= {one.name for one in backfill_state.pending(connect_to(service, database, secrets), files)}
    return [one for one in files if one.name in left]


def old_version_works(plan: Plan, secrets: Secrets, log: Log) -> list[Any]:
    """
    Ask the live color its smoke tests again, on the changed schema.

    :raises CheckFailed: it does not work with it any more
    """
    try:
        found = ask_live(plan.service, plan.live, plan.old_version, secrets, log)
    except CheckFailed as error:
        raise CheckFailed(
            f"{plan.live} does not pass its smoke tests on the changed schema: {error.fact}",
            service=plan.service.service,
            part=plan.live,
            next_step="users may notice it now: see what the migration changed, and give it back what it needs",
        ) from error
    log(f"{plan.live} works on the changed schema")
    return found


def ask_live(service: Service, live: Color, version: str | None, secrets: Secrets, log: Log) -> list[Any]:
    """
    Ask the color that users are served by its smoke tests.

    :param version: what it must run; None or empty where nobody knows
    :raises CheckFailed: it does not pass them
    """
    if not version:
        health = service.health.model_copy(update={"version": None})
        service = service.model_copy(update={"health": health})
    log(f"{live}, which users are served by, is asked its smoke tests{f', as {version}' if version else ''}")
    return list(smoke(service, live, version or "", credentials=service.entry.credentials(secrets), log=log))


def caught_up(service: Service, secrets: Secrets, log: Log) -> dict[str, Any]:
    """
    Wait until nothing is behind that must not be when traffic moves: replication, consumers, copies.

    :raises MigrationFailed: it is still, or tells no number
    """
    found: dict[str, Any] = {}
    if replica := replica_of(service):
        found["replica"] = Replicated(service, replica, secrets, log).gate()
        log(f"replication: {found['replica']}")
    settings = settings_of(service)
    if settings.behind:
        from bluegreen.migrations.watermark import wait_behind  # noqa: PLC0415 - the driver is an extra

        connect = connect_to(service, written_database(service, secrets, log), secrets)
        for one in settings.behind:
            found[one.name] = wait_behind(connect, one).as_json()
            log(f"{one.name}: {found[one.name]['value']:g}, at most {one.max:g}")
    return found


def written_database(service: Service, secrets: Secrets, log: Log) -> Database:
    """Return the database that is written to now."""
    replica = replica_of(service)
    if replica is None:
        return settings_of(service).database
    return databases(service)[Replicated(service, replica, secrets, log).written()]


def connect_to(service: Service, database: Database, secrets: Secrets) -> Callable[[], Any]:
    """Return what opens a session of a database, as psycopg has it."""
    from bluegreen.migrations.databases import place_of  # noqa: PLC0415 - the driver is an extra
    from bluegreen.migrations.pg_session import opened  # noqa: PLC0415

    place = place_of(service.service, database, secrets)
    return lambda: opened(place)


def _tool(service: Service, secrets: Secrets, run: str = "", log: Log = lambda _: None) -> Tool:
    return make_tool(service, secrets, run, log)


def _applied(tool: Tool, phase: Phase, pending: Sequence[Migration]) -> list[Migration]:
    """Return what is executed already, as far as a phase may know: before expand nobody can say it of contract."""
    if not isinstance(tool, KeepsFiles):
        return []
    names = {one.name for one in pending}
    phases = (Phase.EXPAND,) if phase is Phase.EXPAND else (Phase.EXPAND, Phase.CONTRACT)
    return [one for one in tool.files() if one.phase in phases and one.name not in names]


def _backfill_files(tool: Tool) -> list[Migration]:
    return [one for one in tool.files() if one.phase is Phase.BACKFILL] if isinstance(tool, KeepsFiles) else []


def on_database(service: Service, database: Database) -> Service:
    """Return the service as if it had only this database."""
    one = settings_of(service).model_copy(update={"database": database, "replica": None})
    return service.model_copy(update={"migrations": one})


def _ordered(service: Service, secrets: Secrets, phase: Phase, log: Log) -> Iterator[Database]:
    replica = replica_of(service)
    if replica is None:
        yield settings_of(service).database
        return
    for color in Replicated(service, replica, secrets, log).order(phase):
        yield databases(service)[color]
