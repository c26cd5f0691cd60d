"""The own pass over PostgreSQL's SQL: each statement by PostgreSQL's parser, file after file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pglast import ast
from pglast.enums import AlterTableType

from bluegreen.migrations.ports import Migration, Phase
from bluegreen.migrations.rules import data, indexes, objects
from bluegreen.migrations.rules.constraints import domain
from bluegreen.migrations.rules.hit import Check, Hit
from bluegreen.migrations.rules.known import Known
from bluegreen.migrations.rules.parsed import Statement, statements
from bluegreen.migrations.rules.sql_text import again
from bluegreen.migrations.rules.tables import alter_table

_CHECKS: Mapping[type, Check] = {
    **data.CHECKS,
    **objects.CHECKS,
    ast.AlterTableStmt: alter_table,
    ast.AlterDomainStmt: domain,
    ast.AlterTableMoveAllStmt: objects.not_here("set-tablespace", "moves every table of a tablespace"),
    ast.IndexStmt: indexes.create_index,
    ast.ReindexStmt: indexes.reindex,
    ast.RefreshMatViewStmt: indexes.refresh,
    ast.VacuumStmt: indexes.vacuum,
    ast.ClusterStmt: indexes.cluster,
}


@dataclass(frozen=True)
class Judged:
    """
    A statement and what rules said.

    :param excused: it is about what this file made, which nobody uses yet
    """

    statement: Statement
    hits: Sequence[Hit]
    excused: bool = False


def judge(migrations: Sequence[Migration], before: Sequence[Migration] = ()) -> list[tuple[Migration, list[Judged]]]:
    """
    Judge every statement, in the order given.

    :param before: applied already; only what they made is wanted
    """
    known = Known()
    for migration in before:
        _file(migration, known)
    return [(migration, _file(migration, known)) for migration in migrations]


def _file(migration: Migration, known: Known) -> list[Judged]:
    if migration.phase is Phase.BACKFILL:
        return []
    known.next_file(migration.phase)
    found, begun = [], None
    for statement in statements(migration.sql):
        was_open = known.in_transaction
        found.append(_statement(statement, known))
        begun = statement if known.in_transaction and not was_open else begun
    if known.in_transaction and begun is not None:
        found.append(
            Judged(begun, [Hit("transaction", "begins a transaction and does not end it", "-- COMMIT; at its end")])
        )
    return found


def _statement(statement: Statement, known: Known) -> Judged:
    if statement.node is None:
        return Judged(statement, [Hit("syntax-error", statement.broken, "-- what PostgreSQL's parser takes")])
    try:
        excused = known.is_new(getattr(statement.node, "relation", None))
        hits = list(_hits(statement.node, known))
        known.learn(statement.node)
    except RecursionError:
        return Judged(statement, [Hit("not-readable", "is nested too deep to be read", "-- in smaller statements")])
    return Judged(statement, hits, excused)


def _hits(node: Any, known: Known) -> Iterator[Hit]:
    if check := _CHECKS.get(type(node)):
        yield from check(node, known)
    if known.in_transaction and not isinstance(node, ast.TransactionStmt) and concurrently(node):
        yield Hit("concurrently-in-transaction", "stands between BEGIN and COMMIT", again(node))


def concurrently(node: Any) -> bool:
    """Tell whether a statement cannot stand in a transaction."""
    if isinstance(node, ast.ReindexStmt):
        return any(one.defname == "concurrently" for one in node.params or ())
    if isinstance(node, ast.AlterTableStmt):
        return any(one.subtype == AlterTableType.AT_DetachPartition and one.def_.concurrent for one in node.cmds or ())
    return isinstance(node, ast.VacuumStmt) or (
        isinstance(node, (ast.IndexStmt, ast.DropStmt)) and bool(node.concurrent)
    )
