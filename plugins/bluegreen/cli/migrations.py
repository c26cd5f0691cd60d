"""``bluegreen migrations``: what a release would refuse, and execute; what the database is like; dual writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bluegreen.catalog.load import load_all, load_service
from bluegreen.catalog.migrations import Migrations, SqlFiles
from bluegreen.catalog.models import Service
from bluegreen.cli.exits import OK, WRONG
from bluegreen.cli.session import AsJson, ServiceName, folder_of
from bluegreen.core.env_secrets import EnvironmentSecrets
from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations.dual_write import rename, split
from bluegreen.migrations.files import read, usual_folder
from bluegreen.migrations.findings import Finding
from bluegreen.migrations.lint import lint as found_in
from bluegreen.migrations.ports import Phase
from bluegreen.release.database_state import database_state
from bluegreen.release.migrate import statements

app = typer.Typer(
    no_args_is_help=True,
    help="Look at a service's database migrations.",
    epilog="Example: bluegreen migrations lint shop",
)


class Kind(StrEnum):
    """What a folder's SQL is for."""

    POSTGRESQL = "postgresql"
    MYSQL = "mysql"
    MARIADB = "mariadb"


class Half(StrEnum):
    """Which half is to be shown."""

    EXPAND = "expand"
    CONTRACT = "contract"


Where = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH|SERVICE", help="Folders of migrations, or services; else all.", show_default=False),
]
Of = Annotated[Kind, typer.Option("--database", help="Of a folder; a service's file says its own.")]


@app.command(epilog="Example: bluegreen migrations lint include/migrations/shop")
def lint(ctx: typer.Context, where: Where = None, database: Of = Kind.POSTGRESQL, as_json: AsJson = False) -> int:
    """
    Find what would break the old color, block the way back, or stop production.

    Each finding comes with the SQL to write instead. Exit code 1: there is one
    that nobody accepted. docs/unsafe-changes.md lists the rules.
    """
    found: list[Finding] = []
    count = 0
    for folder, settings, kind in _asked(ctx, where or [], database):
        files = read(folder)
        count += len(files)
        paths = {one.name: str(one.path) for one in files}
        told = found_in(files, database_type=kind, accept=settings.accept if settings else ())
        found += [replace(one, file=paths.get(one.file, one.file)) for one in told]
    still_open = [one for one in found if not one.accepted]
    if as_json:
        print(json.dumps([one.as_json() for one in found], indent=2))
    else:
        _show(found, count, len(still_open))
    return WRONG if still_open else OK


@app.command(epilog="Example: bluegreen migrations plan shop")
def plan(ctx: typer.Context, service: ServiceName, phase: Half = Half.EXPAND) -> int:
    """
    Show what would be executed now, each statement with its time-outs.

    Nothing is changed. The database is read to know what is pending.
    """
    lines = statements(load_service(folder_of(ctx, None), service), EnvironmentSecrets(), Phase(phase))
    print("\n".join(lines) or f"{phase}: nothing is pending")
    return OK


@app.command(epilog="Example: bluegreen migrations status shop")
def status(ctx: typer.Context, service: ServiceName) -> int:
    """
    Tell what a service's database is like, as JSON.

    Schema version, each migration's state, locks and who holds them, replication,
    and the application's last SQL errors. A failed release's report has the same.
    """
    found = database_state(load_service(folder_of(ctx, None), service), EnvironmentSecrets())
    print(json.dumps(found, indent=2, default=str))
    return WRONG if "not_known" in found else OK


@app.command("dual-write", epilog="Example: bluegreen migrations dual-write users full_name first_name last_name")
def dual_write(
    table: Annotated[str, typer.Argument(help="Table, with or without schema.", show_default=False)],
    old: Annotated[str, typer.Argument(help="The column that goes.", show_default=False)],
    new: Annotated[list[str], typer.Argument(help="One column instead, or two.", show_default=False)],
    kind: Annotated[str, typer.Option("--type", help="Of one new column.")] = "text",
    number: Annotated[int, typer.Option(help="Of the files.")] = 1,
    into: Annotated[Path, typer.Option(help="Folder to write to.")] = Path(),
) -> int:
    """
    Write the three files of a column that is renamed, or split into two.

    Expand with triggers that keep both in step, backfill, and contract. Read
    them before a release does: docs/backfill.md tells what they do.
    """
    if len(new) > 2:
        raise MigrationRefused(f"found {len(new)} new columns", part=table, next_step="name one, or two")
    made = rename(table, old, new[0], kind) if len(new) == 1 else split(table, old, (new[0], new[1]))
    title = f"{number:04}_{old}_to_{'_'.join(new)}"
    texts = {"expand.sql": made.expand, "backfill.yaml": made.backfill, "contract.sql": made.contract}
    files = {into / f"{title}.{end}": text for end, text in texts.items()}
    if there := next((path for path in files if path.exists()), None):
        raise MigrationRefused(f"{there} is there already", part=table, next_step="give another --number, or --into")
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
        print(path)
    return OK


def _show(found: Sequence[Finding], files: int, still_open: int) -> None:
    for one in found:
        print(f"{one}\n")
    accepted = f", {len(found) - still_open} accepted" if len(found) > still_open else ""
    print(f"{files} files: {still_open} findings{accepted}")


def _asked(ctx: typer.Context, where: Sequence[str], database: Kind) -> Iterator[tuple[Path, Migrations | None, str]]:
    services = folder_of(ctx, None)
    for one in where:
        if Path(one).is_dir():
            yield Path(one), None, database
        else:
            yield _of_service(load_service(services, one), services)
    if not where:
        catalog = load_all(services)
        if catalog.errors:
            raise catalog.errors[0]
        for service in catalog.services.values():
            if service.migrations is not None:
                yield _of_service(service, services)


def _of_service(service: Service, services: Path) -> tuple[Path, Migrations, str]:
    settings = service.migrations
    if settings is None:
        raise MigrationRefused(
            "its service file has no section migrations",
            service=service.service,
            next_step="add it, or name a folder of migrations",
        )
    if not isinstance(settings.tool, SqlFiles):
        raise MigrationRefused(
            f"its migrations are in {settings.tool.type}: a release asks that tool for its SQL, and lints it",
            service=service.service,
            next_step="write the tool's SQL into a folder, and name that: 0001_names.expand.sql",
        )
    folder = settings.tool.folder or usual_folder(services, service.service)
    return folder, settings, settings.database.type
