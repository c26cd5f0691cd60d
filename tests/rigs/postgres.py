"""A real PostgreSQL server of its own: one for a session of tests, a new database for each test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from bluegreen.core.ports import Credentials
from demo.processes import LOOPBACK, free_port, tail, wait_until

USER, PASSWORD = "postgres", "s3cret-word"
_ACCESS = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\nlocal replication all trust\n"
# A test's data need not outlive the machine; a killed server is started again by tests all the same.
_QUICK = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "64MB"}
_numbers = count(1)


def binaries() -> Path | None:
    """Return the folder of the newest server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def missing() -> str:
    """Say why no server can be started here; empty where one can."""
    return "" if binaries() else "there is no PostgreSQL server: apt-get install postgresql"


@dataclass
class Postgres:
    """
    A running server.

    Over its socket nobody is asked for a password; over TCP every user is.

    :param host: folder of its socket
    :param settings: of postgresql.conf
    """

    host: str
    port: int
    settings: Mapping[str, str]
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        """Its data folder."""
        return Path(self.host) / "data"

    @property
    def log(self) -> Path:
        """What it says."""
        return Path(self.host) / "log"

    @property
    def pid(self) -> int:
        """The postmaster."""
        assert self._process
        return self._process.pid

    def url(self, dbname: str = "postgres", user: str = USER, password: str = PASSWORD) -> str:
        """Return its address over TCP, password and all."""
        return f"postgresql://{user}:{quote(password)}@{LOOPBACK}:{self.port}/{dbname}"

    def credentials(self, user: str = USER, password: str = PASSWORD) -> Credentials:
        """Return what a connection to it holds, over TCP."""
        return Credentials(user, password, LOOPBACK, self.port)

    def connect(self, dbname: str = "postgres", *, autocommit: bool = True, **words: Any) -> psycopg.Connection[Any]:
        """Connect as the superuser over the socket."""
        given = {"user": USER, "host": self.host, "port": self.port, "connect_timeout": 10} | words
        return psycopg.connect(dbname=dbname, autocommit=autocommit, **given)

    def database(self, template: str = "template1") -> str:
        """Make a new database and return its name; it ends with the server."""
        name = f"test_{next(_numbers)}"
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE {name} TEMPLATE "{template}"')
        return name

    def start(self) -> None:
        """Start it, also after ``stop``, and wait until it answers."""
        programs = binaries()
        assert programs
        words = [f"--{name}={value}" for name, value in self.settings.items()]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [programs / "postgres", "-D", self.data, "-k", self.host, "-p", str(self.port), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **_as_its_user(),
            )
        wait_until(self._answers, 60, f"PostgreSQL to answer; its log ends with: {tail(self.log)}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends its sessions first, SIGQUIT is a crash."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(30)

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, f"PostgreSQL ended: {tail(self.log)}"
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres(folder: Path | None = None, **settings: str) -> Iterator[Postgres]:
    """
    Run a server; it is stopped at the end.

    :param folder: for its data and its socket, by default a new one. Its path must be short, and open to other users
        where we are root: the server refuses to be root's
    :param settings: of postgresql.conf, beside quick ones
    """
    home = folder or Path(tempfile.mkdtemp(prefix="bg-postgres-"))
    home.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(home, USER, USER)
    home.chmod(0o755)
    server = Postgres(str(home), free_port(), {**_QUICK, "listen_addresses": LOOPBACK, **settings})
    _make(server)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        if folder is None:
            shutil.rmtree(home, ignore_errors=True)


def _make(server: Postgres) -> None:
    programs, password = binaries(), Path(server.host) / "password"
    assert programs, missing()
    password.write_text(PASSWORD)
    command = [programs / "initdb", "-D", server.data, "-U", USER, "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    made = subprocess.run(
        [*command, f"--pwfile={password}", "--auth=trust"],
        capture_output=True,
        text=True,
        check=False,
        **_as_its_user(),
    )
    assert made.returncode == 0, made.stderr
    (server.data / "pg_hba.conf").write_text(_ACCESS)


def _as_its_user() -> dict[str, Any]:
    return {"user": USER, "group": USER, "extra_groups": [], "cwd": "/"} if os.geteuid() == 0 else {}
