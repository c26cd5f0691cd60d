"""ALTER TABLE, command by command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pglast.enums import AlterTableType as At
from pglast.enums import DropBehavior, ObjectType

from bluegreen.migrations.rules import columns, constraints
from bluegreen.migrations.rules.hit import Hit
from bluegreen.migrations.rules.known import Known
from bluegreen.migrations.rules.sql_text import beside, ident, in_contract, named, one_command, sql, table

Command = Callable[[Any, Any, Known], Iterator[Hit]]


def alter_table(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge each command of an ALTER TABLE, ALTER INDEX, ALTER VIEW or ALTER TYPE."""
    for command in statement.cmds or ():
        if statement.objtype == ObjectType.OBJECT_TYPE:
            yield from _attribute(statement)
            continue
        check = _COMMANDS.get(command.subtype)
        if check:
            yield from check(statement, command, known)
        if command.behavior == DropBehavior.DROP_CASCADE:
            safe = in_contract(one_command(statement, command))
            yield Hit("drop-cascade", f"{ident(command.name or '')} of {table(statement.relation)}, CASCADE", safe)


def _attribute(statement: Any) -> Iterator[Hit]:
    name = named(statement.relation.relname, "new")
    safe = f"-- CREATE TYPE {beside(statement.relation, name)} AS (…), and a column of it"
    yield Hit("alter-composite-type", f"changes type {table(statement.relation)}", safe)


def _drop_column(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
    yield from columns.lowered("drop-column", "drops the column")(statement, command, known)


def _set_not_null(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
    yield from constraints.set_not_null(statement.relation, command.name, known)


def _add_constraint(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
    yield from constraints.added(statement, command.def_, known)


def _detach(statement: Any, command: Any, _: Known) -> Iterator[Hit]:
    part = command.def_
    if not part.concurrent:
        safe = f"ALTER TABLE {table(statement.relation)} DETACH PARTITION {table(part.name)} CONCURRENTLY;"
        yield Hit("detach-partition", f"detaches {table(part.name)} from {table(statement.relation)}", safe)


def _attach(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
    part = command.def_
    if part.bound is None or known.is_new(part.name) or _bounded(known, part.name):
        return
    parent, name = table(statement.relation), table(part.name)
    of = known.partition_keys.get(statement.relation.relname) or ("partition_key",)
    check = f"CHECK ({_bounds(part.bound, ident(of[0]))})"
    made = f"CREATE TABLE {name} (LIKE {parent} INCLUDING ALL, CONSTRAINT {ident(named(part.name.relname, 'bounds'))} {check});"
    yield Hit("attach-partition", f"attaches {name} to {parent}", f"{made}\n{one_command(statement, command)}")


def _bounded(known: Known, relation: Any) -> bool:
    return any(of == relation.relname and check.valid for (of, _), check in known.checks.items())


def _bounds(bound: Any, column: str) -> str:
    """Return a partition's bounds as a condition, of its first column."""
    if bound.strategy == "l" and bound.listdatums:
        return f"{column} IN ({', '.join(map(sql, bound.listdatums))})"
    if bound.strategy == "r" and bound.lowerdatums and bound.upperdatums:
        least, most = sql(bound.lowerdatums[0]), sql(bound.upperdatums[0])
        return f"{column} >= {least} AND {column} < {most}"
    return f"{column} IS NOT NULL"


def _rewritten(rule: str, says: str) -> Command:
    def check(statement: Any, _: Any, known: Known) -> Iterator[Hit]:
        if known.is_new(statement.relation):
            return
        relation = statement.relation
        new = beside(relation, named(relation.relname, "new"))
        safe = f"CREATE TABLE {new} (LIKE {table(relation)} INCLUDING ALL);\n-- in backfill: rows into it, both written"
        yield Hit(rule, f"{says} {table(relation)}", safe)

    return check


def _tablespace(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
    space, relation = ident(command.name), statement.relation
    if known.is_new(relation):
        return
    if statement.objtype == ObjectType.OBJECT_INDEX:
        safe = f"REINDEX (TABLESPACE {space}) INDEX CONCURRENTLY {table(relation)};"
    else:
        safe = f"-- pg_repack --table={table(relation)} --tablespace={space}"
    yield Hit("set-tablespace", f"moves {table(relation)} to tablespace {space}", safe)


def _of_table(rule: str, says: str, *, contract: bool = True) -> Command:
    """Return the check of a command that is about the whole table, and safe in contract or nowhere."""

    def check(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
        if known.is_new(statement.relation):
            return
        safe = in_contract(one_command(statement, command)) if contract else "-- leave it as it is"
        yield Hit(rule, f"{says} {table(statement.relation)}", safe)

    return check


def _disable(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
    if known.is_new(statement.relation):
        return
    name, on = command.name, table(statement.relation)
    dropped = f"DROP TRIGGER {ident(name)} ON {on};" if name else "-- drop what is not wanted any more, one by one"
    yield Hit("disable-trigger", f"disables {name or 'every trigger'} of {on}", in_contract(dropped))


def _replica_identity(statement: Any, command: Any, known: Known) -> Iterator[Hit]:
    if command.def_.identity_type == "n" and not known.is_new(statement.relation):
        safe = f"ALTER TABLE {table(statement.relation)} REPLICA IDENTITY DEFAULT;"
        yield Hit("replica-identity", f"sets {table(statement.relation)} REPLICA IDENTITY NOTHING", safe)


_ENABLE = (At.AT_EnableTrig, At.AT_EnableAlwaysTrig, At.AT_EnableReplicaTrig, At.AT_EnableTrigAll, At.AT_EnableTrigUser,
           At.AT_EnableRule, At.AT_EnableAlwaysRule, At.AT_EnableReplicaRule)  # fmt: skip
_DISABLE = (At.AT_DisableTrig, At.AT_DisableTrigAll, At.AT_DisableTrigUser, At.AT_DisableRule)
_SECURITY = (At.AT_EnableRowSecurity, At.AT_DisableRowSecurity, At.AT_ForceRowSecurity, At.AT_NoForceRowSecurity)

_COMMANDS: dict[At, Command] = {
    At.AT_AddColumn: columns.add,
    At.AT_DropColumn: _drop_column,
    At.AT_AlterColumnType: columns.alter_type,
    At.AT_ColumnDefault: columns.default,
    At.AT_SetNotNull: _set_not_null,
    At.AT_DropNotNull: columns.lowered("drop-not-null", "drops NOT NULL of"),
    At.AT_DropExpression: columns.lowered("drop-expression", "drops the expression of"),
    At.AT_SetExpression: _rewritten("add-generated-column", "generates anew a column of"),
    At.AT_AddIdentity: columns.identity,
    At.AT_SetIdentity: columns.identity,
    At.AT_DropIdentity: columns.lowered("alter-identity", "drops the identity of"),
    At.AT_AddConstraint: _add_constraint,
    At.AT_ValidateConstraint: constraints.validated,
    At.AT_DropConstraint: columns.lowered("drop-constraint", "drops the constraint"),
    At.AT_AttachPartition: _attach,
    At.AT_DetachPartition: _detach,
    At.AT_DropInherit: _of_table("detach-inheritance", "takes its parent from"),
    At.AT_SetLogged: _rewritten("set-logged", "sets LOGGED"),
    At.AT_SetUnLogged: _rewritten("set-logged", "sets UNLOGGED"),
    At.AT_SetAccessMethod: _rewritten("set-access-method", "sets the access method of"),
    At.AT_SetTableSpace: _tablespace,
    At.AT_ChangeOwner: _of_table("change-owner", "changes the owner of"),
    At.AT_ReplicaIdentity: _replica_identity,
    **dict.fromkeys(_ENABLE, _of_table("enable-trigger", "enables a trigger or rule of")),
    **dict.fromkeys(_DISABLE, _disable),
    **dict.fromkeys(_SECURITY, _of_table("row-level-security", "changes row level security of")),
}
