"""The lines that a service needs in haproxy.cfg, and how an existing haproxy.cfg is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bluegreen.catalog.models import HAProxyRouter
from bluegreen.core.colors import Color

ADMIN = r"stats socket (\S+) .*\blevel admin\b"
"""A line of ``global`` that opens the socket that releases need."""
_BY_MAP = re.compile(r"\b(path|pathq|base|url)\b[^\]]*,map(_str)?\(")
_SECTIONS = re.compile(
    r"(global|defaults|frontend|backend|listen|userlist|peers|resolvers|mailers|program|ring|cache|http-errors|"
    r"fcgi-app|log-forward|crt-store|traces)\b"
)


@dataclass(frozen=True)
class Section:
    """
    A section of haproxy.cfg.

    :param kind: ``frontend``, ``defaults`` …
    :param name: empty for ``global`` and most ``defaults``
    :param lines: line number and text without comment, both as in the file
    :param line: number of its head
    :param base: the ``defaults`` that it names after ``from``
    """

    kind: str
    name: str
    lines: list[tuple[int, str]] = field(default_factory=list)
    line: int = 0
    base: str = ""

    @property
    def last(self) -> int:
        """The number of its last line that says something."""
        return self.lines[-1][0] if self.lines else self.line

    def says(self, pattern: str) -> bool:
        """Tell whether a line begins with the pattern."""
        return any(re.match(pattern, text) for _, text in self.lines)


def sections(text: str) -> list[Section]:
    """Read a configuration file."""
    found = [Section("", "")]
    for number, line in enumerate(text.splitlines(), start=1):
        words = re.sub(r"(?<!\\)#.*", "", line).split()
        if words and _SECTIONS.fullmatch(words[0]):
            base = "".join(words[words.index("from") + 1 :][:1]) if "from" in words[1:3] else ""
            found.append(Section(words[0], words[1] if len(words) > 1 else "", line=number, base=base))
        elif words:
            found[-1].lines.append((number, " ".join(words)))
    return found


def defaults_of(section: Section, among: Sequence[Section]) -> Section:
    """Return the ``defaults`` that hold for a section: those that it names, else the last ones before it."""
    before = [one for one in among[: among.index(section)] if one.kind == "defaults"]
    named = [one for one in before if section.base and one.name == section.base]
    return (named or before or [Section("defaults", "")])[-1]


def speaks_http(section: Section, among: Sequence[Section]) -> bool:
    """Tell whether a section is in ``mode http``; HAProxy's own default is tcp."""
    own = [line for _, line in section.lines if line.startswith("mode ")]
    above = defaults_of(section, among)
    if own or above not in among or (section.kind == "defaults" and not section.base):
        return own[-1:] == ["mode http"]
    return speaks_http(above, among)


def routing_lines(service: str, map_path: str, backends: dict[Color, str]) -> list[str]:
    """Return the frontend's lines: the map's value for ``green`` is the share of new requests that green gets."""
    variable = service.replace("-", "_")
    return [
        f"http-request set-var(txn.{variable}_green) str(green),map_str_int({map_path},0)",
        f"http-request set-var(txn.{variable}_draw) rand(100)",
        f"use_backend {backends[Color.GREEN]} if {{ var(txn.{variable}_draw),sub(txn.{variable}_green) lt 0 }}",
        f"default_backend {backends[Color.BLUE]}",
    ]


_TEMPLATE = """\
# {service}: add these lines to haproxy.cfg on {nodes}.
global
    # the user that Airflow and the guard run as needs this socket
    stats socket {socket} mode 660 level admin expose-fd listeners
    hard-stop-after 30s

defaults
    # without it a reload resets idle keep-alive connections
    option idle-close-on-response

# the frontend that users reach keeps its name, bind and other lines; these stand in place of what routes there now
frontend {frontend}
    # where the frontend has other services, too: `use_backend {blue}` with its condition instead of the last line
    {routing}

backend {blue}
    option httpchk GET {health}
    http-response set-header {header} blue

backend {green}
    option httpchk GET {health}
    http-response set-header {header} green

# Every server needs `check`. The map file {map} before the first start:
green 0
"""


def lines_to_add(
    service: str,
    router: HAProxyRouter,
    color_header: str = "X-Release-Color",
    health: str = "/health",
    frontends: Sequence[str] = (),
) -> str:
    """
    Return the exact lines to add to an existing haproxy.cfg, and the initial map file; a text for each map path.

    :param frontends: which of its frontends send requests to the colors, where that is known
    """
    by_map = {str(node.map): [one for one in router.nodes if one.map == node.map] for node in router.nodes}
    return "\n".join(
        _TEMPLATE.format(
            service=service,
            frontend=" and ".join(frontends) or service,
            health=health,
            nodes=", ".join(node.name for node in nodes),
            socket=_bind(nodes[0].socket),
            routing="\n    ".join(routing_lines(service, path, router.backends)),
            blue=router.backends[Color.BLUE],
            green=router.backends[Color.GREEN],
            header=color_header,
            map=path,
        )
        for path, nodes in by_map.items()
    )


def _bind(socket: str) -> str:
    return socket if socket.startswith("/") else f"ipv4@{socket}"


@dataclass(frozen=True)
class Fault:
    """A trap in the configuration; the same fields as ``core.ports.Finding``, without the node."""

    code: str
    line: int
    fact: str
    mend: str


def routing_faults(text: str, service: str, map_path: str, backends: dict[Color, str]) -> list[Fault]:
    """Find what keeps the routing lines of a configuration from doing what the map says."""
    whole = sections(text)
    mend = "write instead: " + " | ".join(routing_lines(service, map_path, backends))
    users = [(one, number, line) for one in whole for number, line in one.lines if map_path in line]
    faults = [_other_use(number, line, mend) for _, number, line in users if not _green(line, map_path)]
    ours = [(one, number, line) for one, number, line in users if _green(line, map_path)]
    others = [(one, *rule) for one in whole for rule in color_rules(one, backends) if _BY_MAP.search(rule[1])]
    if not ours and not faults:
        users += others
        faults = [_other_use(number, line, mend) for _, number, line in others]
    if not ours and not faults:
        faults.append(Fault("routing-lines-missing", 0, f"no line looks `green` up in {map_path}", mend))
    for section, number, line in ours:
        variable = re.search(r"set-var\(([\w.]+)\)", line)
        faults += _use_faults(section, number, variable[1] if variable else "", backends, mend)
    using = [section for section in whole if any(section is user for user, _, _ in users)]
    using += [one for one in whole if one.kind == "backend" and one.name in backends.values()]
    faults += [_not_http(section) for section in using if not speaks_http(section, whole)]
    return faults + [
        fault for section in using if section.kind != "backend" for fault in _reload_faults(section, whole)
    ]


def standing_faults(text: str, socket: str, backends: dict[Color, str], header: str) -> list[Fault]:
    """Find in the file what HAProxy itself would tell if it could be asked: socket, backends, checks, color headers."""
    whole = sections(text)
    faults = []
    if not any(one.says(ADMIN) for one in whole if one.kind == "global"):
        line = f"stats socket {_bind(socket)} mode 660 level admin expose-fd listeners"
        fact = "no `stats socket` at level admin: HAProxy cannot be asked, and no split changes without a reload"
        faults.append(Fault("no-admin-socket", 0, fact, f"add `{line}` to global, and reload"))
    known = {one.name: one for one in whole if one.kind in ("backend", "listen")}
    for color, name in backends.items():
        if name not in known:
            fact = f"there is no backend {name} for {color}, only {', '.join(known) or 'none'}"
            faults.append(Fault("unknown-backend", 0, fact, "write router.backends as haproxy.cfg names them"))
        else:
            faults += _backend_faults(known[name], whole, color, header)
    return faults


def _backend_faults(section: Section, whole: Sequence[Section], color: Color, header: str) -> list[Fault]:
    faults, checks = [], r"default-server .*\bcheck\b"
    if not (section.says(checks) or defaults_of(section, whole).says(checks)):
        bare = [line.split()[1] for _, line in section.lines if re.match(r"server (?!.*\bcheck\b)", line)]
        fact = f"servers of {section.name} without a health check count as ready while they are dead: {', '.join(bare)}"
        mend = "write `option httpchk GET /health` in the backend and `check` at each server"
        faults += [Fault("no-health-check", section.line, fact, mend)] if bare else []
    if not section.says(rf"http-response (set|add)-header {re.escape(header)} {color}\b"):
        fact = f"backend {section.name} sets no {header}: nothing can be proven"
        line = f"http-response set-header {header} {color}"
        faults.append(Fault("color-header-missing", section.line, fact, f"add `{line}` to it"))
    return faults


def color_rules(section: Section, backends: Mapping[Color, str]) -> list[tuple[int, str]]:
    """Return a section's rules that send requests to a color, with their line numbers."""
    names = "|".join(re.escape(name) for name in backends.values())
    rule = re.compile(rf"(use_backend|default_backend)\b.*(?<![\w.-])({names})(?![\w.-])")
    return [(number, line) for number, line in section.lines if rule.match(line)]


def _green(line: str, map_path: str) -> bool:
    return re.search(rf"str\(green\),map(_str)?(_int)?\({re.escape(map_path)}(,0)?\)", line) is not None


def _other_use(number: int, line: str, mend: str) -> Fault:
    if _BY_MAP.search(line):
        fact = f"`{line}` compares the whole path with the map's keys: with the key / only / itself would switch"
        return Fault("exact-match-map", number, fact, mend)
    return Fault("map-used-otherwise", number, f"`{line}` does not look up `green`, with 0 as its default", mend)


def _use_faults(section: Section, number: int, variable: str, backends: dict[Color, str], mend: str) -> list[Fault]:
    rules = [(at, line) for at, line in section.lines if line.startswith(("use_backend", "default_backend"))]
    draw = re.compile(rf"use_backend (\S+) if .*var\(([\w.]+)\),sub\({re.escape(variable)}\) lt 0")
    uses = [(at, found) for at, line in rules if (found := draw.match(line))]
    if not variable or not uses:
        return [Fault("routing-lines-missing", number, f"no use_backend compares a draw with {variable}", mend)]
    at, use = uses[0]
    faults = []
    if not section.says(rf"http-request set-var\({re.escape(use[2])}\) rand\(100\)"):
        faults.append(Fault("routing-lines-missing", at, f"{use[2]} is not drawn with rand(100)", mend))
    if use[1] != backends[Color.GREEN]:
        fact = f"green's share goes to {use[1]}, the service file says {backends[Color.GREEN]}"
        faults.append(Fault("wrong-backend", at, fact, mend))
    rest = [line.split()[1] for after, line in rules if after > at or line.startswith("default_backend")]
    if backends[Color.BLUE] not in rest:
        fact = f"the rest goes to {', '.join(rest) or 'no backend'}, the service file says {backends[Color.BLUE]}"
        faults.append(Fault("wrong-backend", at, fact, mend))
    return faults


def _not_http(section: Section) -> Fault:
    fact = f"{section.kind} {section.name} is not `mode http`: it can neither draw for each request nor tell a color"
    mend = "write `mode http` in it, or in its defaults; a service that does not speak HTTP cannot be released this way"
    return Fault("not-http", section.line, fact, mend)


def _reload_faults(section: Section, whole: Sequence[Section]) -> list[Fault]:
    option = r"option idle-close-on-response"
    if section.says(option) or (defaults_of(section, whole).says(option) and not section.says(f"no {option}")):
        return []
    fact = f"{section.kind} {section.name} lacks `{option}`: each reload resets idle keep-alive connections"
    return [Fault("reload-not-hitless", 0, fact, f"add `{option}` to its defaults")]
