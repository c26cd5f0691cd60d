"""Two databases kept alike by logical replication: which one is written to now, and where a change goes first."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from bluegreen.catalog.migrations import Replica
from bluegreen.core.errors import MigrationFailed
from bluegreen.migrations.pg_errors import Connect, told
from bluegreen.migrations.ports import Phase

FENCE = "bluegreen_fence"
"""Name of the triggers that keep writers from the side that traffic left, of their function and their state."""
OPEN, SHUT = 1, 2
_BACK = "_back"
_SUBSCRIBED = """
SELECT true FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE s.subname = %s AND d.datname = current_database()
"""
_FENCED = f"SELECT true FROM pg_sequences WHERE sequencename = %s AND last_value = {SHUT}"  # noqa: S608 - ours


@dataclass(frozen=True)
class Side:
    """
    One of the two databases.

    :param name: how logs call it
    :param connect: opens a session of the server itself, as a user who may subscribe: a superuser in PostgreSQL 15
    :param conninfo: how the other server reaches it; holds a password, so it is never shown
    """

    name: str
    connect: Connect = field(repr=False)
    conninfo: str = field(repr=False)


@dataclass(frozen=True)
class Pair:
    """
    A direction of replication.

    :param source: is written to
    :param target: subscribes to it
    :param back: what the subscription of the way back is called
    :param unfinished: a cut-over of this direction ended behind its point of no return: traffic is on the target
    """

    source: Side
    target: Side
    publication: str
    subscription: str
    slot: str
    back: str
    back_slot: str
    unfinished: bool = False

    def turned(self) -> Pair:
        """Return the other direction."""
        return replace(
            self,
            source=self.target,
            target=self.source,
            subscription=self.back,
            slot=self.back_slot,
            back=self.subscription,
            back_slot=self.slot,
            unfinished=False,
        )

    def order(self, phase: Phase) -> tuple[Side, Side]:
        """
        Return where a migration runs first.

        Replication carries rows, not DDL, and stops at a column that the target does not have: what is added is added
        to the target first, what is dropped is dropped from the source first.
        """
        return (self.source, self.target) if phase is Phase.CONTRACT else (self.target, self.source)


def found(own: Side, other: Side, replica: Replica) -> Pair:
    """
    Return the direction that replication has now; also of a cut-over that somebody killed.

    :param own: ``migrations.database``
    :param other: ``migrations.replica.database``
    :raises MigrationFailed: there is none, or one in each direction
    :raises MigrationBlocked: a server does not answer
    """
    slot = replica.slot or replica.subscription
    there = Pair(
        own, other, replica.publication, replica.subscription, slot, replica.subscription + _BACK, slot + _BACK
    )
    back = there.turned()
    forward, backward = _has(other, _SUBSCRIBED, there.subscription), _has(own, _SUBSCRIBED, back.subscription)
    if forward and backward:
        step = f"drop the one that does not belong there: {there.subscription} or {back.subscription}"
        raise MigrationFailed("each side subscribes to the other", part=own.name, next_step=step)
    fenced = [pair for pair in (there, back) if _has(pair.source, _FENCED, FENCE)]
    if forward or backward:
        pair = there if forward else back
        return replace(pair, unfinished=pair in fenced)
    if len(fenced) == 1:
        return replace(fenced[0], unfinished=True)
    fact = f"found no subscription {there.subscription} on {other.name}, and no {back.subscription} on {own.name}"
    raise MigrationFailed(fact, part=own.name, next_step="CREATE SUBSCRIPTION, as docs/replicated-databases.md has it")


def _has(side: Side, query: str, name: str) -> bool:
    with told(side.name, "asked about its replication"), side.connect() as connection:
        return one(connection, query, name) is not None


def one(connection: psycopg.Connection[Any], query: Any, *words: Any) -> Any:
    """Return the first value of the first row; None without one."""
    row = connection.execute(query, words or None).fetchone()
    return row[0] if row else None
