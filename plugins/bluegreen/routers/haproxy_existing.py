"""An existing haproxy.cfg: what it says of a service, and the same file with the service's lines in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.core.errors import ReleaseRefused
from bluegreen.hosts import host_files
from bluegreen.routers.existing import Edit, Existing, Listen, backends_of, unclear
from bluegreen.routers.haproxy_config import (
    ADMIN,
    Section,
    color_rules,
    defaults_of,
    routing_lines,
    sections,
    speaks_http,
)

IDLE = "option idle-close-on-response"


def read(text: str, file: str, named: Mapping[Color, str]) -> Existing:
    """
    Return what the file says of the colors.

    :param named: backends that the user named, by color
    :raises ReleaseRefused: which backends are meant cannot be told
    """
    whole = sections(text)
    pools = {one.name: one for one in whole if one.kind in ("backend", "listen") and one.says("server ")}
    if not named:
        _separate(pools, file)
    backends = backends_of(list(pools), named, "backend", file)
    said = [line for one in whole for _, line in one.lines]
    sockets = [found[1] for line in said if (found := re.match(ADMIN, line))]
    return Existing(
        backends=backends,
        servers={color: _servers(pools[name]) for color, name in backends.items()},
        odd={color: odd for color, name in backends.items() if (odd := _odd(pools[name]))},
        listens=[listen for one in routing(whole, backends) for _, line in one.lines for listen in _listens(line)],
        socket=_reached(sockets[0]) if sockets else None,
        health=_asked(pools[name] for name in backends.values()),
    )


def _separate(pools: Mapping[str, Section], file: str) -> None:
    """Refuse the other way to split: both colors' servers in one backend."""
    for name, one in pools.items():
        servers = [line.split()[1] for _, line in one.lines if line.startswith("server ")]
        if all(any(color in server.lower() for server in servers) for color in Color):
            fact = f"backend {name} has servers of both colors ({', '.join(servers)}); their weights are lost at each reload"
            step = "give each color a backend of its own, as in docs/haproxy.md; where they have: --backends BLUE,GREEN"
            raise ReleaseRefused(fact, part=f"{file}:{one.line}", next_step=step)


def routing(whole: Sequence[Section], backends: Mapping[Color, str]) -> list[Section]:
    """Return the frontends that send requests to a color."""
    return [one for one in whole if one.kind in ("frontend", "listen") and color_rules(one, backends)]


def frontends_of(router: models.HAProxyRouter) -> list[str]:
    """Return the frontends that send requests to the colors, by name, as far as haproxy.cfg can be read here."""
    files = {node.config for node in router.nodes if node.config and not node.ssh}
    texts = [text for file in files if (text := host_files.text_of(str(file)))]
    return list(dict.fromkeys(one.name for text in texts for one in routing(sections(text), router.backends)))


_HEALTH = re.compile(r"(?:option httpchk (?:[A-Z]+ )?|http-check send .*\buri )(/\S*)")
_ADDRESS = re.compile(r"(?:ipv[46]@)?((?:\[[\da-fA-F:.]+\]|[\w.-]+):\d+)")


def _asked(pools: Iterable[Section]) -> str | None:
    """Return the path that HAProxy asks servers for, if it asks any."""
    return next((found[1] for one in pools for _, line in one.lines if (found := _HEALTH.match(line))), None)


def _reached(socket: str) -> str:
    """Return a stats socket as this host reaches it."""
    kind, _, rest = socket.rpartition("@")
    if kind not in ("", "ipv4", "ipv6") or rest.startswith("/"):
        return rest
    host, _, port = rest.rpartition(":")
    return Listen("tcp", host, int(port)).address if port.isdigit() else rest


def _listens(line: str) -> Iterator[Listen]:
    """Yield where a ``bind`` takes plain requests; sockets, port ranges and PROXY protocol are not for us."""
    words = line.split()
    if words[0] != "bind" or "accept-proxy" in words:
        return
    for address in words[1].split(","):
        host, _, port = re.sub(r"^ipv[46]@", "", address).rpartition(":")
        if port.isdigit() and "@" not in host:
            wrapped = f"[{host}]" if ":" in host and not host.startswith("[") else host
            yield Listen("https" if "ssl" in words else "http", wrapped, int(port))


def _servers(section: Section) -> list[str]:
    servers = [line.split() for _, line in section.lines if re.match(r"server \S+ \S+", line)]
    found = [(words, _ADDRESS.fullmatch(words[2])) for words in servers]
    return [f"{'https' if 'ssl' in words else 'http'}://{address[1]}" for words, address in found if address]


def _odd(section: Section) -> tuple[int, str] | None:
    """Return a server that does not say one host and port, and its line."""
    for number, line in section.lines:
        words = line.split()
        if words[0] == "server-template" or (words[0] == "server" and not _ADDRESS.fullmatch("".join(words[2:3]))):
            return number, line
    return None


def edits(
    text: str, service: models.Service, router: models.HAProxyRouter, node: models.HAProxyNode, live: Color
) -> dict[Path, Edit]:
    """
    Return haproxy.cfg with the lines that a service needs and does not have, and its first map file.

    :param text: of haproxy.cfg
    :param live: the color that has the traffic now, and keeps it
    :raises ReleaseRefused: where a line belongs cannot be told without guessing
    """
    file = str(node.config)
    whole, edit = sections(text), Edit(text)
    _globals(whole, edit, node)
    routed = routing(whole, router.backends)
    if not routed and not any(_routes(one, str(node.map)) for one in whole):
        fact = f"no frontend sends requests to {' or '.join(router.backends.values())}"
        raise unclear(file, 0, fact, service.service)
    pools = [one for one in whole if one.name in router.backends.values() and one.kind in ("backend", "listen")]
    for one in [*routed, *pools]:
        if not speaks_http(one, whole):
            raise unclear(file, one.line, f"{one.kind} {one.name} is not `mode http`", service.service)
    for one in routed:
        if not _routes(one, str(node.map)):
            _frontend(one, edit, service.service, router, node)
            _idle(one, defaults_of(one, whole), edit)
    for color, name in router.backends.items():
        for one in pools:
            if one.name == name:
                _backend(one, edit, f"http-response set-header {service.entry.color_header} {color}", _asked(pools))
    first = Edit("")
    first.add(0, [f"green {100 if live is Color.GREEN else 0}"])
    return {Path(file): edit, node.map: first}


def _routes(section: Section, map_path: str) -> bool:
    return any("str(green)" in line and f"({map_path}" in line for _, line in section.lines)


def _globals(whole: Sequence[Section], edit: Edit, node: models.HAProxyNode) -> None:
    said = [one for one in whole if one.kind == "global"]
    lines = []
    if not any(one.says(ADMIN) for one in said):
        where = node.socket if node.socket.startswith("/") else f"ipv4@{node.socket}"
        lines.append(f"stats socket {where} mode 660 level admin expose-fd listeners")
    if not any(one.says("hard-stop-after ") for one in said):
        lines.append("hard-stop-after 30s")
    if said:
        edit.add(said[0].last, lines, edit.indent(said[0].last) or "    ")
    elif lines:
        edit.add(0, ["global", *(f"    {line}" for line in lines), ""])


def _idle(section: Section, defaults: Section, edit: Edit) -> None:
    if not section.says(IDLE) and not defaults.says(IDLE):
        edit.once(defaults.last or section.last, IDLE)


def _frontend(
    section: Section, edit: Edit, service: str, router: models.HAProxyRouter, node: models.HAProxyNode
) -> None:
    """Put the draw before the first rule, and let each rule that goes to a color go by it."""
    blue, green = router.backends[Color.BLUE], router.backends[Color.GREEN]
    *draw, use, rest = routing_lines(service, str(node.map), router.backends)
    condition = use.partition(" if ")[2]
    rules = [number for number, line in section.lines if re.match(r"(use|default)_backend\b", line)]
    edit.add(rules[0] - 1, draw, edit.indent(rules[0]))
    done = False
    for number, line in color_rules(section, router.backends):
        when = re.search(r"\s(if|unless)\s+(.*)", line)
        if when and (when[1] == "unless" or re.search(r"\|\||\bor\b", when[2])):
            raise unclear(str(node.config), number, f"`{line}`: its condition cannot be added to", service)
        lines = (
            [f"use_backend {green} if {when[2]} {condition}", f"use_backend {blue} if {when[2]}"]
            if when
            else [use, rest]
        )
        if line.startswith("default_backend") and number != rules[-1]:
            # HAProxy takes it last wherever it stands; our rule in its place would come before those below it.
            edit.add(rules[-1], [] if done else [use], edit.indent(number))
            lines = [rest]
        edit.replace(number, [] if done and not when else lines)
        done = done or not when


def _backend(section: Section, edit: Edit, header: str, asked: str | None) -> None:
    wanted = [header] if not section.says(re.escape(header.rpartition(" ")[0])) else []
    # A path that the other color is asked for is known to be right; any other could take every server down at the reload.
    if asked and not section.says("option httpchk"):
        wanted.append(f"option httpchk GET {asked}")
    edit.add(section.last, wanted, edit.indent(section.last) or "    ")
    if section.says(r"default-server .*\bcheck\b"):
        return
    for number, line in section.lines:
        if line.startswith("server ") and "check" not in line.split():
            edit.replace(number, [f"{line} check"])
