"""``bluegreen migrations lint``: what a release would refuse in a service's migrations."""

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
from bluegreen.cli.session import AsJson, folder_of
from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations.files import read
from bluegreen.migrations.findings import Finding
from bluegreen.migrations.lint import lint as found_in

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


Where = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH|SERVICE", help="Folders of migrations, or services; else all.", show_default=False),
]
Of = Annotated[Kind, typer.Option("--database", help="Of a folder; a service's file says its own.")]


@app.callback()
def _group() -> None:
    """Keep lint a sub-command, also while it is the only one."""


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
    folder = settings.tool.folder or services.parent / "migrations" / service.service
    return folder, settings, settings.database.type
