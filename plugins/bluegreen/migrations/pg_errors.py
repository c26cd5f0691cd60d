"""PostgreSQL's errors as ours: which may be tried again, and in words that hold no password and nobody's data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors

from bluegreen.core.errors import MigrationBlocked, MigrationFailed
from bluegreen.core.masks import masked
from bluegreen.migrations.databases import own_words

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
_GONE = ("08", "57P", "53")  # connection, shut down, no room for one more


def words(error: psycopg.Error) -> str:
    """
    Return what a server said, in one line.

    Its detail is left out: it quotes rows. Of an error of libpq only the first line is told, without what it
    may quote of the address.
    """
    if said := error.diag.message_primary:
        return own_words(said, code=error.sqlstate or "")
    if isinstance(error, psycopg.OperationalError):
        return masked((str(error).splitlines() or ["no connection"])[0])
    return type(error).__name__


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
    except LATER as error:
        step = "a next try goes on from there"
        raise MigrationBlocked(f"{doing}: {words(error)}", part=part, next_step=step) from None
    except psycopg.Error as error:
        fact = f"{doing}: {words(error)}"
        if _is_gone(error):
            raise MigrationBlocked(fact, part=part, next_step="look whether the server can be reached") from None
        raise MigrationFailed(f"{fact} ({error.sqlstate})", part=part, next_step=_mend(error)) from None


def _is_gone(error: psycopg.Error) -> bool:
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_GONE)


def _mend(error: psycopg.Error) -> str:
    if isinstance(error, errors.InsufficientPrivilege):
        return "grant it to the user of the migrations' connection"
    return "mend what the server names; a next release goes on from there"
