"""Child processes and ports: what every part of the embedded stack needs to start and stop cleanly."""

from __future__ import annotations

import atexit
import errno
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
_LOWEST_PORT = 10_000
_given: set[int] = set()


class Process:
    """
    A child in its own session, with its output in a log file.

    :param user: as whom it runs, with no other groups than ``group``; only root may say
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: int | None = None,
        group: int | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        self._env = env
        self._cwd = cwd
        self._user: dict[str, Any] = {} if user is None else {"user": user, "group": group, "extra_groups": []}
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> Process:
        """Start the child; its output is appended to the log."""
        if self.alive:
            raise RuntimeError(f"already running as process {self.pid}: {self.command}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        env = None if self._env is None else {**os.environ, **self._env}
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=self._cwd,
                start_new_session=True,
                **self._user,
            )
        _Started.remember(self)
        return self

    @property
    def pid(self) -> int:
        """The child's process id, also after its end."""
        if self._child is None:
            raise RuntimeError(f"never started: {self.command}")
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the child runs now."""
        return self._child is not None and self._child.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal, None while it runs."""
        return None if self._child is None else self._child.poll()

    def need_alive(self) -> None:
        """
        Do nothing while the child runs.

        :raises RuntimeError: it has ended; has the end of its log
        """
        if not self.alive:
            raise RuntimeError(f"{self.log.stem} ended: {self.tail()}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child itself, not to its group."""
        if self._child is not None:
            self._child.send_signal(number)

    def stop(self, timeout: float = 10.0) -> None:
        """SIGTERM to the child, and SIGKILL to its group when it has not ended in time."""
        if self._child is None:
            return
        self.signal(signal.SIGTERM)
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the child and everything in its group."""
        if self._child is None:
            return
        # Only while the child is not reaped is the group's number surely still ours.
        if self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def tail(self, lines: int = 20) -> str:
        """The last lines of the log, for error messages."""
        return tail(self.log, lines)


class _Started:
    """Stops what a program has left running when the program ends in an orderly way."""

    owner = os.getpid()
    processes: list[Process] = []  # noqa: RUF012 - one list for the whole program, on purpose

    @classmethod
    def remember(cls, process: Process) -> None:
        # Popen objects mean nothing in a forked child: it starts its own list.
        if cls.owner != os.getpid():
            cls.owner, cls.processes = os.getpid(), []
        cls.processes = [known for known in cls.processes if known.alive and known is not process]
        cls.processes.append(process)

    @classmethod
    def kill_leftovers(cls) -> None:
        if cls.owner == os.getpid():
            for process in cls.processes:
                process.kill()


atexit.register(_Started.kill_leftovers)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log file, or a sentence when there are none."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return f"(no log at {log})"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """
    Distinct ports of loopback that nobody uses now.

    They lie below the range that the kernel takes for outgoing connections: while a node is down in a test,
    a client's connection could otherwise be given the node's port, or even be connected to itself. None is given twice
    while there are others: who was given it may not listen yet, or listens again later.

    :raises RuntimeError: there are not as many
    """
    every = _choice()
    fresh = [port for port in every if port not in _given]
    random.shuffle(fresh)
    ports: list[int] = []
    with ExitStack() as held:
        for port in [*fresh, *every]:
            if len(ports) == count:
                break
            probe = held.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind((LOOPBACK, port))
                ports.append(port)
    if len(ports) < count:
        raise RuntimeError(f"only {len(ports)} of {count} free ports found on {LOOPBACK}")
    _given.update(ports)
    return ports


def _choice() -> range:
    """The ports to choose from; ``BLUEGREEN_PORTS=2/3`` is the second third of them, for programs beside each other."""
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    highest = lowest_outgoing if lowest_outgoing > _LOWEST_PORT + 1000 else 32_768
    part, _, parts = os.environ.get("BLUEGREEN_PORTS", "1/1").partition("/")
    size = (highest - _LOWEST_PORT) // int(parts)
    return range(_LOWEST_PORT + (int(part) - 1) * size, _LOWEST_PORT + int(part) * size)


def port_taken_by(port: int) -> str | None:
    """Who holds the port of loopback, as words for an error message; None when nobody does."""
    # Cheap when the port is free, as it mostly is: to look through all processes takes a while.
    if not _is_taken(port):
        return None
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status != psutil.CONN_LISTEN or connection.laddr.port != port:
            continue
        if connection.pid is None:
            return "a process of another user"
        try:
            return f"process {connection.pid} ({' '.join(psutil.Process(connection.pid).cmdline())[:120]})"
        except psutil.Error:
            return f"process {connection.pid}"
    return "a process that cannot be seen from here"


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        # Connections that are only closing do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return True
    return False


def require_free(ports: Sequence[int], what: str) -> None:
    """Raise an error that names the holder when one of the ports is taken."""
    for port in ports:
        holder = port_taken_by(port)
        if holder is not None:
            raise RuntimeError(f"{what} cannot have port {port}: {holder} has it")


def wait_until(predicate: Callable[[], T], timeout_s: float, what: str, interval_s: float = 0.02) -> T:
    """Ask again and again until the answer is true, and return it; TimeoutError says what did not come."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(interval_s)
