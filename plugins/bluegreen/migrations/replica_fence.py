"""
The fence: keeps writers from one side, sessions that are open and superusers included.

A transaction locks every published table against writers and gives each a trigger that refuses them. While it is open
writers wait; its commit turns them away for good, and its end in any other way, a crash of ours included, lets them on
as if nothing had been. Its server ends it by itself after a bound. The worker that applies the other side's changes is
not kept out: triggers do not fire for it. ``default_transaction_read_only`` would not do: open sessions do not heed it,
and others can set it back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import errors, sql

from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import MigrationBlocked
from bluegreen.migrations.pg_errors import words
from bluegreen.migrations.replica_check import PUBLISHED
from bluegreen.migrations.replica_sides import FENCE, Side

_LOCK_TIMEOUT = timedelta(milliseconds=500)
"""Of one table, shorter than ``deadlock_timeout``: in a deadlock it is us who give way."""
_PARENTS = """
SELECT DISTINCT format('%%I.%%I', n.nspname, c.relname) FROM unnest(%s::text[]) t, pg_partition_ancestors(t::regclass) a
JOIN pg_class c ON c.oid = a.relid JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_FENCED = """
SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgname = %s AND NOT t.tgisinternal
"""
_FUNCTION = f"""
CREATE OR REPLACE FUNCTION {FENCE}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'the service writes to its other database now'
        USING ERRCODE = 'read_only_sql_transaction', HINT = 'connect anew';
END $$
"""
_TRIGGER = f"""
CREATE OR REPLACE TRIGGER {FENCE} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {{}}
FOR EACH STATEMENT EXECUTE FUNCTION {FENCE}()
"""


@contextmanager
def fenced(side: Side, publication: str, bound: timedelta, patience: Deadline) -> Iterator[Callable[[], None]]:
    """
    Keep writers of the published tables waiting.

    :param bound: after which the server lets them on by itself
    :param patience: how long the locks are tried for, again and again
    :returns: what turns them away for good; without it they go on at the end
    :raises MigrationBlocked: the locks could not be had; says who writes
    """
    with side.connect() as connection:
        tables = [row[0] for row in connection.execute(PUBLISHED, [publication])]
        tables += [row[0] for row in connection.execute(_PARENTS, [tables]) if row[0] not in tables]
        _close(connection, side, tables, bound, patience)
        try:
            yield lambda: _commit(connection)
        finally:
            with suppress(psycopg.Error):  # the server has ended it by itself
                connection.rollback()


def _commit(connection: psycopg.Connection[Any]) -> None:
    connection.execute("COMMIT")


def _close(
    connection: psycopg.Connection[Any], side: Side, tables: Sequence[str], bound: timedelta, patience: Deadline
) -> None:
    last = ""
    for _ in patience.tries(first_pause=0.2, longest_pause=2.0):
        try:
            _close_once(connection, tables, bound)
        except (errors.LockNotAvailable, errors.DeadlockDetected, errors.QueryCanceled) as error:
            connection.execute("ROLLBACK")
            last = words(error)
        else:
            return
    fact = f"could not keep writers out within {patience.span.total_seconds():g} s: {last}"
    raise MigrationBlocked(fact, part=side.name, next_step="a long transaction writes there: wait for it, or end it")


def _close_once(connection: psycopg.Connection[Any], tables: Sequence[str], bound: timedelta) -> None:
    milliseconds = f"{bound.total_seconds() * 1000:.0f}"
    settings = {
        "lock_timeout": f"{_LOCK_TIMEOUT.total_seconds() * 1000:.0f}",
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
        "tcp_keepalives_idle": "2",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "2",
    }
    connection.execute("BEGIN")
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, true)", [name, value])
    if tables:
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(_listed(tables)))
    connection.execute(_FUNCTION)
    for table in tables:
        connection.execute(sql.SQL(_TRIGGER).format(sql.SQL(table)))


def _listed(tables: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(table) for table in tables)  # quoted by the server


def open_again(side: Side, patience: Deadline) -> None:
    """
    Take a fence away.

    :raises MigrationBlocked: a lock could not be had
    """
    with side.connect() as connection:
        tables = [row[0] for row in connection.execute(_FENCED, [FENCE])]
        for table in tables:
            _dropped(connection, side, table, patience)
        if tables:
            connection.execute(f"DROP FUNCTION IF EXISTS {FENCE}()")


def _dropped(connection: psycopg.Connection[Any], side: Side, table: str, patience: Deadline) -> None:
    for _ in patience.tries():
        try:
            with connection.transaction():
                connection.execute("SELECT set_config('lock_timeout', '200', true)")
                connection.execute(sql.SQL(f"DROP TRIGGER IF EXISTS {FENCE} ON {{}}").format(sql.SQL(table)))
        except errors.LockNotAvailable:
            continue
        return
    step = "a long transaction holds the table: wait for it, or end it"
    raise MigrationBlocked(f"the fence of {table} could not be taken away", part=side.name, next_step=step)


def now(span: timedelta) -> Deadline:
    """Return a deadline from now, of the machine's own clock: what servers bound is real time."""
    return Deadline(span, time.monotonic, time.sleep)
