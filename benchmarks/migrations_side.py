"""What changes the database in the bench `migrations`: the product as a release uses it, and the same SQL by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.database_app import SCHEMA
from bluegreen.catalog.load import load_file
from bluegreen.catalog.migrations import Backfill, Migrations
from bluegreen.core.ports import Credentials
from bluegreen.migrations import backfill
from bluegreen.migrations.databases import Place, place_of
from bluegreen.migrations.dual_write import split
from bluegreen.migrations.files import read
from bluegreen.migrations.history import TABLE
from bluegreen.migrations.pg_session import opened
from bluegreen.migrations.ports import Phase
from bluegreen.migrations.sql_runner import SqlRunner
from tests.rigs.postgres import Postgres

SHOP = Path(__file__).resolve().parent.parent / "include/services/shop.yaml"
FILES = split("users", "full_name", ("first_name", "last_name"))
"""The guide's example by the product's kit: an ALTER TABLE for two columns, and triggers that keep them like the old one."""
NAME = "0001_names"
SAFE_SERVER = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "shared_buffers": "256MB"}
"""Nothing that was committed may be lost here, as in production; the tests' servers are quicker."""
_FORGET = f"""
DROP FUNCTION bluegreen_sync_users_full_name CASCADE;
ALTER TABLE users DROP COLUMN first_name, DROP COLUMN last_name;
DO $$ BEGIN IF to_regclass('{TABLE}') IS NOT NULL THEN DELETE FROM {TABLE}; END IF; END $$;
"""  # noqa: S608 - the table's name is a constant


@dataclass
class Side:
    """
    One database with a table of its own, and a service that has migrations for it, with the product's defaults.

    :param folder: for the migration's files
    :param told: what the product said
    """

    server: Postgres
    dbname: str
    folder: Path
    told: list[str] = field(default_factory=list)
    settings: Migrations = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{NAME}.expand.sql").write_text(FILES.expand)
        (self.folder / f"{NAME}.backfill.yaml").write_text(FILES.backfill)
        section = {
            "database": {"connection": "shop_db", "name": self.dbname},
            "tool": {"type": "sql", "folder": self.folder},
        }
        self.settings = Migrations.model_validate(section)

    @property
    def url(self) -> str:
        """Where the application finds it."""
        return self.server.url(self.dbname)

    def fill(self, rows: int) -> None:
        """Make the table, and leave the server with nothing to catch up with."""
        with self.server.connect(self.dbname) as connection:
            connection.execute(SCHEMA.format(rows=rows).encode())
            for statement in ("VACUUM ANALYZE users", "CHECKPOINT"):
                connection.execute(statement.encode())

    def expand(self) -> None:
        """Apply what is pending, as a release does."""
        service = load_file(SHOP).model_copy(update={"migrations": self.settings})
        if SqlRunner(service, self._secrets, "bench@1", self.told.append).apply(Phase.EXPAND) != [f"{NAME}.expand.sql"]:
            raise RuntimeError(f"expand did something else than the one file: {self.told}")

    def naive(self) -> None:
        """Execute the same file as `psql -1 -f` does: all in one transaction, with no timeouts."""
        with self.server.connect(self.dbname, autocommit=False) as connection:
            connection.execute(FILES.expand.encode())

    def forget(self) -> None:
        """Take the change back, so that it can be made once more."""
        with self.server.connect(self.dbname, autocommit=False) as connection:
            connection.execute(b"SET LOCAL lock_timeout = '1s'")
            connection.execute(_FORGET.encode())

    def backfill(self, limits: Backfill | None = None) -> backfill.Done:
        """
        Do the backfill, as a release does.

        :param limits: the product's defaults when not given
        """
        file = next(one for one in read(self.folder) if one.phase is Phase.BACKFILL)
        chosen = limits or self.settings.backfill
        return backfill.run(partial(opened, self._place()), file, chosen, self.told.append)

    def _place(self) -> Place:
        return place_of("shop", self.settings.database, self._secrets)

    def _secrets(self, _: str) -> Credentials:
        return self.server.credentials()

    @contextmanager
    def held(self, seconds: float) -> Iterator[None]:
        """
        Have a long transaction that has read the table, as a report does; the block begins when it holds its lock.

        It ends after so many seconds, which are waited for at the block's end.
        """
        holds = threading.Event()

        def hold() -> None:
            with self.server.connect(self.dbname, autocommit=False) as connection:
                connection.execute(b"SELECT count(*) FROM users WHERE id < 1000")
                holds.set()
                connection.execute(b"SELECT pg_sleep(%s)", [seconds])

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        if not holds.wait(10):
            raise RuntimeError("the long transaction does not get its lock")
        yield
        thread.join()


def retries(told: list[str]) -> int:
    """Count how often the runner tried again."""
    return sum("; tried again in " in line for line in told)
