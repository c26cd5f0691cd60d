"""What a database was doing when a release failed: who holds locks, how replication is, which transactions are long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

from bluegreen.migrations.databases import shown
from bluegreen.migrations.pg_errors import Connect, words

LONG = 30
"""Seconds: a transaction above is long."""
MOST = 10
_PATIENCE = "5000"
_WAITING = """
SELECT w.pid AS waits_pid, w.application_name AS waits, w.query AS waits_query,
       extract(epoch FROM clock_timestamp() - w.query_start)::float AS waits_s,
       l.mode AS wants, coalesce(l.relation::regclass::text, l.locktype) AS relation,
       h.pid AS holds_pid, h.application_name AS holds, h.state AS holds_state, h.query AS holds_query,
       extract(epoch FROM clock_timestamp() - h.xact_start)::float AS holds_s,
       (SELECT string_agg(DISTINCT k.mode, ', ') FROM pg_locks k
        WHERE k.pid = h.pid AND k.granted AND k.locktype = l.locktype AND k.relation IS NOT DISTINCT FROM l.relation
          AND k.transactionid IS NOT DISTINCT FROM l.transactionid) AS held
FROM pg_stat_activity w
JOIN pg_locks l ON l.pid = w.pid AND NOT l.granted
CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b (pid)
JOIN pg_stat_activity h ON h.pid = b.pid
WHERE w.datname = current_database()
ORDER BY holds_s DESC NULLS LAST LIMIT %s
"""
_TRANSACTIONS = """
SELECT pid, application_name, state, query, extract(epoch FROM clock_timestamp() - xact_start)::float AS age_s
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND xact_start < clock_timestamp() - make_interval(secs => %s)
ORDER BY xact_start LIMIT %s
"""
_REPLICAS = """
SELECT application_name, state, sync_state, extract(epoch FROM replay_lag)::float AS replay_lag_s FROM pg_stat_replication
LIMIT %s
"""
_SLOTS = """
SELECT slot_name::text, slot_type, active, wal_status,
       pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(confirmed_flush_lsn, restart_lsn))::bigint AS bytes_behind
FROM pg_replication_slots LIMIT %s
"""
_SUBSCRIPTIONS = """
SELECT s.subname::text AS name, s.pid IS NOT NULL AS runs, coalesce(e.apply_error_count, 0) AS apply_errors
FROM pg_stat_subscription s LEFT JOIN pg_stat_subscription_stats e USING (subid) WHERE s.relid IS NULL LIMIT %s
"""
_PARTS: Mapping[str, tuple[str, Sequence[Any]]] = {
    "locks": (_WAITING, [MOST]),
    "long_transactions": (_TRANSACTIONS, [LONG, MOST]),
    "replicas": (_REPLICAS, [MOST]),
    "slots": (_SLOTS, [MOST]),
    "subscriptions": (_SUBSCRIPTIONS, [MOST]),
}


def state_of(connect: Connect) -> dict[str, Any]:
    """
    Return what a database is doing, JSON-able; a part that cannot be asked says why under ``not_known``.

    Never raises: it is asked when something has failed already.
    """
    found: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    try:
        with connect() as connection:
            connection.execute("SELECT set_config('statement_timeout', %s, false)", [_PATIENCE])
            for name, (query, bounds) in _PARTS.items():
                try:
                    found[name] = _rows(connection, query, bounds)
                except psycopg.Error as error:
                    unknown[name] = words(error)
    except psycopg.Error as error:
        unknown["database"] = words(error)
    return found | ({"not_known": unknown} if unknown else {})


def _rows(connection: psycopg.Connection[Any], query: str, bounds: Sequence[Any]) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return [{name: _shown(name, value) for name, value in row.items()} for row in cursor.execute(query, bounds)]


def _shown(name: str, value: Any) -> Any:
    if name.endswith("query"):
        return shown(value or "")
    return round(value, 1) if isinstance(value, float) else value
