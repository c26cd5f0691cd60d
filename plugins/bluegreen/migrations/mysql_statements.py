"""
A file of MySQL's statements, cut as the mysql client cuts it: at its delimiter, but not in a text, a name or a comment.

Each statement that is not about rows commits by itself there, whatever stands before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn

from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations.statements import Class, Statement

_PIECE = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`[^`]*`"
    r"|(?:--(?=\s)|\#)[^\n]*|/\*(?!!|M!).*?\*/"
    r"|(?P<delimiter>^[ \t]*DELIMITER[ \t]+(?P<mark>\S+)[^\n]*)"
    r"|(?P<open>['\"`]|/\*(?!!|M!))",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_COMMENTS = re.compile(r"\A(?:\s+|(?:--(?=\s)|#)[^\n]*(?:\n|\Z)|/\*(?!!|M!).*?\*/)+", re.DOTALL)
_ROWS = re.compile(r"(?:INSERT|UPDATE|DELETE|REPLACE|SELECT|WITH|DO)\b", re.IGNORECASE)
_SET = re.compile(r"(?:SET\s+(?!PASSWORD|DEFAULT\s+ROLE)|USE\b)", re.IGNORECASE)
_OURS = re.compile(
    r"SET\s+(?:SESSION\s+|@@(?:SESSION\.)?)?(?:lock_wait_timeout|innodb_lock_wait_timeout|max_statement_time)\b",
    re.IGNORECASE,
)
_TRANSACTION = re.compile(
    r"(?:BEGIN|START\s+TRANSACTION|COMMIT|ROLLBACK|SAVEPOINT|LOCK\s+TABLES?|UNLOCK|XA)\b", re.IGNORECASE
)
_PROGRAM = re.compile(
    r"CREATE\b(?:(?!\bTABLE\b|\bVIEW\b).)*?\b(?:PROCEDURE|FUNCTION|TRIGGER|EVENT)\b", re.IGNORECASE | re.DOTALL
)
_ONLINE = re.compile(r"\bLOCK\s*=?\s*NONE\b|\bALGORITHM\s*=?\s*(?:INSTANT|NOCOPY)\b", re.IGNORECASE)


def split(text: str, name: str) -> tuple[Statement, ...]:
    """
    Cut a file into statements.

    :param name: the file's, for errors
    :raises MigrationRefused: a text or a comment does not end, or it says what a migration cannot; names the line
    """
    return tuple(_statement(part, line, name, marked=marked) for part, line, marked in _parts(text, name))


def _parts(text: str, name: str) -> Iterator[tuple[str, int, bool]]:
    """Yield each statement, its line, and whether another delimiter than ; ended it."""
    mark, begin, at = ";", 0, 0
    while at < len(text):
        piece, end = _PIECE.search(text, at), text.find(mark, at)
        if piece and (end < 0 or piece.start() <= end):
            if piece["open"]:
                _refuse(
                    name, text.count("\n", 0, piece.start()) + 1, f"opens {piece['open']} and never ends it", "end it"
                )
            at = piece.end()
            if piece["delimiter"]:
                yield from _part(text, begin, piece.start(), mark)
                mark, begin = piece["mark"], at
            continue
        stop = end if end >= 0 else len(text)
        yield from _part(text, begin, stop, mark)
        begin = at = stop + len(mark)
    yield from _part(text, begin, len(text), mark)


def _part(text: str, begin: int, end: int, mark: str) -> Iterator[tuple[str, int, bool]]:
    part = text[begin:end]
    comments = _COMMENTS.match(part)
    start = begin + (comments.end() if comments else 0)
    if text[start:end].strip():
        yield text[start:end].strip(), text.count("\n", 0, start) + 1, mark != ";"


def _statement(text: str, line: int, name: str, *, marked: bool) -> Statement:
    if _TRANSACTION.match(text):
        step = "take it out: the runner makes the transactions"
        _refuse(name, line, "begins or ends a transaction, or locks a table until somebody says otherwise", step)
    if _PROGRAM.match(text) and re.search(r"\bBEGIN\b", text, re.IGNORECASE) and not marked:
        _refuse(name, line, "has a body that ; would cut", "write DELIMITER // before it, and // behind it")
    if _OURS.match(text):
        return Statement(text, line, Class.OURS)
    if _SET.match(text):
        return Statement(text, line, Class.SETTING)
    cls = Class.ONLINE if _ONLINE.search(text) else Class.LOCKING
    return Statement(text, line, cls, outside=not _ROWS.match(text))


def _refuse(name: str, line: int, fact: str, next_step: str) -> NoReturn:
    raise MigrationRefused(f"line {line} {fact}", part=name, next_step=next_step)
