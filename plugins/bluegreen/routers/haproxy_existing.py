"""An existing haproxy.cfg: what it says of a service, and the same file with the service's lines in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.routers.existing import Edit, Existing, backends_of, unclear
from bluegreen.routers.haproxy_config import ADMIN, Section, color_rules, defaults_of, routing_lines, sections

IDLE = "option idle-close-on-response"


def read(text: str, file: str, named: Mapping[Color, str]) -> Existing:
    """
    Return what the file says of the colors.

    :param named: backends that the user named, by color
    :raises ReleaseRefused: which backends are meant cannot be told
    """
    whole = sections(text)
    pools = {one.name: one for one in whole if one.kind in ("backend", "listen") and one.says("server ")}
    backends = backends_of(list(pools), named, "backend", file)
    said = [line for one in whole for _, line in one.lines]
    sockets = [found[1] for line in said if (found := re.match(ADMIN, line))]
    asked = [found[1] for _, line in pools[backends[Color.BLUE]].lines if (found := re.match(_HEALTH, line))]
    binds = [
        line
        for one in whole
        if one.kind in ("frontend", "listen") and color_rules(one, backends)
        for line in _binds(one)
    ]
    return Existing(
        backends=backends,
        servers={color: _servers(pools[name]) for color, name in backends.items()},
        ports={"https" if " ssl" in line else "http": int(found[1]) for line in binds if (found := _PORT.search(line))},
        socket=sockets[0].removeprefix("unix@") if sockets else None,
        health=asked[0] if asked else None,
    )


_HEALTH = r"option httpchk (?:GET )?(/\S*)"
_PORT = re.compile(r":(\d+)(?:\s|$)")


def _binds(section: Section) -> list[str]:
    return [line for _, line in section.lines if line.startswith("bind ")]


def _servers(section: Section) -> list[str]:
    servers = [line.split() for _, line in section.lines if re.match(r"server \S+ \S+", line)]
    return [f"{'https' if 'ssl' in words else 'http'}://{words[2]}" for words in servers]


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
    routed = [one for one in whole if one.kind in ("frontend", "listen") and color_rules(one, router.backends)]
    if not routed and not any(_routes(one, str(node.map)) for one in whole):
        fact = f"no frontend sends requests to {' or '.join(router.backends.values())}"
        raise unclear(file, 0, fact, service.service)
    for one in routed:
        if not _routes(one, str(node.map)):
            _frontend(one, edit, service.service, router, node)
            _idle(one, defaults_of(one, whole), edit)
    for color, name in router.backends.items():
        for one in whole:
            if one.name == name and one.kind in ("backend", "listen"):
                _backend(one, edit, f"http-response set-header {service.entry.color_header} {color}", service)
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
        edit.add(said[0].last, lines, "    ")
    elif lines:
        edit.add(0, ["global", *(f"    {line}" for line in lines), ""])


def _idle(section: Section, defaults: Section, edit: Edit) -> None:
    if not section.says(IDLE) and not defaults.says(IDLE):
        edit.add(defaults.last or section.line, [IDLE], "    ")


def _frontend(
    section: Section, edit: Edit, service: str, router: models.HAProxyRouter, node: models.HAProxyNode
) -> None:
    """Put the draw before the first rule, and let each rule that goes to a color go by it."""
    blue, green = router.backends[Color.BLUE], router.backends[Color.GREEN]
    *draw, use, rest = routing_lines(service, str(node.map), router.backends)
    condition = use.partition(" if ")[2]
    before = next(number for number, line in section.lines if re.match(r"(use|default)_backend\b", line))
    edit.add(before - 1, draw, edit.indent(before))
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
        edit.replace(number, [] if done and not when else lines)
        done = done or not when


def _backend(section: Section, edit: Edit, header: str, service: models.Service) -> None:
    wanted = [header] if not section.says(re.escape(header.rpartition(" ")[0])) else []
    if not section.says("option httpchk"):
        wanted.append(f"option httpchk GET {service.health.path}")
    edit.add(section.last, wanted, "    ")
    if section.says(r"default-server .*\bcheck\b"):
        return
    for number, line in section.lines:
        if line.startswith("server ") and "check" not in line.split():
            edit.replace(number, [f"{line} check"])
