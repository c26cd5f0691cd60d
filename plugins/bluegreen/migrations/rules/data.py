"""Statements about rows, sequences, locks, settings and transactions, and those whose SQL cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pglast import ast
from pglast.enums import A_Expr_Kind, BoolExprType, TransactionStmtKind, VariableSetKind

from bluegreen.migrations.rules.history import TABLES
from bluegreen.migrations.rules.hit import Check, Hit
from bluegreen.migrations.rules.known import Known
from bluegreen.migrations.rules.parsed import walk
from bluegreen.migrations.rules.sql_text import again, ident, key, table

_BEGIN = (TransactionStmtKind.TRANS_STMT_BEGIN, TransactionStmtKind.TRANS_STMT_START)
_SAVEPOINTS = (
    TransactionStmtKind.TRANS_STMT_SAVEPOINT,
    TransactionStmtKind.TRANS_STMT_RELEASE,
    TransactionStmtKind.TRANS_STMT_ROLLBACK_TO,
)
# Functions that change nothing which an application sees.
_HARMLESS = frozenset(
    [
        "set_config",
        "current_setting",
        "pg_sleep",
        "now",
        "version",
        "pg_notify",
        "pg_advisory_lock",
        "pg_advisory_unlock",
        "pg_try_advisory_lock",
        "pg_advisory_xact_lock",
        "pg_try_advisory_xact_lock",
        "count",
    ]
)
_MOVES = ("restart", "increment", "minvalue", "maxvalue", "cycle", "as", "cache")
_READABLE = "-- write down what it executes, as plain statements"


def rows(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge UPDATE, DELETE and MERGE, also inside a WITH, and calls whose SQL stands elsewhere."""
    for one in walk(statement):
        if isinstance(one, (ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)):
            if not (known.is_new(one.relation) or one.relation.relname in TABLES or _few(one, known)):
                yield from _not_batched(one)
        elif isinstance(one, ast.FuncCall) and one.funcname[-1].sval == "setval":
            yield Hit("alter-sequence", "sets a sequence's next number", "-- leave it as it is")
    if isinstance(statement, ast.SelectStmt):
        yield from _calls(statement)


def _not_batched(one: Any) -> Iterator[Hit]:
    name = table(one.relation)
    how = "deletes rows of" if isinstance(one, ast.DeleteStmt) else "writes rows of"
    verb = "delete" if isinstance(one, ast.DeleteStmt) else "update"
    safe = f"-- in backfill: {verb} {name} in batches by its key (NNNN_name.backfill.yaml)"
    yield Hit(f"{verb}-not-batched", f"{how} {name}, as many as there are", safe)


def _few(one: Any, known: Known) -> bool:
    """Tell whether rows are named by a key, as those of a settings table are."""
    condition = getattr(one, "whereClause", None)
    parts = [condition]
    if isinstance(condition, ast.BoolExpr) and condition.boolop == BoolExprType.AND_EXPR:
        parts = list(condition.args)
    return any(_by_key(part, key(one.relation), known) for part in parts)


def _by_key(part: Any, of: str, known: Known) -> bool:
    if not isinstance(part, ast.A_Expr) or part.kind not in (A_Expr_Kind.AEXPR_OP, A_Expr_Kind.AEXPR_IN):
        return False
    if part.name[-1].sval != "=" or not isinstance(part.lexpr, ast.ColumnRef):
        return False
    values = part.rexpr if isinstance(part.rexpr, tuple) else (part.rexpr,)
    column = getattr(part.lexpr.fields[-1], "sval", "")
    literal = all(isinstance(getattr(value, "arg", value), ast.A_Const) for value in values)
    return literal and (column == "id" or (of, column) in known.single_keys)


def _calls(statement: Any) -> Iterator[Hit]:
    """Judge ``SELECT f()``: what a function executes cannot be read here."""
    if statement.fromClause:
        return
    for target in statement.targetList or ():
        call = target.val
        name = call.funcname[-1].sval if isinstance(call, ast.FuncCall) else "setval"
        if name not in _HARMLESS and name != "setval":
            yield Hit("not-readable", f"calls {ident(name)}()", _READABLE)


def unreadable(says: str) -> Check:
    """Return the check of a statement that executes what cannot be read."""

    def check(_: Any, __: Known) -> Iterator[Hit]:
        yield Hit("not-readable", says, _READABLE)

    return check


def truncate(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge TRUNCATE."""
    names = [table(one) for one in statement.relations if not known.is_new(one)]
    if names:
        safe = "\n".join(f"-- in backfill: delete {name} in batches by its key" for name in names)
        yield Hit("truncate", f"empties {', '.join(names)}", safe)


def lock(statement: Any, _: Known) -> Iterator[Hit]:
    """Judge LOCK TABLE."""
    yield Hit("lock-table", f"locks {', '.join(map(table, statement.relations))}", "-- leave it out")


def copy(statement: Any, _: Known) -> Iterator[Hit]:
    """Judge COPY."""
    name = table(statement.relation) if statement.relation else "a query"
    safe = f"-- INSERT INTO {name} …, for a few rows; else the application or a backfill"
    yield Hit("copy", f"copies {name}", safe)


def sequence(statement: Any, _: Known) -> Iterator[Hit]:
    """Judge ALTER SEQUENCE."""
    moved = [one.defname for one in statement.options or () if one.defname in _MOVES]
    if moved:
        safe = "-- leave its numbers as they are; a new column may have a new sequence"
        yield Hit("alter-sequence", f"changes {table(statement.sequence)}: {', '.join(moved)}", safe)


def setting(statement: Any, _: Known) -> Iterator[Hit]:
    """Judge SET and RESET: of timeouts, and of what disables triggers."""
    name, reset = statement.name or "all", statement.kind != VariableSetKind.VAR_SET_VALUE
    if name == "session_replication_role" and not reset:
        yield Hit("disable-trigger", "disables triggers and foreign keys of the session", "-- leave it out")
    if name in ("lock_timeout", "statement_timeout", "all") and (reset or _zero(statement.args)):
        all_of = statement.kind == VariableSetKind.VAR_RESET_ALL
        if name != "all" or all_of:
            yield Hit("timeout-removed", f"takes off {'every timeout' if all_of else name}", "-- leave it out")


def _zero(args: Any) -> bool:
    value = getattr(args[0], "val", None) if args else None
    if isinstance(value, ast.Integer):
        return bool(value.ival == 0)
    return isinstance(value, ast.String) and value.sval.strip().rstrip("mshdin ").strip() in ("0", "")


def discard(_: Any, __: Known) -> Iterator[Hit]:
    """Judge DISCARD: it resets the timeouts."""
    yield Hit("timeout-removed", "takes off every timeout", "-- leave it out")


def transaction(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge BEGIN, COMMIT and the like, and remember whether a transaction is open."""
    if statement.kind in _SAVEPOINTS:
        return
    begins = statement.kind in _BEGIN
    ends = statement.kind == TransactionStmtKind.TRANS_STMT_COMMIT
    if not begins and not ends:
        yield Hit("transaction", f"says {again(statement)}", "-- leave it out")
    elif begins == known.in_transaction:
        fact = "begins a transaction in one" if begins else "commits where nothing has begun"
        yield Hit("transaction", fact, "-- leave it out")
    known.in_transaction = begins


CHECKS: dict[type, Check] = {
    **dict.fromkeys(
        (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt, ast.CreateTableAsStmt,
         ast.ExplainStmt, ast.DeclareCursorStmt),
        rows,
    ),
    ast.TruncateStmt: truncate,
    ast.LockStmt: lock,
    ast.CopyStmt: copy,
    ast.AlterSeqStmt: sequence,
    ast.VariableSetStmt: setting,
    ast.DiscardStmt: discard,
    ast.TransactionStmt: transaction,
    ast.DoStmt: unreadable("is a DO block"),
    ast.CallStmt: unreadable("calls a procedure"),
    ast.ExecuteStmt: unreadable("executes what was prepared"),
    ast.PrepareStmt: unreadable("prepares a statement"),
}  # fmt: skip
