"""The linter gate: which migrations would break the old color, block the way back, stop production, or not run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bluegreen.catalog.migrations import Override
from bluegreen.migrations.findings import Finding, judged
from bluegreen.migrations.ports import Migration, Phase
from bluegreen.migrations.rules.table import NEVER, RULES


def lint(
    migrations: Sequence[Migration],
    *,
    database_type: str,
    accept: Sequence[Override] = (),
    before: Sequence[Migration] = (),
) -> list[Finding]:
    """
    Return what is not to run as it stands; what somebody answers for is among it, with the reason.

    :param migrations: in the order in which they would run
    :param database_type: postgresql, mysql or mariadb
    :param accept: the service file's overrides; one that fits nothing is a finding itself
    :param before: applied already: not judged, but what they made is known (a CHECK that was validated)
    :raises MigrationRefused: squawk is not installed
    """
    found = list(_postgresql(migrations, before) if database_type == "postgresql" else _mysql(migrations, before))
    return judged(found, accept, migrations, NEVER, before)


def _postgresql(migrations: Sequence[Migration], before: Sequence[Migration]) -> Iterator[Finding]:
    # Not at the top: who only reads a service file, or a help text, needs no parser of SQL.
    from bluegreen.migrations.rules import postgres, two_witnesses  # noqa: PLC0415

    judgements = postgres.judge(migrations, before)
    for (migration, statements), seen in zip(judgements, two_witnesses.seen_of(judgements), strict=True):
        for one in two_witnesses.with_witness(statements, seen):
            hits = ((hit.rule, hit.fact, hit.safe) for hit in one.hits)
            yield from _findings(migration, one.statement.line, one.statement.shown, hits)


def _mysql(migrations: Sequence[Migration], before: Sequence[Migration]) -> Iterator[Finding]:
    from bluegreen.migrations.rules import mysql  # noqa: PLC0415

    for migration, line, shown, hits in mysql.judge(migrations, before):
        yield from _findings(migration, line, shown, hits)


def _findings(migration: Migration, line: int, shown: str, hits: Iterable[tuple[str, str, str]]) -> Iterator[Finding]:
    for name, fact, safe in dict.fromkeys(hits):
        rule = RULES[name]
        hazard = rule.hazard(migration.phase)
        if hazard is not None and migration.phase is not Phase.BACKFILL:
            text = f"{fact}: {rule.why}"
            yield Finding(migration.name, line, migration.phase, name, hazard, text, safe, shown)
