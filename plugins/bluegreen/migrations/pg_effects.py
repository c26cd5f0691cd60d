"""
Whether a statement that cannot be in a PostgreSQL transaction has had its effect, and what a killed one has left.

CREATE INDEX CONCURRENTLY that ends early leaves an invalid index: it costs each write, and serves no read.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from pglast import ast, parse_sql
from pglast.parser import ParseError
from pglast.stream import RawStream

from bluegreen.migrations.databases import Kind, Session, SqlTrouble
from bluegreen.migrations.pg_statements import detached
from bluegreen.migrations.statements import Statement

_INDEX = """SELECT i.oid, x.indisvalid, x.indrelid = to_regclass(%s), i.oid::regclass::text,
  (SELECT min(p.pid) FROM pg_stat_progress_create_index p WHERE p.index_relid = i.oid)
  FROM pg_class t JOIN pg_class i ON i.relnamespace = t.relnamespace JOIN pg_index x ON x.indexrelid = i.oid
  WHERE t.oid = to_regclass(%s) AND i.relname = %s"""
_LEFT_BY_REINDEX = """SELECT i.oid::regclass::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
  LEFT JOIN pg_index of_index ON of_index.indexrelid = to_regclass(%s)
  WHERE NOT x.indisvalid AND i.relname ~ '_cc(new|old)[0-9]*$'
  AND x.indrelid IN (to_regclass(%s), of_index.indrelid)"""
_PARTITION = """SELECT inhdetachpending FROM pg_inherits
  WHERE inhparent = to_regclass(%s) AND inhrelid = to_regclass(%s)"""


def happened(session: Session, statement: Statement, *, again: bool) -> bool:
    """
    Tell whether a statement has had its effect, and drop the invalid index that a killed try has left.

    :param again: an earlier try of this very statement was begun; on a first one PostgreSQL's own answer is better
    :raises SqlTrouble: an index of the name is another one, or somebody else is building it
    """
    node = statement.node
    if isinstance(node, ast.IndexStmt):
        return _index_is_there(session, node, statement.text, again=again)
    if isinstance(node, ast.DropStmt):
        return again and _regclass(session, ".".join(_quoted(part.sval) for part in (node.objects or [()])[0])) is None
    if isinstance(node, ast.ReindexStmt):
        _drop_left_by_reindex(session, node)
        return False
    if (partition := detached(node)) is not None:
        return _is_detached(session, node, partition, again=again)
    return False


def clean(session: Session, sql: str) -> None:
    """
    Drop the invalid index of each CREATE INDEX CONCURRENTLY of a text.

    :param sql: what a tool is about to execute; what is not PostgreSQL's SQL is the tool's business
    :raises SqlTrouble: somebody else is building it
    """
    with suppress(ParseError):
        for one in parse_sql(sql):
            if isinstance(one.stmt, ast.IndexStmt) and one.stmt.concurrent and one.stmt.idxname:
                _index_is_there(session, one.stmt, "", again=False)


def _index_is_there(session: Session, node: ast.IndexStmt, text: str, *, again: bool) -> bool:
    table = _name(node.relation)
    found = session.execute(_INDEX, [table, table, node.idxname])
    if not found:
        return False
    oid, valid, of_table, name, builder = found[0]
    if builder is not None:
        raise SqlTrouble(Kind.LOCK, f"process {builder} is building index {name} at this moment")
    if valid:
        if again and not (of_table and _same_index(session, oid, table, text)):
            raise SqlTrouble(Kind.OTHER, f"index {name} is there, and it is not the one of this statement", "42P07")
        return again
    if not of_table:
        raise SqlTrouble(Kind.OTHER, f"an invalid index {name} is there, of another table", "42P07")
    session.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    return False


def _same_index(session: Session, oid: int, table: str, text: str) -> bool:
    """Let the server write down both: the index that is there, and the statement's on an empty copy of the table."""
    session.execute("BEGIN")
    try:
        session.execute(f"CREATE TEMPORARY TABLE bluegreen_like (LIKE {table}) ON COMMIT DROP")
        session.execute(_on_the_copy(text))
        found = session.execute(
            "SELECT pg_get_indexdef(%s), pg_get_indexdef(indexrelid) FROM pg_index "
            "WHERE indrelid = 'pg_temp.bluegreen_like'::regclass",
            [oid],
        )
    finally:
        session.execute("ROLLBACK")
    return len({_without_names(definition) for definition in found[0]}) == 1


def _on_the_copy(text: str) -> str:
    node = cast("ast.IndexStmt", parse_sql(text)[0].stmt)
    node.relation = ast.RangeVar(schemaname="pg_temp", relname="bluegreen_like", inh=True, relpersistence="p")
    node.concurrent = node.if_not_exists = False
    return str(RawStream()(node))


def _without_names(definition: str) -> tuple[bool, str]:
    head, _, what = definition.partition(" USING ")
    return head.startswith("CREATE UNIQUE"), what


def _drop_left_by_reindex(session: Session, node: ast.ReindexStmt) -> None:
    name = _name(node.relation)
    for row in session.execute(_LEFT_BY_REINDEX, [name, name]) if name else ():
        session.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {row[0]}")


def _is_detached(session: Session, node: ast.AlterTableStmt, partition: ast.RangeVar, *, again: bool) -> bool:
    parent, child = _name(node.relation), _name(partition)
    found = session.execute(_PARTITION, [parent, child])
    if found and found[0][0]:
        session.execute(f"ALTER TABLE {parent} DETACH PARTITION {child} FINALIZE")
        return True
    return again and not found


def _regclass(session: Session, name: str) -> Any:
    return session.execute("SELECT to_regclass(%s)", [name])[0][0]


def _name(relation: ast.RangeVar | None) -> str:
    parts = (relation.schemaname, relation.relname) if relation else ()
    return ".".join(_quoted(part) for part in parts if part)


def _quoted(part: str) -> str:
    return '"' + part.replace('"', '""') + '"'
