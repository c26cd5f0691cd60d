"""PostgreSQL by psycopg 3."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo

from bluegreen.migrations.databases import (
    APPLICATION,
    CONNECT_TIMEOUT,
    Kind,
    Place,
    SqlTrouble,
    own_words,
    postgres_words,
)

# A migration that stands still in a transaction holds its locks, and a machine that is gone without a word is heard of
# after two hours by default: the server ends both.
_SAFETY = {
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "standard_conforming_strings": "on",
}
# A worker that was killed leaves its statement running, an index is built for hours, and its turn is kept from the next
# try. Some systems (macOS) and servers before PostgreSQL 14 cannot look whether the client is there.
_LOOK = {"client_connection_check_interval": "5s"}
_LOCK = {"55P03", "40P01", "40001"}
_LOST = {"57P01", "57P02", "57P03", "57P05", "53300", "25P03"}
_DENIED = {"42501", "28000", "28P01"}
_log = logging.getLogger("bluegreen")


class PgSession:
    """
    One connection to PostgreSQL; see ``databases.Session``.

    :param hide: what its errors must not show
    """

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], hide: Sequence[str]) -> None:
        self._connection, self._hide = connection, tuple(hide)
        self.pid = connection.info.backend_pid
        connection.add_notice_handler(lambda notice: _log.info("%s", own_words(notice.message_primary or "", hide)))

    def execute(self, sql: str, values: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Execute one statement; see ``databases.Session``."""
        try:
            cursor = self._connection.execute(cast("Any", sql), values)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise trouble(error, self._hide, gone=self._connection.closed) from None

    def close(self) -> None:
        """End it."""
        with suppress(psycopg.Error):
            self._connection.close()


def connect(place: Place) -> PgSession:
    """
    Connect; see ``databases.Place``.

    :raises SqlTrouble: it does not answer, or does not let us in
    """
    try:
        return PgSession(opened(place), place.hide)
    except psycopg.Error as error:
        raise trouble(error, place.hide, gone=True) from None


def opened(place: Place) -> psycopg.Connection[tuple[Any, ...]]:
    """
    Connect, for who speaks psycopg.

    :raises psycopg.Error: it does not answer, or does not let us in
    """
    try:
        return _opened(place, _SAFETY | _LOOK)
    except psycopg.OperationalError as error:
        if next(iter(_LOOK)) not in str(error):
            raise
        return _opened(place, _SAFETY)


def _opened(place: Place, settings: dict[str, str]) -> psycopg.Connection[tuple[Any, ...]]:
    words = postgres_words(place.credentials)
    safety = " ".join(f"-c {name}={value}" for name, value in settings.items())
    words["options"] = f"{words.get('options', '')} {safety}".strip()
    return psycopg.connect(**_address(place), connect_timeout=CONNECT_TIMEOUT, autocommit=True, **cast("Any", words))


def conninfo(place: Place) -> str:
    """Return what another server reaches it by; with the password, so it is never shown."""
    return make_conninfo(**_address(place), **cast("Any", postgres_words(place.credentials)))


def _address(place: Place) -> dict[str, Any]:
    given = place.credentials
    return {
        "host": given.host or None,
        "port": given.port,
        "dbname": place.database.name,
        "user": given.login or None,
        "password": given.password or None,
        "application_name": APPLICATION,
    }


def trouble(error: psycopg.Error, hide: Sequence[str], *, gone: bool) -> SqlTrouble:
    """
    Return what an error means.

    :param gone: there is no connection any more
    """
    code = error.sqlstate or ""
    kind = _kind(error, code, gone)
    hint = error.diag.message_hint if kind is Kind.OTHER else None
    words = (error.diag.message_primary or str(error)) + (f"; hint: {hint}" if hint else "")
    return SqlTrouble(kind, own_words(words, hide, code), code)


def _kind(error: psycopg.Error, code: str, gone: bool) -> Kind:
    if code in _LOCK:
        return Kind.LOCK
    if code in _DENIED or (not code and gone and _is_refusal(str(error))):
        return Kind.DENIED
    if isinstance(error, errors.QueryCanceled):
        return Kind.SLOW
    return Kind.LOST if gone or code in _LOST or code.startswith("08") else Kind.OTHER


def _is_refusal(words: str) -> bool:
    """Tell whether a server said no; libpq gives no SQLSTATE for what happens while it connects."""
    said = ("authentication failed", "no pg_hba.conf entry", "does not exist", "permission denied", "no password")
    return any(part in words for part in said)
