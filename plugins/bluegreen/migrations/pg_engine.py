"""PostgreSQL, 12 or later: its locks, its timeouts, and where its history stands."""

from __future__ import annotations

from typing import Any

from bluegreen.migrations import pg_effects, pg_statements
from bluegreen.migrations.databases import APPLICATION, Kind, Session, SqlTrouble, shown
from bluegreen.migrations.engine import Bounds
from bluegreen.migrations.history import TABLE
from bluegreen.migrations.statements import Statement

_CLASS, _KEY = 0x626C7565, 0x67726565
"""The advisory lock's two numbers: "blue", "gree"."""
_HISTORY = """\
CREATE TABLE IF NOT EXISTS {table} (
  service text NOT NULL,
  name text NOT NULL,
  phase text NOT NULL,
  checksum text NOT NULL,
  statements integer NOT NULL,
  done integer NOT NULL,
  begun integer,
  note text NOT NULL DEFAULT '',
  state text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
  finished_at timestamptz,
  run text NOT NULL DEFAULT '',
  error text NOT NULL DEFAULT '',
  PRIMARY KEY (service, name)
)"""
_WHO = """a.pid, coalesce(a.application_name, ''), coalesce(a.usename, ''), coalesce(a.state, 'hidden'),
  coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float,
  coalesce(extract(epoch FROM clock_timestamp() - a.query_start), 0)::float, coalesce(a.query, '')"""
_HOLDERS = f"""SELECT b.pid, {_WHO.partition(", ")[2]} FROM unnest(pg_blocking_pids(%s)) AS b(pid)
  LEFT JOIN pg_stat_activity a USING (pid) ORDER BY a.xact_start"""  # noqa: S608 - constants
_HOLDERS_OF_TOOLS = f"""SELECT {_WHO} FROM pg_stat_activity w, unnest(pg_blocking_pids(w.pid)) AS b(pid)
  JOIN pg_stat_activity a USING (pid) WHERE w.datname = current_database() AND w.application_name = '{APPLICATION}'
  ORDER BY a.xact_start"""  # noqa: S608
_TURN = f"""SELECT {_WHO} FROM pg_locks l JOIN pg_stat_activity a USING (pid)
  WHERE l.locktype = 'advisory' AND l.classid = {_CLASS} AND l.objid = {_KEY} AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""  # noqa: S608
_WAITING = f"""SELECT w.pid, w.query, {_WHO} FROM pg_stat_activity w, unnest(pg_blocking_pids(w.pid)) AS b(pid)
  JOIN pg_stat_activity a USING (pid) WHERE w.datname = current_database() AND w.wait_event_type = 'Lock'
  ORDER BY a.xact_start LIMIT 50"""  # noqa: S608
_INVALID = """SELECT n.nspname || '.' || i.relname || ' on ' || t.relname
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = i.relnamespace
  WHERE NOT x.indisvalid AND i.relkind = 'i' AND n.nspname NOT LIKE 'pg\\_temp%' ORDER BY 1"""


class PgEngine:
    """PostgreSQL; see ``engine.Engine``."""

    ddl_rolls_back = True

    def split(self, text: str, name: str) -> tuple[Statement, ...]:
        """Cut a file by PostgreSQL's own parser."""
        return pg_statements.split(text, name)

    def try_turn(self, session: Session) -> bool:
        """Take a session's advisory lock, without waiting: who waits has a snapshot, which CONCURRENTLY waits for."""
        return bool(session.execute(f"SELECT pg_try_advisory_lock({_CLASS}, {_KEY})")[0][0])

    def turn_holder(self, session: Session) -> str:
        """Say who has the advisory lock."""
        return "; ".join(_who(row) for row in session.execute(_TURN))

    def holders(self, session: Session, pid: int) -> list[str]:
        """Say who holds what a session waits for."""
        return [_who(row) for row in session.execute(_HOLDERS, [pid])]

    def holders_of_tools(self, session: Session) -> list[str]:
        """Say who holds what a tool's sessions wait for."""
        return [_who(row) for row in session.execute(_HOLDERS_OF_TOOLS)]

    def bound(self, session: Session, bounds: Bounds) -> None:
        """Set both timeouts of the session."""
        run = _milliseconds(bounds.run.total_seconds()) if bounds.run else 0
        session.execute(
            "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)",
            [str(_milliseconds(bounds.lock.total_seconds())), str(run)],
        )

    def settle(self, session: Session) -> None:
        """Back to what the session began with."""
        session.execute("RESET ALL")

    def history_table(self, session: Session) -> str:
        """Find it by the search path."""
        found = session.execute(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)",
            [TABLE],
        )
        return str(found[0][0]) if found else ""

    def make_history(self, session: Session) -> str:
        """Make it in the first schema of the search path."""
        schema = session.execute("SELECT quote_ident(current_schema())")[0][0]
        if schema is None:
            raise SqlTrouble(Kind.OTHER, "no schema of the search path exists, so the history has no place", "3F000")
        session.execute(_HISTORY.format(table=f"{schema}.{TABLE}"))
        return f"{schema}.{TABLE}"

    def grants(self, session: Session, table: str) -> str:
        """Name the GRANT that is missing."""
        user, schema = session.execute("SELECT quote_ident(current_user), quote_ident(current_schema())")[0]
        if table:
            return f"GRANT SELECT, INSERT, UPDATE ON {table} TO {user}"
        return f"GRANT USAGE, CREATE ON SCHEMA {schema or 'public'} TO {user}"

    def note(self, session: Session, statement: Statement) -> str:  # noqa: ARG002 - the schema itself says enough
        """Nothing: of each statement that cannot be in a transaction the schema tells whether it happened."""
        return ""

    def happened(self, session: Session, statement: Statement, note: str | None) -> bool:
        """Look at the indexes and partitions themselves."""
        return pg_effects.happened(session, statement, again=note is not None)

    def clean(self, session: Session, sql: str) -> None:
        """Drop the invalid indexes of those that are built concurrently."""
        pg_effects.clean(session, sql)

    def left_over(self, session: Session) -> list[str]:
        """Name the invalid indexes."""
        return [f"invalid index {row[0]}" for row in session.execute(_INVALID)]

    def waiting(self, session: Session) -> list[str]:
        """Say who waits for whom."""
        return [f"process {row[0]} ({shown(row[1])}) waits for {_who(row[2:])}" for row in session.execute(_WAITING)]


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))  # 0 would be no limit at all


def _who(row: tuple[Any, ...]) -> str:
    pid, application, user, state, in_transaction, in_query, query = row
    if not pid:
        return "a prepared transaction (pg_prepared_xacts)"
    name = ", ".join(word for word in (application, user and f"user {user}") if word)
    if query == "<insufficient privilege>" or state is None or state == "hidden":
        return f"process {pid} ({name}), whose query only GRANT pg_read_all_stats shows"
    ages = f"{state}, its transaction {in_transaction:.1f} s old, its query {in_query:.1f} s"
    return f"process {pid} ({name}): {ages}: {shown(query)}"
