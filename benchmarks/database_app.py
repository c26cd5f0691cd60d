"""
The application of the bench `migrations`: an old version that reads and writes one table, in a process of its own.

Its requests have a timetable, and its latencies count from when each was due: those that had to wait for a free
connection, because all of them waited for a lock, are as late as their users would see them.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import psycopg

from benchmarks.observed import percentile_ms
from demo.processes import Process, wait_until

RATE, CONNECTIONS = 200.0, 8
SCHEMA = """
CREATE TABLE users (
    id bigserial PRIMARY KEY,
    full_name text NOT NULL,
    email text NOT NULL,
    seen integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO users (full_name, email)
SELECT 'Ana Maria ' || number, 'ana.maria.' || number || '@example.org' FROM generate_series(1, {rows}) number;
CREATE INDEX users_email ON users (email);
"""
READ, TOUCH, RENAME, INSERT = "read", "touch", "rename", "insert"
STATEMENTS = {
    READ: "SELECT full_name, seen FROM users WHERE id = %(id)s",
    TOUCH: "UPDATE users SET seen = seen + 1 WHERE id = %(id)s",
    RENAME: "UPDATE users SET full_name = %(name)s WHERE id = %(id)s",
    INSERT: "INSERT INTO users (full_name, email) VALUES (%(name)s, %(name)s || '@example.org')",
}
MIX = (READ, TOUCH, READ, INSERT, READ, READ, RENAME, READ, TOUCH, READ)
"""Taken in turn."""
_ROOT = Path(__file__).resolve().parent.parent


class Request(NamedTuple):
    """
    One request.

    :param due: by the monotonic clock, which all processes of a machine share
    :param latency_s: from then to its answer
    :param failure: the error's class; empty where there is none
    """

    due: float
    latency_s: float
    kind: str
    failure: str


class Seen:
    """What an application saw."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self.requests = list(requests)

    def within(self, *windows: tuple[float, float]) -> Seen:
        """Return those that were due in one of the windows (monotonic clock)."""
        return Seen(one for one in self.requests if any(begin <= one.due < end for begin, end in windows))

    @property
    def latencies(self) -> Sequence[float]:
        """Of all of them, failed ones included, in seconds."""
        return [one.latency_s for one in self.requests]

    @property
    def worst_ms(self) -> float | None:
        """The slowest; None where there is none."""
        return percentile_ms(self.latencies, 100)

    @property
    def p99_ms(self) -> float | None:
        """99 % took at most this long; None where there is none."""
        return percentile_ms(self.latencies, 99)

    @property
    def failures(self) -> Counter[str]:
        """How many failed, by the error's class."""
        return Counter(one.failure for one in self.requests if one.failure)


class Application:
    """An application that runs, as its parent sees it."""

    def __init__(self, url: str, rows: int, workdir: Path, name: str) -> None:
        self._out = workdir / f"{name}.json"
        command = [sys.executable, "-m", "benchmarks.database_app", self._out, str(rows), str(RATE)]
        # The password is in the environment, where `ps` does not show it.
        self.process = Process(command, workdir / f"{name}.log", env={"DATABASE_URL": url}, cwd=_ROOT)

    def __enter__(self) -> Self:
        self.process.start()
        try:
            wait_until(self._has_begun, 20, "the application to begin")
        except BaseException:
            self.process.kill()
            raise
        return self

    def _has_begun(self) -> bool:
        if not self.process.alive:
            raise RuntimeError(f"the application ended:\n{self.process.tail()}")
        return _begun(self._out).exists()

    def stop(self) -> Seen:
        """Let everything that is due be answered and return all of it."""
        self.process.stop(30)
        if self.process.returncode != 0:
            raise RuntimeError(f"the application did not end in an orderly way:\n{self.process.tail()}")
        return Seen(Request(*one) for one in json.loads(self._out.read_text()))

    def __exit__(self, *_: object) -> None:
        self.process.kill()


@dataclass
class Timetable:
    """Gives each worker the next request."""

    rate: float
    begin: float = field(default_factory=time.monotonic)
    stop_at: float | None = None
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self) -> tuple[int, float] | None:
        """Wait until the next request is due; return its number and time, None when the application is to end."""
        with self._lock:
            number, self._number = self._number, self._number + 1
        due = self.begin + number / self.rate
        while (left := due - time.monotonic()) > 0 and self.stop_at is None:
            time.sleep(min(left, 0.5))
        return None if self.stop_at is not None and due > self.stop_at else (number, due)


def work(url: str, rows: int, timetable: Timetable, into: list[Request], ready: threading.Barrier) -> None:
    """Send requests on one connection until the timetable ends."""
    connection = psycopg.connect(url, autocommit=True)
    ready.wait()
    while found := timetable.next():
        number, due = found
        kind, failure = MIX[number % len(MIX)], ""
        try:
            cursor = connection.execute(STATEMENTS[kind], _values(number, rows))
            if cursor.description:
                cursor.fetchall()
        except psycopg.Error as error:
            failure = type(error).__name__
            if connection.closed:
                connection = psycopg.connect(url, autocommit=True)
        into.append(Request(due, time.monotonic() - due, kind, failure))
    connection.close()


def _values(number: int, rows: int) -> dict[str, Any]:
    drawn = random.Random(number)
    return {"id": drawn.randint(1, rows), "name": f"Ana Rosa {number}"}


def _begun(out: Path) -> Path:
    return out.with_suffix(".begun")


def main(out: Path, rows: int, rate: float, url: str) -> None:
    """Run until SIGTERM, then write every request."""
    # A load with a connection less would measure another thing.
    threading.excepthook = lambda args: (sys.excepthook(args.exc_type, args.exc_value, args.exc_traceback), os._exit(1))
    gc.freeze()  # a full collection would show as the database's latency
    timetable, found = Timetable(rate), list[Request]()
    signal.signal(signal.SIGTERM, lambda *_: setattr(timetable, "stop_at", time.monotonic()))

    def begin() -> None:
        timetable.begin = time.monotonic()
        _begun(out).touch()

    ready = threading.Barrier(CONNECTIONS, begin)
    threads = [
        threading.Thread(target=work, args=(url, rows, timetable, found, ready), daemon=True)
        for _ in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), os.environ["DATABASE_URL"])
