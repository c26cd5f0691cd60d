"""DROP, RENAME, and what belongs to neither table nor row: views, functions, triggers, privileges, roles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pglast import ast
from pglast.enums import DropBehavior
from pglast.enums import ObjectType as Kind

from bluegreen.migrations.rules.hit import Check, Hit
from bluegreen.migrations.rules.indexes import drop_index
from bluegreen.migrations.rules.known import Known
from bluegreen.migrations.rules.sql_text import again, beside, dotted, ident, in_contract, key, sql, table

_DROPPED = {
    Kind.OBJECT_TABLE: "table",
    Kind.OBJECT_FOREIGN_TABLE: "table",
    Kind.OBJECT_VIEW: "view",
    Kind.OBJECT_MATVIEW: "view",
    Kind.OBJECT_FUNCTION: "function",
    Kind.OBJECT_PROCEDURE: "function",
    Kind.OBJECT_ROUTINE: "function",
    Kind.OBJECT_AGGREGATE: "function",
    Kind.OBJECT_TYPE: "type",
    Kind.OBJECT_DOMAIN: "type",
    Kind.OBJECT_SEQUENCE: "sequence",
    Kind.OBJECT_SCHEMA: "schema",
    Kind.OBJECT_EXTENSION: "extension",
    Kind.OBJECT_POLICY: "policy",
    Kind.OBJECT_TRIGGER: "trigger",
}
# How the dual-write kit calls what it generates: it assigns to the row at hand, and a test holds that both colors can write.
_KIT, _KIT_FUNCTION = "zz_bluegreen_", "bluegreen_sync_"
_MADE_ANEW = "-- in expand: the same under the new name, beside the old one\n-- in contract: drop the old one"


def drop(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge DROP of anything."""
    safe = in_contract(again(statement, behavior=DropBehavior.DROP_RESTRICT))
    what = "drops " + ", ".join(_name(one) for one in statement.objects)
    if statement.behavior == DropBehavior.DROP_CASCADE:
        yield Hit("drop-cascade", f"{what} CASCADE", safe)
    if statement.removeType == Kind.OBJECT_INDEX:
        yield from drop_index(statement, known)
    elif not all(_name(one).removeprefix("public.") in known.new for one in statement.objects):
        yield Hit(f"drop-{_DROPPED.get(statement.removeType, 'object')}", what, safe)


def _name(one: Any) -> str:
    if isinstance(one, tuple):
        return dotted(one)
    if isinstance(one, (ast.ObjectWithArgs, ast.TypeName)):
        return dotted(one.objname if isinstance(one, ast.ObjectWithArgs) else one.names)
    return sql(one)


def not_here(rule: str, fact: str) -> Check:
    """Return the check of a statement that no migration is to have."""

    def check(_: Any, __: Known) -> Iterator[Hit]:
        yield Hit(rule, fact, "-- not in a migration")

    return check


def _drop_in_contract(statement: Any, _: Known) -> Iterator[Hit]:
    yield Hit("drop-object", "drops a part of the database", in_contract(again(statement)))


def rename(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge RENAME of anything."""
    kind, relation, new = statement.renameType, statement.relation, statement.newname
    if kind in (Kind.OBJECT_TABLE, Kind.OBJECT_FOREIGN_TABLE):
        yield Hit("rename-table", f"renames table {table(relation)} to {ident(new)}", _view(relation, new))
    elif kind in (Kind.OBJECT_VIEW, Kind.OBJECT_MATVIEW):
        yield Hit("rename-view", f"renames view {table(relation)} to {ident(new)}", _view(relation, new))
    elif kind in (Kind.OBJECT_COLUMN, Kind.OBJECT_ATTRIBUTE):
        yield from _rename_column(statement, known)
    elif kind == Kind.OBJECT_SCHEMA:
        safe = f"CREATE SCHEMA {ident(new)};\n-- with a view of each table of {ident(statement.subname)}"
        yield Hit("rename-schema", f"renames schema {ident(statement.subname)} to {ident(new)}", safe)
    elif kind in (Kind.OBJECT_ROLE, Kind.OBJECT_DATABASE):
        yield Hit("role-change", f"renames {statement.subname}", "-- by hand, when nobody uses it")
    elif kind == Kind.OBJECT_INDEX:
        safe = "-- leave its name: no application sees it; or build another CONCURRENTLY, and drop this one"
        yield Hit("rename-object", f"renames index {table(relation)}", safe)
    else:
        yield Hit("rename-object", f"gives the name {ident(new or '')} to what has another one", _MADE_ANEW)


def _view(relation: Any, new: str) -> str:
    name = beside(relation, new)
    return f"-- {table(relation)} keeps its name\nCREATE VIEW {name} AS SELECT * FROM {table(relation)};"  # noqa: S608 - shown, never executed


def _rename_column(statement: Any, known: Known) -> Iterator[Hit]:
    relation, old, new = statement.relation, statement.subname, statement.newname
    type_ = known.types.get((key(relation), old))
    add = f"ALTER TABLE {table(relation)} ADD COLUMN {ident(new)} {sql(type_) if type_ else 'text'};"
    add += "" if type_ else f" -- the type of {old}"
    drop_old = in_contract(f"ALTER TABLE {table(relation)} DROP COLUMN {ident(old)};")
    kept = f"-- in backfill: {old} into {new}; the dual-write kit keeps both alike"
    fact = f"renames {table(relation)}.{ident(old)} to {ident(new)}"
    yield Hit("rename-column", fact, f"-- in expand:\n{add}\n{kept}\n{drop_old}")


def enum_value(statement: Any, _: Known) -> Iterator[Hit]:
    """Judge ALTER TYPE … RENAME VALUE; ADD VALUE is fine."""
    if statement.oldVal is None:
        return
    name = dotted(statement.typeName)
    new = statement.newVal.replace("'", "''")
    safe = f"-- in expand:\nALTER TYPE {name} ADD VALUE IF NOT EXISTS '{new}';\n-- in backfill: rows that have the old value"
    yield Hit("rename-enum-value", f"renames a value of {name}", safe)


def set_schema(statement: Any, _: Known) -> Iterator[Hit]:
    """Judge SET SCHEMA."""
    relation, schema = statement.relation, statement.newschema
    if relation is None:
        yield Hit("set-schema", f"moves it to schema {ident(schema)}", _MADE_ANEW)
        return
    view = f"{ident(schema)}.{ident(relation.relname)}"
    safe = f"-- {table(relation)} stays\nCREATE VIEW {view} AS SELECT * FROM {table(relation)};"  # noqa: S608 - shown, never executed
    yield Hit("set-schema", f"moves {table(relation)} to schema {ident(schema)}", safe)


def view(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge CREATE OR REPLACE VIEW."""
    if statement.replace and not known.is_new(statement.view):
        other = type(statement.view)(
            **{name: getattr(statement.view, name) for name in statement.view}
            | {"relname": f"{statement.view.relname}_v2"}
        )
        yield Hit("replace-view", f"replaces {table(statement.view)}", again(statement, view=other, replace=False))


def function(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge CREATE OR REPLACE FUNCTION; a trigger's function is judged with its trigger."""
    name = dotted(statement.funcname)
    trigger = statement.returnType is not None and statement.returnType.names[-1].sval in ("trigger", "event_trigger")
    if statement.replace and name not in known.new and not trigger:
        parts = (*statement.funcname[:-1], ast.String(sval=f"{statement.funcname[-1].sval}_v2"))
        yield Hit("replace-function", f"replaces {name}", again(statement, funcname=parts, replace=False))


def trigger(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge CREATE TRIGGER on a table that exists; those of the dual-write kit are made for both colors."""
    kit = statement.trigname.startswith(_KIT) and dotted(statement.funcname).rpartition(".")[2].startswith(
        _KIT_FUNCTION
    )
    if not known.is_new(statement.relation) and not kit:
        safe = "-- the application does it; to keep two columns alike: the dual-write kit of a backfill"
        yield Hit("create-trigger", f"makes {ident(statement.trigname)} on {table(statement.relation)}", safe)


def rule(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge CREATE RULE on a table that exists."""
    if not known.is_new(statement.relation):
        fact = f"makes {ident(statement.rulename)} on {table(statement.relation)}"
        yield Hit("create-rule", fact, in_contract(again(statement)))


def revoke(statement: Any, _: Known) -> Iterator[Hit]:
    """Judge REVOKE; GRANT is fine."""
    grant = statement.action if isinstance(statement, ast.AlterDefaultPrivilegesStmt) else statement
    if not grant.is_grant:
        safe = in_contract(
            again(statement, behavior=DropBehavior.DROP_RESTRICT) if grant is statement else again(statement)
        )
        yield Hit("revoke", "takes a privilege away", safe)


def policy(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge CREATE POLICY and ALTER POLICY."""
    if not known.is_new(statement.table):
        yield Hit(
            "row-level-security", f"changes who sees rows of {table(statement.table)}", in_contract(again(statement))
        )


def owner(statement: Any, _: Known) -> Iterator[Hit]:
    """Judge OWNER TO of what is no table."""
    yield Hit("change-owner", "changes an owner", in_contract(again(statement)))


def extension(statement: Any, _: Known) -> Iterator[Hit]:
    """Judge ALTER EXTENSION UPDATE: what it executes stands in the extension."""
    safe = "-- look at what the update does, then accept it with a reason"
    yield Hit("not-readable", f"updates extension {ident(statement.extname)}", safe)


_ROLE = not_here("role-change", "changes a role")
_SERVER = not_here("server-setting", "sets what is not of the schema")

CHECKS: dict[type, Check] = {
    ast.DropStmt: drop,
    ast.DropdbStmt: not_here("drop-database", "drops a database"),
    ast.DropOwnedStmt: not_here("drop-database", "drops all that a role owns"),
    ast.DropSubscriptionStmt: _drop_in_contract,
    ast.DropUserMappingStmt: _drop_in_contract,
    ast.DropTableSpaceStmt: _SERVER,
    ast.RenameStmt: rename,
    ast.AlterEnumStmt: enum_value,
    ast.AlterObjectSchemaStmt: set_schema,
    ast.ViewStmt: view,
    ast.CreateFunctionStmt: function,
    ast.CreateTrigStmt: trigger,
    ast.RuleStmt: rule,
    ast.GrantStmt: revoke,
    ast.AlterDefaultPrivilegesStmt: revoke,
    ast.CreatePolicyStmt: policy,
    ast.AlterPolicyStmt: policy,
    ast.AlterOwnerStmt: owner,
    ast.ReassignOwnedStmt: owner,
    ast.AlterExtensionStmt: extension,
    **dict.fromkeys(
        (ast.CreateRoleStmt, ast.AlterRoleStmt, ast.AlterRoleSetStmt, ast.DropRoleStmt, ast.GrantRoleStmt), _ROLE
    ),
    **dict.fromkeys(
        (ast.AlterSystemStmt, ast.AlterDatabaseStmt, ast.AlterDatabaseSetStmt, ast.CreatedbStmt, ast.CreateTableSpaceStmt),
        _SERVER,
    ),
}  # fmt: skip
