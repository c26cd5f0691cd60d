"""Holds the history against the files that are here now: what differs was changed by hand, and nobody may guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations.history import Job, Row, State
from bluegreen.migrations.statements import Statement, digest


@dataclass(frozen=True)
class Check:
    """
    The history of one service, as it should be.

    :param table: its name, as SQL writes it
    """

    service: str
    table: str

    def fits(self, jobs: Sequence[Job], names: Sequence[str], rows: Mapping[str, Row]) -> None:
        """
        Hold the table against the files.

        :param names: of every file, also of those that the runner does not execute
        :raises MigrationRefused: they do not fit; says which row or file, and the statement that mends the row
        """
        by_name = {job.name: job for job in jobs}
        for row in rows.values():
            if row.name in by_name:
                self._one(by_name[row.name], row)
            elif row.name not in names:
                self._refuse(
                    row.name,
                    f"was executed ({row.done} of {row.statements} statements), and no file has this name",
                    f"put the file back; where it is gone for good: {self._delete(row.name)}",
                )

    def _one(self, job: Job, row: Row) -> None:
        total = len(job.statements)
        if row.state not in set(State):
            wanted = State.DONE if row.done == total else State.FAILED
            self._by_hand(row, f"its state is {row.state}, not one of {', '.join(State)}", f"state = '{wanted}'")
        if row.phase != job.migration.phase:
            self._by_hand(
                row, f"its phase is {row.phase}, the file's {job.migration.phase}", f"phase = '{job.migration.phase}'"
            )
        if not 0 <= row.done <= row.statements:
            self._by_hand(row, f"{row.done} of {row.statements} statements are done", "done = …, statements = …")
        if row.state == State.DONE and row.done != row.statements:
            self._by_hand(
                row, f"it is done with {row.done} of {row.statements} statements", f"state = '{State.FAILED}'"
            )
        done = job.statements if row.state == State.DONE else job.statements[: row.done]
        if digest(done) != row.checksum:
            self._changed(row, done, total)

    def _changed(self, row: Row, done: Sequence[Statement], total: int) -> NoReturn:
        what = f"its file has {total} statements, {row.done} were executed, and they differ"
        if row.state != State.DONE:
            what = f"its first {row.done} statements were executed, and the file has others in their place now"
        self._refuse(
            row.name,
            f"was changed after it was executed: {what}",
            "put the file back as it was, and write the change as a new migration; where the database has it already: "
            + self._set(row.name, f"checksum = '{digest(done)}', done = {len(done)}, statements = {total}"),
        )

    def _by_hand(self, row: Row, fact: str, mend: str) -> NoReturn:
        self._refuse(
            row.name,
            f"its row in {self.table} was changed by hand: {fact}",
            f"look at what the database has, then {self._set(row.name, mend)}",
        )

    def _set(self, name: str, what: str) -> str:
        return f"UPDATE {self.table} SET {what} WHERE service = '{self.service}' AND name = '{name}'"  # noqa: S608 - shown, not executed

    def _delete(self, name: str) -> str:
        return f"DELETE FROM {self.table} WHERE service = '{self.service}' AND name = '{name}'"  # noqa: S608 - shown, not executed

    def _refuse(self, name: str, fact: str, next_step: str) -> NoReturn:
        raise MigrationRefused(fact, service=self.service, part=name, next_step=next_step)
