"""What was executed: a table in the service's own database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bluegreen.migrations.databases import Session
from bluegreen.migrations.ports import Migration
from bluegreen.migrations.statements import Statement, digest

TABLE = "bluegreen_migrations"
_COLUMNS = (
    "name, phase, checksum, statements, done, begun, note, state, started_at, finished_at, run, error"  # as in Row
)


class State(StrEnum):
    """How far a migration is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Row:
    """
    One migration, as the table has it.

    :param checksum: of the statements that are done
    :param statements: how many its file has
    :param done: how many of them are done
    :param begun: index of one that was begun outside a transaction, and whose end nobody has noted
    :param note: what there was before that one
    :param run: the release that was last at it
    """

    name: str
    phase: str
    checksum: str
    statements: int
    done: int
    begun: int | None
    note: str
    state: str
    started_at: datetime
    finished_at: datetime | None
    run: str
    error: str


@dataclass(frozen=True)
class Job:
    """A migration and its statements."""

    migration: Migration
    statements: tuple[Statement, ...]

    @property
    def name(self) -> str:
        """The file's."""
        return self.migration.name


@dataclass(frozen=True)
class History:
    """
    The rows of one service.

    :param table: its whole name, as SQL writes it
    :param run: the release that writes
    """

    session: Session
    table: str
    service: str
    run: str = ""

    def rows(self) -> dict[str, Row]:
        """Return every migration that was ever begun, by name."""
        found = self.session.execute(
            f"SELECT {_COLUMNS} FROM {self.table} WHERE service = %s ORDER BY started_at, name",  # noqa: S608
            [self.service],
        )
        return {row[0]: Row(*row) for row in found}

    def open(self, job: Job, row: Row | None) -> None:
        """Note that a migration is begun, or gone on with."""
        if row is None:
            self.session.execute(
                f"INSERT INTO {self.table} (service, name, phase, checksum, statements, done, state, run) "  # noqa: S608
                "VALUES (%s, %s, %s, %s, %s, 0, %s, %s)",
                [self.service, job.name, job.migration.phase, digest(()), len(job.statements), State.RUNNING, self.run],
            )
            return
        self._update(job, "statements = %s, state = %s, run = %s", len(job.statements), State.RUNNING, self.run)

    def begin(self, job: Job, index: int, note: str) -> None:
        """Note that a statement begins which no transaction holds together with its own note."""
        self._update(job, "begun = %s, note = %s", index, note)

    def advance(self, job: Job, done: int) -> None:
        """Note how many statements are done."""
        state = State.DONE if done == len(job.statements) else State.RUNNING
        self._update(
            job,
            "done = %s, checksum = %s, state = %s, begun = NULL, note = '', error = '', finished_at = CURRENT_TIMESTAMP",
            done,
            digest(job.statements[:done]),
            state,
        )

    def fail(self, job: Job, error: str) -> None:
        """Note what ended a migration."""
        self._update(
            job,
            "state = %s, error = %s, run = %s, finished_at = CURRENT_TIMESTAMP",
            State.FAILED,
            error[:2000],
            self.run,
        )

    def _update(self, job: Job, what: str, *values: object) -> None:
        self.session.execute(
            f"UPDATE {self.table} SET {what} WHERE service = %s AND name = %s",  # noqa: S608
            [*values, self.service, job.name],
        )
