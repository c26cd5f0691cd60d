"""ADD CONSTRAINT and what belongs to it: which lock it takes, and whether the old color's writes fulfil it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pglast import ast
from pglast.enums import ConstrType, NullTestType

from bluegreen.migrations.ports import Phase
from bluegreen.migrations.rules.hit import Hit
from bluegreen.migrations.rules.known import Known, columns_in
from bluegreen.migrations.rules.parsed import walk
from bluegreen.migrations.rules.sql_text import (
    again,
    beside,
    changed,
    ident,
    idents,
    in_contract,
    in_the_next,
    key,
    named,
    sql,
    table,
)

_KIND = {
    ConstrType.CONSTR_CHECK: ("add-check", "check", "CHECK"),
    ConstrType.CONSTR_FOREIGN: ("add-foreign-key", "fkey", "a foreign key"),
    ConstrType.CONSTR_UNIQUE: ("add-unique", "key", "UNIQUE"),
    ConstrType.CONSTR_PRIMARY: ("add-primary-key", "pkey", "PRIMARY KEY"),
    ConstrType.CONSTR_EXCLUSION: ("add-exclude", "excl", "EXCLUDE"),
}
_INDEXED = (ConstrType.CONSTR_UNIQUE, ConstrType.CONSTR_PRIMARY)


def added(statement: Any, constraint: Any, known: Known) -> Iterator[Hit]:
    """Judge a constraint that is added to a table, of its own or with a column."""
    relation = statement.relation
    if constraint.contype == ConstrType.CONSTR_NOTNULL:
        column = constraint.keys[0].sval if constraint.keys else ""
        yield from set_not_null(relation, column, known)
        return
    if constraint.contype not in _KIND:
        return
    rule, suffix, says = _KIND[constraint.contype]
    new = known.is_new(relation)
    if (new and constraint.contype != ConstrType.CONSTR_FOREIGN) or constraint.indexname:
        return
    tight = not new and tightens(relation, constraint, known)
    name = constraint.conname or named(relation.relname, *sorted(_columns(constraint)), suffix)
    phase = Phase.CONTRACT if tight and known.phase is Phase.EXPAND else known.phase
    safe = _SAFE[constraint.contype](relation, changed(constraint, conname=name), phase)
    safe = in_contract(safe) if phase is not known.phase else safe
    fact = f"adds {says} to {table(relation)}"
    if not constraint.skip_validation:
        yield Hit(rule, fact, safe)
    if tight:
        yield Hit("constraint-on-existing-column", fact, safe)


def _columns(constraint: Any) -> set[str]:
    names = [*(constraint.keys or ()), *(constraint.fk_attrs or ())]
    return {name.sval for name in names} | columns_in(constraint.raw_expr)


def tightens(relation: Any, constraint: Any, known: Known) -> bool:
    """Tell whether writes of a color that does not know a constraint may fail by it."""
    columns = _columns(constraint)
    new = {column for column in columns if (key(relation), column) in known.new_columns}
    if constraint.contype == ConstrType.CONSTR_CHECK:
        return new != columns or _asks_for_a_value(constraint.raw_expr)
    # What the old color does not write is NULL, and NULL refers to nothing and equals nothing.
    return not new or constraint.contype == ConstrType.CONSTR_PRIMARY


def _asks_for_a_value(expression: Any) -> bool:
    return any(
        isinstance(one, (ast.FuncCall, ast.CoalesceExpr))
        or (isinstance(one, ast.NullTest) and one.nulltesttype == NullTestType.IS_NOT_NULL)
        for one in walk(expression)
    )


def _not_valid(relation: Any, constraint: Any, phase: Phase) -> str:
    made = sql(constraint, skip_validation=True, initially_valid=False)
    add = f"ALTER TABLE {table(relation)} ADD {made};"
    return f"{add}\n{in_the_next(phase, validate(relation, constraint.conname))}"


def validate(relation: Any, name: str) -> str:
    """Return the statement that validates a constraint."""
    return f"ALTER TABLE {table(relation)} VALIDATE CONSTRAINT {ident(name)};"


def _using_index(relation: Any, constraint: Any, _: Phase) -> str:
    kind = "PRIMARY KEY" if constraint.contype == ConstrType.CONSTR_PRIMARY else "UNIQUE"
    name, on = ident(constraint.conname), table(relation)
    index = f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {on} ({idents(constraint.keys)});"
    return f"{index}\nALTER TABLE {on} ADD CONSTRAINT {name} {kind} USING INDEX {name};"


def _another_table(relation: Any, constraint: Any, _: Phase) -> str:
    new = beside(relation, named(relation.relname, "new"))
    made = f"CREATE TABLE {new} (LIKE {table(relation)} INCLUDING ALL, {sql(constraint)});"
    return f"{made}\n-- in backfill: rows into it; both tables are written until contract drops the old one"


_SAFE: dict[ConstrType, Callable[[Any, Any, Phase], str]] = {
    ConstrType.CONSTR_CHECK: _not_valid,
    ConstrType.CONSTR_FOREIGN: _not_valid,
    ConstrType.CONSTR_UNIQUE: _using_index,
    ConstrType.CONSTR_PRIMARY: _using_index,
    ConstrType.CONSTR_EXCLUSION: _another_table,
}


def validated(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
    """Judge VALIDATE CONSTRAINT."""
    check = known.checks.get((key(statement.relation), command.name))
    if check and check.file == known.file and not check.valid and not known.is_new(statement.relation):
        fact = f"validates {command.name} in the file that adds it"
        yield Hit("validate-in-same-file", fact, in_the_next(known.phase, validate(statement.relation, command.name)))


def set_not_null(relation: Any, column: str, known: Known) -> Iterator[Hit]:
    """Judge SET NOT NULL: after a valid CHECK it neither reads the table nor asks more of anybody."""
    if known.is_new(relation) or known.never_null(key(relation), column):
        return
    yield Hit("set-not-null", f"sets {table(relation)}.{column} NOT NULL", in_contract(not_null(relation, column)))


def not_null(relation: Any, column: str) -> str:
    """Return the way to NOT NULL that stops nobody, in two contract files."""
    name = named(relation.relname, column, "not_null")
    alter, quoted = f"ALTER TABLE {table(relation)}", ident(column)
    after = "\n".join(
        [
            validate(relation, name),
            f"{alter} ALTER COLUMN {quoted} SET NOT NULL;",
            f"{alter} DROP CONSTRAINT {ident(name)};",
        ]
    )
    add = f"{alter} ADD CONSTRAINT {ident(name)} CHECK ({quoted} IS NOT NULL) NOT VALID;"
    return f"{add}\n{in_the_next('contract', after)}"


def domain(statement: Any, _: Known) -> Iterator[Hit]:
    """Judge ALTER DOMAIN, which is about every column of the domain."""
    name = idents(statement.typeName)
    only = again(statement, behavior=type(statement.behavior)(0))
    if statement.subtype == "C":
        constraint = statement.def_
        label = constraint.conname or named(statement.typeName[-1].sval, "check")
        check = sql(changed(constraint, conname=label, skip_validation=True))
        later = in_the_next(Phase.CONTRACT, f"ALTER DOMAIN {name} VALIDATE CONSTRAINT {ident(label)};")
        safe = in_contract(f"ALTER DOMAIN {name} ADD {check};\n{later}")
        if not constraint.skip_validation:
            yield Hit("add-check", f"adds CHECK to domain {name}", safe)
        yield Hit("constraint-on-existing-column", f"adds CHECK to domain {name}", safe)
    elif statement.subtype == "O":
        yield Hit("set-not-null", f"sets domain {name} NOT NULL", "-- a CHECK on each table that has a column of it")
    elif statement.subtype in ("X", "N", "T"):
        rule = {"X": "drop-constraint", "N": "drop-not-null", "T": "drop-default"}[statement.subtype]
        if statement.subtype != "T" or statement.def_ is None:
            yield Hit(rule, f"{rule.replace('-', 's ', 1)} of domain {name}", in_contract(only))
