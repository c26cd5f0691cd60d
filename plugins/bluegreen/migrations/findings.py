"""What the linter finds in a migration, and when that refuses a release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from bluegreen.catalog.migrations import Override
from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations.ports import Migration, Phase


class Hazard(StrEnum):
    """What would happen: the class of a finding."""

    BREAKS_OLD_COLOR = "breaks_old_color"
    BLOCKS_WAY_BACK = "blocks_way_back"
    LOCKS_PRODUCTION = "locks_production"
    NOT_VALID = "not_valid"


@dataclass(frozen=True)
class Finding:
    """
    One statement that is not to run as it stands.

    :param file: name of the migration
    :param line: of the statement, from 1; 0 where no statement is meant
    :param rule: its name, as an override calls it
    :param text: what is wrong, and why
    :param safe_form: SQL to write instead; what is no SQL is a comment in it
    :param statement: its first line, without passwords
    :param accepted: who answers for it, and why: the override's reason
    """

    file: str
    line: int
    phase: Phase
    rule: str
    hazard: Hazard
    text: str
    safe_form: str
    statement: str
    accepted: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        told = {name: getattr(self, name) for name in ("file", "line", "phase", "rule")}
        told |= {"class": str(self.hazard), "phase": str(self.phase)}
        told |= {name: getattr(self, name) for name in ("text", "safe_form", "statement")}
        return told | ({"accepted": self.accepted} if self.accepted else {})

    def __str__(self) -> str:
        """Return a few lines for a log."""
        safe = "\n    ".join(self.safe_form.splitlines())
        said = f"{self.file}:{self.line}: {self.rule} ({self.hazard}): {self.text}\n  found: {self.statement}"
        return f"{said}\n  accepted: {self.accepted}" if self.accepted else f"{said}\n  write instead:\n    {safe}"


def judged(
    findings: Sequence[Finding],
    accept: Sequence[Override],
    migrations: Sequence[Migration],
    never: frozenset[str],
    before: Sequence[Migration] = (),
) -> list[Finding]:
    """
    Return findings with what was accepted, and those overrides that fit none.

    :param migrations: what was looked at
    :param never: rules that nobody can answer for
    :param before: applied already: overrides of them are not asked about
    """
    told = [_accepted(one, accept, never) for one in findings]
    applied = {name for migration in before for name in _names(migration.name)}
    by_name = {name: migration for migration in migrations for name in _names(migration.name)}
    stale = [one for one in accept if one.file not in applied and not any(_fits(one, of) for of in findings)]
    return told + [_stale(one, by_name.get(one.file)) for one in stale]


def _names(name: str) -> tuple[str, str]:
    return name, PurePath(name).name


def _fits(override: Override, finding: Finding) -> bool:
    return override.rule == finding.rule and override.file in _names(finding.file)


def _accepted(finding: Finding, accept: Sequence[Override], never: frozenset[str]) -> Finding:
    for override in accept:
        if _fits(override, finding):
            if finding.rule in never:
                return replace(finding, text=f"{finding.text}; an override does not help: it is refused in every phase")
            return replace(finding, accepted=override.reason)
    return finding


def _stale(override: Override, migration: Migration | None) -> Finding:
    fact = "it has no finding of this rule" if migration else "there is no migration of that name"
    return Finding(
        override.file,
        0,
        migration.phase if migration else Phase.EXPAND,
        "stale-override",
        Hazard.NOT_VALID,
        f"migrations.accept names rule {override.rule}: {fact}",
        "-- take the entry out of migrations.accept, or mend its file or rule",
        f"accept: {override.file}: {override.rule}",
    )


def refuse(findings: Sequence[Finding], service: str = "") -> None:
    """
    Refuse what has an open finding.

    :raises MigrationRefused: names each: file, line, rule, class, and what to write instead
    """
    still_open = [one for one in findings if not one.accepted]
    if still_open:
        count = f"{len(still_open)} finding{'s' if len(still_open) > 1 else ''} in migrations"
        raise MigrationRefused(
            f"{count}:\n" + "\n".join(map(str, still_open)) + "\nnothing was executed",
            service=service,
            part="migrations",
            next_step="write what stands above instead; or accept it under migrations.accept, with a reason (no rename)",
        )
