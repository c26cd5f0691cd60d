"""Nodes of PostgreSQL's parser as SQL again: what a safe form is written with."""

from __future__ import annotations

import re
from typing import Any

from pglast import ast
from pglast.enums import DropBehavior
from pglast.keywords import COL_NAME_KEYWORDS, RESERVED_KEYWORDS, TYPE_FUNC_NAME_KEYWORDS
from pglast.stream import RawStream

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_WORDS = frozenset(RESERVED_KEYWORDS) | frozenset(COL_NAME_KEYWORDS) | frozenset(TYPE_FUNC_NAME_KEYWORDS)
_LONGEST = 63


def ident(name: str) -> str:
    """Return a name as SQL has it, quoted where it must be."""
    quoted = '"' + name.replace('"', '""') + '"'
    return name if _PLAIN.fullmatch(name) and name not in _WORDS else quoted


def idents(names: Any) -> str:
    """Return a list of names; of the parser's or of plain ones."""
    return ", ".join(ident(name if isinstance(name, str) else name.sval) for name in names or ())


def dotted(names: Any) -> str:
    """Return a qualified name from its parts."""
    return ".".join(ident(part.sval) for part in names if isinstance(part, ast.String))


def table(relation: Any) -> str:
    """Return a table's name as SQL has it."""
    return ".".join(ident(part) for part in (relation.schemaname, relation.relname) if part)


def beside(relation: Any, name: str) -> str:
    """Return the name of something in a table's schema."""
    return ".".join(ident(part) for part in (relation.schemaname, name) if part)


def key(relation: Any) -> str:
    """Return how a table is remembered: with and without ``public`` it is the same one."""
    schema = relation.schemaname
    return str(relation.relname) if schema in (None, "public") else f"{schema}.{relation.relname}"


def named(*parts: str) -> str:
    """Make a name that PostgreSQL does not cut."""
    text = "_".join(parts)
    return text if len(text) <= _LONGEST else f"{'_'.join(parts[:-1])[: _LONGEST - len(parts[-1]) - 1]}_{parts[-1]}"


def changed(node: Any, **values: Any) -> Any:
    """Return a node with other values, itself left alone."""
    return type(node)(**({name: getattr(node, name) for name in node} | values))


def sql(node: Any, **values: Any) -> str:
    """Return a node as SQL, with other values; '' where it cannot be printed."""
    try:
        return str(RawStream()(changed(node, **values) if values else node)).strip()
    except Exception:  # noqa: BLE001 - the printer does not know every kind of node; then there is no SQL to show
        return ""


def again(node: Any, **values: Any) -> str:
    """Return a whole statement as SQL with its semicolon; a comment where it cannot be printed."""
    text = sql(node, **values)
    return f"{text};" if text else "-- the same statement"


def one_command(statement: Any, command: Any, **values: Any) -> str:
    """Return an ALTER TABLE with one of its commands only, never CASCADE."""
    only = changed(command, behavior=DropBehavior.DROP_RESTRICT, **values)
    return again(statement, cmds=(only,))


def in_contract(text: str) -> str:
    """Say that SQL is to stand in a contract file."""
    return f"-- in contract:\n{text}"


def in_the_next(phase: str, text: str) -> str:
    """Say that SQL is to stand in a later file of a phase."""
    return f"-- in the next {phase} file:\n{text}"
