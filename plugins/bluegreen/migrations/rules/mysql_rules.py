"""What the linter looks for in MySQL and MariaDB, on sqlglot's tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from bluegreen.migrations.ports import Phase
from bluegreen.migrations.rules.history import TABLES

Hits = Iterator[tuple[str, str, str]]


@dataclass
class Seen:
    """
    What is known at a statement.

    :param new: tables that this file made
    :param unchecked: foreign_key_checks is off
    """

    phase: Phase
    new: set[str] = field(default_factory=set)
    unchecked: bool = False


Check = Callable[[Any, Seen], Hits]
_ONLINE = ", ALGORITHM=INPLACE, LOCK=NONE;"
_FILLED = "-- in backfill: the rows that are there"


def _sql(node: exp.Expression) -> str:
    return node.sql(dialect="mysql")


def _contract(text: str) -> str:
    return f"-- in contract:\n{text}"


def _alter(node: exp.Alter, seen: Seen) -> Hits:
    name = _sql(node.this)
    if node.this.name in seen.new:
        return
    for action in node.args.get("actions") or ():
        for kind, check in _ACTIONS.items():
            if isinstance(action, kind):
                yield from check(name, action, seen)
    if any(isinstance(one, (exp.EngineProperty, exp.Order)) for one in node.args.get("options") or ()):
        yield "algorithm-copy", f"builds {name} anew", "-- gh-ost or pt-online-schema-change"


def _column(name: str, column: exp.ColumnDef, _: Seen) -> Hits:
    what = f"adds {name}.{column.name}"
    kinds = [one.args.get("kind") for one in column.constraints]
    plain = f"ALTER TABLE {name} ADD COLUMN {column.this.sql(dialect='mysql')} {_sql(column.args['kind'])}{_ONLINE}"
    defaults = [one.this for one in kinds if isinstance(one, exp.DefaultColumnConstraint)]
    computed = [one for one in kinds if isinstance(one, exp.ComputedColumnConstraint)]
    if any(isinstance(one, exp.AutoIncrementColumnConstraint) for one in kinds):
        yield "add-serial-column", f"{what} AUTO_INCREMENT", f"{plain}\n{_FILLED}"
    elif computed:
        if any(one.args.get("persisted") for one in computed):
            yield "add-generated-column", f"{what}, generated and stored", f"{plain}\n{_FILLED}"
    elif defaults and not _constant(defaults[0]):
        set_default = f"ALTER TABLE {name} ALTER COLUMN {_sql(column.this)} SET DEFAULT ({_sql(defaults[0])});"
        yield "expression-default", f"{what} with an expression as default", f"{plain}\n{set_default}\n{_FILLED}"
    elif _required(kinds) and (not defaults or isinstance(defaults[0], exp.Null)):
        yield "add-required-column", f"{what} NOT NULL without a default", f"{plain}\n{_FILLED}"
    if any(isinstance(one, exp.Reference) for one in kinds):
        yield "add-foreign-key", f"{what} with a foreign key", f"{plain}\n-- in contract: the foreign key"


def _required(kinds: list[Any]) -> bool:
    return any(isinstance(one, exp.NotNullColumnConstraint) and not one.args.get("allow_null") for one in kinds)


def _constant(value: exp.Expression) -> bool:
    inside = value.this if isinstance(value, exp.Neg) else value
    return isinstance(inside, (exp.Literal, exp.Null, exp.Boolean, exp.CurrentTimestamp, exp.HexString, exp.BitString))


def _modify(name: str, action: exp.ModifyColumn, _: Seen) -> Hits:
    old, column = action.args.get("rename_from"), action.this
    if old is not None and old.name != column.name:
        yield from _renamed(name, old.name, column.name, _sql(column.args["kind"]))
    was, new = old.name if old is not None else column.name, f"{column.name}_new"
    add = f"ALTER TABLE {name} ADD COLUMN {new} {_sql(column.args['kind'])}{_ONLINE}"
    drop = _contract(f"ALTER TABLE {name} DROP COLUMN {was};")
    safe = f"-- in expand:\n{add}\n-- in backfill: {was} into {new}, both written\n{drop}"
    yield "alter-column-type", f"changes {name}.{was}", safe


def _rename_column(name: str, action: exp.RenameColumn, _: Seen) -> Hits:
    yield from _renamed(name, action.this.name, action.args["to"].name, "text")


def _renamed(name: str, old: str, new: str, kind: str) -> Hits:
    add = f"ALTER TABLE {name} ADD COLUMN {new} {kind}{_ONLINE}"
    drop = _contract(f"ALTER TABLE {name} DROP COLUMN {old};")
    safe = f"-- in expand, with the type of {old}:\n{add}\n-- in backfill: {old} into {new}, both written\n{drop}"
    yield "rename-column", f"renames {name}.{old} to {new}", safe


def _rename_table(name: str, action: exp.AlterRename, _: Seen) -> Hits:
    new = _sql(action.this)
    safe = f"-- {name} keeps its name\nCREATE VIEW {new} AS SELECT * FROM {name};"  # noqa: S608 - shown, never executed
    yield "rename-table", f"renames table {name} to {new}", safe


def _rename_index(name: str, _: exp.Expression, __: Seen) -> Hits:
    yield "rename-object", f"renames an index of {name}", "-- leave its name: no application sees it"


_OF_TABLE = {"COLUMN": "drop-column", "FOREIGN KEY": "drop-constraint", "CONSTRAINT": "drop-constraint",
             "CHECK": "drop-constraint", "PARTITION": "drop-table"}  # fmt: skip


def _drop_part(name: str, action: exp.Drop, _: Seen) -> Hits:
    kind = str(action.args.get("kind") or "").upper()
    if rule := _OF_TABLE.get(kind):
        parts = ", ".join(_sql(one) for one in action.args.get("tables") or ())
        yield rule, f"drops {kind} {name}.{parts}", _contract(f"ALTER TABLE {name} DROP {kind} {parts};")


def _drop_primary_key(name: str, _: exp.Expression, __: Seen) -> Hits:
    yield "drop-constraint", f"drops the primary key of {name}", _contract(f"ALTER TABLE {name} DROP PRIMARY KEY;")
    yield "algorithm-copy", f"drops the primary key of {name}: the table is copied", "-- gh-ost"


def _alter_column(name: str, action: exp.AlterColumn, _: Seen) -> Hits:
    if action.args.get("drop"):
        column = _sql(action.this)
        safe = _contract(f"ALTER TABLE {name} ALTER COLUMN {column} DROP DEFAULT;")
        yield "drop-default", f"drops the default of {name}.{column}", safe


def _constraint(name: str, action: exp.AddConstraint, seen: Seen) -> Hits:
    made = action.sql(dialect="mysql")
    for one in action.find_all(exp.ForeignKey, exp.UniqueColumnConstraint, exp.PrimaryKey, exp.IndexColumnConstraint):
        if isinstance(one, exp.ForeignKey):
            add = f"SET foreign_key_checks = 0;\nALTER TABLE {name} {made}{_ONLINE}\nSET foreign_key_checks = 1;"
            if not seen.unchecked:
                yield "add-foreign-key", f"adds a foreign key to {name}", _contract(add)
            yield "constraint-on-existing-column", f"adds a foreign key to {name}", _contract(add)
        elif isinstance(one, exp.IndexColumnConstraint):
            if one.args.get("kind") in ("FULLTEXT", "SPATIAL"):
                yield "create-index", f"builds a {one.args['kind']} index on {name}", "-- a new table with it, a copy"
        else:
            safe = _contract(f"ALTER TABLE {name} {made}{_ONLINE}")
            yield "constraint-on-existing-column", f"adds a unique key to {name}", safe


_ACTIONS: Mapping[type, Callable[[str, Any, Seen], Hits]] = {
    exp.ColumnDef: _column,
    exp.ModifyColumn: _modify,
    exp.RenameColumn: _rename_column,
    exp.AlterRename: _rename_table,
    exp.RenameIndex: _rename_index,
    exp.Drop: _drop_part,
    exp.DropPrimaryKey: _drop_primary_key,
    exp.AlterColumn: _alter_column,
    exp.AddConstraint: _constraint,
}
_DROPPED = {"TABLE": "table", "VIEW": "view", "FUNCTION": "function", "PROCEDURE": "function", "TRIGGER": "trigger",
            "SEQUENCE": "sequence", "SCHEMA": "database", "DATABASE": "database"}  # fmt: skip


def _drop(node: exp.Drop, seen: Seen) -> Hits:
    kind = str(node.args.get("kind") or "").upper()
    names = [_sql(one) for one in node.args.get("tables") or ()]
    if kind != "INDEX" and not set(names) <= seen.new:  # InnoDB drops an index without stopping anybody
        yield f"drop-{_DROPPED.get(kind, 'object')}", f"drops {', '.join(names)}", _contract(f"{_sql(node)};")


def _create(node: exp.Create, seen: Seen) -> Hits:
    kind = str(node.args.get("kind") or "").upper()
    if kind == "TABLE" and (table := node.find(exp.Table)):
        seen.new.add(table.name)
    elif kind == "VIEW" and node.args.get("replace"):
        name = _sql(node.this)
        safe = _sql(node).replace("CREATE OR REPLACE", "CREATE", 1).replace(name, f"{name}_v2", 1)
        yield "replace-view", f"replaces {name}", f"{safe};"
    elif kind == "INDEX" and node.args.get("unique"):
        of = node.this.args.get("table")
        if of is not None and of.name not in seen.new:
            yield "constraint-on-existing-column", f"adds a unique key to {_sql(of)}", _contract(f"{_sql(node)};")


def _rows(node: exp.Update | exp.Delete, seen: Seen) -> Hits:
    table = node.find(exp.Table)
    if table is None or table.name in seen.new or table.name in TABLES or _few(node):
        return
    verb = "delete" if isinstance(node, exp.Delete) else "update"
    safe = f"-- in backfill: {verb} {_sql(table)} in batches by its key (NNNN_name.backfill.yaml)"
    yield f"{verb}-not-batched", f"{verb}s {_sql(table)}, as many rows as there are", safe


def _few(node: exp.Expression) -> bool:
    where = node.args.get("where")
    parts = where.this.flatten() if where is not None and isinstance(where.this, exp.And) else [where and where.this]
    return any(
        isinstance(one, (exp.EQ, exp.In)) and one.this.name == "id" and not list(one.find_all(exp.Select))
        for one in parts
    )


def _truncate(node: exp.TruncateTable, _: Seen) -> Hits:
    names = ", ".join(_sql(one) for one in node.expressions)
    yield "truncate", f"empties {names}", f"-- in backfill: delete {names} in batches by its key"


def _revoke(node: exp.Expression, _: Seen) -> Hits:
    yield "revoke", "takes a privilege away", _contract(f"{_sql(node)};")


def _set(node: exp.Set, seen: Seen) -> Hits:
    for item in node.expressions:
        if str(item.args.get("kind") or "").upper() in ("GLOBAL", "PERSIST"):
            yield "server-setting", "sets what is the server's", "-- by hand"
        elif isinstance(item.this, exp.EQ) and item.this.this.name.lower() == "foreign_key_checks":
            seen.unchecked = item.this.expression.name in ("0", "OFF")


CHECKS: Mapping[type, Check] = {
    exp.Alter: _alter,
    exp.Drop: _drop,
    exp.Create: _create,
    exp.Update: _rows,
    exp.Delete: _rows,
    exp.TruncateTable: _truncate,
    exp.Revoke: _revoke,
    exp.Set: _set,
}
