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
    """Return what squawk says of each migration; backfills are none of its business."""
    sql = [migration for migration, _ in judgements if migration.phase is not Phase.BACKFILL]
    told = iter(seen([migration.sql for migration in sql]))
    return [() if migration.phase is Phase.BACKFILL else next(told) for migration, _ in judgements]


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
