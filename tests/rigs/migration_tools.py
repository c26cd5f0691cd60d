"""A small project of each migration tool, that plain SQL is added to: what the contract suite of tools runs on."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluegreen.migrations.ports import Phase, Tool
from bluegreen.migrations.registry import make_tool
from tests.rigs.migrations import with_database
from tests.rigs.postgres import Postgres

_BIN = Path(sys.executable).parent
_ALEMBIC_ENV = """\
import os
import sqlalchemy
from alembic import context
url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with sqlalchemy.create_engine(url).connect() as connection:
        context.configure(connection=connection, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
"""
_DJANGO_SETTINGS = """\
import os
from urllib.parse import unquote, urlsplit
url = urlsplit(os.environ["DATABASE_URL"])
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "HOST": url.hostname, "PORT": url.port,
    "USER": unquote(url.username), "PASSWORD": unquote(url.password)}}
INSTALLED_APPS = ["shop"]
USE_TZ = True
"""
_MANAGE = """\
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
"""
_OWN = """\
import os, pathlib, sys
import psycopg
phase, printing = sys.argv[1], "--sql" in sys.argv
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS own_history (name text PRIMARY KEY)")
    done = {row[0] for row in connection.execute("SELECT name FROM own_history")}
    for path in sorted(pathlib.Path(phase).glob("*.sql")):
        if path.name in done:
            continue
        print(path.read_text() if printing else path.name, flush=True)
        if not printing:
            with connection.transaction():
                connection.execute(path.read_text())
                connection.execute("INSERT INTO own_history VALUES (%s)", [path.name])
"""


@dataclass
class ToolRig:
    """
    One tool's project and a database of its own.

    :param told: what the tool said
    :param added: of each phase how many migrations there are
    """

    server: Postgres
    folder: Path
    dbname: str = ""
    told: list[str] = field(default_factory=list)
    added: int = 0

    def __post_init__(self) -> None:
        self.dbname = self.server.database()
        self.prepare()

    def prepare(self) -> None:
        """Write what is there before the first migration."""

    def add(self, phase: Phase, *statements: str) -> str:
        """Add a migration and return what it is called."""
        self.added += 1
        return self.write(self.added, phase, statements)

    def write(self, number: int, phase: Phase, statements: tuple[str, ...]) -> str:
        raise NotImplementedError

    def section(self) -> dict[str, Any]:
        raise NotImplementedError

    def tool(self, password: str | None = None, **settings: Any) -> Tool:
        """Return the tool as a release gets it."""
        given = self.server.credentials(password=password) if password else self.server.credentials()
        given.extra["sslmode"] = "disable"  # type: ignore[index]
        service = with_database(self.dbname, self.section(), **settings)
        return make_tool(service, lambda _: given, "run-one@1", self.told.append)

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        """Execute something past the tool."""
        with self.server.connect(self.dbname) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []


class SqlFolder(ToolRig):
    def write(self, number, phase, statements):
        name = f"{number:04}_m.{phase}.sql"
        (self.folder / name).write_text(";\n".join(statements) + ";\n")
        return name

    def section(self):
        return {"type": "sql", "folder": self.folder}


class AlembicProject(ToolRig):
    def prepare(self):
        self.last: dict[Phase, str | None] = {Phase.EXPAND: None, Phase.CONTRACT: None}
        (self.folder / "migrations/versions").mkdir(parents=True)
        (self.folder / "migrations/env.py").write_text(_ALEMBIC_ENV)
        (self.folder / "alembic.ini").write_text(
            "[alembic]\nscript_location = %(here)s/migrations\npath_separator = os\n"
        )

    def write(self, number, phase, statements):
        revision, before = f"{phase[0]}{number:03}", self.last[phase]
        self.last[phase] = revision
        depends = self.last[Phase.EXPAND] if phase is Phase.CONTRACT else None
        body = "\n".join(f"    op.execute({statement!r})" for statement in statements)
        (self.folder / f"migrations/versions/{revision}.py").write_text(
            f"from alembic import op\nrevision = {revision!r}\ndown_revision = {before!r}\n"
            f"branch_labels = {None if before else (str(phase),)!r}\ndepends_on = {depends!r}\ndef upgrade():\n{body}\n"
        )
        return revision

    def section(self):
        return {"type": "alembic", "config": self.folder / "alembic.ini", "command": [str(_BIN / "alembic")]}


class DjangoProject(ToolRig):
    def prepare(self):
        self.last = ""
        (self.folder / "shop/migrations").mkdir(parents=True)
        for name, text in {
            "manage.py": _MANAGE, "settings.py": _DJANGO_SETTINGS, "shop/__init__.py": "", "shop/migrations/__init__.py": "",
        }.items():  # fmt: skip
            (self.folder / name).write_text(text)

    def write(self, number, phase, statements):
        name = f"{number:04}_m{'_contract' if phase is Phase.CONTRACT else ''}"
        before, self.last = [("shop", self.last)] if self.last else [], name
        operations = ", ".join(f"migrations.RunSQL({statement!r})" for statement in statements)
        (self.folder / f"shop/migrations/{name}.py").write_text(
            "from django.db import migrations\nclass Migration(migrations.Migration):\n"
            f"    dependencies = {before!r}\n    operations = [{operations}]\n"
        )
        return f"shop.{name}"

    def section(self):
        return {"type": "django", "command": [sys.executable, "manage.py"], "folder": self.folder, "apps": ["shop"]}


class DbmateFolder(ToolRig):
    def write(self, number, phase, statements):
        name = f"{number:04}_m.sql"
        (self.folder / phase).mkdir(exist_ok=True)
        text = "-- migrate:up\n" + ";\n".join(statements) + ";\n\n-- migrate:down\nDROP TABLE nobody;\n"
        (self.folder / phase / name).write_text(text)
        return name

    def section(self):
        return {"type": "dbmate", "folder": self.folder, "command": [str(_BIN / "dbmate")]}


class OwnProgram(ToolRig):
    def prepare(self):
        (self.folder / "own.py").write_text(_OWN)

    def write(self, number, phase, statements):
        (self.folder / phase).mkdir(exist_ok=True)
        (self.folder / phase / f"{number:04}.sql").write_text(";\n".join(statements) + ";\n")
        return str(phase)

    def section(self):
        call = {phase: [sys.executable, "own.py", str(phase)] for phase in (Phase.EXPAND, Phase.CONTRACT)}
        printing = {f"{phase}_sql": [*argv, "--sql"] for phase, argv in call.items()}
        return (
            {"type": "command", "folder": self.folder} | {str(phase): argv for phase, argv in call.items()} | printing
        )


RIGS = {
    "sql": SqlFolder,
    "alembic": AlembicProject,
    "django": DjangoProject,
    "dbmate": DbmateFolder,
    "command": OwnProgram,
}
