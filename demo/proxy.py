"""What the nodes of every kind of proxy share: a process, an entry, an end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from demo.processes import LOOPBACK, Process, port_taken_by, tail, wait_until

START_TIMEOUT_S = 15.0


class ProxyNode:
    """
    One node; a subclass is a dataclass with `name`, `entry_port` and `log_path`.

    `kind` is how texts call it, `error` what is raised, with the end of its log.
    """

    kind: ClassVar[str]
    error: ClassVar[type[RuntimeError]]
    name: str
    entry_port: int
    _process: Process | None

    @property
    def log_path(self) -> Path:
        """What it printed."""
        raise NotImplementedError

    @property
    def ports(self) -> list[int]:
        """All ports of loopback that it listens on."""
        return [self.entry_port]

    @property
    def entry(self) -> str:
        """Where users reach the service through this node."""
        return f"{LOOPBACK}:{self.entry_port}"

    @property
    def pid(self) -> int:
        """The master's process id."""
        if self._process is None:
            raise self.error(f"node {self.name} was never started")
        return self._process.pid

    def kill(self) -> None:
        """The node dies: SIGKILL to master and workers; return when its ports are free."""
        if self._process is not None:
            self._process.kill()
            self.wait_for(self.gone, "its workers are gone")

    def stop(self) -> None:
        """SIGTERM, which ends it at once; nothing happens when it does not run."""
        if self._process is not None and self._process.alive:
            self._process.stop()
            self.wait_for(self.gone, "its workers are gone")

    def gone(self) -> bool:
        """Whether nobody listens on its ports: only the master is our child, the workers may need a moment longer."""
        # A dying worker lets go of one port after the other.
        return all(port_taken_by(port) is None for port in self.ports)

    def wait_for(self, predicate: Callable[[], object], what: str) -> None:
        """Wait for a step of the node's life."""
        try:
            wait_until(predicate, START_TIMEOUT_S, f"{self.kind} node {self.name}: {what}")
        except TimeoutError as error:
            raise self.error(f"{error}; its log ends with:\n{tail(self.log_path)}") from error
