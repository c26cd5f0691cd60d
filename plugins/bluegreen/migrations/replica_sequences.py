"""Sequences of a replicated database: replication does not carry them, so the next key would be one that is taken."""

from __future__ import annotations

from typing import Any

import psycopg

_ALL = """
SELECT format('%I.%I', schemaname, sequencename), coalesce(last_value, start_value), increment_by, min_value, max_value
FROM pg_sequences WHERE schemaname !~ '^pg_' AND sequencename !~ '^bluegreen_'
"""
_SET = "SELECT setval(%s::regclass, %s)"


def set_ahead(source: psycopg.Connection[Any], target: psycopg.Connection[Any], ahead: int) -> int:
    """
    Set the target's sequences beyond what the source has used; none is ever set back.

    :param ahead: values to leave free: who waits to write may hold some already
    :returns: how many were set
    """
    own = {name: last for name, last, *_ in target.execute(_ALL)}
    number = 0
    for name, last, step, least, most in source.execute(_ALL).fetchall():
        wanted = min(most, max(least, last + ahead * step))
        if (wanted - own.get(name, wanted)) * step > 0:
            target.execute(_SET, [name, wanted])
            number += 1
    return number
