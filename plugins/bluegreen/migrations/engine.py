"""What the runner asks of a kind of database. PostgreSQL and MySQL are one module each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from bluegreen.migrations.databases import Place, Session
from bluegreen.migrations.statements import Statement


@dataclass(frozen=True)
class Bounds:
    """
    How long a statement may wait and run.

    :param lock: for each lock that it needs
    :param run: in all; None for as long as it takes
    """

    lock: timedelta
    run: timedelta | None

    def __str__(self) -> str:
        run = f"{self.run.total_seconds():g} s" if self.run else "none"
        return f"lock_timeout {self.lock.total_seconds():g} s, statement_timeout {run}"


class Engine(Protocol):
    """A kind of database."""

    ddl_rolls_back: bool

    def split(self, text: str, name: str) -> tuple[Statement, ...]:
        """
        Cut a file into statements.

        :raises MigrationRefused: it is no SQL of this kind, or says what a migration cannot
        """
        ...

    def try_turn(self, session: Session) -> bool:
        """Take the lock that one runner has at a time in this database; it ends with the session."""
        ...

    def turn_holder(self, session: Session) -> str:
        """Say who has that lock; empty where nobody has."""
        ...

    def holders(self, session: Session, pid: int) -> list[str]:
        """Say who holds what a session waits for; none where it does not wait."""
        ...

    def holders_of_tools(self, session: Session) -> list[str]:
        """Say who holds what sessions with our name wait for: a tool's, whose process we do not know."""
        ...

    def bound(self, session: Session, bounds: Bounds) -> None:
        """Set how long the next statement may wait and run."""
        ...

    def settle(self, session: Session) -> None:
        """Take back what statements have set in a session."""
        ...

    def history_table(self, session: Session) -> str:
        """Return the whole name of the history table; empty where there is none."""
        ...

    def make_history(self, session: Session) -> str:
        """Make the history table and return its whole name."""
        ...

    def grants(self, session: Session, table: str) -> str:
        """Say what to grant so that the history can be kept; ``table`` is empty where there is none."""
        ...

    def note(self, session: Session, statement: Statement) -> str:
        """Return what tells later whether a statement outside a transaction has happened."""
        ...

    def happened(self, session: Session, statement: Statement, note: str | None) -> bool:
        """
        Tell whether a statement outside a transaction has had its effect, and take away what a killed try has left.

        :param note: what ``note`` gave before an earlier try; None where there was none
        :raises SqlTrouble: nobody can tell, or somebody else is at it
        """
        ...

    def clean(self, session: Session, sql: str) -> None:
        """Take away what killed tries of a tool's statements have left, before it tries again."""
        ...

    def left_over(self, session: Session) -> list[str]:
        """Name what killed statements have left, such as invalid indexes."""
        ...

    def waiting(self, session: Session) -> list[str]:
        """Say who waits for whom at this moment in this database."""
        ...


def engine_of(place: Place) -> Engine:
    """Return the kind of a database."""
    if place.is_postgresql:
        from bluegreen.migrations.pg_engine import PgEngine  # noqa: PLC0415 - its parser is an extra, and slow to load

        return PgEngine()
    from bluegreen.migrations.mysql_engine import MySqlEngine  # noqa: PLC0415

    return MySqlEngine(place.database.name)
