"""Where a backfill is: a row in the service's own database, written with each batch, and a lock that one worker holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors

from bluegreen.core.errors import MigrationBlocked
from bluegreen.migrations.pg_errors import Connect, told
from bluegreen.migrations.ports import Migration

TABLE = "bluegreen_backfills"
_MAKE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    pass integer NOT NULL DEFAULT 1,
    after_key text,
    changed_rows bigint NOT NULL DEFAULT 0,
    batches bigint NOT NULL DEFAULT 0,
    seconds double precision NOT NULL DEFAULT 0,
    drift double precision,
    started_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
)
"""
_FIELDS = "checksum, pass, after_key, changed_rows, batches, seconds, drift, finished_at IS NOT NULL"
_SAVE = f"""
INSERT INTO {TABLE} AS own (name, checksum, pass, after_key, changed_rows, batches, seconds, drift, finished_at)
VALUES (%(name)s, %(checksum)s, %(passes)s, %(after)s, %(rows)s, %(batches)s, %(seconds)s, %(drift)s,
        CASE WHEN %(finished)s THEN now() END)
ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, pass = excluded.pass, after_key = excluded.after_key,
    changed_rows = excluded.changed_rows, batches = excluded.batches, seconds = excluded.seconds,
    drift = excluded.drift, finished_at = excluded.finished_at, updated_at = now(),
    started_at = CASE WHEN excluded.batches = 0 THEN now() ELSE own.started_at END
"""  # noqa: S608 - the table's name is ours
_HOLDER = """
SELECT format('process %%s, %%s, since %%s', a.pid, coalesce(nullif(a.application_name, ''), 'without a name'),
              date_trunc('second', a.backend_start))
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND ((l.classid::bigint << 32) | l.objid::bigint) = %s::bigint AND l.objsubid = 1
"""


@dataclass
class State:
    """
    How far a backfill is.

    :param passes: 1 leaves out rows that somebody holds, 2 waits for them, 3 is the drift query's turn
    :param after: key of the last row that was looked at in this pass; None before its first
    :param seconds: that batches ran, without the pauses
    :param drift: what its query said last
    """

    name: str
    checksum: str
    passes: int = 1
    after: Sequence[str] | None = None
    rows: int = 0
    batches: int = 0
    seconds: float = 0.0
    drift: float | None = None
    finished: bool = False

    def save(self, connection: psycopg.Connection[Any]) -> None:
        """Write it, in the transaction that is open."""
        words = vars(self) | {"after": None if self.after is None else json.dumps(list(self.after))}
        connection.execute(_SAVE, words)


def checksum(migration: Migration) -> str:
    """Tell one text of a file from another."""
    return hashlib.sha256(migration.sql.encode()).hexdigest()


def load(connection: psycopg.Connection[Any], migration: Migration) -> State:
    """Return where a backfill is; at its beginning where it was never begun, or its file is another one now."""
    with suppress(errors.UniqueViolation, errors.DuplicateTable):  # another backfill made it at the same moment
        if not _is_there(connection):
            connection.execute(_MAKE)
    found = _row(connection, migration.name)
    if found is None or found.checksum != checksum(migration):
        return State(migration.name, checksum(migration))
    return found


def pending(connect: Connect, migrations: Sequence[Migration]) -> tuple[Migration, ...]:
    """
    Return the backfills that are not done yet, in their order.

    :raises MigrationFailed: the database does not answer
    """
    with told("backfills", "asked what is done"), connect() as connection:
        if not _is_there(connection):
            return tuple(migrations)
        return tuple(one for one in migrations if not _done(connection, one))


def _done(connection: psycopg.Connection[Any], migration: Migration) -> bool:
    found = _row(connection, migration.name)
    return found is not None and found.finished and found.checksum == checksum(migration)


def _is_there(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [TABLE]).fetchone()
    return bool(row and row[0])


def _row(connection: psycopg.Connection[Any], name: str) -> State | None:
    row = connection.execute(f"SELECT {_FIELDS} FROM {TABLE} WHERE name = %s", [name]).fetchone()  # noqa: S608 - ours
    if row is None:
        return None
    after = None if row[2] is None else json.loads(row[2])
    return State(name, row[0], row[1], after, *row[3:])


@contextmanager
def held(connection: psycopg.Connection[Any], name: str) -> Iterator[None]:
    """
    Hold a name, a backfill's, for the time of a session; the server lets go of it when the session ends, however it ends.

    :raises MigrationBlocked: somebody else holds it; says who
    """
    key = int.from_bytes(hashlib.sha256(f"bluegreen {name}".encode()).digest()[:8], signed=True)
    row = connection.execute("SELECT pg_try_advisory_lock(%s::bigint)", [key]).fetchone()
    if not (row and row[0]):
        holder = connection.execute(_HOLDER, [key]).fetchone()
        fact = f"somebody else is at it: {holder[0] if holder else 'a process that has just ended'}"
        raise MigrationBlocked(fact, part=name, next_step="wait for it, or end that process")
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # the session's end does the same
            connection.execute("SELECT pg_advisory_unlock(%s::bigint)", [key])
