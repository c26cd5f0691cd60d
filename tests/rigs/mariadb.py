"""A real MariaDB server of its own: one for a session of tests, a new database for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pymysql

from bluegreen.core.ports import Credentials
from demo.processes import LOOPBACK, Process, free_port, wait_until

USER, PASSWORD = "bluegreen", "s3cret-word"
_numbers = count(1)


def missing() -> str:
    """Say why no server can be started here; empty where one can."""
    return "" if _binary() else "there is no MariaDB server: apt-get install mariadb-server"


def _binary() -> str | None:
    return shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")


@dataclass
class MariaDb:
    """
    A running server.

    :param home: its data, its socket and its log
    """

    home: Path
    port: int
    process: Process = field(repr=False)

    def credentials(self, user: str = USER, password: str = PASSWORD) -> Credentials:
        """Return what a connection to it holds, over TCP."""
        return Credentials(user, password, LOOPBACK, self.port)

    def connect(self, dbname: str | None = None, *, autocommit: bool = True) -> Any:
        """Connect as the superuser over the socket."""
        return pymysql.connect(
            unix_socket=str(self.home / "socket"), user="root", database=dbname, autocommit=autocommit
        )

    def sql(self, dbname: str | None, text: str) -> list[tuple[Any, ...]]:
        """Execute one statement as the superuser."""
        with self.connect(dbname) as connection, connection.cursor() as cursor:
            cursor.execute(text)
            return list(cursor.fetchall())

    def database(self) -> str:
        """Make a new database, which ``USER`` may do everything in, and return its name."""
        name = f"test_{next(_numbers)}"
        self.sql(None, f"CREATE DATABASE {name}")
        self.sql(None, f"GRANT ALL ON {name}.* TO {USER}@'%'")
        return name

    def answers(self) -> bool:
        """Tell whether it takes connections."""
        try:
            self.connect().close()
        except pymysql.MySQLError:
            return False
        return True


@contextmanager
def mariadb() -> Iterator[MariaDb]:
    """Run a server; it is stopped at the end."""
    home = Path(tempfile.mkdtemp(prefix="bg-mariadb-"))
    user = ["--user=root"] if os.geteuid() == 0 else []
    made = subprocess.run(
        ["mariadb-install-db", "--no-defaults", f"--datadir={home}/data", "--auth-root-authentication-method=normal", *user],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr + made.stdout
    port = free_port()
    command = [_binary() or "mariadbd", "--no-defaults", f"--datadir={home}/data", f"--socket={home}/socket"]
    command += [f"--port={port}", f"--bind-address={LOOPBACK}", f"--pid-file={home}/pid", *user]
    command += ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", "--skip-name-resolve"]
    server = MariaDb(home, port, Process(command, home / "log").start())
    try:
        wait_until(server.answers, 60, f"MariaDB to answer; its log ends with: {server.process.tail(5)}")
        server.sql(None, f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}'")
        server.sql(None, f"GRANT PROCESS ON *.* TO {USER}@'%'")
        yield server
    finally:
        server.process.stop(20)
        shutil.rmtree(home, ignore_errors=True)
