"""
How far replicas are behind, in seconds.

``replay_lag`` is empty when nothing is written, and a replica that is away has no row at all. So each look notes where
the server is; a replica is as far behind as the oldest note that it has not reached, one that is away as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg

from bluegreen.core.errors import MigrationRefused

_EVERY = 1.0
"""Seconds between two looks."""
_NOTES = 600
_NOW = "SELECT (pg_current_wal_lsn() - '0/0')::bigint"
_AT = """
SELECT coalesce(nullif(application_name, ''), 'replica ' || pid), (replay_lsn - '0/0')::bigint, state IS NULL
FROM pg_stat_replication
UNION ALL
SELECT 'slot ' || slot_name || CASE WHEN active THEN '' ELSE ' (inactive)' END,
       (coalesce(confirmed_flush_lsn, restart_lsn) - '0/0')::bigint, false
FROM pg_replication_slots WHERE NOT temporary
"""


class ReplicaLag:
    """
    Looks at the replicas of one server, at most once a second.

    :param clock: seconds, only ever growing
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._notes: deque[tuple[float, int]] = deque(maxlen=_NOTES)
        self._last: tuple[float, str] = (0.0, "")

    def behind(self, connection: psycopg.Connection[Any]) -> tuple[float, str]:
        """
        Return how many seconds the last of all replicas is behind, and its name.

        :raises MigrationRefused: the user may not see where a replica is
        """
        now = self._clock()
        if self._notes and now - self._notes[-1][0] < _EVERY:
            return self._last
        row = connection.execute(_NOW).fetchone()
        self._notes.append((now, row[0] if row else 0))
        self._last = max((self._of(*one) for one in connection.execute(_AT)), default=(0.0, ""))
        return self._last

    def _of(self, name: str, position: int | None, hidden: bool) -> tuple[float, str]:
        if hidden:
            step = "GRANT pg_monitor to the user of the migrations' connection"
            raise MigrationRefused(
                "a replica is there, but how far it is cannot be seen", part="replicas", next_step=step
            )
        if position is None:  # a base backup, or a slot that never held anything back
            return 0.0, name
        missed = (at for at, written in self._notes if written > position)
        return self._clock() - next(missed, self._clock()), name
