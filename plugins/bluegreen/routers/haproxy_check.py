"""Does HAProxy's configuration really route by what we change? Asks each node, its files and its entry."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.core.ports import Finding
from bluegreen.hosts.host_files import Trouble
from bluegreen.hosts.places import Place
from bluegreen.routers import haproxy_config, haproxy_host

SOCKET_TIMEOUT = 2.0
OLDEST = (2, 6)
HERE = socket.gethostname()
Level = Literal["error", "warning"]


def host_config(node: models.HAProxyNode, backends: Mapping[Color, str]) -> haproxy_host.Config:
    """Return what ``haproxy_host`` wants to know of a node."""
    return {
        "socket": node.socket,
        "map": str(node.map),
        "file": str(node.file or node.map),
        "backends": [backends[color] for color in Color],
        "timeout": SOCKET_TIMEOUT,
    }


def check(
    service: str, router: models.HAProxyRouter, entry: models.Entry | None, places: Mapping[str, Place]
) -> Sequence[Finding]:
    """
    Find the traps on every node.

    :param places: node -> where its files and its socket are looked at
    """
    checks = [NodeCheck(service, router, node, entry, places[node.name]) for node in router.nodes]
    return [finding for one in checks for finding in one.findings()]


@dataclass(frozen=True)
class NodeCheck:
    """The check of one node."""

    service: str
    router: models.HAProxyRouter
    node: models.HAProxyNode
    entry: models.Entry | None
    place: Place

    def findings(self) -> Iterator[Finding]:
        """Everything that is found, the socket first: without it the rest cannot be asked."""
        try:
            yield from self._process()
            yield from self._backends()
            used = yield from self._configuration()
            if used:
                yield from self._state()
        except Trouble as trouble:
            yield self._finding(f"socket-{trouble.kind}", trouble.fact, trouble.mend)
        with suppress(Trouble):  # a host that cannot be asked was said already
            yield from self._writable()
        if self.entry:
            yield from self._proof_request(self.entry)

    @property
    def config(self) -> haproxy_host.Config:
        """Return what ``haproxy_host`` wants to know."""
        return host_config(self.node, self.router.backends)

    def _process(self) -> Iterator[Finding]:
        version = re.search(r"^Version: ((\d+)\.(\d+)\S*)", self._ask("show info"), re.MULTILINE)
        if version and (int(version[2]), int(version[3])) < OLDEST:
            yield self._finding("version-too-old", f"HAProxy {version[1]} runs, wanted 2.6 or later", "update HAProxy")
        level = self._ask("show cli level")
        if level != "admin":
            fact = f"the admin socket {self.node.socket} has level {level}: drained servers cannot be made ready"
            yield self._finding("socket-not-admin", fact, haproxy_host.ADMIN)

    def _backends(self) -> Iterator[Finding]:
        known = haproxy_host.pools(self._ask("show stat"))
        for color, name in self.router.backends.items():
            servers = known.get(name, {})
            if name not in known:
                fact = f"HAProxy knows no backend {name} for {color}, only {', '.join(sorted(known)) or 'none'}"
                yield self._finding("unknown-backend", fact, "write router.backends as haproxy.cfg names them")
            elif not servers:
                yield self._finding("empty-pool", f"backend {name} has no server", "give it servers and reload")
            unchecked = [server for server, status in servers.items() if status == "no check"]
            if unchecked:
                fact = f"servers of {name} without a health check count as ready while they are dead: "
                mend = "write `option httpchk GET /health` in the backend and `check` at each server"
                yield self._finding("no-health-check", fact + ", ".join(unchecked), mend, "warning")

    def _state(self) -> Iterator[Finding]:
        try:
            self.place.call("sound", config=self.config)
        except Trouble as trouble:
            mend = f"{trouble.mend}; it was looked for on {self.place.name}: see `file` and `ssh` of the node"
            yield self._finding("map-file", f"{trouble.fact}: the split would not survive a reload", mend)
            return
        found = self.place.call("read", config=self.config)
        if not found["settled"]:
            mend = "reload HAProxy to let it take the file, after a look at who changed which"
            yield self._finding("run-time-differs", found["detail"], mend)

    def _configuration(self) -> Generator[Finding, None, bool]:
        """Check each file with a line that uses the map; tell whether there is any."""
        listed = [line for line in self._ask("show map").splitlines() if f"({self.node.map})" in line]
        places = re.findall(r"at file '([^']*)' line (\d+)", " ".join(listed))
        if not places:
            fact = f"no line of the configuration uses the map {self.node.map}"
            yield self._finding("routing-lines-missing", fact, haproxy_config.lines_to_add(self.service, self.router))
        for path in dict.fromkeys(path for path, _ in places):
            yield from self._file(Path(path), [int(line) for file, line in places if file == path])
        return bool(places)

    def _file(self, path: Path, lines: Sequence[int]) -> Iterator[Finding]:
        local = self.node.socket.startswith(("/", "127.", "localhost:", "[::1]"))
        text = self.place.call("text", path=str(path)) if local and path.is_absolute() else None
        if text is None:
            fact = f"{path} cannot be read on {self.place.name}: the routing lines {', '.join(map(str, lines))} were not checked"
            yield self._finding("configuration-not-seen", fact, "run bluegreen check where it can be read", "warning")
            return
        numbered = dict(enumerate(text.splitlines(), start=1))
        if any(str(self.node.map) not in numbered.get(line, "") for line in lines):
            fact = f"{path} was changed after HAProxy had read it: the map is not in line {', '.join(map(str, lines))}"
            yield self._finding("configuration-not-loaded", fact, "reload HAProxy, then check again", "warning")
        for fault in haproxy_config.routing_faults(text, self.service, str(self.node.map), self.router.backends):
            level: Level = "warning" if fault.code == "reload-not-hitless" else "error"
            where = f"{path}:{fault.line}" if fault.line else str(path)
            yield self._finding(fault.code, f"{where}: {fault.fact}", fault.mend, level)

    def _writable(self) -> Iterator[Finding]:
        for fact, mend in self.place.call("forbidden", config=self.config):
            yield self._finding("map-file-not-writable", fact, mend)

    def _proof_request(self, entry: models.Entry) -> Iterator[Finding]:
        try:
            status, headers = _get(entry, self.node.entry)
        except (OSError, http.client.HTTPException) as error:
            fact = f"GET {entry.path} got no answer from the entry {self.node.entry}: {error}"
            mend = "see the frontend's bind line, and `entry` of the node"
            yield self._finding("entry-does-not-answer", fact, mend, seen_from=HERE)
            return
        if 300 <= status < 400:
            fact = f"GET {entry.path} at {self.node.entry} is answered with {status} to {headers.get('location')}"
            mend = (
                f"name the https port as the node's `entry` and https in entry.url, or take `path {entry.path}` out: "
            )
            mend += f"http-request redirect scheme https unless {{ ssl_fc }} or {{ path {entry.path} }}"
            yield self._finding("redirect", f"{fact}: a proof would see no color", mend, seen_from=HERE)
        elif (found := headers.get(entry.color_header.lower())) not in list(Color):
            fact = (
                f"GET {entry.path} at {self.node.entry} got {status} with {entry.color_header}: {found}, wanted a color"
            )
            mend = (
                f"add `http-response set-header {entry.color_header} <color>` to each backend; see that servers are up"
            )
            yield self._finding("no-color-header", fact, mend, seen_from=HERE)

    def _ask(self, command: str) -> str:
        return str(self.place.call("ask", config=self.config, command=command))

    def _finding(
        self, code: str, fact: str, mend: str, level: Level = "error", seen_from: str | None = None
    ) -> Finding:
        where = f"{self.service}: {self.node.name}, seen from {seen_from or self.place.name}"
        return Finding(code, level, where, fact, mend)


def _get(entry: models.Entry, address: str) -> tuple[int, Mapping[str, str]]:
    """Send one real request for the entry's name to a node's address."""
    url = urlsplit(entry.url)
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=SOCKET_TIMEOUT)
    try:
        connection.connect()
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=entry.ca_file)
            connection.sock = context.wrap_socket(connection.sock, server_hostname=url.hostname)
        connection.request("GET", entry.path, headers={"Host": url.netloc, "Connection": "close"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}
    finally:
        connection.close()
