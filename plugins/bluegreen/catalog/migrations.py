"""How a service's database is changed: where it is, which tool holds its migrations, and what must be true before each half."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bluegreen.catalog.durations import Duration
from bluegreen.catalog.section import ConnectionId, Section
from bluegreen.core.colors import Color

COLOR, VERSION = "$color", "$version"
_LEAST = timedelta(milliseconds=10)
# Measured (docs/backfill.md): others' slowest requests depend on a batch's rows more than on the share.
_ROWS_BESIDE_OTHERS, _ROWS_ALONE = 50, 5000
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_$]*$")]
Command = Annotated[tuple[str, ...], Field(min_length=1)]


class Database(Section):
    """One database. Host, port, login and password are the connection's."""

    type: Literal["postgresql", "mysql", "mariadb"] = "postgresql"
    connection: ConnectionId = Field(description="host (or the folder of its socket), port, login and password")
    name: str = Field(min_length=1, description="of the database on that server")


class SqlFiles(Section):
    """Plain SQL: ``0001_names.expand.sql``, ``.backfill.yaml``, ``.contract.sql``, or Flyway's names in a folder a phase."""

    type: Literal["sql"] = "sql"
    folder: Path | None = Field(None, description="by default include/migrations/<service>")


class Alembic(Section):
    """Alembic with two labelled branches, one a phase; it reads DATABASE_URL."""

    type: Literal["alembic"]
    config: Path = Field(description="alembic.ini")
    command: Command = Field(("alembic",), description="how it is called; no shell")
    expand: str = Field("expand@head", min_length=1)
    contract: str = Field("contract@head", min_length=1)


class Django(Section):
    """Django: a migration whose name ends in ``_contract`` is of that phase, all others expand; it reads DATABASE_URL."""

    type: Literal["django"]
    command: Command = Field(("python", "manage.py"), description="how manage.py is called; no shell")
    folder: Path = Field(Path(), description="where it is called")
    apps: tuple[str, ...] = Field(min_length=1, description="labels of the apps whose migrations are the service's")


class Dbmate(Section):
    """dbmate with a folder a phase; it reads DATABASE_URL."""

    type: Literal["dbmate"]
    folder: Path = Field(description="holds expand/ and contract/")
    command: Command = Field(("dbmate",), description="how it is called; no shell")


class AnyTool(Section):
    """Any tool by its commands; they read DATABASE_URL, and no shell is between."""

    type: Literal["command"]
    expand: Command = Field(description="executes what is pending of the compatible half")
    contract: Command = Field(description="executes what is pending of the destructive half")
    expand_sql: Command = Field(
        description="prints the SQL that expand would execute; nothing where nothing is pending"
    )
    contract_sql: Command = Field(description="the same of contract")
    folder: Path = Field(Path(), description="where they are called")
    timeout: Duration = Field(timedelta(minutes=30), description="for one command")


Tool = Annotated[SqlFiles | Alembic | Django | Dbmate | AnyTool, Field(discriminator="type")]


class Override(Section):
    """A finding of the linter that somebody answers for."""

    file: str = Field(min_length=1, description="name of the migration, without folder")
    rule: str = Field(min_length=1, description="the finding's rule, as the linter calls it")
    reason: str = Field(min_length=10, description="stands in the report")


class Backfill(Section):
    """How much of the database a backfill may take."""

    batch: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="rows a transaction; by default 50, for others wait behind it; 5000 with share 1",
    )
    share: float = Field(
        0.5, gt=0, le=1, allow_inf_nan=False, description="of the time that batches may run; the rest is a pause"
    )
    max_lag: Duration = Field(timedelta(seconds=10), description="it waits while a replica is further behind")
    timeout: Duration = Field(timedelta(hours=6), description="for all of it; a next try goes on from there")

    @property
    def rows(self) -> int:
        """Rows a transaction."""
        return self.batch or (_ROWS_ALONE if self.share == 1 else _ROWS_BESIDE_OTHERS)


class Scratch(Section):
    """A database that may be destroyed: both versions' tests run there, before and after expand."""

    database: Database
    test: Command = Field(
        description="runs one version's tests; $version is filled in, DATABASE_URL is that database; no shell",
        examples=[["./run-tests", "--version", "$version"]],
    )
    timeout: Duration = Field(timedelta(minutes=15), description="for one run of the tests")


class Replica(Section):
    """Two databases, one a color, kept alike by logical replication (PostgreSQL)."""

    database: Database = Field(description="of the color below; migrations.database is the other color's")
    color: Color = Field(Color.GREEN, description="whose database that is")
    publication: Name
    subscription: Name
    slot: str = Field("", description="by default the subscription's name")
    within: Duration = Field(timedelta(minutes=5), description="to catch up with what was written until now")
    block_writes: Duration = Field(
        timedelta(seconds=10), description="at most in the cut-over, then they are let again and the release ends"
    )
    apart: tuple[str, ...] = Field(
        ("alembic_version", "django_migrations", "schema_migrations", "flyway_schema_history"),
        description="tables that each side has for itself: they are not replicated; ours never are",
    )
    sequences_ahead: int = Field(10_000, ge=0, description="how far sequences are set beyond what was used")


class Watermark(Section):
    """A query whose one number says how far consumers or copies are behind; it must not be above the bound."""

    name: str = Field(min_length=1, description="how logs and reports call it")
    query: str = Field(
        min_length=1, description="gives one number", examples=["SELECT count(*) FROM outbox WHERE NOT sent"]
    )
    max: float = Field(0, allow_inf_nan=False)
    within: Duration = Field(timedelta(minutes=5), description="to get there")


class Contract(Section):
    """When the destructive half may run."""

    soak: Duration = Field(timedelta(hours=24), description="since the old color was retired")
    approve: bool = Field(True, description="ask a person")
    old_sessions: str | None = Field(
        None,
        description="application_name of a color's sessions, LIKE pattern; none of the old color may be left",
        examples=["shop-$color%"],
    )

    @model_validator(mode="after")
    def _tells_colors_apart(self) -> Self:
        if self.old_sessions is not None and COLOR not in self.old_sessions:
            raise ValueError(f"old_sessions does not say {COLOR}: both colors would be looked for alike")
        return self


class Migrations(Section):
    """A service's database and how it is changed."""

    database: Database
    tool: Tool = SqlFiles()
    lock_timeout: Duration = Field(timedelta(milliseconds=500), ge=_LEAST, description="of one try for a lock")
    statement_timeout: Duration = Field(
        timedelta(seconds=5), ge=_LEAST, description="of a statement that locks; those that lock nothing have none"
    )
    retry_for: Duration = Field(timedelta(minutes=5), description="how long a lock is tried for, again and again")
    accept: tuple[Override, ...] = Field((), description="findings of the linter that somebody answers for")
    backfill: Backfill = Backfill()
    scratch: Scratch | None = None
    replica: Replica | None = None
    behind: tuple[Watermark, ...] = Field((), description="what must be caught up before traffic moves")
    contract: Contract = Contract()
    log: Path | None = Field(
        None, description="log of the application; its SQL errors stand in a failed release's report"
    )

    @model_validator(mode="after")
    def _asks_what_answers(self) -> Self:
        asked = {"replica": self.replica, "behind": self.behind, "contract.old_sessions": self.contract.old_sessions}
        if self.database.type != "postgresql" and (found := [key for key, value in asked.items() if value]):
            raise ValueError(f"{', '.join(found)}: for PostgreSQL only, and the database is {self.database.type}")
        return self
