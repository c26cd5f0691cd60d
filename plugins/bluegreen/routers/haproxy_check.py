"""Does HAProxy's configuration really route by what we change? Asks each node, its files and its entry."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.core.ports import Finding
from bluegreen.hosts.host_files import Trouble
from bluegreen.hosts.places import Place
from bluegreen.routers import haproxy_config, haproxy_host
from bluegreen.routers.hosted import HostedNode
from bluegreen.routers.node_check import Level, NodeCheck

SOCKET_TIMEOUT = 2.0
OLDEST = (2, 6)


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
    service: str, router: models.HAProxyRouter, entry: models.Entry | None, members: Sequence[HostedNode]
) -> Sequence[Finding]:
    """
    Find the traps on every node.

    :param members: the router's nodes, in the same order
    """
    checks = [
        HAProxyCheck(service, node.name, entry, member.place, router, node)
        for node, member in zip(router.nodes, members, strict=True)
    ]
    return [finding for one in checks for finding in one.findings()]


@dataclass(frozen=True)
class HAProxyCheck(NodeCheck):
    """The check of one node."""

    place: Place
    router: models.HAProxyRouter
    node: models.HAProxyNode

    mend_redirect = "http-request redirect scheme https unless {{ ssl_fc }} or {{ path {path} }}"
    mend_color = "add `http-response set-header {header} <color>` to each backend; see that servers are up"

    def findings(self) -> Iterator[Finding]:
        """Everything that is found, the socket first: without it the rest cannot be asked."""
        try:
            yield from self._process()
            yield from self._backends()
            used = yield from self._configuration()
            if used:
                yield from self._state()
        except Trouble as trouble:
            yield self.finding(f"socket-{trouble.kind}", trouble.fact, trouble.mend)
            yield from self._unasked()
        with suppress(Trouble):  # a host that cannot be asked was said already
            for fact, mend in self.place.call("unwritable", config=self.config):
                yield self.finding("map-file-not-writable", fact, mend)
        yield from self.proof_request(self.node.entry)

    @property
    def config(self) -> haproxy_host.Config:
        """Return what ``haproxy_host`` wants to know."""
        return host_config(self.node, self.router.backends)

    def _process(self) -> Iterator[Finding]:
        version = re.search(r"^Version: ((\d+)\.(\d+)\S*)", self._ask("show info"), re.MULTILINE)
        if version and (int(version[2]), int(version[3])) < OLDEST:
            yield self.finding("version-too-old", f"HAProxy {version[1]} runs, wanted 2.6 or later", "update HAProxy")
        level = self._ask("show cli level")
        if level != "admin":
            fact = f"the admin socket {self.node.socket} has level {level}: drained servers cannot be made ready"
            yield self.finding("socket-not-admin", fact, haproxy_host.ADMIN)

    def _backends(self) -> Iterator[Finding]:
        stat = self._ask("show stat")
        known = haproxy_host.pools(stat)
        yield from self._weights(stat)
        for color, name in self.router.backends.items():
            servers = known.get(name, {})
            if name not in known:
                fact = f"HAProxy knows no backend {name} for {color}, only {', '.join(sorted(known)) or 'none'}"
                yield self.finding("unknown-backend", fact, "write router.backends as haproxy.cfg names them")
            elif not servers:
                yield self.finding("empty-pool", f"backend {name} has no server", "give it servers and reload")
            unchecked = [server for server, status in servers.items() if status == "no check"]
            if unchecked:
                fact = f"servers of {name} without a health check count as ready while they are dead: "
                mend = "write `option httpchk GET /health` in the backend and `check` at each server"
                yield self.finding("no-health-check", fact + ", ".join(unchecked), mend, "warning")

    def _weights(self, stat: str) -> Iterator[Finding]:
        """Find the other way to split: both colors' servers in one backend, with weights (docs/decisions/0010)."""
        own = {
            name: {row["addr"] for row in haproxy_host.table(stat) if row["pxname"] == name and row.get("addr")}
            for name in self.router.backends.values()
        }
        shared = set.intersection(*own.values())
        for name, servers in haproxy_host.pools(stat).items():
            named = all(any(color in server for server in servers) for color in Color)
            if not named and not (name in own and shared):
                continue
            fact = f"backend {name} has servers of both colors, split by weights: {', '.join(servers)}; "
            fact += (
                "run-time weights are lost at a reload, `balance source` and other static algorithms take 0 or 100 % "
            )
            fact += "only, slowstart and the number of servers distort a share, and no stamp can stand there"
            mend = "give each color a backend of its own, and let the map split between them: "
            mend += haproxy_config.lines_to_add(self.service, self.router)
            yield self.finding("weights-in-one-backend", fact, mend)
            return

    def _state(self) -> Iterator[Finding]:
        try:
            self.place.call("sound", config=self.config)
        except Trouble as trouble:
            mend = f"{trouble.mend}; it was looked for on {self.place.name}: see `file` and `ssh` of the node"
            yield self.finding("map-file", f"{trouble.fact}: the split would not survive a reload", mend)
            return
        found = self.place.call("read", config=self.config)
        if not found["settled"]:
            mend = "reload HAProxy to let it take the file, after a look at who changed which"
            yield self.finding("run-time-differs", found["detail"], mend)

    def _configuration(self) -> Generator[Finding, None, bool]:
        """Check each file with a line that uses the map; tell whether there is any."""
        listed = [line for line in self._ask("show map").splitlines() if f"({self.node.map})" in line]
        places = re.findall(r"at file '([^']*)' line (\d+)", " ".join(listed))
        if not places and self.node.config:
            yield from self._file(self.node.config, [])
        elif not places:
            fact = f"no line of the configuration uses the map {self.node.map}"
            yield self.finding("routing-lines-missing", fact, haproxy_config.lines_to_add(self.service, self.router))
        for path in dict.fromkeys(path for path, _ in places):
            yield from self._file(Path(path), [int(line) for file, line in places if file == path])
        return bool(places)

    def _unasked(self) -> Iterator[Finding]:
        """Say what the file tells of the same things, where HAProxy itself cannot be asked."""
        path = self.node.config
        text = self.place.call("text", path=str(path)) if path else None
        if path is None or text is None:
            return
        header = self.entry.color_header if self.entry else "X-Release-Color"
        for fault in haproxy_config.standing_faults(text, self.node.socket, self.router.backends, header):
            yield self._fault(fault, path)
        yield from self._file(path, [])

    def _file(self, path: Path, lines: Sequence[int]) -> Iterator[Finding]:
        local = self.node.socket.startswith(("/", "127.", "localhost:", "[::1]"))
        text = self.place.call("text", path=str(path)) if local and path.is_absolute() else None
        if text is None:
            fact = f"{path} cannot be read on {self.place.name}: the routing lines {', '.join(map(str, lines))} were not checked"
            yield self.finding("configuration-not-seen", fact, "run bluegreen check where it can be read", "warning")
            return
        numbered = dict(enumerate(text.splitlines(), start=1))
        if any(str(self.node.map) not in numbered.get(line, "") for line in lines):
            fact = f"{path} was changed after HAProxy had read it: the map is not in line {', '.join(map(str, lines))}"
            yield self.finding("configuration-not-loaded", fact, "reload HAProxy, then check again", "warning")
        for fault in haproxy_config.routing_faults(text, self.service, str(self.node.map), self.router.backends):
            yield self._fault(fault, path)

    def _fault(self, fault: haproxy_config.Fault, path: Path) -> Finding:
        level: Level = "warning" if fault.code in ("reload-not-hitless", "no-health-check") else "error"
        where = f"{path}:{fault.line}" if fault.line else str(path)
        return self.finding(fault.code, f"{where}: {fault.fact}", fault.mend, level)

    def _ask(self, command: str) -> str:
        return str(self.place.call("ask", config=self.config, command=command))
