"""Statements of MySQL that sqlglot takes as mere words: known by their first ones, or not readable."""

from __future__ import annotations

import re

from bluegreen.migrations.rules.mysql_rules import Hits, Seen

_SAME_IN_CONTRACT = "-- in contract: the same statement"
_COPY = "-- gh-ost or pt-online-schema-change: they copy the table beside it"
_RENAME = re.compile(r"(?is)^RENAME\s+TABLES?\s+(?:IF\s+EXISTS\s+)?(\S+)\s+TO\s+(\S+)")
_NAME = r"(?:CREATE|ALTER|DROP|RENAME)(?:\s+OR\s+REPLACE)?"
_DEFINER = r"(?:\s+DEFINER\s*=\s*\S+)?"
# Pattern of the first words, rule, what it does, what to write instead; '' for what is fine.
_KNOWN: tuple[tuple[str, str, str, str], ...] = (
    (rf"{_NAME}\s+(?:USER|ROLE)\b|SET\s+PASSWORD|GRANT\b(?!.*\bON\b)", "role-change", "changes a role", "-- by hand"),
    (
        rf"CREATE(?:\s+OR\s+REPLACE)?{_DEFINER}\s+TRIGGER",
        "create-trigger",
        "makes a trigger",
        "-- the application does it",
    ),
    (r"DROP\s+TRIGGER", "drop-trigger", "drops a trigger", _SAME_IN_CONTRACT),
    (r"LOCK\s+TABLES?", "lock-table", "locks tables", "-- leave it out"),
    (r"UNLOCK\s+TABLES?", "", "", ""),
    (r"REVOKE\b", "revoke", "takes a privilege away", _SAME_IN_CONTRACT),
    (r"GRANT\b", "", "", ""),
    (r"(?:OPTIMIZE|REPAIR)\s", "algorithm-copy", "builds tables anew", _COPY),
    (r"ANALYZE\s", "", "", ""),
    (r"ALTER\s+TABLE\s.*\bCONVERT\s+TO\b", "alter-column-type", "converts a table's columns", _COPY),
    (r"ALTER\s+TABLE\s.*\bADD\s+(?:CONSTRAINT\s+\S+\s+)?CHECK\b", "add-check", "adds CHECK", _COPY),
    (r"ALTER\s+TABLE\s.*\b(?:PARTITION|PARTITIONING)\b", "algorithm-copy", "partitions a table anew", _COPY),
    (r"DROP\s+(?:FUNCTION|PROCEDURE|EVENT)", "drop-function", "drops a program", _SAME_IN_CONTRACT),
    (r"LOAD\s+(?:DATA|XML)", "copy", "loads a file", "-- INSERT, for a few rows"),
)
_COMPILED = tuple((re.compile(f"(?is)^(?:{known[0]})"), known[1:]) for known in _KNOWN)


def command(text: str, _: Seen) -> Hits:
    """Judge a statement by its words."""
    if found := _RENAME.match(text):
        old, new = found[1], found[2].rstrip(",;")
        safe = f"-- {old} keeps its name\nCREATE VIEW {new} AS SELECT * FROM {old};"  # noqa: S608 - shown, never executed
        yield "rename-table", f"renames table {old} to {new}", safe
        return
    for pattern, said in _COMPILED:
        if pattern.match(text):
            if said[0]:
                yield said
            return
    yield "not-readable", "is no statement that can be read here", "-- plain statements; or accept it with a reason"
