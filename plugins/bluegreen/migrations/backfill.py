"""
A backfill: rows are brought up to the new schema in small transactions, while both colors write.

Each batch is a page of the table's key: its rows are changed and the cursor is stored in one transaction, so that a
killed worker's successor goes on from there. The first pass leaves rows out that somebody holds, the second waits for
them; then the drift query has the last word.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql

from bluegreen.catalog.migrations import Backfill
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import MigrationFailed
from bluegreen.migrations import backfill_file, backfill_state
from bluegreen.migrations.backfill_pace import Pace, Progress
from bluegreen.migrations.backfill_sql import SETTING, Statements, statements
from bluegreen.migrations.backfill_state import State
from bluegreen.migrations.pg_errors import LATER, Connect, Log, told
from bluegreen.migrations.ports import Migration
from bluegreen.migrations.replica_lag import ReplicaLag

SKIPS, WAITS, COUNTS = 1, 2, 3
"""The passes."""
LOCK_TIMEOUT = timedelta(milliseconds=500)
_LONGEST_BATCH = timedelta(seconds=30)
_LAG_PAUSE = 1.0
_SPARSE = 50
"""Pages of the second pass are so many times larger: nearly nothing is left to do in them, and each costs a commit."""


@dataclass(frozen=True)
class Done:
    """
    What a backfill did, over all its tries.

    :param rows: changed
    :param seconds: that batches ran, without the pauses
    :param drift: what its query said last: 0
    """

    rows: int
    batches: int
    seconds: float
    drift: float

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom and reports."""
        return asdict(self)


@dataclass
class _Work:
    """One session's part of a backfill."""

    connection: psycopg.Connection[Any]
    made: Statements
    state: State
    limits: Backfill
    deadline: Deadline
    log: Log
    batch: int
    progress: Progress
    pace: Pace = field(init=False)
    lag: ReplicaLag = field(init=False)

    def __post_init__(self) -> None:
        self.lag = ReplicaLag(self.deadline.clock)

    def pass_through(self) -> None:
        """Go through the whole table once, from the cursor."""
        self.pace = Pace(self.batch * (_SPARSE if self.state.passes == WAITS else 1), self.limits.share)
        self.progress.begin(self.connection, self.state)
        more = True
        while more:
            self._wait_for_replicas()
            self._in_time()
            begun = self.deadline.clock()
            more = self._tried()
            took = self.deadline.clock() - begun
            self.progress.tell(self.state, self.pace)
            if more:
                self.deadline.sleep(self.pace.after(took))
        self.state.passes, self.state.after = self.state.passes + 1, None
        self.state.save(self.connection)

    def _tried(self) -> bool:
        """Do one batch; what a lock or the time limit ended is done again, smaller."""
        try:
            return self._batch()
        except LATER as error:
            if isinstance(error, psycopg.errors.QueryCanceled) and self.pace.size == 1:
                raise
            self.pace.blocked()
            self.progress.blocked += 1
            return True

    def _batch(self) -> bool:
        before = self.state
        after, begun = before.after, self.deadline.clock()
        with self.connection.transaction():
            self.connection.execute(f"SET LOCAL {SETTING} = 'on'")
            edge = self.connection.execute(self.made.edge(after, self.pace.size)).fetchone()
            change = self.made.change(after, edge, skip_locked=before.passes == SKIPS)
            changed = self.connection.execute(change).rowcount
            now = State(**vars(before))
            now.after = edge or after
            now.rows, now.batches = before.rows + changed, before.batches + 1
            now.seconds = before.seconds + self.deadline.clock() - begun
            now.save(self.connection)
        self.state = now
        self.progress.looked_at(self.pace.size if edge else 0)
        return edge is not None

    def _wait_for_replicas(self) -> None:
        said = False
        while True:
            behind, who = self.lag.behind(self.connection)
            if behind <= self.limits.max_lag.total_seconds():
                return
            if not said:
                self.log(f"waits: {who} is {behind:.0f} s behind, allowed {self.limits.max_lag.total_seconds():g} s")
                said = True
            self._in_time(f"; {who} is {behind:.0f} s behind")
            self.deadline.sleep(_LAG_PAUSE)

    def _in_time(self, why: str = "") -> None:
        if self.deadline.left <= 0:
            raise MigrationFailed(
                f"not done within backfill.timeout, {self.state.rows} rows are{why}",
                part=self.state.name,
                next_step="release again: it goes on from there; or raise backfill.timeout, share or batch",
            )

    def count_drift(self) -> None:
        """
        Ask the drift query; after anything but 0 the next try begins anew.

        :raises MigrationFailed: not 0, or no number
        """
        drift = _number(self.connection, self.made, self.state.name)
        self.state.drift, self.state.finished = drift, drift == 0
        if not self.state.finished:
            self.state.passes = SKIPS
        self.state.save(self.connection)
        if drift == 0:
            return
        row = self.connection.execute(self.made.left_over()).fetchone()
        key = ", ".join(f"{c} = {v}" for c, v in zip(self.made.file.key, row, strict=True)) if row else ""
        example = f"one is still to do: {key}" if row else "none of them is one that where finds"
        raise MigrationFailed(
            f"the drift query says {drift:g}, allowed 0; {example}",
            part=self.state.name,
            next_step="who writes these rows without the new columns? expand needs a trigger, or where more rows",
        )


def _number(connection: psycopg.Connection[Any], made: Statements, name: str) -> float:
    with connection.transaction():
        connection.execute("SET TRANSACTION READ ONLY")
        connection.execute("SET LOCAL statement_timeout = 0")
        rows = connection.execute(sql.SQL(made.file.drift)).fetchmany(2)
    try:
        ((value,),) = rows
        return float(value)
    except (ValueError, TypeError):
        fact = f"found {len(rows)} rows of which the first is {rows[0] if rows else 'not there'!r}, wanted one number"
        raise MigrationFailed(
            fact, part=f"{name}: drift", next_step="write a SELECT count(*) of rows that are not as they should be"
        ) from None


def run(
    connect: Connect,
    migration: Migration,
    limits: Backfill,
    log: Log,
    *,
    lock_timeout: timedelta = LOCK_TIMEOUT,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Done:
    """
    Do a backfill, or go on with it from where the last try ended.

    :param connect: a session of the server itself: a pooler that shares sessions loses lock and settings
    :param lock_timeout: of the second pass, for one row; then the batch is tried again
    :raises MigrationRefused: its file is wrong, or does not fit the table; nothing was touched
    :raises MigrationBlocked: the connection, or somebody else is at it; a next try goes on
    :raises MigrationFailed: out of time, the drift query is not 0, or what the server says
    """
    file = backfill_file.read(migration)
    deadline = Deadline(limits.timeout, clock, sleep)
    with told(migration.name, "the backfill ended"), connect() as connection:
        _prepare(connection, lock_timeout)
        with backfill_state.held(connection, migration.name):
            made = statements(connection, file, migration.name)
            state = backfill_state.load(connection, migration)
            if state.finished:  # asked for again: the data may have drifted since
                state.passes = COUNTS
            batch = file.batch or limits.rows
            work = _Work(connection, made, state, limits, deadline, log, batch, Progress(made, log, clock))
            return _through(work)


def _through(work: _Work) -> Done:
    state = work.state
    if state.batches and not state.finished:
        work.log(f"goes on in pass {state.passes} after {state.after}, {state.rows} rows were changed before")
    elif not state.finished:
        work.log(f"begins: batches of {work.batch} rows, {work.limits.share:.0%} of the time at most")
    while work.state.passes < COUNTS:
        work.pass_through()
    work.count_drift()
    state = work.state
    work.log(f"done: {state.rows} rows in {state.batches} batches, {state.seconds:.1f} s; drift 0")
    return Done(state.rows, state.batches, round(state.seconds, 3), state.drift or 0.0)


def _prepare(connection: psycopg.Connection[Any], lock_timeout: timedelta) -> None:
    """Make the session one that gives way, and that its server misses soon after our machine is gone."""
    settings = {
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "off",
        "lock_timeout": f"{lock_timeout.total_seconds() * 1000:.0f}",
        "statement_timeout": f"{_LONGEST_BATCH.total_seconds() * 1000:.0f}",
        "idle_in_transaction_session_timeout": "60000",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", [name, value])
