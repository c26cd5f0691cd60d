"""How fast a backfill goes, and what it says about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bluegreen.migrations.backfill_sql import Statements
from bluegreen.migrations.backfill_state import State
from bluegreen.migrations.pg_errors import Log

SLOW, QUICK = 0.5, 0.1
"""Seconds: a batch above is too large, one below may grow."""
_BLOCKED_PAUSE = 0.2
_TELL_EVERY = 10.0
_ROWS = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = %s::oid"


@dataclass
class Pace:
    """
    Rows of a batch, and the pause after it.

    :param most: rows of a batch
    :param share: of the time that batches may run
    """

    most: int
    share: float
    size: int = field(init=False)
    _rest: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.size = self.most

    def after(self, took: float) -> float:
        """Return the seconds to pause after a batch, and choose the size of the next."""
        if took > SLOW:
            self.size = max(1, self.size // 2)
        elif took < QUICK:
            self.size = min(self.most, self.size + self.size // 2 + 1)
        rest, self._rest = self._rest, 0.0
        return took * (1 - self.share) / self.share + rest

    def blocked(self) -> None:
        """A lock or the time limit ended a batch: the next is smaller, and a little later."""
        self.size, self._rest = max(1, self.size // 2), _BLOCKED_PAUSE


class Progress:
    """Says each 10 s how far it is: by the key's range where it is a number, else by the rows that were looked at."""

    def __init__(self, made: Statements, log: Log, clock: Callable[[], float]) -> None:
        self._made, self._log, self._clock = made, log, clock
        self.blocked = 0
        self._rows_before, self._looked, self._total = 0, 0, 0
        self._extent: tuple[int, int] | None = None
        self._first_share = 0.0
        self._begun = self._told = clock()

    def begin(self, connection: psycopg.Connection[Any], state: State) -> None:
        """Take the measure of the table as a pass begins."""
        row = connection.execute(_ROWS, [self._made.relation]).fetchone()
        self._total, self._looked = row[0] if row else 0, 0
        if self._made.numeric:
            found = connection.execute(self._made.extent()).fetchone()
            self._extent = found if found and found[0] is not None else None
        self._rows_before, self._first_share = state.rows, self._share(state)
        self._begun = self._told = self._clock()

    def looked_at(self, rows: int) -> None:
        """Count the rows of a page."""
        self._looked += rows

    def _share(self, state: State) -> float:
        if self._extent and state.after is not None:
            least, most = self._extent
            return min(1.0, max(0.0, (int(state.after[0]) - least + 1) / (most - least + 1)))
        return min(1.0, self._looked / self._total) if self._total else 0.0

    def tell(self, state: State, pace: Pace) -> None:
        """Log a line, where the last is long ago."""
        now = self._clock()
        if now - self._told < _TELL_EVERY:
            return
        self._told, passed = now, now - self._begun
        share = self._share(state)
        rate = (state.rows - self._rows_before) / passed
        done = share - self._first_share
        left = f"{passed * (1 - share) / done:.0f} s left" if done > 0 else "time left unknown"
        held = f", {self.blocked} batches met a lock" if self.blocked else ""
        self._log(
            f"pass {state.passes}: {share:.0%}, {left}; {state.rows} rows, {rate:.0f} rows/s, {pace.size} a batch{held}"
        )
