"""The statements of a backfill: pages of the key, the rows of a page that are still to do, and what is left over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations.backfill_file import BackfillFile

Cursor = Sequence[str] | None
"""A row's key as texts, which PostgreSQL reads back as it wrote them; None before the first row."""
SETTING = "bluegreen.backfill"
"""Set in each batch: the sync triggers that we generate leave its rows alone."""

_KEY = """
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull
FROM pg_attribute a WHERE a.attrelid = %s::oid AND a.attnum > 0 AND NOT a.attisdropped
"""
_UNIQUE = """
SELECT array(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (number, at)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
             WHERE k.at <= i.indnkeyatts ORDER BY k.at)
FROM pg_index i
WHERE i.indrelid = %s::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indisprimary DESC
"""


@dataclass(frozen=True)
class Statements:
    """
    What is sent for one file.

    :param types: of the key's columns, as casts name them
    :param numeric: the key is one whole number, so that its range says how far a pass is
    :param relation: the table's oid
    """

    file: BackfillFile
    types: tuple[str, ...]
    numeric: bool
    relation: int

    @property
    def table(self) -> sql.Identifier:
        """The table, as FROM has it."""
        return sql.Identifier(*self.file.table.split("."))

    @property
    def _columns(self) -> list[sql.Identifier]:
        name = self.file.table.split(".")[-1]
        return [sql.Identifier(name, column) for column in self.file.key]

    def _row(self) -> sql.Composed:
        return sql.SQL("({})").format(sql.SQL(", ").join(self._columns))

    def _bound(self, which: str, cursor: Cursor) -> sql.Composed:
        """Compare the key with one that was read before; whole rows, as its index is ordered."""
        if cursor is None:
            return sql.Composed([sql.SQL("true")])
        values = [
            sql.SQL("{}::{}").format(sql.Literal(word), sql.SQL(kind))
            for word, kind in zip(cursor, self.types, strict=True)
        ]
        return sql.SQL("{} {} ({})").format(self._row(), sql.SQL(which), sql.SQL(", ").join(values))

    def _texts(self) -> sql.Composed:
        return sql.SQL(", ").join(sql.SQL("{}::text").format(column) for column in self._columns)

    def edge(self, after: Cursor, size: int) -> sql.Composed:
        """Return the query of the page's last key; without one the page is the table's rest."""
        return sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {} OFFSET {} LIMIT 1").format(
            self._texts(), self.table, self._bound(">", after), self._order(), sql.Literal(size - 1)
        )

    def _order(self) -> sql.Composed:
        return sql.SQL(", ").join(self._columns)

    def change(self, after: Cursor, until: Cursor, *, skip_locked: bool) -> sql.Composed:
        """
        Return the update of one page: its rows are locked in the key's order, then changed.

        The page's bounds stand on both sides of the join, so that neither is ever read whole. What is still to do stands
        on one: rows are locked when they are chosen, and were it on both, a planner that knows nothing of a new column
        would take both for one row, and compare each row of the page with each.
        """
        names = [sql.Identifier(f"bluegreen_key_{number}") for number in range(len(self.types))]
        pairs = [sql.SQL("{} AS {}").format(*pair) for pair in zip(self._columns, names, strict=True)]
        same = [sql.SQL("{} = chosen.{}").format(*pair) for pair in zip(self._columns, names, strict=True)]
        values = [sql.SQL("{} = (\n{}\n)").format(sql.Identifier(c), sql.SQL(e)) for c, e in self.file.set.items()]
        page = sql.SQL("{} AND {}").format(self._bound(">", after), self._bound("<=", until))
        return sql.SQL(
            "WITH chosen AS MATERIALIZED (SELECT {names} FROM {table} WHERE {page} AND (\n{left}\n) ORDER BY {order} "
            "FOR NO KEY UPDATE{skip}) UPDATE {table} SET {values} FROM chosen WHERE {same} AND {page}"
        ).format(
            names=sql.SQL(", ").join(pairs),
            table=self.table,
            page=page,
            left=sql.SQL(self.file.where),
            order=self._order(),
            skip=sql.SQL(" SKIP LOCKED" if skip_locked else ""),
            values=sql.SQL(", ").join(values),
            same=sql.SQL(" AND ").join(same),
        )

    def left_over(self) -> sql.Composed:
        """Return the query of one row's key that is still to do."""
        return sql.SQL("SELECT {} FROM {} WHERE (\n{}\n) LIMIT 1").format(
            self._texts(), self.table, sql.SQL(self.file.where)
        )

    def extent(self) -> sql.Composed:
        """Return the query of the least and the greatest key, where it is a number."""
        return sql.SQL("SELECT min({0}), max({0}) FROM {1}").format(self._columns[0], self.table)


def statements(connection: psycopg.Connection[Any], file: BackfillFile, part: str) -> Statements:
    """
    Look at the table, and have the server plan each statement before anything is touched.

    :raises MigrationRefused: no such table or column, a key that is not unique, or SQL that the server does not take
    """
    table = sql.Identifier(*file.table.split(".")).as_string(connection)
    relation = _one(connection, "SELECT to_regclass(%s)::oid", table)
    if relation is None:
        raise MigrationRefused(
            f"found no table {file.table}",
            part=f"{part}: table",
            next_step="its expand comes first; write its schema before the name",
        )
    columns = {name: (kind, told) for name, kind, told in connection.execute(_KEY, [relation])}
    _look_at_key(connection, file, part, relation, columns)
    types = tuple(columns[column][0] for column in file.key)
    made = Statements(file, types, len(types) == 1 and types[0] in {"integer", "bigint", "smallint"}, relation)
    for key, statement in (("set, where", made.change(None, None, skip_locked=True)), ("drift", sql.SQL(file.drift))):
        try:
            connection.execute(sql.SQL("EXPLAIN {}").format(statement))
        except psycopg.errors.LockNotAvailable:
            raise
        except psycopg.Error as error:
            fact = f"the server does not take it: {error.diag.message_primary}"
            raise MigrationRefused(fact, part=f"{part}: {key}", next_step="mend the SQL in the file") from None
    return made


def _look_at_key(
    connection: psycopg.Connection[Any],
    file: BackfillFile,
    part: str,
    relation: int,
    columns: dict[str, tuple[str, bool]],
) -> None:
    unique = [found for (found,) in connection.execute(_UNIQUE, [relation])]
    usable = [found for found in unique if all(columns[column][1] for column in found)]
    if list(file.key) in usable:
        return
    allowed = " or ".join("[" + ", ".join(found) + "]" for found in usable)
    raise MigrationRefused(
        f"found [{', '.join(file.key)}], allowed {allowed or 'nothing: the table has no unique key that is never null'}",
        part=f"{part}: key",
        next_step="rows are gone through by a unique index whose columns are NOT NULL",
    )


def _one(connection: psycopg.Connection[Any], query: Any, *words: Any) -> Any:
    row = connection.execute(query, words).fetchone()
    return row[0] if row else None
