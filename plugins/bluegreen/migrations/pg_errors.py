"""PostgreSQL's errors as ours, for what speaks psycopg: which may be tried again, in words without anybody's data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors

from bluegreen.core.errors import MigrationBlocked, MigrationFailed
from bluegreen.migrations.databases import Kind
from bluegreen.migrations.pg_session import trouble

Connect = Callable[[], psycopg.Connection[Any]]
"""Opens a session of its own, in autocommit mode."""
Log = Callable[[str], None]

LATER: tuple[type[psycopg.Error], ...] = (
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.QueryCanceled,
)
"""What another try may be without."""
_NEXT = {
    Kind.LOCK: "a next try goes on from there",
    Kind.SLOW: "a next try goes on from there",
    Kind.LOST: "look whether the server can be reached",
    Kind.DENIED: "grant it to the user of the migrations' connection",
    Kind.OTHER: "mend what the server names; a next release goes on from there",
}


def words(error: psycopg.Error) -> str:
    """Return what a server said, in one line. Its detail is left out: it quotes rows."""
    return trouble(error, (), gone=error.sqlstate is None).words


@contextmanager
def told(part: str, doing: str) -> Iterator[None]:
    """
    Say a server's error as one of ours.

    :param part: which migration or database
    :param doing: what was tried, as the sentence begins
    :raises MigrationBlocked: a lock, a time limit or a connection
    :raises MigrationFailed: anything else
    """
    try:
        yield
    except psycopg.Error as error:
        gone = error.sqlstate is None and isinstance(error, psycopg.OperationalError)
        found = trouble(error, (), gone=gone)
        later = found.kind in (Kind.LOCK, Kind.SLOW, Kind.LOST)
        kind = MigrationBlocked if later else MigrationFailed
        raise kind(f"{doing}: {found}", part=part, next_step=_NEXT[found.kind]) from None
