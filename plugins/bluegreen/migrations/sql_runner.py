"""Plain SQL files as a tool: what is pending, what it would do, doing it, and how the database is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from bluegreen.catalog.load import services_folder
from bluegreen.catalog.migrations import SqlFiles
from bluegreen.catalog.models import Service
from bluegreen.core.errors import MigrationRefused
from bluegreen.core.ports import Secrets
from bluegreen.migrations import files
from bluegreen.migrations.databases import Session, place_of
from bluegreen.migrations.engine import engine_of
from bluegreen.migrations.history import TABLE, History, Job, Row, State
from bluegreen.migrations.history_check import Check
from bluegreen.migrations.patience import Patience
from bluegreen.migrations.ports import Migration, Phase, Status, refuse_early_contract
from bluegreen.migrations.sql_steps import Steps, bounds_of
from bluegreen.migrations.statements import units
from bluegreen.migrations.turns import Turn
from bluegreen.migrations.witness import Witness

T = TypeVar("T")
Log = Callable[[str], None]
PENDING = "pending"
_LOG = logging.getLogger("bluegreen").info
_READ_FOR = timedelta(seconds=10)
"""How long a database that does not answer is asked by what only reads."""


class SqlRunner:
    """
    The tool ``sql``; see ``migrations.ports.Tool``.

    :param service: with a ``migrations`` section
    :param secrets: where the database's login comes from
    :param run: the release, for the history
    :param log: gets a line a statement
    """

    def __init__(self, service: Service, secrets: Secrets, run: str = "", log: Log = _LOG) -> None:
        if service.migrations is None or not isinstance(service.migrations.tool, SqlFiles):
            raise MigrationRefused(
                "it has no plain SQL", service=service.service, next_step="write migrations.tool: {type: sql}"
            )
        self._service, self._run, self._log = service.service, run, log
        self._settings = service.migrations
        self._folder = service.migrations.tool.folder or files.usual_folder(services_folder(), service.service)
        self._place = place_of(service.service, service.migrations.database, secrets)
        self._engine = engine_of(self._place)

    def files(self) -> Sequence[Migration]:
        """Return all files; see ``migrations.ports.KeepsFiles``."""
        return files.read(self._folder)

    def pending(self, phase: Phase) -> Sequence[Migration]:
        """
        Return what would be executed now; see ``migrations.ports.Tool``.

        :raises MigrationRefused: a file is wrong, or the history does not fit the files
        :raises MigrationFailed: the database does not answer
        """
        return [job.migration for job in self._pending(phase, self._read(self._rows))]

    def plan(self, phase: Phase) -> list[str]:
        """
        Return, line by line, everything that ``apply`` would do now.

        :raises MigrationRefused: see ``pending``
        :raises MigrationFailed: see ``pending``
        """
        rows, lines = self._read(self._rows), list[str]()
        for job in self._pending(phase, rows):
            lines += self._planned(job, rows[job.name].done if job.name in rows else 0)
        return lines

    def apply(self, phase: Phase) -> Sequence[str]:
        """
        Execute what is pending; see ``migrations.ports.Tool``.

        :raises MigrationRefused: a file is wrong, or the history does not fit the files; nothing was touched
        :raises MigrationBlocked: a lock could not be had, or another runner is at it
        :raises MigrationFailed: it ended at a statement; the next call goes on from there
        """
        if not self._jobs():  # a file that is wrong is told of before the database is asked
            return []
        with self._steps() as steps:
            steps.history()
            pending = self._pending(phase, steps.rows())
            for job in pending:
                steps.migrate(job)
        return [job.name for job in pending]

    def status(self) -> Status:
        """
        Say how the database is; reads only.

        :raises MigrationRefused: a file is wrong
        :raises MigrationFailed: the database does not answer
        """
        rows = self._read(self._rows)
        done = [row for row in rows.values() if row.state == State.DONE and row.finished_at]
        last = max(done, key=lambda row: (row.finished_at, row.name), default=None)
        return Status(
            version=last.name if last else "",
            states={job.name: PENDING for job in self._jobs()} | {row.name: row.state for row in rows.values()},
            errors={row.name: row.error for row in rows.values() if row.error},
            left_over=tuple(self._read(lambda session, _: self._engine.left_over(session))),
            waiting=tuple(self._read(lambda session, _: self._engine.waiting(session))),
        )

    @contextmanager
    def _steps(self) -> Iterator[Steps]:
        turn = Turn(self._place, self._engine, self._settings.retry_for, self._say)
        witness = Witness(self._place, self._engine, self._say)
        try:
            yield Steps(self._service, self._settings, self._engine, turn, witness, self._run, self._say)
        finally:
            witness.close()
            turn.drop()

    def _jobs(self) -> list[Job]:
        """Every file that is executed here: backfills are not."""
        found = [one for one in files.read(self._folder) if one.phase is not Phase.BACKFILL]
        return [Job(one, self._engine.split(one.sql, one.name)) for one in found]

    def _pending(self, phase: Phase, rows: dict[str, Row]) -> list[Job]:
        jobs = self._jobs()
        Check(self._service, TABLE).fits(jobs, [one.name for one in files.read(self._folder)], rows)
        left = [job for job in jobs if job.name not in rows or rows[job.name].state != State.DONE]
        wanted = [job for job in left if job.migration.phase is phase]
        if phase is Phase.CONTRACT:
            before = [job.migration for job in left if job.migration.phase is Phase.EXPAND]
            refuse_early_contract(self._service, [job.migration for job in wanted], before)
        return wanted

    def _planned(self, job: Job, done: int) -> Iterator[str]:
        cut = units(job.statements, ddl_rolls_back=self._engine.ddl_rolls_back)
        how = "one transaction" if len(cut) == 1 and not cut[0].outside else "each statement by itself"
        yield f"{job.name}: {len(job.statements)} statements, {how}"
        for unit in cut:
            for index in range(max(unit.first, done), unit.end):
                statement = job.statements[index]
                outside = ", outside a transaction" if unit.outside else ""
                bounds = bounds_of(statement.cls, self._settings)
                yield f"  {index + 1} (line {statement.line}): {statement.cls}{outside}; {bounds}"
                yield from (f"    {line}" for line in statement.text.splitlines())

    def _read(self, action: Callable[[Session, str], T]) -> T:
        """
        Ask the database something, for some seconds where it does not answer.

        :param action: gets the session, and the history table's name, empty where there is none
        """

        def once() -> T:
            session = self._place.connect()
            try:
                return action(session, self._engine.history_table(session))
            finally:
                session.close()

        grants = f"GRANT SELECT ON {TABLE} TO the connection's login"
        patience = Patience(self._service, _READ_FOR, self._settings.lock_timeout, self._say, lambda: grants)
        return patience.with_it("history", once, lambda: None)

    def _rows(self, session: Session, table: str) -> dict[str, Row]:
        return History(session, table, self._service).rows() if table else {}

    def _say(self, line: str) -> None:
        self._log(f"{self._service}: {line}")
