"""A load in a process of its own, and what it leaves on disk."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path

from demo.load.counts import Snapshot
from demo.load.records import Records, Window
from demo.load.sender import Load
from demo.processes import Process, wait_until


class LoadProcess:
    """A load in a process of its own, so that it does not share Python's one core with whoever starts it."""

    def __init__(self, load: Load, workdir: Path, name: str = "load") -> None:
        self.stats = workdir.resolve() / f"{name}.json"
        self._process = Process(
            [sys.executable, "-m", "demo.load", *_arguments(load, self.stats)],
            workdir / f"{name}.log",
            cwd=Path(__file__).resolve().parents[2],
        )

    def start(self) -> LoadProcess:
        """Start sending; return when the first snapshot is there."""
        self.stats.parent.mkdir(parents=True, exist_ok=True)
        for old in (self.stats, records_path(self.stats)):
            old.unlink(missing_ok=True)
        self._process.start()

        def begun() -> bool:
            if not self._process.alive:
                raise RuntimeError(f"the load ended with code {self._process.returncode}:\n{self._process.tail()}")
            return self.stats.exists()

        wait_until(begun, 20, "the first snapshot of the load")
        return self

    def snapshot(self) -> Snapshot:
        """The latest snapshot, at most half a second old while the load runs."""
        return Snapshot.from_json(self.stats.read_text())

    def wait_for_next(self, timeout_s: float = 10.0) -> Snapshot:
        """A snapshot that was taken after this call."""
        asked = time.time()
        wait_until(lambda: self.snapshot().now > asked or not self._process.alive, timeout_s, "a new snapshot")
        return self.snapshot()

    def stop(self, timeout_s: float = 30.0) -> Snapshot:
        """Let the requests under way finish and return the final snapshot."""
        self._process.stop(timeout_s)
        final = self.snapshot()
        if final.running:
            raise RuntimeError(f"the load did not end in an orderly way:\n{self._process.tail()}")
        return final

    def kill(self) -> None:
        """End the process without a final snapshot."""
        self._process.kill()

    def records(self) -> Records:
        """Every request up to the latest snapshot."""
        content = records_path(self.stats).read_bytes()
        return Records(content=content)

    def p99_ms(self, windows: Iterable[Window] | None = None) -> float | None:
        """The exact p99 of the requests that started in the windows (wall clock)."""
        return self.records().p99_ms(windows)


def records_path(stats: Path) -> Path:
    """Return where the requests stand beside the snapshot."""
    return stats.with_suffix(".records")


def _arguments(load: Load, stats: Path) -> list[str]:
    arguments = [f"--stats={stats}", f"--host={load.host_header}", f"--connections={load.connections}"]
    arguments += [f"--timeout={load.timeout_s}", f"--color-header={load.color_header}"]
    arguments += [f"--version-header={load.version_header}"]
    arguments += [f"--target={host}:{port}" for host, port in load.targets]
    arguments += [f"--path={method} {path}" for method, path in load.paths]
    arguments += [f"--header={name}: {value}" for name, value in load.headers.items()]
    return arguments if load.rate is None else [*arguments, f"--rate={load.rate}"]
