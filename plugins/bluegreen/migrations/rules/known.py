"""What earlier statements and earlier files made: a check that was validated, a table that nobody uses yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pglast import ast
from pglast.enums import AlterTableType, BoolExprType, ConstrType, NullTestType, ObjectType

from bluegreen.migrations.ports import Phase
from bluegreen.migrations.rules.parsed import walk
from bluegreen.migrations.rules.sql_text import dotted, key

KEYS = (ConstrType.CONSTR_PRIMARY, ConstrType.CONSTR_UNIQUE)


@dataclass
class Check:
    """
    A constraint that these migrations add.

    :param not_null: columns that it keeps from being NULL
    :param file: number of the file that adds it
    :param valid: it was validated, or held from the start
    """

    not_null: frozenset[str]
    file: int
    valid: bool


@dataclass
class Known:
    """
    What is known at a statement.

    :param file: number of the file
    :param new: tables, views and functions that this file made: nobody uses them yet
    :param new_columns: table and column that this file added: the old color does not write them
    :param types: table and column to its type
    :param checks: table and constraint
    :param single_keys: table and column that is unique by itself
    :param partition_keys: of a table the columns that it is partitioned by
    """

    phase: Phase = Phase.EXPAND
    file: int = 0
    in_transaction: bool = False
    new: set[str] = field(default_factory=set)
    new_columns: set[tuple[str, str]] = field(default_factory=set)
    types: dict[tuple[str, str], Any] = field(default_factory=dict)
    checks: dict[tuple[str, str], Check] = field(default_factory=dict)
    single_keys: set[tuple[str, str]] = field(default_factory=set)
    partition_keys: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def next_file(self, phase: Phase) -> None:
        """Begin another file: what the one before made may be in use."""
        self.file, self.phase, self.in_transaction = self.file + 1, phase, False
        self.new, self.new_columns = set(), set()

    def is_new(self, relation: Any) -> bool:
        """Tell whether this file made a table."""
        return relation is not None and key(relation) in self.new

    def never_null(self, table: str, column: str) -> bool:
        """Tell whether a valid check keeps a column from being NULL."""
        return any(check.valid and column in check.not_null for (of, _), check in self.checks.items() if of == table)

    def learn(self, node: Any) -> None:
        """Remember what a statement makes."""
        learn = _LEARNT.get(type(node))
        if learn:
            learn(self, node)


def columns_in(expression: Any) -> set[str]:
    """Return the columns that an expression names."""
    return {
        one.fields[-1].sval
        for one in walk(expression)
        if isinstance(one, ast.ColumnRef) and isinstance(one.fields[-1], ast.String)
    }


def not_null_columns(expression: Any) -> frozenset[str]:
    """Return the columns that a CHECK keeps from being NULL: ``a IS NOT NULL AND …``."""
    if isinstance(expression, ast.BoolExpr) and expression.boolop == BoolExprType.AND_EXPR:
        return frozenset().union(*map(not_null_columns, expression.args))
    if isinstance(expression, ast.NullTest) and expression.nulltesttype == NullTestType.IS_NOT_NULL:
        return frozenset(columns_in(expression.arg)) if isinstance(expression.arg, ast.ColumnRef) else frozenset()
    return frozenset()


def _create(known: Known, node: Any) -> None:
    table = key(node.relation)
    known.new.add(table)
    for element in node.tableElts or ():
        if isinstance(element, ast.ColumnDef):
            _column(known, table, element)
        elif isinstance(element, ast.Constraint):
            _constraint(known, table, element)
    if node.partspec:
        columns = (part.name for part in node.partspec.partParams if part.name)
        known.partition_keys[table] = tuple(columns)


def _column(known: Known, table: str, column: Any) -> None:
    known.types[table, column.colname] = column.typeName
    known.new_columns.add((table, column.colname))
    if any(one.contype in KEYS for one in column.constraints or ()):
        known.single_keys.add((table, column.colname))


def _constraint(known: Known, table: str, constraint: Any) -> None:
    if constraint.contype in KEYS and len(constraint.keys or ()) == 1:
        known.single_keys.add((table, constraint.keys[0].sval))
    if constraint.conname:
        of = not_null_columns(constraint.raw_expr) if constraint.raw_expr else frozenset()
        known.checks[table, constraint.conname] = Check(of, known.file, not constraint.skip_validation)


def _alter(known: Known, node: Any) -> None:
    for command in node.cmds or ():
        learn = _LEARNT_FROM_COMMAND.get(getattr(command, "subtype", None))
        if learn and node.relation:
            learn(known, key(node.relation), command)


def _validated(known: Known, table: str, command: Any) -> None:
    if check := known.checks.get((table, command.name)):
        check.valid = True


def _unconstrained(known: Known, table: str, command: Any) -> None:
    known.checks.pop((table, command.name), None)


def _typed(known: Known, table: str, command: Any) -> None:
    known.types[table, command.name] = command.def_.typeName


def _function(known: Known, node: Any) -> None:
    if not node.replace:
        known.new.add(dotted(node.funcname))


def _relation(known: Known, relation: Any) -> None:
    known.new.add(key(relation))


def _table_as(known: Known, node: Any) -> None:
    _relation(known, node.into.rel)


def _view(known: Known, node: Any) -> None:
    if not node.replace:
        _relation(known, node.view)


def _index(known: Known, node: Any) -> None:
    params = list(node.indexParams or ())
    if node.unique and not node.whereClause and len(params) == 1 and params[0].name:
        known.single_keys.add((key(node.relation), params[0].name))


def _dropped(known: Known, node: Any) -> None:
    """Forget what is dropped: a table made anew after it knows nothing of the old one."""
    if node.removeType != ObjectType.OBJECT_TABLE:
        return
    gone = {dotted(names).removeprefix("public.") for names in node.objects}
    for kept in (known.types, known.checks):
        _forget(kept, gone)


def _forget(kept: dict[tuple[str, str], Any], gone: Iterable[str]) -> None:
    for pair in [pair for pair in kept if pair[0] in gone]:
        del kept[pair]


_LEARNT = {
    ast.CreateStmt: _create,
    ast.CreateTableAsStmt: _table_as,
    ast.ViewStmt: _view,
    ast.CreateFunctionStmt: _function,
    ast.IndexStmt: _index,
    ast.AlterTableStmt: _alter,
    ast.DropStmt: _dropped,
}
_LEARNT_FROM_COMMAND = {
    AlterTableType.AT_AddColumn: lambda known, table, command: _column(known, table, command.def_),
    AlterTableType.AT_AddConstraint: lambda known, table, command: _constraint(known, table, command.def_),
    AlterTableType.AT_ValidateConstraint: _validated,
    AlterTableType.AT_DropConstraint: _unconstrained,
    AlterTableType.AT_AlterColumnType: _typed,
}
