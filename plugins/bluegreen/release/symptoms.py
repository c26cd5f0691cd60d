"""
From symptoms to likely causes and the next command: pure functions over ``release.facts``, the most telling first.

A rule says nothing where it cannot know. ``docs/troubleshooting.md`` explains each code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from shlex import quote
from urllib.parse import urlsplit

from bluegreen.catalog.kube import KubeNode
from bluegreen.catalog.models import HAProxyNode
from bluegreen.checks.looks import Look
from bluegreen.checks.names import THIS_HOST, differing
from bluegreen.core.colors import Color
from bluegreen.core.reading import NodeReading
from bluegreen.core.stamp import Phase
from bluegreen.release import next_commands as say
from bluegreen.release.cause import Cause, expected
from bluegreen.release.facts import Facts
from bluegreen.release.pod_symptoms import pods_fail

DATABASE = re.compile(
    r"(column|relation|table|type|function)\b[^\n]{1,120}\b(does not|doesn't) exist|unknown column|no such (table|column)"
    r"|invalid (column|object) name|ORA-00(904|942)|Undefined(Column|Table)|SQLSTATE\W{0,2}42|violates not-null"
    r"|doesn't have a default value|(unapplied|pending) migrations?",
    re.IGNORECASE,
)
"""What PostgreSQL, MySQL, SQLite, SQL Server, Oracle and their drivers say when the schema is another one."""

NO_NAME = re.compile(r"name or service not known|no address associated|name resolution", re.IGNORECASE)
DISK = re.compile(
    r"permission|read-only|no space|cannot (write|be written|be read)|is a directory|quota", re.IGNORECASE
)


Rule = Callable[[Facts], Iterator[Cause]]


def causes(facts: Facts) -> list[Cause]:
    """Return what the rules find, the most telling first, each code and node or color once."""
    found = [cause for rule in RULES for cause in rule(facts)]
    return list(dict.fromkeys(found))


# the router's nodes


def node_unreachable(facts: Facts) -> Iterator[Cause]:
    """A node cannot be asked: its key, our login, a file or socket that we may not use, or it is gone."""
    for node in facts.reading.unreachable if facts.reading else ():
        yield _unreachable(facts, node)


def _unreachable(facts: Facts, node: NodeReading) -> Cause:
    says = f"node {node.node}: {node.error}"
    if "host key" in node.error:
        command = re.split(r", then |; make it: ", node.error)[-1]
        return Cause("ssh-key-unknown", says, command if command != node.error else f"bluegreen check {facts.name}")
    if "does not let" in node.error or "private key" in node.error or "key_file" in node.error:
        return Cause("ssh-login-refused", says, say.on_node(facts.service, node.node, "true"))
    if DISK.search(node.error):
        return Cause("node-disk", says, _disk_command(facts, node.node))
    return Cause("node-unreachable", says, say.router_state(facts.service, node.node))


def node_disk(facts: Facts) -> Iterator[Cause]:
    """A node's file cannot be replaced."""
    for finding in facts.findings:
        if finding.code.endswith("-not-writable"):
            node = _node_of(facts, finding.where)
            yield Cause("node-disk", f"{finding.where}: {finding.fact}", _disk_command(facts, node))


def _node_of(facts: Facts, where: str) -> str:
    return next((n.name for n in facts.service.router.nodes if f" {n.name}," in where), "")


def _disk_command(facts: Facts, name: str) -> str:
    node = say.node_of(facts.service, name)
    if isinstance(node, KubeNode):
        return say.router_state(facts.service, name)
    path = (node.file or node.map) if isinstance(node, HAProxyNode) else node.include
    look = f"id; ls -la {quote(str(path.parent))}; df -h {quote(str(path.parent))}"
    return say.on_node(facts.service, name, look)


def changed_by_hand(facts: Facts) -> Iterator[Cause]:
    """A node routes by what no stamp names."""
    for node in facts.reading.foreign if facts.reading else ():
        told = f"its stamp says {node.stamped_split}" if node.stamp else "it has no stamp, other nodes have"
        says = f"node {node.node} was changed past us: it routes blue/green {node.split}, {told}"
        yield Cause("changed-by-hand", says, f"bluegreen restore {facts.name} --reason 'undo a change by hand'")


def file_not_in_force(facts: Facts) -> Iterator[Cause]:
    """A node's file or object says one thing, and it routes by another."""
    for node in facts.reading.reachable if facts.reading else ():
        if not node.settled and DISK.search(node.detail):
            yield Cause("node-disk", f"node {node.node}: {node.detail}", _disk_command(facts, node.node))
        elif not node.settled:
            says = f"node {node.node}: what is written is not in force: {node.detail or 'it does not say why'}"
            yield Cause("file-not-in-force", says, _bring_up(facts))


def nodes_differ(facts: Facts) -> Iterator[Cause]:
    """Nodes bear different writes."""
    reading = facts.reading
    for node in reading.lagging if reading else ():
        if reading and node.settled and not node.changed_by_hand:
            says = f"nodes differ: {node.node} is at epoch {node.epoch} with blue/green {node.split}, "
            yield Cause("nodes-differ", says + f"the truth is {reading.says()}", _bring_up(facts))


def _bring_up(facts: Facts) -> str:
    """The guard brings up nodes behind a stamp that is at rest; else somebody must look first."""
    at_rest = facts.stamp is not None and not facts.stamp.phase.transitional
    return f"bluegreen {'guard' if at_rest else 'check'} {facts.name}"


def lease_out(facts: Facts) -> Iterator[Cause]:
    """Traffic is at risk, its owner is gone, and no guard has looked."""
    stamp = facts.stamp
    if stamp and stamp.lease and stamp.lease_out(facts.now):
        late = (facts.now - stamp.lease).total_seconds()
        says = f"the lease of {stamp.release} ({stamp.phase}) is out since {late:.0f} s, and no guard has put it back"
        yield Cause("lease-out", says, f"bluegreen guard {facts.name}")


def stranded(facts: Facts) -> Iterator[Cause]:
    """The way back did not serve."""
    if facts.stamp and facts.stamp.phase is Phase.STRANDED:
        says = f"stranded: the way back did not serve ({facts.stamp.why}); mend the color without traffic"
        yield Cause("stranded", says, f"bluegreen status {facts.name}")


def no_stamp(facts: Facts) -> Iterator[Cause]:
    """Nobody has taken the traffic over."""
    if facts.reading and facts.reading.reachable and facts.stamp is None:
        adopt = f"bluegreen adopt {facts.name} --version VERSION --reason 'first release'"
        yield Cause("no-stamp", f"the router bears no stamp: {facts.reading.says()}", adopt)


def held(facts: Facts) -> Iterator[Cause]:
    """A person is asked."""
    if facts.stamp and facts.stamp.phase is Phase.HELD and not facts.stamp.lease_out(facts.now):
        says = f"the release is held, a person is asked in Airflow, Required actions: {facts.stamp.why}"
        yield Cause("held", says, f"bluegreen status {facts.name}")


def put_back(facts: Facts) -> Iterator[Cause]:
    """The last release was put back, and why: what else is found may have to do with it, or may have been so before."""
    stamp = facts.stamp
    if stamp and stamp.phase is Phase.RESTORED:
        when = f" at {stamp.at:%H:%M:%S} UTC" if stamp.at else ""
        says = f"{stamp.release} was put back{when}, the traffic is safe: {stamp.why}"
        yield Cause("put-back", says, f"bluegreen status {facts.name}")


# the targets, each asked directly


def database_differs(facts: Facts) -> Iterator[Cause]:
    """The schema is not the one that the version asks for."""
    for color in Color:
        bodies = [(look.where, look.body) for look in facts.of(color)]
        for where, text in [*bodies, ("the deployer's diagnose", facts.logs.get(color, ""))]:
            line = next((line.strip() for line in text.splitlines() if DATABASE.search(line)), None)
            if line:
                yield Cause("database-differs", f"{color}: {where} has an SQL error: {line[:200]}", _away(facts, color))
                break


def _away(facts: Facts, color: Color) -> str:
    """Away from a color, while another one is live or was; else the whole answer."""
    share = facts.reading.split.share(color) if facts.reading and facts.reading.split else 0
    if share and facts.stamp and facts.stamp.back_to == color.other:
        return f"bluegreen restore {facts.name} --reason 'the database lacks what {color} asks for'"
    looks = facts.of(color)
    return say.curl(looks[0].url) if looks else f"bluegreen status {facts.name}"


def target_fails(facts: Facts) -> Iterator[Cause]:
    """Targets do not answer as they should: said once a kind and color, with the first of them."""
    for color in Color:
        seen: dict[str, list[Look]] = {}
        for look in facts.of(color) if expected(facts, color) else ():
            if code := _failure(facts, look):
                seen.setdefault(code, []).append(look)
        for code, looks in seen.items():
            yield _target_cause(facts, color, code, looks)


def _failure(facts: Facts, look: Look) -> str:
    if NO_NAME.search(look.error):
        return "name-unknown"
    if look.kind:
        return {"timeout": "target-hangs", "tls": "certificate"}.get(look.kind, "process-not-there")
    if look.status == facts.service.health.status:
        wanted = facts.version(look.color) if look.color and facts.service.health.version else None
        return "wrong-version" if wanted and look.version != wanted else ""
    known = {404: "wrong-path", 401: "health-needs-login", 403: "health-needs-login"}
    return known.get(look.status or 0, "target-unhealthy")


def _target_cause(facts: Facts, color: Color, code: str, looks: list[Look]) -> Cause:
    first, health = looks[0], facts.service.health
    answered = f"{health.path} answers {first.status}, wanted {health.status}"
    facts_of_code = {
        "process-not-there": f"takes no connection, its process is not there or unreachable: {first.error}",
        "name-unknown": f"has a name that is not known here: {first.error}",
        "target-hangs": f"times out on {health.path}: {first.error}",
        "certificate": f"shows a certificate that is not trusted: {_certificate(first.error)}",
        "wrong-path": f"{answered}: another path, see health.path of the service file",
        "health-needs-login": f"{answered}: the health page must need no login",
        "target-unhealthy": f"{answered}: {first.body or 'empty body'}",
        "wrong-version": f"reports version {first.version or 'none'}, wanted {facts.version(color)}: "
        "the deploy ended before the new process ran, or health.version reads another key",
    }
    commands = {
        "process-not-there": say.on_target(first.url, "ss -ltnp; journalctl -n 50 --no-pager"),
        "name-unknown": f"getent hosts {urlsplit(first.url).hostname}",
        "target-hangs": say.curl(first.url, "-m", "30", "-w", r"'\n%{time_total} s\n'"),
        "certificate": say.certificate(first.url),
    }
    more = f" (and {len(looks) - 1} more of {len(facts.of(color))})" if len(looks) > 1 else ""
    return Cause(code, f"{color}: {first.where}{more} {facts_of_code[code]}", commands.get(code, say.curl(first.url)))


def _certificate(error: str) -> str:
    known = {"expired": "it has expired", "mismatch": "it is for another name", "self": "it is self-signed"}
    known |= {"unable to get": "nobody trusted has signed it"}
    return f"{next((word for sign, word in known.items() if sign in error), 'TLS fails')} ({error})"


def router_check_differs(facts: Facts) -> Iterator[Cause]:
    """Targets are well, and a node sends them nothing."""
    for color in Color:
        well = [look for look in facts.of(color) if not look.kind and not _failure(facts, look)]
        for node in facts.reading.reachable if facts.reading and well else ():
            health = (node.health or {}).get(color)
            if health and health.total and not health.serves:
                says = f"{color}: its targets are healthy by themselves, but node {node.node} has none of "
                says += (
                    f"{health.total} up: the router's own check asks another path, port or Host, or they are drained"
                )
                yield Cause("router-check-differs", says, say.proxy_states(facts.service, node.node, well[0].url))
                break


# the entry, and the way to it


def entry_fails(facts: Facts) -> Iterator[Cause]:
    """A node's entry does not answer, or not with a color that it routes to."""
    splits = {node.node: node.split for node in facts.reading.reachable} if facts.reading else {}
    for look in facts.entries:
        command = say.curl_node(facts.service, look.where, look.url)
        if look.kind == "tls":
            entry = next(node.entry for node in facts.service.router.nodes if node.name == look.where)
            says = f"the entry of node {look.where} shows a certificate that is not trusted: {_certificate(look.error)}"
            yield Cause("certificate", says, say.certificate(look.url, entry))
        elif look.kind:
            yield Cause("entry-silent", f"the entry of node {look.where} does not answer: {look.error}", command)
        elif look.served not in list(Color):
            says = f"the entry of node {look.where} answers {look.status} without a color in "
            says += f"{facts.service.entry.color_header}: {look.body}"
            yield Cause("color-header-missing", says, f"bluegreen check {facts.name}")
        elif (split := splits.get(look.where)) and not split.share(Color(look.served)):
            says = f"node {look.where} answers from {look.served}, which has no share of {split}: another rule wins"
            yield Cause("another-rule-wins", says, f"bluegreen check {facts.name}")


def entry_elsewhere(facts: Facts) -> Iterator[Cause]:
    """The nodes answer well, and users come to something else."""
    look, nodes_well = facts.by_name, [one for one in facts.entries if one.served in list(Color)]
    if look is None or not nodes_well:
        return
    host = urlsplit(facts.service.entry.url).hostname or ""
    leads = [a for a in facts.names if a.name == host and a.server != THIS_HOST and a.addresses]
    told = f"; by DNS it is {', '.join(leads[0].addresses)}, kept up to {leads[0].ttl} s" if leads else ""
    if NO_NAME.search(look.error):
        yield Cause("name-unknown", f"the entry's name {host} is not known here: {look.error}", f"getent hosts {host}")
    elif look.kind:
        says = f"the entry by its own name does not answer, though its nodes do: {look.kind}: {look.error}{told}"
        yield Cause("answered-elsewhere", says, say.curl(look.url))
    elif look.served not in list(Color):
        says = f"the entry by its own name answers {look.status} without a color, its nodes answer with one: "
        yield Cause("answered-elsewhere", f"{says}another proxy or DNS leads elsewhere{told}", say.curl(look.url))


def names_differ(facts: Facts) -> Iterator[Cause]:
    """DNS servers do not say the same."""
    for name in differing(facts.names):
        said = "; ".join(str(answer) for answer in facts.names if answer.name == name and answer.server != THIS_HOST)
        says = f"DNS servers differ, clients keep an old answer as long as its TTL: {said}"
        yield Cause("dns-differs", says, "resolvectl flush-caches")


def sticky(facts: Facts) -> Iterator[Cause]:
    """Clients stay where they are, as they should."""
    split, cookie = facts.reading.split if facts.reading else None, facts.service.router.client_cookie
    stamp = facts.stamp
    if cookie and split and split.whole is None:
        says = f"a client that sends the cookie {cookie} keeps its color at {split}: this is no fault"
        yield Cause("sticky-clients", says, say.curl(facts.service.entry.url, "-H", f"'Cookie: {cookie}=another'"))
    elif stamp and stamp.clients_follow_until and stamp.clients_follow_until > facts.now:
        says = f"clients may keep the old color until {stamp.clients_follow_until:%H:%M:%S} UTC: this is no fault"
        yield Cause("sticky-clients", says, f"bluegreen status {facts.name}")


HANDLED = ("run-time-differs", "map-file", "include-file", "entry-does-not-answer", "no-color-header")
"""Findings of the router's check that a rule above tells better."""


def check_finds(facts: Facts) -> Iterator[Cause]:
    """Whatever else keeps the configuration from doing what it says."""
    for one in facts.findings:
        said = one.code in HANDLED or one.code.endswith(("-not-writable", "-unreachable", "-refused"))
        if one.level == "error" and not said:
            yield Cause(one.code, f"{one.where}: {one.fact}; mend: {one.mend}", f"bluegreen check {facts.name}")


RULES: tuple[Rule, ...] = (
    node_unreachable, stranded, lease_out, changed_by_hand, file_not_in_force, nodes_differ, node_disk,
    database_differs, pods_fail, target_fails, router_check_differs,
    entry_fails, put_back, entry_elsewhere, names_differ, check_finds, no_stamp, held, sticky,
)  # fmt: skip
