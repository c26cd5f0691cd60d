"""
The users that the shop shows: a list in memory, or a table of a PostgreSQL that both colors share.

Versions 1.4 read and write ``full_name``; later ones ``first_name`` and ``last_name``. While both run, triggers of the
migration fill the side that a version does not write.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

NEW_USER = "Eva de la Torre"
_LATEST = 10
_OLD_SELECT = "SELECT id, full_name AS name, email FROM users ORDER BY id DESC LIMIT %s"
_OLD_INSERT = "INSERT INTO users (full_name, email) VALUES (%s, %s) RETURNING id"
_NEW_SELECT = "SELECT id, concat_ws(' ', first_name, last_name) AS name, email FROM users ORDER BY id DESC LIMIT %s"
_NEW_INSERT = "INSERT INTO users (first_name, last_name, email) VALUES (%s, %s, %s) RETURNING id"


class Users(Protocol):
    """Where users are."""

    async def latest(self) -> list[dict[str, Any]]:
        """Return the last ones: id, name, perhaps e-mail."""
        ...

    async def add(self, name: str) -> dict[str, Any]:
        """Add one."""
        ...


class MemoryUsers:
    """Two users, for a shop without a database."""

    def __init__(self) -> None:
        self._users = [{"id": 1, "name": "Ana"}, {"id": 2, "name": "Luis"}]

    async def latest(self) -> list[dict[str, Any]]:
        """Return them."""
        return self._users

    async def add(self, name: str) -> dict[str, Any]:
        """Return what would be added: nothing is kept."""
        return {"id": 3, "name": name}


class TableUsers:
    """
    The table ``users``, by one connection that the server's requests share.

    :param conninfo: of the database, as libpq has it
    :param version: of the application: says which columns it knows
    """

    def __init__(self, conninfo: str, version: str) -> None:
        self._conninfo, self._old = conninfo, version.startswith("1.4.")
        self._turn = asyncio.Lock()
        self._connection: Any = None

    async def latest(self) -> list[dict[str, Any]]:
        """Return the last ones."""
        rows = await self._rows(_OLD_SELECT if self._old else _NEW_SELECT, [_LATEST])
        return [{"id": key, "name": name, "email": email} for key, name, email in rows]

    async def add(self, name: str) -> dict[str, Any]:
        """Add one, as this version writes names."""
        first, _, last = name.partition(" ")
        email = f"{first.lower()}@shop.test"
        if self._old:
            rows = await self._rows(_OLD_INSERT, [name, email])
        else:
            rows = await self._rows(_NEW_INSERT, [first, last or None, email])
        return {"id": rows[0][0], "name": name}

    async def _rows(self, sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
        import psycopg  # noqa: PLC0415 - a shop without a database starts sooner

        async with self._turn:
            if self._connection is None or self._connection.closed:
                self._connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
            return await (await self._connection.execute(sql, values)).fetchall()
