"""Puts a version on a color: the command that the product's command deployer runs in the demo and the tests.

    COLOR=green VERSION=1.4.1 SERVICE=shop python -m demo.deploy --state DIR --servers green=9003,9004

Stops the color's servers, starts the new ones and waits for their health. Running it again gives the same result.
`--retire` stops the color, `--stop-all` everything in DIR.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from demo.processes import LOOPBACK, port_taken_by, tail

ROOT = Path(__file__).resolve().parent.parent
_CLOCK_SLACK_S = 5.0


class DeployError(RuntimeError):
    """The color does not run the version; the text is for the person who reads the task's log."""


@dataclass(frozen=True)
class Server:
    """One running application server, as its file in the state directory describes it."""

    service: str
    color: str
    version: str
    port: int
    pid: int
    created: float  # with the process id, it tells the server from a stranger who got its number

    @property
    def name(self) -> str:
        """The stem of its files in the state directory."""
        return f"{self.service}-{self.color}-{self.port}"

    def process(self) -> psutil.Process | None:
        """The server's process, None when it is gone."""
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            # The kernel's idea of its boot time, and so of ours, moves a little with the clock.
            same = abs(process.create_time() - self.created) < _CLOCK_SLACK_S
            # For a moment after its start a process has no command line yet.
            ours = "demo.app" in (process.cmdline() or ["demo.app"])
            if same and ours and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


@dataclass(frozen=True)
class Deployment:
    """What is wanted: this version of this service on these ports of this color."""

    state: Path
    service: str
    color: str
    version: str
    ports: Sequence[int]
    faults: Sequence[str] = ()
    database: str = ""
    timeout_s: float = 30.0

    def run(self, *, keep_if_same: bool = False) -> None:
        """Make it so, or raise DeployError and leave the color empty."""
        with _locked(self.state, f"{self.service}-{self.color}", self.timeout_s):
            if keep_if_same and self._serves_already():
                print(f"{self.service} {self.color}: {self.version} is healthy already, nothing to do")
                return
            stop_all(self.state, self.service, self.color)
            try:
                self._wait_for_health([self._start(port) for port in self.ports])
            except DeployError:
                stop_all(self.state, self.service, self.color)
                raise
            print(f"{self.service} {self.color}: {self.version} is up")

    def _serves_already(self) -> bool:
        servers = _servers(self.state, self.service, self.color)
        return sorted(server.port for server in servers) == sorted(self.ports) and all(
            server.version == self.version and server.process() and _healthy(server) for server in servers
        )

    def _start(self, port: int) -> Server:
        holder = port_taken_by(port)
        if holder is not None:
            raise DeployError(f"port {port} of {self.color} is taken by {holder}")
        log = self.state / f"{self.service}-{self.color}-{port}.log"
        command = [sys.executable, "-m", "demo.app", f"--port={port}", f"--color={self.color}"]
        command += [f"--version={self.version}", f"--sessions={self.state / 'sessions'}"]
        command += [f"--fault={fault}" for fault in self.faults]
        if (
            self.database
        ):  # each session says whose it is: the destructive half of a migration waits for the old color's
            command.append(f"--database={self.database} application_name={self.service}-{self.color}")
        # Its own session and no pipe of ours: it lives on when this command and the task have ended.
        with log.open("wb") as output:
            child = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        created = psutil.Process(child.pid).create_time()
        server = Server(self.service, self.color, self.version, port, child.pid, created)
        fresh = self.state / f"{server.name}.tmp"
        fresh.write_text(json.dumps(asdict(server)))
        fresh.replace(self.state / f"{server.name}.json")
        print(f"{self.service} {self.color}: started {self.version} on port {port} as process {child.pid}")
        return server

    def _wait_for_health(self, servers: Sequence[Server]) -> None:
        waiting = list(servers)
        deadline = time.monotonic() + self.timeout_s
        while waiting:
            for server in list(waiting):
                if server.process() is None:
                    raise self._failure(server, "ended before it was healthy")
                if _healthy(server):
                    waiting.remove(server)
                    print(f"{self.service} {self.color}: port {server.port} is healthy")
            if waiting and time.monotonic() > deadline:
                raise self._failure(waiting[0], f"was not healthy within {self.timeout_s:g} s")
            time.sleep(0.05)

    def _failure(self, server: Server, what: str) -> DeployError:
        log = tail(self.state / f"{server.name}.log")
        return DeployError(f"version {server.version} on port {server.port} {what}. Its log ends with:\n{log}")


def stop(servers: Sequence[Server], timeout_s: float = 35.0) -> None:
    """SIGTERM lets a server finish its requests; SIGKILL comes when that takes too long."""
    found = [(server, server.process()) for server in servers]
    alive = [process for _, process in found if process is not None]
    for process in alive:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while any(server.process() for server in servers) and time.monotonic() < deadline:
        time.sleep(0.05)
    for server, process in found:
        if process is not None and server.process():
            _signal(process, signal.SIGKILL)
            print(f"{server.name}: did not end within {timeout_s:g} s, killed")
        elif process is not None:
            print(f"{server.name}: stopped process {server.pid} ({server.version})")


def stop_all(state: Path, service: str | None = None, color: str | None = None) -> None:
    """Stop what runs in the state directory: everything, or one service or color of it."""
    servers = _servers(state, service, color)
    stop(servers)
    for server in servers:
        (state / f"{server.name}.json").unlink(missing_ok=True)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _servers(state: Path, service: str | None = None, color: str | None = None) -> list[Server]:
    servers = []
    for file in sorted(state.glob("*.json")):
        # A file that was being written when its writer died says nothing.
        with suppress(ValueError, TypeError):
            servers.append(Server(**json.loads(file.read_text())))
    return [one for one in servers if service in (None, one.service) and color in (None, one.color)]


def _healthy(server: Server) -> bool:
    # Not urllib's opener: that would ask a proxy from the environment for a loopback address.
    connection = HTTPConnection(LOOPBACK, server.port, timeout=2)
    try:
        connection.request("GET", "/health")
        told = json.load(connection.getresponse())
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return bool(told.get("version") == server.version and told.get("color") == server.color)


@contextmanager
def _locked(state: Path, name: str, timeout_s: float) -> Iterator[None]:
    """Two deployments of one color at once (a retried task, say) go one after the other."""
    state.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    with (state / f"{name}.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DeployError(f"another deployment of {name} has been running for {timeout_s:g} s") from None
                time.sleep(0.1)
        yield


def _faults_of(file: Path | None, version: str) -> list[str]:
    """A bad version is only a version that this file gives faults to."""
    if file is None:
        return []
    return [str(fault) for fault in json.loads(file.read_text()).get(version, [])]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo.deploy", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, metavar="DIR")
    parser.add_argument("--servers", action="append", default=[], metavar="COLOR=PORT,PORT")
    parser.add_argument("--faults", type=Path, metavar="FILE.json", help='{"1.5.0-bad": ["errors=0.3"]}')
    parser.add_argument("--database", default="", metavar="CONNINFO", help="what the servers use; no password")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds until a new server must be healthy")
    parser.add_argument("--keep-if-same", action="store_true", help="do nothing when the version is healthy already")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--retire", action="store_true", help="stop the color")
    action.add_argument("--stop-all", action="store_true", help="stop everything in DIR")
    return parser


def _environment(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise DeployError(f"the environment variable {name} is empty")
    return value


def _act(options: argparse.Namespace) -> None:
    if options.stop_all:
        stop_all(options.state)
        return
    service, color = os.environ.get("SERVICE") or "app", _environment("COLOR")
    if options.retire:
        with _locked(options.state, f"{service}-{color}", options.timeout):
            stop_all(options.state, service, color)
        print(f"{service} {color}: retired")
        return
    ports = {name: ports for name, _, ports in (one.partition("=") for one in options.servers)}
    if color not in ports:
        raise DeployError(f"--servers names no ports for {color}")
    version = _environment("VERSION")
    wanted = Deployment(
        state=options.state,
        service=service,
        color=color,
        version=version,
        ports=[int(port) for port in ports[color].split(",")],
        faults=_faults_of(options.faults, version),
        database=options.database,
        timeout_s=options.timeout,
    )
    wanted.run(keep_if_same=options.keep_if_same)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a failure is told on stderr and in the exit code."""
    options = _parser().parse_args(arguments)
    options.state = options.state.resolve()  # the servers are started in another directory
    # Whoever reads our pipe sees each step when it happens.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        _act(options)
    except DeployError as error:
        raise SystemExit(f"deployment failed: {error}") from error


if __name__ == "__main__":
    main()
