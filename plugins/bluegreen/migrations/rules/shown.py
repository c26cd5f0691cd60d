"""Statements as logs and reports show them: one line, no password."""

from __future__ import annotations

import re

from bluegreen.core.masks import masked

_LITERAL = (
    r"(?:[EeNn]|[Uu]&)?'(?:[^'\\]|''|\\.)*(?:'|$)|\"(?:[^\"\\]|\\.)*(?:\"|$)|\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|$)"
)
_PASSWORD = re.compile(rf"(?is)\b(PASSWORD|IDENTIFIED\s+BY|AS)(\s*=?\s*\(?\s*)(?:{_LITERAL})")
ANY_LITERAL = re.compile(rf"(?s){_LITERAL}")
_SHOWN = 160


def without_passwords(text: str) -> str:
    """Return SQL in which what follows PASSWORD, or IDENTIFIED BY, is ``'***'``."""
    return _PASSWORD.sub(_hidden, text)


def _hidden(found: re.Match[str]) -> str:
    return found[0] if found[1].upper() == "AS" else f"{found[1]}{found[2]}'***'"


def first_line(text: str) -> str:
    """Return the first line of a statement as logs show it."""
    line = masked((text.strip().splitlines() or [""])[0].strip())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"
