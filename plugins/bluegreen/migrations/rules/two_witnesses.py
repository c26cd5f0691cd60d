"""Both witnesses together: our judgement of a statement, and what squawk says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bluegreen.migrations.ports import Migration, Phase
from bluegreen.migrations.rules.hit import Hit
from bluegreen.migrations.rules.postgres import Judged
from bluegreen.migrations.rules.squawk_pass import seen
from bluegreen.migrations.rules.table import RULES

Seen = Sequence[tuple[int, str, str]]


def seen_of(judgements: Sequence[tuple[Migration, Sequence[Judged]]]) -> list[Seen]:
    """Return what squawk says of each migration."""
    heard = [_readable(migration, statements) for migration, statements in judgements]
    told = iter(seen([migration.sql for (migration, _), is_heard in zip(judgements, heard, strict=True) if is_heard]))
    return [next(told) if is_heard else () for is_heard in heard]


def _readable(migration: Migration, statements: Sequence[Judged]) -> bool:
    """Tell whether squawk gets a file: not what PostgreSQL's parser refuses, it may end by it."""
    return migration.phase is not Phase.BACKFILL and not any(one.statement.broken for one in statements)


def with_witness(statements: Sequence[Judged], said: Seen) -> list[Judged]:
    """Add to statements of which our own pass said nothing what squawk says."""
    return [_with(one, said) for one in statements]


def _with(one: Judged, said: Seen) -> Judged:
    if one.hits or one.excused:
        return one
    end = one.statement.start + len(one.statement.text)
    # Only what PostgreSQL's own parser read: what squawk cannot read is not our word.
    mine = [(rule, message) for at, rule, message in said if one.statement.start <= at < end]
    hits = [Hit(rule, f"squawk: {message}", f"-- {RULES[rule].instead}") for rule, message in dict.fromkeys(mine)]
    return replace(one, hits=hits)
