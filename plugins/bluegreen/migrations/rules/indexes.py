"""Indexes, and what else is rebuilt: concurrently, or production waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pglast import ast
from pglast.enums import ConstrType, ReindexObjectType

from bluegreen.migrations.ports import Phase
from bluegreen.migrations.rules.constraints import tightens
from bluegreen.migrations.rules.hit import Hit
from bluegreen.migrations.rules.known import Known
from bluegreen.migrations.rules.sql_text import again, dotted, ident, in_contract, table

_OF = {
    ReindexObjectType.REINDEX_OBJECT_INDEX: "INDEX",
    ReindexObjectType.REINDEX_OBJECT_TABLE: "TABLE",
    ReindexObjectType.REINDEX_OBJECT_SCHEMA: "SCHEMA",
    ReindexObjectType.REINDEX_OBJECT_DATABASE: "DATABASE",
}


def create_index(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge CREATE INDEX; a unique one is a constraint, too."""
    if known.is_new(statement.relation):
        return
    tight = statement.unique and tightens(statement.relation, _unique(statement), known)
    safe = again(statement, concurrent=True)
    safe = in_contract(safe) if tight and known.phase is Phase.EXPAND else safe
    what = f"builds {ident(statement.idxname) if statement.idxname else 'an index'} on {table(statement.relation)}"
    if not statement.concurrent:
        yield Hit("create-index", what, safe)
    if tight:
        yield Hit("constraint-on-existing-column", f"{what}, UNIQUE", safe)


def _unique(statement: Any) -> Any:
    names = tuple(ast.String(sval=one.name) for one in statement.indexParams or () if one.name)
    return ast.Constraint(contype=ConstrType.CONSTR_UNIQUE, keys=names)


def drop_index(statement: Any, _: Known) -> Iterator[Hit]:
    """Judge DROP INDEX."""
    if not statement.concurrent:
        exists = "IF EXISTS " if statement.missing_ok else ""
        names = [dotted(name) for name in statement.objects]
        safe = "\n".join(f"DROP INDEX CONCURRENTLY {exists}{name};" for name in names)
        yield Hit("drop-index", f"drops {', '.join(names)}", safe)


def reindex(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge REINDEX."""
    if any(one.defname == "concurrently" for one in statement.params or ()) or known.is_new(statement.relation):
        return
    name = table(statement.relation) if statement.relation else ident(statement.name or "")
    of = _OF.get(statement.kind)
    safe = f"REINDEX {of} CONCURRENTLY {name};" if of else "-- the indexes of a system are not for a migration"
    yield Hit("reindex", f"builds anew what belongs to {name or 'the database'}", safe)


def refresh(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge REFRESH MATERIALIZED VIEW."""
    if not statement.concurrent and not known.is_new(statement.relation):
        safe = f"REFRESH MATERIALIZED VIEW CONCURRENTLY {table(statement.relation)};"
        yield Hit("refresh-materialized-view", f"refreshes {table(statement.relation)}", safe)


def vacuum(statement: Any, _: Known) -> Iterator[Hit]:
    """Judge VACUUM FULL."""
    options = {one.defname: one.arg for one in statement.options or ()}
    off = getattr(options.get("full"), "sval", "") in ("false", "off")
    if statement.is_vacuumcmd and "full" in options and not off:
        names = ", ".join(table(one.relation) for one in statement.rels or () if one.relation)
        yield Hit("vacuum-full", f"rewrites {names or 'every table'}", f"VACUUM {names}".strip() + ";")


def cluster(statement: Any, known: Known) -> Iterator[Hit]:
    """Judge CLUSTER."""
    if known.is_new(statement.relation):
        return
    name = table(statement.relation) if statement.relation else "every table"
    by = f" --order-by={statement.indexname}" if statement.indexname else ""
    yield Hit("cluster", f"rewrites {name}", f"-- leave it out; or pg_repack --table={name}{by}")
