"""What a migration is, and what holds migrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from bluegreen.core.errors import MigrationRefused


class Phase(StrEnum):
    """Which half of a change a migration is."""

    EXPAND = "expand"
    BACKFILL = "backfill"
    CONTRACT = "contract"


@dataclass(frozen=True)
class Migration:
    """
    One migration of a phase.

    :param name: file name or revision, as people look for it
    :param sql: what would be executed; of a backfill its YAML text
    :param path: its file, where it has one
    """

    name: str
    phase: Phase
    sql: str
    path: Path | None = None


def refuse_early_contract(service: str, wanted: Sequence[Migration], expand_left: Sequence[Migration]) -> None:
    """
    Refuse the destructive half while something of the compatible one is not executed.

    :raises MigrationRefused: both are pending
    """
    if wanted and expand_left:
        raise MigrationRefused(
            f"the compatible half is not executed yet: {', '.join(one.name for one in expand_left)}",
            service=service,
            part=wanted[0].name,
            next_step="release first; contract only takes away what nothing needs any more",
        )


@dataclass(frozen=True)
class Status:
    """
    How a database is.

    :param version: the migration that was finished last; empty where none is
    :param states: each migration's state, ``pending`` where nobody has begun it
    :param errors: what ended a migration, by name
    :param left_over: what killed statements have left
    :param waiting: who waits for whom at this moment
    """

    version: str
    states: dict[str, str]
    errors: dict[str, str] = field(default_factory=dict)
    left_over: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


class Tool(Protocol):
    """What holds a service's migrations and executes them."""

    def pending(self, phase: Phase) -> Sequence[Migration]:
        """
        Return what would be executed now, in its order.

        :raises MigrationRefused: files are wrong, or were changed after they were applied
        :raises MigrationFailed: the database or the tool does not answer
        """
        ...

    def apply(self, phase: Phase) -> Sequence[str]:
        """
        Execute what is pending; again after a crash at any statement.

        :returns: the names of what was applied, in order
        :raises MigrationRefused: files are wrong, or were changed after they were applied
        :raises MigrationFailed: it ended at a statement; says which, and why
        """
        ...


@runtime_checkable
class KeepsFiles(Protocol):
    """A tool of files of our own: it knows those that were executed, too, and backfills among them."""

    def files(self) -> Sequence[Migration]:
        """
        Return all of them.

        :raises MigrationRefused: a file is wrong
        """
        ...

    def plan(self, phase: Phase) -> list[str]:
        """Return, line by line, everything that ``apply`` would do now."""
        ...

    def status(self) -> Status:
        """Say how the database is; reads only."""
        ...
