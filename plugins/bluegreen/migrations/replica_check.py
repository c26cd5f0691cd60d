"""The gate of a replicated database: what must be true before traffic goes to the other side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from bluegreen.catalog.migrations import Replica
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import MigrationFailed
from bluegreen.migrations.pg_errors import told
from bluegreen.migrations.replica_sides import Pair, one

Facts = dict[str, Any]
_PUBLICATION = "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication WHERE pubname = %s"
_PARTLY = """
SELECT r.prrelid::regclass::text FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
WHERE p.pubname = %s AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL)
"""
PUBLISHED = """
SELECT format('%%I.%%I', schemaname, tablename) FROM pg_publication_tables WHERE pubname = %s ORDER BY 1
"""
_UNPUBLISHED = """
WITH published AS (
    SELECT to_regclass(format('%%I.%%I', schemaname, tablename))::oid AS id FROM pg_publication_tables WHERE pubname = %s
)
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND c.relname <> ALL (%s) AND c.relname !~ '^bluegreen_'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  AND c.oid NOT IN (SELECT id FROM published)
  AND NOT EXISTS (SELECT FROM pg_partition_ancestors(c.oid) a WHERE a.relid::oid IN (SELECT id FROM published))
ORDER BY 1
"""
_SLOT = "SELECT active, wal_status FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()"
_SUBSCRIPTION = """
SELECT s.oid::bigint, s.subenabled, s.subslotname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE s.subname = %s AND d.datname = current_database()
"""
_RELATIONS = """
SELECT format('%%I.%%I', n.nspname, c.relname), r.srsubstate::text
FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.srsubid = %s::oid
"""
_ERRORS = "SELECT apply_error_count + sync_error_count FROM pg_stat_subscription_stats WHERE subname = %s"
_COLUMNS = """
SELECT format('%%I.%%I', n.nspname, c.relname) || '.' || a.attname
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND format('%%I.%%I', n.nspname, c.relname) = ANY (%s)
"""
_NO_IDENTITY = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE format('%%I.%%I', n.nspname, c.relname) = ANY (%s) AND (c.relreplident = 'n' OR c.relreplident = 'd'
  AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))
"""
SEQUENCES = """
SELECT format('%I.%I', schemaname, sequencename) FROM pg_sequences WHERE schemaname !~ '^pg_' AND sequencename !~ '^bluegreen_' ORDER BY 1
"""
_BEHIND = """
SELECT active, coalesce(confirmed_flush_lsn >= %s::pg_lsn, false), (%s::pg_lsn - confirmed_flush_lsn)::bigint
FROM pg_replication_slots WHERE slot_name = %s
"""


def check(pair: Pair, replica: Replica, deadline: Deadline | None = None) -> Facts:
    """
    Look at all that a cut-over needs, and wait until the target has what was written until now.

    :param deadline: of the wait, by default ``within``
    :returns: facts by name, JSON-able
    :raises MigrationFailed: something is not so; names it
    :raises MigrationBlocked: a server does not answer
    """
    with (
        told(f"{pair.source.name} to {pair.target.name}", "looked at the replication"),
        pair.source.connect() as source,
        pair.target.connect() as target,
    ):
        tables = _publication(pair, source, replica)
        _subscription(pair, target, tables)
        _slot(pair, source)
        _alike(pair, source, target, tables)
        errors = apply_errors(pair, target)
        waited = confirmed(pair, source, target, deadline or Deadline(replica.within))
        return {
            "source": pair.source.name,
            "target": pair.target.name,
            "tables": len(tables),
            "sequences": len(source.execute(SEQUENCES).fetchall()),
            "apply_errors": errors,
            "confirmed_after_s": round(waited, 3),
        }


def failed(pair: Pair, fact: str, next_step: str) -> MigrationFailed:
    """Return the error of a direction."""
    return MigrationFailed(fact, part=f"{pair.source.name} to {pair.target.name}", next_step=next_step)


def _refuse(pair: Pair, amiss: Sequence[str], fact: str, next_step: str) -> None:
    if amiss:
        listed = ", ".join(amiss[:10]) + (" …" if len(amiss) > 10 else "")
        raise failed(pair, f"{fact}: {listed}", next_step)


def _column(connection: psycopg.Connection[Any], query: str, *words: Any) -> list[str]:
    return [row[0] for row in connection.execute(query, words or None)]


def _publication(pair: Pair, source: psycopg.Connection[Any], replica: Replica) -> list[str]:
    name = pair.publication
    whole = one(source, _PUBLICATION, name)
    if not whole:
        fact = f"the publication {name} " + ("is not there" if whole is None else "leaves some kinds of writes out")
        raise failed(pair, fact, "it must publish insert, update, delete and truncate")
    partly = _column(source, _PARTLY, name)
    _refuse(pair, partly, f"the publication {name} has only some rows or columns of", "publish them whole")
    tables = _column(source, PUBLISHED, name)
    own = {table for table in tables if (bare := table.partition(".")[2]) in replica.apart or bare[:10] == "bluegreen_"}
    step = "each side has its own: name the other tables in the publication, instead of ALL TABLES"
    _refuse(pair, sorted(own), f"the publication {name} has what is each side's own", step)
    missed = _column(source, _UNPUBLISHED, name, list(replica.apart))
    step = f"ALTER PUBLICATION {name} ADD TABLE …, or name them in migrations.replica.apart"
    _refuse(pair, missed, f"not in the publication {name}, so what is written there would be lost", step)
    return tables


def _subscription(pair: Pair, target: psycopg.Connection[Any], tables: Sequence[str]) -> None:
    row = target.execute(_SUBSCRIPTION, [pair.subscription]).fetchone()
    if row is None:
        raise failed(pair, f"no subscription {pair.subscription}", "CREATE SUBSCRIPTION on the target")
    number, enabled, slot = row
    if not enabled:
        step = f"ALTER SUBSCRIPTION {pair.subscription} ENABLE; look in the target's log why it was disabled"
        raise failed(pair, f"the subscription {pair.subscription} is disabled", step)
    if slot != pair.slot:
        raise failed(pair, f"it reads the slot {slot}, wanted {pair.slot}", "write it as migrations.replica.slot")
    states = dict(target.execute(_RELATIONS, [number]).fetchall())
    unready = [f"{table} ({state})" for table, state in sorted(states.items()) if state != "r"]
    _refuse(pair, unready, "their first copy is not done (srsubstate is not r)", "wait for it")
    unknown = [table for table in tables if table not in states]
    step = f"ALTER SUBSCRIPTION {pair.subscription} REFRESH PUBLICATION"
    _refuse(pair, unknown, "published, but not subscribed to", step)


def _slot(pair: Pair, source: psycopg.Connection[Any]) -> None:
    row = source.execute(_SLOT, [pair.slot]).fetchone()
    if row is None:
        raise failed(
            pair, f"no slot {pair.slot}", "the subscription's slot is the publisher's: is it another database?"
        )
    active, status = row
    if status in ("lost", "unreserved"):
        raise failed(pair, f"the slot {pair.slot} is {status}", "make the subscription anew, with a copy of the data")
    if not active:
        raise failed(pair, f"the slot {pair.slot} is inactive: nobody reads it", _why_inactive(pair))


def _why_inactive(pair: Pair) -> str:
    return f"look whether {pair.target.name} runs, and in its log for an apply error of {pair.subscription}"


def _alike(pair: Pair, source: psycopg.Connection[Any], target: psycopg.Connection[Any], tables: Sequence[str]) -> None:
    lacking = set(_column(source, _COLUMNS, list(tables))) - set(_column(target, _COLUMNS, list(tables)))
    step = "expand runs on the target first"
    _refuse(pair, sorted(lacking), f"columns that {pair.target.name} does not have", step)
    gone = set(_column(source, SEQUENCES)) - set(_column(target, SEQUENCES))
    _refuse(pair, sorted(gone), f"sequences that {pair.target.name} does not have", step)
    for side, connection in ((pair.source, source), (pair.target, target)):
        without = _column(connection, _NO_IDENTITY, list(tables))
        fact = f"tables of {side.name} without a replica identity"
        _refuse(pair, without, fact, "give each a primary key: nothing could be updated once they are published")


def apply_errors(pair: Pair, target: psycopg.Connection[Any]) -> int | None:
    """Return how often the target failed to apply; None before PostgreSQL 15, which counts none."""
    if target.info.server_version < 150000:
        return None
    return int(one(target, _ERRORS, pair.subscription) or 0)


def confirmed(
    pair: Pair,
    source: psycopg.Connection[Any],
    target: psycopg.Connection[Any],
    deadline: Deadline,
    *,
    ended: Callable[[], None] = lambda: None,
) -> float:
    """
    Wait until the target has confirmed all that was committed before this call.

    :param ended: asked at each look; may end the wait by raising
    :returns: seconds that it took
    :raises MigrationFailed: nobody reads the slot, the target fails to apply, or the time is over
    """
    before, begun = apply_errors(pair, target), deadline.clock()
    # A commit of our own flushes what sessions without synchronous_commit have not flushed yet.
    source.execute("SET synchronous_commit = local")
    source.execute("SELECT pg_logical_emit_message(true, 'bluegreen', 'marker')")
    marker = one(source, "SELECT pg_current_wal_lsn()::text")
    bytes_left = 0
    for _ in deadline.tries(first_pause=0.02, longest_pause=0.25):
        ended()
        row = source.execute(_BEHIND, [marker, marker, pair.slot]).fetchone()
        active, reached, bytes_left = row or (False, False, 0)
        now = apply_errors(pair, target)
        if now is not None and before is not None and now > before:
            fact = f"{pair.target.name} fails to apply what was written: {now - before} errors since {before}"
            raise failed(pair, fact, "look in its log: a missing column or table, or a row that is there already")
        if not active:
            raise failed(pair, f"the slot {pair.slot} is inactive: nobody reads it", _why_inactive(pair))
        if reached:
            return deadline.clock() - begun
    fact = f"{bytes_left} bytes behind, and not caught up within {deadline.span.total_seconds():g} s"
    raise failed(pair, fact, "wait for a quieter hour, or raise the bound in migrations.replica")
