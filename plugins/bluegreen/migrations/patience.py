"""Tries again what a lock or a lost connection kept from being done, and says what kept it where that does not help."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from bluegreen.core.errors import MigrationBlocked, MigrationFailed
from bluegreen.migrations.databases import Kind, SqlTrouble

T = TypeVar("T")
_LONGEST_PAUSE = 10.0
"""Seconds."""


class StatementTrouble(SqlTrouble):
    """
    A database's trouble with one statement.

    :param what: which statement, as errors and the log call it
    :param holders: who held what it waited for
    """

    def __init__(self, trouble: SqlTrouble, what: str, holders: Sequence[str]) -> None:
        super().__init__(trouble.kind, trouble.words, trouble.code)
        self.what, self.holders = what, tuple(holders)


@dataclass(frozen=True)
class Patience:
    """
    How long, and how often.

    Between two tries others get at the table: the pause is twice a try's longest wait at first, and grows.

    :param span: for all tries
    :param lock: one try's longest wait for a lock
    :param grants: says which permission is missing
    """

    service: str
    span: timedelta
    lock: timedelta
    say: Callable[[str], None]
    grants: Callable[[], str]

    def with_it(self, part: str, action: Callable[[], T], lost: Callable[[], None]) -> T:
        """
        Do something until it is done.

        :param part: what it is about, for errors
        :param lost: called when the connection is gone
        :raises MigrationBlocked: the time is over; says who holds the lock
        :raises MigrationFailed: another try would not help
        """
        end, pause = time.monotonic() + self.span.total_seconds(), 2 * self.lock.total_seconds()
        while True:
            try:
                return action()
            except SqlTrouble as trouble:
                if trouble.kind is Kind.LOST:
                    lost()
                if not _is_worth_another_try(trouble):
                    raise self._failed(part, trouble) from None
                left = end - time.monotonic()
                if left <= 0:
                    raise self._blocked(part, trouble) from None
                wait = min(left, random.uniform(0.5, 1.0) * pause)  # noqa: S311 - no secret
                self.say(f"{part}: {_told(trouble)}; tried again in {wait:.1f} s, for {left:.0f} s more")
                time.sleep(wait)
                pause = min(pause * 2, max(_LONGEST_PAUSE, pause))

    def _failed(self, part: str, trouble: SqlTrouble) -> MigrationFailed:
        if trouble.kind is Kind.DENIED:
            step = f"let an administrator run: {self.grants()}; or give the connection another login"
        elif trouble.kind is Kind.SLOW:
            step = (
                "it holds its lock for longer than statement_timeout, or somebody cancelled it: write the form that "
                "works without the lock (CONCURRENTLY; NOT VALID and VALIDATE; a backfill), or raise statement_timeout"
            )
        else:
            step = "mend the migration or the data; what is done stays noted, and the next run goes on behind it"
        return MigrationFailed(_told(trouble), service=self.service, part=part, next_step=step)

    def _blocked(self, part: str, trouble: SqlTrouble) -> MigrationBlocked:
        return MigrationBlocked(
            f"not done within {self.span.total_seconds():g} s: {_told(trouble)}",
            service=self.service,
            part=part,
            next_step="let whoever holds it end, or end it, and start this step again: it goes on from there",
        )


def _is_worth_another_try(trouble: SqlTrouble) -> bool:
    """Tell whether waiting helps: not for a statement that was slow by itself, which would hold its lock each time."""
    if trouble.kind is Kind.SLOW:
        return isinstance(trouble, StatementTrouble) and bool(trouble.holders)
    return trouble.kind in (Kind.LOCK, Kind.LOST)


def _told(trouble: SqlTrouble) -> str:
    if not isinstance(trouble, StatementTrouble):
        return str(trouble)
    held = f"; held by {'; '.join(trouble.holders)}" if trouble.holders else ""
    return f"{trouble.what}: {trouble}{held}"
