"""
Executes one migration, one step after the other, and goes on from wherever it was ended.

What one transaction can hold is done together with its note in the history. A statement that no transaction can hold is
noted before it begins; whoever finds that note looks at the schema before he runs it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from bluegreen.catalog.migrations import Migrations
from bluegreen.core.errors import MigrationBlocked, MigrationFailed
from bluegreen.migrations.databases import Session, SqlTrouble
from bluegreen.migrations.engine import Bounds, Engine
from bluegreen.migrations.history import History, Job, Row, State
from bluegreen.migrations.patience import Patience, StatementTrouble
from bluegreen.migrations.statements import Class, Unit, units
from bluegreen.migrations.turns import Turn
from bluegreen.migrations.witness import Witness

T = TypeVar("T")
_LOOKS = 4
"""At who holds a lock, within one wait for it."""


def bounds_of(cls: Class, settings: Migrations) -> Bounds:
    """Return how long a statement may wait and run: one that blocks nobody as long as it takes."""
    if cls is Class.ONLINE:
        return Bounds(settings.retry_for, None)
    return Bounds(settings.lock_timeout, settings.statement_timeout)


@dataclass(frozen=True)
class Steps:
    """
    What executes a service's migrations in its turn.

    :param run: the release, for the history
    :param say: gets a line a statement
    """

    service: str
    settings: Migrations
    engine: Engine
    turn: Turn
    witness: Witness
    run: str
    say: Callable[[str], None]

    def history(self) -> History:
        """
        Return the history, and make its table where there is none.

        :raises MigrationBlocked: the database cannot be reached, or another runner has the turn
        :raises MigrationFailed: it may not be read or made
        """
        return self._patiently(self._opened, "history")

    def rows(self) -> dict[str, Row]:
        """
        Return what was executed.

        :raises MigrationBlocked: see ``history``
        :raises MigrationFailed: see ``history``
        """
        return self._patiently(lambda: self._opened().rows(), "history")

    def migrate(self, job: Job) -> None:
        """
        Execute what is left of a migration.

        :raises MigrationBlocked: a lock could not be had in time
        :raises MigrationFailed: it ended at a statement; both are noted in the history
        """
        try:
            while self._patiently(lambda: self._step(job), job.name):
                pass
        except MigrationFailed as error:
            with suppress(SqlTrouble, MigrationBlocked):
                self._opened().fail(job, error.fact)
            raise

    def _step(self, job: Job) -> bool:
        """Do the next unit; tell whether there was one."""
        history = self._opened()
        row = history.rows().get(job.name)
        done = row.done if row else 0
        if row is None or row.state != State.RUNNING or row.run != self.run:
            history.open(job, row)
        unit = next((one for one in self._units(job) if one.end > done), None)
        if unit is None:
            history.advance(job, len(job.statements))
            return False
        self.engine.settle(history.session)
        for earlier in job.statements[: unit.first]:
            if earlier.cls is Class.SETTING:
                history.session.execute(earlier.text)
        if unit.outside:
            self._outside(job, unit.first, history, row)
        else:
            self._inside(job, unit, history)
        return unit.end < len(job.statements)

    def _inside(self, job: Job, unit: Unit, history: History) -> None:
        history.session.execute("BEGIN")
        try:
            for index in range(unit.first, unit.end):
                self._execute(job, index, history.session)
            history.advance(job, unit.end)
            history.session.execute("COMMIT")
        except BaseException:
            with suppress(SqlTrouble):
                history.session.execute("ROLLBACK")
            raise

    def _outside(self, job: Job, index: int, history: History, row: Row | None) -> None:
        session, statement = history.session, job.statements[index]
        note = row.note if row and row.begun == index else None
        with self._named(job, index, session):
            self.engine.bound(session, bounds_of(statement.cls, self.settings))
            if self.engine.happened(session, statement, note):
                self.say(f"{job.name}: {_what(job, index)}: its effect is there already")
                history.advance(job, index + 1)
                return
        if note is None:
            history.begin(job, index, self.engine.note(session, statement))
        self._execute(job, index, session)
        history.advance(job, index + 1)

    def _execute(self, job: Job, index: int, session: Session) -> None:
        statement = job.statements[index]
        if statement.cls is Class.OURS:
            self.say(f"{job.name}: {_what(job, index)}: passed over, the service file says the timeouts")
            return
        with self._named(job, index, session):
            begin = time.monotonic()
            self.engine.bound(session, bounds_of(statement.cls, self.settings))
            session.execute(statement.text)
        self.say(f"{job.name}: {_what(job, index)}: done in {time.monotonic() - begin:.3f} s")

    @contextmanager
    def _named(self, job: Job, index: int, session: Session) -> Iterator[None]:
        """Say of what goes wrong at which statement it was, and who held what it waited for."""
        every = self.settings.lock_timeout.total_seconds() / _LOOKS
        with self.witness.watching(session.pid, every) as seen:
            try:
                yield
            except SqlTrouble as trouble:
                raise StatementTrouble(trouble, _what(job, index), seen.holders) from None

    def _units(self, job: Job) -> tuple[Unit, ...]:
        return units(job.statements, ddl_rolls_back=self.engine.ddl_rolls_back)

    def _opened(self) -> History:
        session = self.turn.session()
        self.engine.settle(session)
        table = self.engine.history_table(session) or self.engine.make_history(session)
        return History(session, table, self.service, self.run)

    def _patiently(self, action: Callable[[], T], part: str) -> T:
        patience = Patience(
            self.service, self.settings.retry_for, self.settings.lock_timeout, self.say, lambda: self._grants(part)
        )
        return patience.with_it(part, action, self.turn.drop)

    def _grants(self, part: str) -> str:
        if part != "history":
            return "the GRANT that the database's words ask for, or make the login a member of the table's owner"
        try:
            session = self.turn.session()
            return self.engine.grants(session, self.engine.history_table(session))
        except (SqlTrouble, MigrationBlocked):
            return "what lets the connection's login in"


def _what(job: Job, index: int) -> str:
    statement = job.statements[index]
    return f"statement {index + 1} of {len(job.statements)} (line {statement.line}): {statement}"
