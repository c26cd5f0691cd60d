"""
A migration tool as a program: no shell, the database by its environment, its output masked line by line.

Tools set no timeouts of their own, so libpq does it for them: PGOPTIONS. What they print tells whether another try helps.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from bluegreen.catalog.migrations import Migrations
from bluegreen.core.errors import MigrationFailed
from bluegreen.core.masks import masked
from bluegreen.hosts import host_child
from bluegreen.hosts.host_files import Trouble
from bluegreen.migrations.databases import APPLICATION, Kind, Place, SqlTrouble

# Airflow's own database, connections and variables are no business of a tool, which inherits all it gets.
_AIRFLOWS = ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_")
_TAIL = 12
"""Lines that an error quotes."""
_LONGEST_LINE = 2000
_READS_WITHIN = timedelta(minutes=2)
_LOCKED = re.compile(
    r"lock timeout|LockNotAvailable|55P03|deadlock detected|40P01|Lock wait timeout exceeded", re.IGNORECASE
)
_GONE = re.compile(
    r"server closed the connection|terminating connection|connection refused|could not connect|connection is lost"
    r"|the database system is (?:starting|shutting)|server has gone away",
    re.IGNORECASE,
)
_VALUES = re.compile(r"^\s*(?:DETAIL:|\[parameters:)")


@dataclass(frozen=True)
class ToolProcess:
    """
    Runs one tool's commands against a service's database.

    :param folder: where commands run
    :param timeout: for a command that changes the database
    :param say: gets each line of its output
    """

    place: Place
    settings: Migrations
    folder: Path
    timeout: timedelta
    say: Callable[[str], None] = field(repr=False)

    def read(self, *argv: str) -> str:
        """
        Return what a command prints to its standard output; of one that reads only.

        :raises SqlTrouble: the database does not answer (``lost``)
        :raises MigrationFailed: it cannot be started, or ends with an error; with its last lines
        """
        try:
            process = subprocess.Popen(
                argv,
                cwd=self.folder,
                env=self._environment(online=False),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise self._failed(argv, f"cannot be started: {error.strerror}", []) from None
        try:
            out, err = process.communicate(timeout=_READS_WITHIN.total_seconds())
        except subprocess.TimeoutExpired:
            fact = f"did not end within {_READS_WITHIN.total_seconds():g} s and was killed"
            raise self._failed(argv, fact, []) from None
        finally:
            _kill_group(process)
        if process.returncode:
            lines = self._lines(err) or self._lines(out)
            raise self._trouble(argv, f"ended with code {process.returncode}", lines)
        return out.decode(errors="replace")

    def execute(self, argv: tuple[str, ...], *, online: bool) -> None:
        """
        Run a command that changes the database; its whole group ends with it, with us, or after its timeout.

        :param online: it has statements that block nobody and may run for long, so no statement has a bound
        :raises SqlTrouble: a lock could not be had in time, or the connection was lost
        :raises MigrationFailed: it ended with an error; with its last lines
        """
        output = bytearray()

        def feed(chunk: bytes) -> None:
            output.extend(chunk)
            while b"\n" in output:
                line, _, rest = bytes(output).partition(b"\n")
                output[:] = rest
                self._tell(line, lines)

        lines: list[str] = []
        try:
            host_child.run(argv, self._environment(online=online), str(self.folder), self.timeout.total_seconds(), feed)
        except Trouble as trouble:
            self._tell(bytes(output), lines)
            raise self._trouble(argv, trouble.fact, lines) from None
        self._tell(bytes(output), lines)

    def _tell(self, raw: bytes, lines: list[str]) -> None:
        for line in self._lines(raw):
            lines.append(line)
            self.say(line)

    def _lines(self, raw: bytes) -> list[str]:
        hide = [word for secret in self.place.hide for word in (secret, quote(secret, safe=""))]
        text = masked(raw.decode(errors="replace"), hide)
        kept = (line.rstrip() for line in text.splitlines() if not _VALUES.match(line))
        return [line[:_LONGEST_LINE] for line in kept if line]

    def _environment(self, *, online: bool) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_AIRFLOWS)}
        run = 0 if online else self.settings.statement_timeout.total_seconds()
        options = (
            f"{self.place.credentials.extra.get('options', '')} "
            f"-c lock_timeout={round(self.settings.lock_timeout.total_seconds() * 1000)} "
            f"-c statement_timeout={round(run * 1000)} -c idle_in_transaction_session_timeout=60s"
        )
        ours = {"DATABASE_URL": self.place.url, "PGOPTIONS": options.strip(), "PGAPPNAME": APPLICATION}
        return inherited | ours | {"PYTHONUNBUFFERED": "1"}

    def _trouble(self, argv: tuple[str, ...], fact: str, lines: list[str]) -> SqlTrouble | MigrationFailed:
        said = "\n".join(lines)
        last = next((line.strip() for line in reversed(lines) if _LOCKED.search(line) or _GONE.search(line)), "")
        if _LOCKED.search(said):
            return SqlTrouble(Kind.LOCK, f"{argv[0]}: {last[:300]}")
        if _GONE.search(said):
            return SqlTrouble(Kind.LOST, f"{argv[0]}: {last[:300]}")
        return self._failed(argv, fact, lines)

    def _failed(self, argv: tuple[str, ...], fact: str, lines: list[str]) -> MigrationFailed:
        quoted = "; its last lines:\n  " + "\n  ".join(lines[-_TAIL:]) if lines else ""
        return MigrationFailed(
            f"{fact}{quoted}",
            service=self.place.service,
            part=" ".join(argv)[:100],
            next_step="mend what it says; what the tool has noted as done stays done",
        )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
