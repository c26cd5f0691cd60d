"""SQL errors of an application's own log: what a schema change broke, in the words of the version that met it."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path

from bluegreen.core.masks import masked

MOST = 10
_LONGEST_LINE = 300
_END = 1024 * 1024
"""Bytes of the end of the log that are read."""
_KNOWN = re.compile(
    r"""
      (?:column|relation|function|schema|type|operator|constraint|table|trigger)\b.{0,200}?does\ not\ exist
    | relation\ .{0,100}already\ exists
    | violates\ (?:not-null|foreign\ key|unique|check|exclusion)\ constraint
    | duplicate\ key\ value
    | null\ value\ in\ column
    | value\ too\ long\ for\ type
    | invalid\ input\ (?:value\ for\ enum|syntax\ for\ type)
    | out\ of\ range\ for\ type
    | permission\ denied\ for
    | cannot\ execute\ \w+\ in\ a\ read-only\ transaction
    | writes\ to\ its\ other\ database\ now
    | deadlock\ (?:detected|found)
    | canceling\ statement\ due\ to
    | cached\ plan\ must\ not\ change\ result\ type
    | too\ many\ (?:clients|connections)
    | (?:unknown\ column|unknown\ table)
    | table\ '[^']*'\ doesn't\ exist
    | column\ '[^']*'\ cannot\ be\ null
    | doesn't\ have\ a\ default\ value
    | data\ too\ long\ for\ column
    | lock\ wait\ timeout\ exceeded
    | \bsqlstate\b | \(psycopg\w*\.errors\. | pymysql\.err\. | \berror\ 1[0-3]\d\d\ \(
    """,
    re.IGNORECASE | re.VERBOSE,
)
_DATA = (
    (re.compile(r"(Key \([^)]*\)=)\(.*?\)"), r"\1(***)"),
    (re.compile(r"(?i)(failing row contains )\(.*"), r"\1(***)"),
    (re.compile(r"(?i)(duplicate entry )'[^']*'"), r"\1'***'"),
    (re.compile(r"(?i)(invalid input (?:value for enum \S+|syntax for type [^:]+): )\"[^\"]*\""), r'\1"***"'),
    (re.compile(r"(?i)(\[?parameters: ).*"), r"\1***"),
)


def sql_errors(log: Path) -> tuple[str, ...]:
    """
    Return the last lines of a log that hold an SQL error, at most ten, without secrets and people's data.

    Never raises: a log that cannot be read is one line that says so.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _END))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return (f"{log}: cannot be read: {(error.strerror or 'unreadable').lower()}",)
    last: deque[str] = deque(maxlen=MOST)
    last.extend(_shown(line) for line in text.splitlines() if _KNOWN.search(line))
    return tuple(last)


def _shown(line: str) -> str:
    for shape, instead in _DATA:
        line = shape.sub(instead, line)
    line = masked("".join(sign if sign.isprintable() else " " for sign in line)).strip()
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"
