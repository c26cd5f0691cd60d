"""The demo's database: a table of users that both colors write, and the migrations of its releases."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluegreen.migrations.dual_write import split
from demo.postgres import USER, Postgres

ROWS = 2000
"""Users that are there before the first release: some batches of the backfill."""

NAMES = "0001_names"
"""The migration of the good release: ``full_name`` becomes ``first_name`` and ``last_name``."""

DESTRUCTIVE = "0002_email.expand.sql"
"""What a release is refused for: the version that runs reads this column."""

_TABLE = """
CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    full_name text NOT NULL,
    email text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
)"""
_FIRST_USERS = """
INSERT INTO users (full_name, email)
SELECT CASE n %% 3 WHEN 0 THEN 'Ana Mora ' || n WHEN 1 THEN 'Luis de la Vega ' || n ELSE 'Cher' END, n || '@shop.test'
FROM generate_series(1, %s) AS n"""
_COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = 'users' ORDER BY ordinal_position"""
_DRIFT = "SELECT count(*) FROM users WHERE full_name IS DISTINCT FROM concat_ws(' ', first_name, last_name)"
_NAMELESS = "SELECT count(*) FROM users WHERE first_name IS NULL"


@dataclass
class ShopDatabase:
    """
    A service's database on a server of its own.

    :param service: name in the catalog, and of the database
    :param folder: for the server
    :param migrations: the folder where the project looks for the service's migrations
    """

    service: str
    folder: Path
    migrations: Path
    server: Postgres = field(init=False)

    def __post_init__(self) -> None:
        self.server = Postgres(self.folder)

    def start(self) -> None:
        """Start the server, make the table and its first users, and write the good release's three files."""
        self.server.start()
        with self.server.connect() as connection:
            connection.execute(f'CREATE DATABASE "{self.service}"')
        with self.server.connect(self.service) as connection:
            connection.execute(_TABLE)
            connection.execute(_FIRST_USERS, [ROWS])
        files = split("users", "full_name", ("first_name", "last_name"))
        self.migrations.mkdir(parents=True, exist_ok=True)
        (self.migrations / f"{NAMES}.expand.sql").write_text(files.expand)
        (self.migrations / f"{NAMES}.backfill.yaml").write_text(files.backfill)
        (self.migrations / f"{NAMES}.contract.sql").write_text(files.contract)

    def stop(self) -> None:
        """Stop the server."""
        self.server.stop()

    def add_destructive(self) -> None:
        """Write a migration that takes a column away from the version that runs, in the half that must not."""
        (self.migrations / DESTRUCTIVE).write_text("ALTER TABLE users DROP COLUMN email;\n")

    def remove_destructive(self) -> None:
        """Take it back, as its author does."""
        (self.migrations / DESTRUCTIVE).unlink()

    @property
    def conninfo(self) -> str:
        """What the application connects by; the socket asks nobody for a password."""
        return f"host={self.server.home} user={USER} dbname={self.service}"

    @property
    def connection(self) -> dict[str, str]:
        """The Airflow connection, as its variable in the environment."""
        told = {"conn_type": "postgres", "host": str(self.server.home), "login": USER}
        return {f"AIRFLOW_CONN_{self._connection_id.upper()}": json.dumps(told)}

    @property
    def section(self) -> dict[str, Any]:
        """The service file's ``migrations``."""
        return {
            "database": {"connection": self._connection_id, "name": self.service},
            "backfill": {"batch": 500},
            # Short, for a demo: a day by default.
            "contract": {"soak": "1s", "old_sessions": f"{self.service}-$color%"},
        }

    def columns(self) -> list[str]:
        """Return the columns of the table."""
        return [name for (name,) in self._rows(_COLUMNS)]

    def history(self) -> list[str]:
        """Return what was executed, as the database's own history has it."""
        return [name for (name,) in self._rows("SELECT name FROM bluegreen_migrations ORDER BY name")]

    def wrong_names(self) -> int:
        """Return the number of users whose old and new names differ, or who have no new one when the old is gone."""
        ((count,),) = self._rows(_DRIFT if "full_name" in self.columns() else _NAMELESS)
        return int(count)

    @property
    def _connection_id(self) -> str:
        return f"{self.service}_db"

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.server.connect(self.service) as connection:
            return connection.execute(sql).fetchall()  # type: ignore[call-overload]
