"""ADD COLUMN and ALTER COLUMN: what rewrites a table, and what a color cannot live with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pglast import ast
from pglast.enums import ConstrType

from bluegreen.migrations.rules.constraints import added, not_null
from bluegreen.migrations.rules.hit import Hit
from bluegreen.migrations.rules.known import Known
from bluegreen.migrations.rules.parsed import walk
from bluegreen.migrations.rules.sql_text import (
    beside,
    changed,
    ident,
    in_contract,
    key,
    named,
    one_command,
    sql,
    table,
)

_SERIAL = {
    "serial": "integer", "serial4": "integer", "bigserial": "bigint", "serial8": "bigint",
    "smallserial": "smallint", "serial2": "smallint",
}  # fmt: skip
# Whose value is one for all rows: PostgreSQL keeps it in the catalog. What is not here may be volatile.
_NOT_VOLATILE = frozenset(
    [
        "now",
        "transaction_timestamp",
        "statement_timestamp",
        "timezone",
        "date_trunc",
        "date_part",
        "to_timestamp",
        "to_char",
        "make_interval",
        "make_date",
        "lower",
        "upper",
        "md5",
        "length",
        "abs",
        "round",
        "json_build_object",
        "jsonb_build_object",
        "json_build_array",
        "jsonb_build_array",
        "array_fill",
        "current_setting",
        "int4range",
        "int8range",
        "numrange",
        "tsrange",
        "tstzrange",
        "daterange",
    ]
)
_FILLED = "-- in backfill: the rows that are there"


def add(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
    """Judge ADD COLUMN to a table that exists."""
    if known.is_new(statement.relation):
        return
    column = command.def_
    known.new_columns.add((key(statement.relation), column.colname))
    yield from _value(statement, command)
    if _type(column) == "json":
        jsonb = changed(column.typeName, names=(ast.String(sval="jsonb"),))
        safe = one_command(statement, command, def_=changed(column, typeName=jsonb))
        yield Hit("json-column", f"adds {table(statement.relation)}.{column.colname} as json", safe)
    for constraint in column.constraints or ():
        of_column = _of_column(column, constraint)
        if of_column is not None:
            yield from _with_column(statement, column, added(statement, of_column, known))


def _of_column(column: Any, constraint: Any) -> Any:
    """Return a column's constraint as one of its table; None for what is none."""
    here = (ast.String(sval=column.colname),)
    if constraint.contype == ConstrType.CONSTR_FOREIGN:
        return changed(constraint, fk_attrs=here)
    if constraint.contype in (ConstrType.CONSTR_UNIQUE, ConstrType.CONSTR_PRIMARY):
        return changed(constraint, keys=here)
    return constraint if constraint.contype == ConstrType.CONSTR_CHECK else None


def _with_column(statement: Any, column: Any, hits: Iterator[Hit]) -> Iterator[Hit]:
    """Put the column itself before what is to be written for its constraint."""
    for hit in hits:
        first = f"{_plain(statement.relation, column)}\n"
        first += f"{_FILLED}\n" if hit.safe.startswith("-- in contract:") else ""
        yield Hit(hit.rule, hit.fact, first + hit.safe)


def _value(statement: Any, command: Any) -> Iterator[Hit]:
    """Judge what stands in a new column of the rows that are there."""
    relation, column = statement.relation, command.def_
    what = f"adds {table(relation)}.{column.colname}"
    kinds = {one.contype: one for one in column.constraints or ()}
    default = kinds.get(ConstrType.CONSTR_DEFAULT)
    generated = kinds.get(ConstrType.CONSTR_GENERATED)
    if _type(column) in _SERIAL or ConstrType.CONSTR_IDENTITY in kinds:
        yield Hit("add-serial-column", f"{what} with a number for each row", _sequence(relation, column))
    elif generated is not None:
        if generated.generated_kind != "v":
            yield Hit(
                "add-generated-column",
                f"{what}, generated and stored",
                f"{_plain(relation, column)}\n-- both versions' writes fill it, by the dual-write kit\n{_FILLED}",
            )
    elif default is not None and volatile(default.raw_expr):
        safe = f"{_plain(relation, column)}\n{_set_default(relation, column, sql(default.raw_expr))}\n{_FILLED}"
        yield Hit("add-column-volatile-default", f"{what} with another default for each row", safe)
    elif ConstrType.CONSTR_NOTNULL in kinds and (default is None or _null(default.raw_expr)):
        safe = f"{_plain(relation, column)}\n{_FILLED}\n{in_contract(not_null(relation, column.colname))}"
        yield Hit("add-required-column", f"{what} NOT NULL without a default", safe)


def _plain(relation: Any, column: Any) -> str:
    kind = _SERIAL.get(_type(column)) or sql(column.typeName)
    return f"ALTER TABLE {table(relation)} ADD COLUMN {ident(column.colname)} {kind};"


def _set_default(relation: Any, column: Any, value: str) -> str:
    return f"ALTER TABLE {table(relation)} ALTER COLUMN {ident(column.colname)} SET DEFAULT {value};"


def _sequence(relation: Any, column: Any) -> str:
    name = beside(relation, named(relation.relname, column.colname, "seq"))
    drawn = f"nextval('{name}')"
    owned = f"ALTER SEQUENCE {name} OWNED BY {table(relation)}.{ident(column.colname)};"
    default = _set_default(relation, column, drawn)
    return f"CREATE SEQUENCE {name};\n{_plain(relation, column)}\n{default}\n{owned}\n{_FILLED}"


def _type(column: Any) -> str:
    return type_name(column.typeName) if column.typeName else ""


def type_name(type_: Any) -> str:
    """Return a type's name without schema and length; an array's with brackets."""
    return str(type_.names[-1].sval) + ("[]" if type_.arrayBounds else "")


def _null(value: Any) -> bool:
    return isinstance(value, ast.A_Const) and bool(value.isnull)


def volatile(value: Any) -> bool:
    """Tell whether a default may be another one for each row."""
    return any(isinstance(one, ast.FuncCall) and one.funcname[-1].sval not in _NOT_VOLATILE for one in walk(value))


def alter_type(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
    """Judge ALTER COLUMN TYPE; some are only wider, and change the catalog alone."""
    relation, name = statement.relation, command.name
    of = command.def_
    if known.is_new(relation):
        return
    old = known.types.get((key(relation), name))
    if old is not None and of.raw_default is None and only_wider(old, of.typeName):
        return
    new = named(name, "new")
    add_new = f"ALTER TABLE {table(relation)} ADD COLUMN {ident(new)} {sql(of.typeName)};"
    drop = f"ALTER TABLE {table(relation)} DROP COLUMN {ident(name)};"
    safe = f"-- in expand:\n{add_new}\n-- in backfill: {name} into {new}; the dual-write kit keeps both alike"
    yield Hit("alter-column-type", f"changes the type of {table(relation)}.{name}", f"{safe}\n{in_contract(drop)}")


def only_wider(old: Any, new: Any) -> bool:
    """Tell whether every value of a type is one of another, stored alike."""
    was, becomes = type_name(old), type_name(new)
    sizes, wanted = _sizes(old), _sizes(new)
    if becomes == "text":
        return was in ("varchar", "text")
    if (was, becomes) in {("cidr", "inet"), ("text", "varchar")}:
        return not wanted
    if was != becomes:
        return False
    if was in ("varchar", "varbit"):
        return not wanted or (bool(sizes) and wanted >= sizes)
    if was == "numeric":
        same_scale = [*sizes, 0][1:2] == [*wanted, 0][1:2]
        return not wanted or (bool(sizes) and wanted[0] >= sizes[0] and same_scale)
    return sql(old) == sql(new)


def _sizes(type_: Any) -> list[int]:
    return [one.val.ival for one in type_.typmods or () if isinstance(getattr(one, "val", None), ast.Integer)]


def lowered(rule: str, says: str) -> Any:
    """Return the check of a command that weakens a column or takes something from it: fine in contract."""

    def check(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
        if not known.is_new(statement.relation):
            fact = f"{says} {table(statement.relation)}.{command.name}"
            yield Hit(rule, fact, in_contract(one_command(statement, command)))

    return check


def default(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
    """Judge SET DEFAULT and DROP DEFAULT: only the second one takes something from anybody."""
    if command.def_ is None:
        yield from lowered("drop-default", "drops the default of")(statement, command, known)


def identity(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
    """Judge what is done to an identity: ALWAYS refuses values of one's own."""
    options = command.def_ if isinstance(command.def_, tuple) else ()
    always = any(one.defname == "generated" and chr(one.arg.ival) == "a" for one in options)
    moves = any(one.defname != "generated" for one in options)
    if getattr(command.def_, "generated_when", "") == "a" or always:
        safe = in_contract(one_command(statement, command))
        yield from _unless_new(
            Hit("alter-identity", f"{_of(statement, command)} GENERATED ALWAYS", safe), statement, known
        )
    if moves:
        hit = Hit("alter-sequence", f"{_of(statement, command)}: other numbers", "-- leave its numbers as they are")
        yield from _unless_new(hit, statement, known)


def _of(statement: Any, command: Any) -> str:
    return f"makes {table(statement.relation)}.{command.name}"


def _unless_new(hit: Hit, statement: Any, known: Known) -> Iterator[Hit]:
    if not known.is_new(statement.relation):
        yield hit
