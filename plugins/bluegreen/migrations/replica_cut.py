"""
The cut-over of a replicated database, and the way back. A cut-over that runs to its end loses no write that was answered.

Writers of the source wait (``replica_fence``), the target confirms the last write, sequences are set ahead, traffic is
switched, the source is closed for good; then replication is turned round. The slot of the way back is opened before the
switch, so that it holds every write that the new side ever takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql

from bluegreen.catalog.migrations import Replica
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import MigrationFailed
from bluegreen.migrations import replica_sequences
from bluegreen.migrations.backfill_state import held
from bluegreen.migrations.pg_errors import Log, told
from bluegreen.migrations.replica_check import PUBLISHED, check, confirmed
from bluegreen.migrations.replica_fence import fenced, install, now, open_again, take_away
from bluegreen.migrations.replica_sides import Pair, one

_STEP = timedelta(seconds=30)
"""For what is done before or after writers wait."""
_HAS_ORIGIN = 160000
_SLOT = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"


@dataclass(frozen=True)
class Cut:
    """
    A cut-over that is done.

    :param blocked_s: how long writers waited at most; None where another try had done that part
    :param sequences: how many were set ahead
    :param late: the switch took longer than ``block_writes``, so that for a moment both sides were written to: all rows
        are there, but of two writes to one row the older may have won
    """

    source: str
    target: str
    blocked_s: float | None
    sequences: int | None
    late: bool = False

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom and reports."""
        return asdict(self)


def cut_over(pair: Pair, replica: Replica, switch: Callable[[], object], log: Log) -> Cut:
    """
    Make the target the side that is written to.

    The way back is the same of ``found``, which then finds the other direction. One that was killed is done again:
    before its point of no return writers were let on by the server itself, and it begins anew; behind it, it is ended.

    :param switch: sends the traffic to the target's color; shorter than ``block_writes``. What it raises ends the
        cut-over, and writers go on at the source
    :raises MigrationFailed: the gate is not met, or the target does not catch up in time; nothing was moved
    :raises MigrationBlocked: locks could not be had, or a server does not answer
    """
    where = f"{pair.source.name} to {pair.target.name}"
    with told(where, "the cut-over ended"), pair.source.connect() as own, held(own, f"cut-over of {pair.subscription}"):
        if pair.unfinished:
            log(f"{where}: a cut-over before this one ended after the switch; its rest is done now")
            _turn(pair)
            return Cut(pair.source.name, pair.target.name, None, None)
        check(pair, replica)
        _open_slot(pair)
        install(pair.source, pair.publication, now(replica.within))
        done = _moved(pair, replica, switch, log)
        _turn(pair)
    log(f"{where}: writers waited {done.blocked_s} s; {done.sequences} sequences are {replica.sequences_ahead} ahead")
    return done


def _moved(pair: Pair, replica: Replica, switch: Callable[[], object], log: Log) -> Cut:
    switched, late, begun = False, False, 0.0
    try:
        with fenced(pair.source, replica.block_writes, now(replica.within)) as close:
            bound = now(replica.block_writes)
            begun = time.monotonic()
            sequences = _caught_up(pair, replica, bound)
            open_again(pair.target)
            _in_time(pair, bound)
            switch()
            switched = True
            close()
    except psycopg.Error:
        if not switched:
            raise
        late = True
        log("the switch took longer than block_writes: writers went on at the source for a moment; it is closed again")
        _closed_late(pair, replica)
    finally:
        if not switched:
            with suppress(psycopg.Error):  # the next try drops it, too
                _drop_slot(pair)
    blocked = round(time.monotonic() - begun, 3)
    return Cut(pair.source.name, pair.target.name, blocked, sequences, late)


def _in_time(pair: Pair, bound: Deadline) -> None:
    if bound.left <= 0:
        fact = f"block_writes ({bound.span.total_seconds():g} s) was over before traffic could be switched"
        raise MigrationFailed(
            fact,
            part=f"{pair.source.name} to {pair.target.name}",
            next_step="writers go on; release again, or raise it",
        )


def _caught_up(pair: Pair, replica: Replica, bound: Deadline) -> int:
    """Wait for the last write, and make the target fit to be written to."""
    with pair.source.connect() as source, pair.target.connect() as target:
        _bounded(target, bound)
        confirmed(pair, source, target, bound)
        _forget(pair, target)
        return replica_sequences.set_ahead(source, target, replica.sequences_ahead)


def _forget(pair: Pair, target: psycopg.Connection[Any]) -> None:
    """What came from the source must not go back to it."""
    target.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [pair.back_slot])


def _closed_late(pair: Pair, replica: Replica) -> None:
    """Close the source again; the forward subscription still brings over what was written there meanwhile."""
    with fenced(pair.source, replica.block_writes, now(replica.within)) as close:
        with pair.source.connect() as source, pair.target.connect() as target:
            confirmed(pair, source, target, now(replica.block_writes))
            if target.info.server_version < _HAS_ORIGIN:
                _forget(pair, target)
        close()


def _bounded(connection: psycopg.Connection[Any], bound: Deadline) -> None:
    value = f"{max(1.0, bound.left * 1000):.0f}"
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [value])


def _open_slot(pair: Pair) -> None:
    """Publish on the target what the source publishes, and open the slot of the way back."""
    _drop_slot(pair)
    with pair.source.connect() as source, pair.target.connect() as target:
        tables = sql.SQL(", ").join(sql.SQL(row[0]) for row in source.execute(PUBLISHED, [pair.publication]))
        name = sql.Identifier(pair.publication)
        _bounded(target, now(_STEP))
        there = one(target, "SELECT true FROM pg_publication WHERE pubname = %s", pair.publication)
        verb = "ALTER PUBLICATION {} SET TABLE {}" if there else "CREATE PUBLICATION {} FOR TABLE {}"
        target.execute(sql.SQL(verb).format(name, tables))
        target.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [pair.back_slot])


def _drop_slot(pair: Pair) -> None:
    """Drop what a try before this one left; it holds nothing that anybody needs as long as traffic is on the source."""
    with pair.target.connect() as target:
        if one(target, _SLOT, pair.back_slot) is not None:
            target.execute("SELECT pg_drop_replication_slot(%s)", [pair.back_slot])


def _turn(pair: Pair) -> None:
    """Turn the replication round: the source, which nobody writes to any more, follows the target."""
    with pair.target.connect() as target:
        # First this one: PostgreSQL 15 cannot tell what came from the other side, and would send it in circles.
        if one(target, "SELECT true FROM pg_subscription WHERE subname = %s", pair.subscription):
            target.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(pair.subscription)))
        if one(target, _SLOT, pair.back_slot) is None:
            fact = f"no slot {pair.back_slot}: what was written since the switch cannot go back"
            raise MigrationFailed(
                fact, part=pair.target.name, next_step="make the way back anew, with a copy of the data"
            )
    with pair.source.connect() as source:
        if not one(source, "SELECT true FROM pg_subscription WHERE subname = %s", pair.back):
            source.execute(_subscribe(pair, source))


def _subscribe(pair: Pair, source: psycopg.Connection[Any]) -> sql.Composed:
    origin = sql.SQL(", origin = none" if source.info.server_version >= _HAS_ORIGIN else "")
    return sql.SQL(
        "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} "
        "WITH (slot_name = {}, create_slot = false, copy_data = false{})"
    ).format(
        sql.Identifier(pair.back),
        sql.Literal(pair.target.conninfo),
        sql.Identifier(pair.publication),
        sql.Literal(pair.back_slot),
        origin,
    )


def open_source(pair: Pair) -> None:
    """
    Let writers on at the source again, and take the fence away: for people, when replication is given up.

    :raises MigrationBlocked: a lock could not be had, or the server does not answer
    """
    with told(pair.source.name, "took the fence away"):
        take_away(pair.source, now(_STEP))
