"""Does nginx's configuration really route by what we change? Asks each node, its configuration and its entry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.core.ports import Finding
from bluegreen.hosts.host_files import Trouble
from bluegreen.hosts.places import Place
from bluegreen.routers import nginx_config, nginx_include
from bluegreen.routers.hosted import HostedNode
from bluegreen.routers.nginx_config import Configuration, Directive
from bluegreen.routers.node_check import NodeCheck

COST = "20 reloads failed 68 of 13,679 requests of 40 kept-alive clients, and none of 14,461 with it"
"""Measured on nginx 1.31.3 at 1,500 and 200 requests a second; Debian's 1.22: 40 of 13,805 (docs/nginx.md)."""
_PASSES = ("proxy_pass", "grpc_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass")


def check(
    service: models.Service, router: models.NginxRouter, members: Sequence[HostedNode], *, proving: bool
) -> Sequence[Finding]:
    """Find the traps on every node."""
    entry = service.entry if proving else None
    pairs = zip(router.nodes, members, strict=True)
    return [
        finding
        for node, member in pairs
        for finding in NginxCheck(
            service.service, node.name, entry, member.place, service, router, node, member
        ).findings()
    ]


@dataclass(frozen=True)
class NginxCheck(NodeCheck):
    """The check of one node."""

    place: Place
    catalog: models.Service
    router: models.NginxRouter
    node: models.NginxNode
    member: HostedNode

    mend_redirect = "location = {path} {{ proxy_pass … }} beside the redirect"
    mend_color = "add `add_header {header} $…_color always;` beside the proxy_pass; see that servers are up"

    def findings(self) -> Iterator[Finding]:
        """Everything that is found; where one part cannot be asked, the others still are."""
        parts = {"command": self._nginx, "status": self._state, "include": self._file}
        for name, part in parts.items():
            try:
                yield from part()
            except Trouble as trouble:
                yield self.finding(f"{name}-{trouble.kind}", trouble.fact, trouble.mend)
        yield from self.proof_request(self.node.entry)

    def _nginx(self) -> Iterator[Finding]:
        dump = self._call("dump")
        if dump["lost"]:
            fact = f"{dump['lost']}: the split would not survive a reload"
            yield self.finding("include-file", fact, nginx_include.INITIAL)
        if dump["broken"]:
            yield self._broken(dump["broken"])
        if dump["text"]:
            yield from self._configuration(Configuration.of(dump["text"]), dump["version"])

    def _file(self) -> Iterator[Finding]:
        for fact, mend in self._call("unwritable"):
            yield self.finding("include-not-writable", fact, mend)

    def _call(self, do: str) -> Any:
        return self.place.call(do, config=self.member.config)

    @property
    def _name(self) -> str:
        return self.service.replace("-", "_")

    @property
    def _lines(self) -> str:
        return nginx_config.lines_to_add(self.catalog, self.router)

    def _broken(self, words: str) -> Finding:
        if "number of the map parameters" in words:
            fact = f"{words}: a map has no weights, so that nginx takes neither this share nor any other reload"
            return self.finding("weighted-map", fact, f"write instead: {self._lines}")
        if "weight=0" in words:
            mend = "write `down` at a server that is to get nothing; a color's share is for split_clients to say"
            return self.finding("weight-0", f"{words}: nginx knows no weight of 0, and takes no reload", mend)
        if 'no "events" section' in words:
            return self.finding("events-missing", words, "write `events { }` beside http { }: nginx does not start")
        return self.finding("configuration-broken", words, "mend it; until then nginx takes no reload, so no shift")

    def _state(self) -> Iterator[Finding]:
        found = self._call("read")
        if not found["settled"]:
            mend = "reload nginx to let it take the file, after a look at who changed which"
            yield self.finding("run-time-differs", found["detail"], mend)
        try:
            seen = self._call("sights")
        except Trouble as trouble:
            yield self.finding("counters-missing", trouble.fact, trouble.mend)
            return
        if any(one["in_flight"] is None for one in seen.values()):
            fact = (
                "nginx's connections cannot be seen: nobody knows what is in flight on a color, so a deploy is refused"
            )
            mend = "run as root or as nginx's workers do, on nginx's own host"
            yield self.finding("in-flight-unknown", fact, mend, "warning")

    def _configuration(self, found: Configuration, version: str) -> Iterator[Finding]:
        include = self.member.config["include"]
        if include not in found.files:
            fact = f"nginx.conf does not include {include}: a shift would change nothing"
            yield self.finding("include-missing", fact, nginx_include.status_lines(self.member.config))
        yield from self._upstreams(found)
        passes = found.all(*_PASSES)
        places = [one for one in passes if f"${self._name}_pool" in one.args[0]]
        if not places:
            yield from self._other_routing(found)
        for place in places[:1]:
            yield from self._color_header(place)
            yield from self._log(place)
        for one in (places or passes)[:1]:
            yield from self._reload(one, version)
            yield from self._health(one)
        for one in places:
            if f"${self._name}_pool/" in one.args[0]:
                fact = f"{one.where}: `{one.says()}` sends every request to that one path"
                yield self.finding("path-in-pass", fact, f"write `{one.name} http://${self._name}_pool;`")
        if not found.root.own("worker_shutdown_timeout"):
            fact = (
                "worker_shutdown_timeout is not set: after each shift old workers stay as long as their slowest client"
            )
            yield self.finding("workers-pile-up", fact, "add `worker_shutdown_timeout 30s;` above http { }", "warning")

    def _upstreams(self, found: Configuration) -> Iterator[Finding]:
        for color in Color:
            name = self.router.backends[color]
            upstream = found.upstreams.get(name)
            if upstream is None:
                known = ", ".join(sorted(found.upstreams)) or "none"
                fact = f"nginx knows no upstream {name} for {color}, only {known}"
                yield self.finding("unknown-backend", fact, "write router.backends as nginx.conf names them")
                continue
            there = {
                nginx_config.address_of(one.args[0]) for one in upstream.own("server") if "down" not in one.args[1:]
            }
            wanted = set(nginx_config.addresses_of(self.catalog.colors[color].targets))
            if there != wanted:
                fact = f"{upstream.where}: upstream {name} has {_words(there)}, colors.{color} has {_words(wanted)}"
                yield self.finding("servers-differ", fact, "name the same servers, written alike, in both")

    def _other_routing(self, found: Configuration) -> Iterator[Finding]:
        passed = {word for one in found.all(*_PASSES) for word in re.findall(r"\$\w+", one.args[0])}
        maps = [one for one in found.all("map") if one.args[1] in passed and one.args[0] in ("$http_host", "$host")]
        for one in maps:
            if any(row.name == "" for row in one.block):
                fact = f'{one.where}: in `{one.says()}` the key "" never matches: every request has a Host'
                yield self.finding("key-never-matches", fact, f"write instead: {self._lines}")
                return
        fact = f"no proxy_pass goes to ${self._name}_pool: a shift would change nothing"
        yield self.finding("routing-lines-missing", fact, self._lines)

    def _health(self, place: Directive) -> Iterator[Finding]:
        server, path = place, self.catalog.health.path
        while server.parent and server.name != "server":
            server = server.parent
        answered = [one for one in server.all("location") if one.args[-1] == path and one.own("return")]
        for one in answered[:1]:
            fact = f"{one.where}: nginx answers {path} by itself, which says nothing about the servers"
            mend = "let who asks it ask a path that a server answers; releases ask each server directly"
            yield self.finding("health-answered-by-proxy", fact, mend, "warning")

    def _color_header(self, place: Directive) -> Iterator[Finding]:
        header, variable = self.catalog.entry.color_header, f"${self._name}_color"
        line = f"add_header {header} {variable} always;"

        def right(one: Directive) -> bool:
            return one.args[0].lower() == header.lower() and variable in one.args[1]

        used = _headers(place)
        if not any(map(right, used)):
            outer = next((one for one in _outer(place, "add_header") if right(one)), None)
            if outer:
                fact = f"{outer.where}: `{outer.says()}` is lost where {used[0].where} has an add_header of its own"
                yield self.finding("color-header-lost", fact, f"add `{line}` beside {used[0].where}")
            else:
                yield self.finding("color-header-missing", f"{place.where}: no {header} is added", f"add `{line}`")
        elif not any(right(one) and one.args[-1] == "always" for one in used):
            fact = f"{place.where}: error answers have no {header}"
            yield self.finding("color-header-not-always", fact, f"write `{line}`", "warning")

    def _log(self, place: Directive) -> Iterator[Finding]:
        path, form = self.member.config["log"], f"bluegreen_{self._name}"
        line = f"access_log {path} {form} if=$upstream_status;"
        used = [one for one in place.inherited("access_log") if one.args[:2] == (path, form)]
        if not used:
            fact = f"{place.where}: no access_log of {path} in the format {form}: a watch would see no request"
            yield self.finding("log-line-missing", fact, f"add `{line}` beside your own access_log lines there")
        elif any(re.match("buffer=|gzip", word) for word in used[0].args):
            fact = f"{used[0].where}: the log is buffered: a watch would see requests late"
            yield self.finding("log-buffered", fact, f"write `{line}`", "warning")

    def _reload(self, place: Directive, version: str) -> Iterator[Finding]:
        lines, wanted = place.inherited("keepalive_min_timeout"), nginx_config.KEEPALIVE_MIN
        found, old = re.search(r"nginx/(\S+)", version), nginx_config.too_old(version)
        if old or not lines or not nginx_config.seconds(lines[-1].args[0]):
            fact = f"nginx {found[1] if found else ''} without keepalive_min_timeout: each shift resets "
            fact += f"kept-alive clients that are idle; {COST}"
            mend = f"{'update to nginx 1.27.4 or later, and ' if old else ''}add `keepalive_min_timeout {wanted}s;`"
            yield self.finding("reload-not-hitless", fact, f"{mend} to http {{ }}", "warning")
        elif nginx_config.seconds(lines[-1].args[0]) > wanted:
            fact = f"{lines[-1].where}: `{lines[-1].says()}`: kept-alive clients may stay that long on the old color"
            mend = f"write `keepalive_min_timeout {wanted}s;`: a release counts on no more"
            yield self.finding("clients-follow-late", fact, mend, "warning")


def _words(addresses: set[str]) -> str:
    return ", ".join(sorted(addresses)) or "none"


def _outer(place: Directive, name: str) -> Iterator[Directive]:
    """Everything of a name in the blocks around a directive, the nearest first."""
    block: Directive | None = place
    while block:
        yield from block.own(name)
        block = block.parent


def _headers(place: Directive) -> list[Directive]:
    """What is added here: a block with lines of its own drops the outer ones, unless it is told to merge them."""
    merged = next((one.args[0] for one in place.inherited("add_header_inherit")), "on")
    return list(_outer(place, "add_header")) if merged == "merge" else place.inherited("add_header")
