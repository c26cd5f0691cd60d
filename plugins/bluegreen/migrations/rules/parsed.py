"""SQL text as statements: PostgreSQL's own parser says where each begins, and what it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pglast import ast, parse_sql, split
from pglast.parser import ParseError

from bluegreen.core.masks import masked
from bluegreen.migrations.rules.shown import ANY_LITERAL, first_line, without_passwords


@dataclass(frozen=True)
class Statement:
    """
    One statement.

    :param node: as PostgreSQL's parser has it; None where it is none
    :param text: as it was written
    :param start: index of its first character in the file
    :param line: its first line, from 1
    :param broken: what the parser says where it is no statement
    """

    node: Any
    text: str
    start: int
    line: int
    broken: str = ""

    @property
    def shown(self) -> str:
        """Its first line, without passwords; of one that nobody could read no literal at all."""
        text = ANY_LITERAL.sub("'***'", self.text) if self.broken else without_passwords(self.text)
        return first_line(text)


def statements(sql: str) -> list[Statement]:
    """Return the statements of a file in their order; those that PostgreSQL does not take too."""
    if (hidden := sql.find("\0")) >= 0:  # the parser would read no further, and say nothing
        return [_broken(sql, slice(hidden, hidden), "a zero byte stands in it")]
    try:
        return _parsed(sql, 0, sql)
    except (ParseError, UnicodeError, RecursionError) as error:
        said = _said(error)
    try:
        pieces = split(sql, with_parser=False, only_slices=True)
    except (ParseError, UnicodeError):
        return [_broken(sql, slice(0, len(sql)), said)]
    found = [one for piece in pieces for one in _piece(sql, piece)]
    # The scanner leaves out a piece in which it sees no word.
    return found if any(one.broken for one in found) else [*found, _broken(sql, slice(0, len(sql)), said)]


def _piece(sql: str, piece: slice) -> list[Statement]:
    try:
        return _parsed(sql[piece], piece.start, sql)
    except (ParseError, UnicodeError, RecursionError) as error:
        return [_broken(sql, piece, _said(error))]


def _parsed(text: str, offset: int, whole: str) -> list[Statement]:
    found = []
    for raw in parse_sql(text):
        start = raw.stmt_location or 0
        end = start + raw.stmt_len if raw.stmt_len else len(text)
        found.append(Statement(raw.stmt, text[start:end], offset + start, _line(whole, offset + start)))
    return found


def _broken(sql: str, piece: slice, said: str) -> Statement:
    text = sql[piece].encode(errors="replace").decode()
    return Statement(None, text, piece.start, _line(sql, piece.start), said)


def _line(sql: str, index: int) -> int:
    return sql.count("\n", 0, index) + 1


def _said(error: Exception) -> str:
    if isinstance(error, ParseError):
        # It quotes what it could not read, which may be a password.
        return masked(ANY_LITERAL.sub(lambda found: f'"{_plain(found[0])}"', str(error.args[0])))
    return "it is nested too deep to be read" if isinstance(error, RecursionError) else "it is no UTF-8 text"


def _plain(quoted: str) -> str:
    """Keep a word that is quoted by the message; hide what is a literal itself."""
    inside = quoted[1:-1]
    return inside if quoted.startswith('"') and re.fullmatch(r"\w+|\W", inside) and not inside.isdigit() else "***"


def walk(node: Any) -> Iterator[Any]:
    """Yield a node and all below it."""
    stack = [node]
    while stack:
        one = stack.pop()
        if isinstance(one, (tuple, list)):
            stack.extend(one)
        elif isinstance(one, ast.Node):
            yield one
            stack.extend(getattr(one, name) for name in one)
