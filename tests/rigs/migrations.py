"""Services with a database: what every test of migrations begins with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluegreen.catalog.load import load_file
from bluegreen.catalog.migrations import Migrations
from bluegreen.catalog.models import Service
from bluegreen.core.ports import Credentials
from bluegreen.migrations.sql_runner import SqlRunner
from tests.rigs.postgres import Postgres

SHOP = Path(__file__).parents[2] / "include/services/shop.yaml"


def with_database(name: str, tool: dict[str, Any], kind: str = "postgresql", **settings: Any) -> Service:
    """Return the example's service with a database. Tries are short: 100 ms for a lock, 3 s in all."""
    quick = {"lock_timeout": "100ms", "statement_timeout": "2s", "retry_for": "3s"} | settings
    database = {"type": kind, "connection": "shop_db", "name": name}
    return load_file(SHOP).model_copy(update={"migrations": Migrations(database=database, tool=tool, **quick)})


@dataclass
class SqlRig:
    """
    A folder of plain SQL, and a database of its own.

    :param told: what the runner said
    """

    server: Postgres
    folder: Path
    dbname: str = ""
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dbname = self.dbname or self.server.database()

    def write(self, **files: str) -> None:
        """Write files: ``_0001_a_expand`` is ``0001_a.expand.sql``."""
        for name, text in files.items():
            stem, _, phase = name.strip("_").rpartition("_")
            (self.folder / f"{stem}.{phase}.sql").write_text(text)

    def runner(self, run: str = "run-one@1", secrets: Callable[[str], Credentials] | None = None, **settings: Any):
        """Return a runner."""
        service = with_database(self.dbname, {"type": "sql", "folder": self.folder}, **settings)
        return SqlRunner(service, secrets or (lambda _: self.server.credentials()), run, self.told.append)

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        """Execute something past the runner, as the superuser."""
        with self.server.connect(self.dbname) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []

    def history(self) -> dict[str, tuple[str, int]]:
        """Return each migration's state and how many of its statements are done."""
        rows = self.sql("SELECT name, state, done FROM bluegreen_migrations ORDER BY name")
        return {name: (state, done) for name, state, done in rows}
