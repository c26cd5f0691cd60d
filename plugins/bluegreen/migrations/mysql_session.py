"""MySQL 8 and MariaDB by PyMySQL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pymysql

from bluegreen.migrations.databases import APPLICATION, CONNECT_TIMEOUT, Kind, Place, SqlTrouble, own_words

_LOCK = {1205, 1213}
_SLOW = {1317, 1969, 3024}
_LOST = {1040, 1053, 1927, 2002, 2003, 2006, 2013, 2014, 2055, 4031}
_DENIED = {1044, 1045, 1142, 1143, 1227, 1370}
_VALUE = {1062, 1292, 1366, 1406, 1264}
"""Errors whose words hold a value of a row."""


class MySqlSession:
    """
    One connection to MySQL or MariaDB; see ``databases.Session``.

    :param hide: what its errors must not show
    """

    def __init__(self, connection: Any, hide: Sequence[str]) -> None:
        self._connection, self._hide = connection, tuple(hide)
        self.pid = int(connection.thread_id())

    def execute(self, sql: str, values: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Execute one statement; see ``databases.Session``."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, None if values is None else list(values))
                return list(cursor.fetchall()) if cursor.description else []
        except (pymysql.MySQLError, OSError) as error:
            raise trouble(error, self._hide) from None

    def close(self) -> None:
        """End it."""
        with suppress(pymysql.MySQLError, OSError):
            self._connection.close()


def connect(place: Place) -> MySqlSession:
    """
    Connect; see ``databases.Place``.

    :raises SqlTrouble: it does not answer, or does not let us in
    """
    given = place.credentials
    where: dict[str, Any] = (
        {"unix_socket": given.host} if given.host.startswith("/") else {"host": given.host, "port": given.port or 3306}
    )
    if authority := given.extra.get("ssl_ca"):
        where["ssl_ca"] = str(authority)
    try:
        connection = pymysql.connect(
            user=given.login,
            password=given.password,
            database=place.database.name,
            connect_timeout=CONNECT_TIMEOUT,
            charset="utf8mb4",
            autocommit=True,
            program_name=APPLICATION,
            **where,
        )
    except (pymysql.MySQLError, OSError) as error:
        raise trouble(error, place.hide) from None
    return MySqlSession(connection, place.hide)


def trouble(error: Exception, hide: Sequence[str]) -> SqlTrouble:
    """Return what an error means."""
    code, words = (*error.args, "", "")[:2] if error.args else (0, "")
    number = code if isinstance(code, int) else 0
    said = str(words or error)
    if number in _VALUE:
        said = said.partition("'")[0].strip() + " …"
    return SqlTrouble(_kind(error, number), own_words(said, hide), str(number or ""))


def _kind(error: Exception, number: int) -> Kind:
    kinds = ((_LOCK, Kind.LOCK), (_SLOW, Kind.SLOW), (_LOST, Kind.LOST), (_DENIED, Kind.DENIED))
    gone = isinstance(error, pymysql.InterfaceError | OSError)
    return next((kind for numbers, kind in kinds if number in numbers), Kind.LOST if gone else Kind.OTHER)
