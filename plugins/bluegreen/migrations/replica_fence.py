"""
The fence: keeps writers from one side, sessions that are open and superusers included.

Each published table has a trigger before each statement that writes. It takes a shared advisory lock until the
transaction's end, then looks whether the fence is closed. Whoever holds that lock alone therefore knows that no write is
under way; new ones wait. The end of our session in any way, a crash included, lets them on, and the server ends it by
itself after a bound. Only closing turns writers away for good. Closed or open stands in a sequence: it is no
transaction's snapshot, so that nobody reads it as it was. The worker that applies the other side's changes is not kept
out: triggers do not fire for it.

``default_transaction_read_only`` would not do: open sessions do not heed it, and others set it back. Table locks would
not do either: writers that touch tables in another order than we lock them keep us out for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import errors, sql

from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import MigrationBlocked
from bluegreen.migrations.pg_errors import words
from bluegreen.migrations.replica_check import PUBLISHED
from bluegreen.migrations.replica_sides import FENCE, OPEN, SHUT, Side, one

_LOCK_TIMEOUT = "500"
"""Milliseconds, less than ``deadlock_timeout``: in a deadlock it is us who give way."""
_KEY = 0x626C7565_67726E66
_PARENTS = """
SELECT DISTINCT format('%%I.%%I', n.nspname, c.relname) FROM unnest(%s::text[]) t, pg_partition_ancestors(t::regclass) a
JOIN pg_class c ON c.oid = a.relid JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_FENCED = """
SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgname = %s AND NOT t.tgisinternal
"""
_SEQUENCE = f"CREATE SEQUENCE IF NOT EXISTS {{}}.{FENCE} MAXVALUE {SHUT}"
_FUNCTION = f"""
CREATE OR REPLACE FUNCTION {{schema}}.{FENCE}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    PERFORM pg_advisory_xact_lock_shared({_KEY});
    IF (SELECT last_value FROM {{schema}}.{FENCE}) = {SHUT} THEN
        RAISE EXCEPTION 'the service writes to its other database now'
            USING ERRCODE = 'read_only_sql_transaction', HINT = 'connect anew';
    END IF;
    RETURN NULL;
END $$
"""  # noqa: S608 - our own names
_TRIGGER = f"""
CREATE TRIGGER {FENCE} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {{table}}
FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.{FENCE}()
"""


def install(side: Side, publication: str, patience: Deadline) -> None:
    """
    Give each published table its trigger, one short lock at a time; a table that has one is left alone.

    A table's lock waits for whoever writes to it. So once all have theirs, no write is under way that passed none.

    :raises MigrationBlocked: a lock could not be had
    """
    with side.connect() as connection:
        schema = sql.Identifier(one(connection, "SELECT current_schema()"))
        connection.execute(sql.SQL(_SEQUENCE).format(schema))
        connection.execute(sql.SQL(_FUNCTION).format(schema=schema))
        tables = {row[0] for row in connection.execute(PUBLISHED, [publication])}
        tables |= {row[0] for row in connection.execute(_PARENTS, [sorted(tables)])}
        for table in sorted(tables - {row[0] for row in connection.execute(_FENCED, [FENCE])}):
            made = sql.SQL(_TRIGGER).format(table=sql.SQL(table), schema=schema)
            _patiently(connection, side, made, patience)
            connection.execute("COMMIT")


@contextmanager
def fenced(side: Side, bound: timedelta, patience: Deadline) -> Iterator[Callable[[], None]]:
    """
    Keep writers waiting; ``install`` comes before.

    :param bound: after which the server lets them on by itself
    :param patience: how long the lock is tried for, again and again
    :returns: what turns them away for good; without it they go on at the end
    :raises MigrationBlocked: the lock could not be had
    """
    with side.connect() as connection:
        limit = f"{bound.total_seconds() * 1000:.0f}"
        settings = {
            "idle_in_transaction_session_timeout": limit,
            "tcp_keepalives_idle": "2",
            "tcp_keepalives_interval": "2",
            "tcp_keepalives_count": "2",
        }
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", [name, value])
        lock = sql.SQL("SELECT pg_advisory_xact_lock({})").format(sql.Literal(_KEY))
        _patiently(connection, side, lock, patience)
        try:
            yield lambda: _set(connection, SHUT)
        finally:
            with suppress(psycopg.Error):  # the server has ended it by itself
                connection.execute("COMMIT")


def open_again(side: Side) -> None:
    """Let writers on, where a fence is closed; its triggers stay for the next time."""
    with side.connect() as connection:
        if one(connection, "SELECT to_regclass(%s)", FENCE):
            _set(connection, OPEN)


def take_away(side: Side, patience: Deadline) -> None:
    """
    Take a fence away whole.

    :raises MigrationBlocked: a lock could not be had
    """
    open_again(side)
    with side.connect() as connection:
        for (table,) in connection.execute(_FENCED, [FENCE]).fetchall():
            gone = sql.SQL(f"DROP TRIGGER IF EXISTS {FENCE} ON {{}}").format(sql.SQL(table))
            _patiently(connection, side, gone, patience)
            connection.execute("COMMIT")
        connection.execute(f"DROP FUNCTION IF EXISTS {FENCE}()")
        connection.execute(f"DROP SEQUENCE IF EXISTS {FENCE}")


def _set(connection: psycopg.Connection[Any], state: int) -> None:
    connection.execute("SELECT setval(%s::regclass, %s)", [FENCE, state])


def _patiently(connection: psycopg.Connection[Any], side: Side, statement: sql.Composed, patience: Deadline) -> None:
    """Begin a transaction with what waits for a lock, again and again; who waits behind us is let on in between."""
    last = ""
    for _ in patience.tries(first_pause=0.2, longest_pause=2.0):
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
            connection.execute(statement)
        except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
            connection.execute("ROLLBACK")
            last = words(error)
        else:
            return
    fact = f"could not keep writers out within {patience.span.total_seconds():g} s: {last}"
    raise MigrationBlocked(fact, part=side.name, next_step="a long transaction writes there: wait for it, or end it")


def now(span: timedelta) -> Deadline:
    """Return a deadline from now, of the machine's own clock: what servers bound is real time."""
    return Deadline(span, time.monotonic, time.sleep)
