"""The pass over MySQL's and MariaDB's SQL, by sqlglot: what it cannot read is not valid, with its text."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType  # type: ignore[attr-defined]

from bluegreen.migrations.ports import Migration, Phase
from bluegreen.migrations.rules.mysql_commands import command
from bluegreen.migrations.rules.mysql_rules import CHECKS, Hits, Seen
from bluegreen.migrations.rules.shown import ANY_LITERAL, first_line, without_passwords

# sqlglot says on its log what it takes as a mere command; that is a finding here, or none.
logging.getLogger("sqlglot").setLevel(logging.ERROR)
_CLAUSE = re.compile(
    r"(?i)[,\s]\s*(ALGORITHM|LOCK)\s*=?\s*(DEFAULT|COPY|INPLACE|INSTANT|NOCOPY|NONE|SHARED|EXCLUSIVE)\b"
)
Judged = tuple[Migration, int, str, Sequence[tuple[str, str, str]]]


def judge(migrations: Sequence[Migration], before: Sequence[Migration] = ()) -> Iterator[Judged]:
    """
    Judge every statement: migration, line, first line, and rule, fact and safe form of each hit.

    :param before: applied already; nothing of it is needed yet
    """
    del before
    for migration in migrations:
        if migration.phase is not Phase.BACKFILL:
            yield from _file(migration)


def _file(migration: Migration) -> Iterator[Judged]:
    seen = Seen(migration.phase)
    try:
        pieces = list(_pieces(migration.sql))
    except (SqlglotError, RecursionError):
        yield migration, 1, _hidden(migration.sql), [("syntax-error", "cannot be read", "-- what MySQL takes")]
        return
    for line, text in pieces:
        hits, readable = _statement(text, seen)
        yield migration, line, first_line(without_passwords(text)) if readable else _hidden(text), hits


def _hidden(text: str) -> str:
    return first_line(ANY_LITERAL.sub("'***'", text))


def _pieces(sql: str) -> Iterator[tuple[int, str]]:
    tokens = sqlglot.tokenize(sql, read="mysql")
    begun = None
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            if begun:
                yield sql.count("\n", 0, begun.start) + 1, sql[begun.start : token.start]
            begun = None
        else:
            begun = begun or token
    if begun:
        yield sql.count("\n", 0, begun.start) + 1, sql[begun.start :].rstrip()


def _statement(text: str, seen: Seen) -> tuple[list[tuple[str, str, str]], bool]:
    """Return the hits, and whether it could be read and has no password."""
    clauses = [(name.upper(), value.upper()) for name, value in _CLAUSE.findall(text)]
    bare = _CLAUSE.sub("", text)
    hits = list(_clauses(clauses, bare))
    try:
        node = sqlglot.parse_one(bare, read="mysql")
    except (SqlglotError, RecursionError):
        known = [one for one in command(bare, seen) if one[0] != "not-readable"]
        return [*hits, *(known or [("syntax-error", "cannot be read", "-- what MySQL takes")])], False
    if isinstance(node, exp.Command):
        said = list(command(bare, seen))
        return [*hits, *said], not {"not-readable", "role-change"} & {rule for rule, _, _ in said}
    return [*hits, *_checked(node, seen)], True


def _clauses(clauses: Sequence[tuple[str, str]], bare: str) -> Iterator[tuple[str, str, str]]:
    comma = "," if bare.lstrip()[:5].upper() == "ALTER" else ""
    safe = f"{bare}{comma} ALGORITHM=INPLACE{comma} LOCK=NONE;"
    for name, value in clauses:
        if value == "COPY":
            yield "algorithm-copy", "asks for ALGORITHM=COPY", safe
        elif name == "LOCK" and value in ("SHARED", "EXCLUSIVE"):
            yield "lock-clause", f"asks for LOCK={value}", safe


def _checked(node: object, seen: Seen) -> Hits:
    for kind, check in CHECKS.items():
        if isinstance(node, kind):
            yield from check(node, seen)
