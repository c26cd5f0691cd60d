"""
MySQL 8 and MariaDB: no statement that changes the schema can be rolled back there, and none tells whether it happened.

So the tables that a statement names are noted before it begins: where they look otherwise afterwards, it has happened.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any

from bluegreen.migrations import mysql_statements
from bluegreen.migrations.databases import Session, SqlTrouble, shown
from bluegreen.migrations.engine import Bounds
from bluegreen.migrations.history import TABLE
from bluegreen.migrations.statements import Statement

_HISTORY = f"""\
CREATE TABLE IF NOT EXISTS {TABLE} (
  service varchar(64) NOT NULL,
  name varchar(190) NOT NULL,
  phase varchar(16) NOT NULL,
  checksum char(64) NOT NULL,
  statements int NOT NULL,
  done int NOT NULL,
  begun int NULL,
  note varchar(128) NOT NULL DEFAULT '',
  state varchar(16) NOT NULL,
  started_at datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  finished_at datetime(6) NULL,
  run varchar(255) NOT NULL DEFAULT '',
  error text NULL,
  PRIMARY KEY (service, name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"""
_WHO = "p.id, p.user, p.command, p.time, coalesce(p.info, '')"
_OPEN = f"""SELECT {_WHO}, timestampdiff(second, t.trx_started, now()) FROM information_schema.innodb_trx t
  JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id WHERE p.id NOT IN (%s, connection_id())
  ORDER BY t.trx_started LIMIT 10"""  # noqa: S608 - constants
_WAITS = """SELECT count(*) FROM information_schema.processlist
  WHERE id = %s AND (state LIKE 'Waiting for%%lock%%' OR state LIKE 'Waiting for table%%')"""
_ROW_WAITS = (
    "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = %s AND trx_state = 'LOCK WAIT'"
)
_TRIGGERS = """SELECT trigger_name, event_object_table, action_timing, event_manipulation, action_statement
  FROM information_schema.triggers WHERE trigger_schema = database() ORDER BY 1"""
_ROUTINES = """SELECT routine_name, routine_type, routine_definition FROM information_schema.routines
  WHERE routine_schema = database() ORDER BY 1, 2"""
_COUNTER = re.compile(r" AUTO_INCREMENT=\d+")


class MySqlEngine:
    """
    MySQL or MariaDB; see ``engine.Engine``.

    :param database: its name; the lock of turns is the whole server's
    """

    ddl_rolls_back = False

    def __init__(self, database: str) -> None:
        self._turn = f"bluegreen_{hashlib.sha256(database.encode()).hexdigest()[:40]}"

    def split(self, text: str, name: str) -> tuple[Statement, ...]:
        """Cut a file as the mysql client does."""
        return mysql_statements.split(text, name)

    def try_turn(self, session: Session) -> bool:
        """Take the named lock; it is the session's."""
        return bool(session.execute("SELECT GET_LOCK(%s, 0)", [self._turn])[0][0])

    def turn_holder(self, session: Session) -> str:
        """Say who has the named lock."""
        query = f"SELECT {_WHO}, 0 FROM information_schema.processlist p WHERE p.id = IS_USED_LOCK(%s)"  # noqa: S608
        return "; ".join(_who(row) for row in session.execute(query, [self._turn]))

    def holders(self, session: Session, pid: int) -> list[str]:
        """Say who has a transaction open while a session waits for a lock; who of them holds it, MySQL tells few."""
        waits = session.execute(_WAITS, [pid])[0][0] or session.execute(_ROW_WAITS, [pid])[0][0]
        return [_who(row) for row in session.execute(_OPEN, [pid])] if waits else []

    def holders_of_tools(self, session: Session) -> list[str]:
        """Say who has a transaction open, whoever waits."""
        return [_who(row) for row in session.execute(_OPEN, [0])]

    def bound(self, session: Session, bounds: Bounds) -> None:
        """Set the timeouts: locks in whole seconds, at least one; MySQL itself has none for what is no SELECT."""
        lock = max(1, math.ceil(bounds.lock.total_seconds()))
        session.execute(f"SET lock_wait_timeout = {lock}, innodb_lock_wait_timeout = {lock}")
        if "MariaDB" in str(session.execute("SELECT version()")[0][0]):
            run = bounds.run.total_seconds() if bounds.run else 0
            session.execute(f"SET max_statement_time = {run}")

    def settle(self, session: Session) -> None:
        """Nothing: MySQL cannot take back all that was set; what a file sets, it sets for those behind it too."""

    def history_table(self, session: Session) -> str:
        """Find it in the database."""
        found = session.execute(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = database() AND table_name = %s", [TABLE]
        )
        return TABLE if found else ""

    def make_history(self, session: Session) -> str:
        """Make it in the database."""
        session.execute(_HISTORY)
        return TABLE

    def grants(self, session: Session, table: str) -> str:
        """Name the GRANT that is missing."""
        user, database = session.execute("SELECT current_user(), database()")[0]
        what = "SELECT, INSERT, UPDATE" if table else "CREATE, SELECT, INSERT, UPDATE"
        return f"GRANT {what} ON `{database}`.{TABLE} TO {user}"

    def note(self, session: Session, statement: Statement) -> str:
        """Return a checksum of the tables, triggers and programs that a statement names."""
        words = {word.lower() for word in re.findall(r"[\w$]+", statement.text)}
        found: list[Any] = []
        for name, _ in session.execute("SHOW FULL TABLES"):
            if str(name).lower() in words:
                created = session.execute(f"SHOW CREATE TABLE `{str(name).replace('`', '``')}`")[0][1]
                found.append((name, _COUNTER.sub("", str(created))))
        for query in (_TRIGGERS, _ROUTINES):
            found += [row for row in session.execute(query) if {str(part).lower() for part in row[:2]} & words]
        return hashlib.sha256(repr(found).encode()).hexdigest()

    def happened(self, session: Session, statement: Statement, note: str | None) -> bool:
        """Tell whether what a statement names looks otherwise than before it began."""
        return note is not None and self.note(session, statement) != note

    def clean(self, session: Session, sql: str) -> None:
        """Nothing: a killed ALTER leaves nothing that can be seen."""

    def left_over(self, session: Session) -> list[str]:  # noqa: ARG002
        """Nothing, see ``clean``."""
        return []

    def waiting(self, session: Session) -> list[str]:
        """Say who waits for a lock, and who has a transaction open meanwhile."""
        query = "SELECT id, info FROM information_schema.processlist WHERE state LIKE 'Waiting for%lock%'"
        try:
            waiting = session.execute(query)
        except SqlTrouble:
            return []
        return [
            f"process {pid} ({shown(info or '')}) waits, open are: {self.holders(session, pid)}"
            for pid, info in waiting
        ]


def _who(row: tuple[Any, ...]) -> str:
    pid, user, command, seconds, query, age = row
    what = f": {shown(query)}" if query else ""
    return f"process {pid} (user {user}): {command} for {seconds} s, its transaction {age} s old{what}"
