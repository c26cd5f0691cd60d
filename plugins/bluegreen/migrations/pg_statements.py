"""A file of PostgreSQL's statements, cut by PostgreSQL's own parser."""

from __future__ import annotations

from typing import NoReturn

from pglast import ast, parse_sql
from pglast.enums.parsenodes import AlterTableType, DropBehavior, ObjectType, VariableSetKind
from pglast.parser import ParseError

from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations.statements import Class, Statement

_TIMEOUTS = {"lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"}
_ROLES = {"role", "session_authorization"}
_NOT_HERE = (
    ast.CreatedbStmt,
    ast.DropdbStmt,
    ast.CreateTableSpaceStmt,
    ast.DropTableSpaceStmt,
    ast.AlterSystemStmt,
    ast.CreateSubscriptionStmt,
    ast.DropSubscriptionStmt,
)


def split(text: str, name: str) -> tuple[Statement, ...]:
    """
    Cut a file into statements.

    :param name: the file's, for errors
    :raises MigrationRefused: it is no SQL, or says what a migration cannot; names the line
    """
    try:
        raw = parse_sql(text)
    except ParseError as error:
        message, at = (*error.args, 0)[:2]
        _refuse(name, text.count("\n", 0, int(at)) + 1, f"is not PostgreSQL's SQL: {message}", "mend the line")
    found = []
    for one in raw:
        begin = one.stmt_location or 0
        end = begin + one.stmt_len if one.stmt_len else len(text)
        found.append(_statement(text[begin:end].strip(), text.count("\n", 0, begin) + 1, one.stmt, name))
    return tuple(found)


def _statement(text: str, line: int, node: ast.Node | None, name: str) -> Statement:
    _refuse_what_cannot_be(node, line, name)
    if isinstance(node, ast.VariableSetStmt):
        ours = (node.name or "").lower() in _TIMEOUTS
        return Statement(text, line, Class.OURS if ours else Class.SETTING, node=node)
    outside = is_outside(node)
    online = outside or _validates(node) or (isinstance(node, ast.RefreshMatViewStmt) and bool(node.concurrent))
    alone = _validates(node) or (isinstance(node, ast.AlterEnumStmt) and not node.oldVal)
    return Statement(text, line, Class.ONLINE if online else Class.LOCKING, alone, outside, node)


def is_outside(node: ast.Node | None) -> bool:
    """Tell whether a statement cannot be in a transaction."""
    if isinstance(node, ast.IndexStmt | ast.DropStmt):
        return bool(node.concurrent)
    if isinstance(node, ast.ReindexStmt):
        return _option(node, "concurrently")
    if isinstance(node, ast.VacuumStmt):
        return bool(node.is_vacuumcmd)
    return detached(node) is not None


def detached(node: ast.Node | None) -> ast.RangeVar | None:
    """Return the partition that DETACH PARTITION … CONCURRENTLY is about."""
    for command in (node.cmds or ()) if isinstance(node, ast.AlterTableStmt) else ():
        if command.subtype == AlterTableType.AT_DetachPartition and command.def_.concurrent:
            partition: ast.RangeVar = command.def_.name
            return partition
    return None


def _validates(node: ast.Node | None) -> bool:
    return isinstance(node, ast.AlterTableStmt) and all(
        command.subtype == AlterTableType.AT_ValidateConstraint for command in node.cmds or ()
    )


def _option(node: ast.ReindexStmt, name: str) -> bool:
    return any(option.defname == name for option in node.params or ())


def _refuse_what_cannot_be(node: ast.Node | None, line: int, name: str) -> None:
    if isinstance(node, ast.TransactionStmt):
        _refuse(name, line, "begins or ends a transaction", "take it out: the runner makes the transactions")
    if isinstance(node, _NOT_HERE):
        _refuse(name, line, "is not about the service's own database", "do it by hand, before the release")
    if isinstance(node, ast.CopyStmt) and not node.filename:
        _refuse(name, line, "copies from or to a client", "write INSERT, or a backfill")
    if isinstance(node, ast.VariableSetStmt):
        _refuse_setting(node, line, name)
    if isinstance(node, ast.IndexStmt) and node.concurrent and not node.idxname:
        _refuse(name, line, "lets the server name the index: a second try would make a second one", "give it a name")
    if isinstance(node, ast.ReindexStmt) and not _option(node, "concurrently") and node.relation is None:
        _refuse(name, line, "rebuilds every index of the database", "name the index, and write CONCURRENTLY")
    if isinstance(node, ast.ClusterStmt) and node.relation is None:
        _refuse(name, line, "rewrites every clustered table", "take it out")
    if isinstance(node, ast.DropStmt) and node.concurrent and _drops_more(node):
        _refuse(name, line, "drops several indexes, or with CASCADE, concurrently", "write one statement an index")


def _refuse_setting(node: ast.VariableSetStmt, line: int, name: str) -> None:
    if (node.name or "").lower() in _ROLES:
        step = "take it out, and set the role in the connection: extra options, -c role=NAME"
        _refuse(name, line, "becomes another role, which may not write the history", step)
    if node.kind == VariableSetKind.VAR_RESET_ALL:
        _refuse(name, line, "resets the timeouts too", "reset what you set by its name")


def _drops_more(node: ast.DropStmt) -> bool:
    several = len(node.objects or ()) > 1 or node.behavior == DropBehavior.DROP_CASCADE
    return node.removeType == ObjectType.OBJECT_INDEX and several


def _refuse(name: str, line: int, fact: str, next_step: str) -> NoReturn:
    raise MigrationRefused(f"line {line} {fact}", part=name, next_step=next_step) from None
