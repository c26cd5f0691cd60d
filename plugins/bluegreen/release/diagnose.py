"""Diagnose: what is likely wrong with a service, the next command, and the facts that say so. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bluegreen.core.colors import Color
from bluegreen.core.ports import Secrets
from bluegreen.core.reading import NodeReading
from bluegreen.release.cause import Cause
from bluegreen.release.facts import Facts, gather
from bluegreen.release.ports import Ports
from bluegreen.release.symptoms import causes

LOG_LINES = 50
"""Lines of a color's log that are shown: the last ones."""


@dataclass(frozen=True)
class Diagnosis:
    """
    What was found.

    :param facts: everything that was gathered
    :param causes: the likely ones, the most telling first
    """

    facts: Facts
    causes: Sequence[Cause]

    def head(self) -> list[str]:
        """Return the three lines that are enough at 3 a.m.: the cause, the next command, and what else."""
        name = self.facts.name
        if not self.causes:
            asked = f"looked at {len(self.facts.targets)} targets, {len(self.facts.entries)} entries"
            missing = f"; not had: {', '.join(self.facts.missing)}" if self.facts.missing else ""
            return [f"{name}: no known symptom", f"next: bluegreen status {name}", f"{asked}{missing}; facts below"]
        first, *rest = self.causes
        also = ", ".join(dict.fromkeys(cause.code for cause in rest)) or "nothing else"
        return [f"{name}: {first.code}: {_line(first.says)}", f"next: {first.next_step}", f"also: {also}"]

    def text(self) -> str:
        """Return everything for people."""
        lines = self.head()
        if len(self.causes) > 1:
            lines += ["", "CAUSES, the most telling first"]
            for number, cause in enumerate(self.causes, start=1):
                lines += [f"  {number}. {cause.code}: {_line(cause.says)}", f"     next: {cause.next_step}"]
        for title, found in _sections(self.facts):
            lines += ["", title, *(f"  {line}" for line in found)]
        return "\n".join(lines)

    def brief(self) -> dict[str, Any]:
        """JSON for a run's report: the three lines, and each cause."""
        return {"head": self.head(), "causes": [asdict(cause) for cause in self.causes]}

    def as_json(self) -> dict[str, Any]:
        """JSON for scripts."""
        facts = self.facts
        looks = [*facts.targets, *facts.entries, *([facts.by_name] if facts.by_name else [])]
        return {
            "service": facts.name,
            "at": facts.now.isoformat(),
            "causes": [asdict(cause) for cause in self.causes],
            "router": facts.reading.as_json() if facts.reading else None,
            "answers": [asdict(look) for look in looks],
            "names": [asdict(answer) for answer in facts.names],
            "findings": [asdict(finding) for finding in facts.findings],
            "logs": {str(color): text for color, text in facts.logs.items()},
            "missing": dict(facts.missing),
        }


def diagnose(ports: Ports, secrets: Secrets, wanted: Mapping[Color, str] | None = None) -> Diagnosis:
    """
    Gather what there is to know and say what it means; raises nothing, changes nothing.

    :param secrets: the entry's login, and what must not be shown
    :param wanted: versions that colors should run, where a release knows them
    """
    facts = gather(ports, secrets, wanted)
    return Diagnosis(facts, causes(facts))


def _sections(facts: Facts) -> Iterator[tuple[str, list[str]]]:
    yield "ROUTER, by node", list(_router(facts))
    yield "STAMP", list(_stamp(facts))
    yield "TARGETS, each asked directly", [f"{look.color} {look}" for look in facts.targets]
    yield (
        "ENTRY, by node and then as users reach it",
        [str(look) for look in (*facts.entries, facts.by_name) if look is not None],
    )
    yield "NAMES", [str(answer) for answer in facts.names] or ["no name to ask for: all are addresses"]
    yield "THE ROUTER'S OWN CHECK", [_line(f"{f.level}: {f.code}: {f.where}: {f.fact}") for f in facts.findings]
    for color, text in facts.logs.items():
        yield f"LAST LINES OF {color}, from deploy.diagnose", text.splitlines()[-LOG_LINES:] or ["none"]
    if facts.missing:
        yield "NOT TO BE HAD", [f"{part}: {_line(why)}" for part, why in facts.missing.items()]


def _router(facts: Facts) -> Iterator[str]:
    for node in facts.reading.nodes if facts.reading else ():
        yield f"{node.node}: {_node(node)}"


def _node(node: NodeReading) -> str:
    if not node.reachable:
        return f"unreachable: {_line(node.error)}"
    up = ", ".join(f"{color} {health.ready}/{health.total} up" for color, health in (node.health or {}).items())
    phase = f"{node.stamp.phase} at epoch {node.epoch}" if node.stamp else "no stamp"
    force = "in force" if node.settled else f"NOT in force: {_line(node.detail)}"
    return f"blue/green {node.split}, {phase}, {up or 'servers unknown'}, {force}"


def _stamp(facts: Facts) -> Iterator[str]:
    stamp = facts.stamp
    if stamp is None:
        yield "none"
        return
    left = (stamp.lease - facts.now).total_seconds() if stamp.lease else None
    lease = "none" if left is None else f"{left:.0f} s left" if left >= 0 else f"out since {-left:.0f} s"
    versions = ", ".join(f"{color} {version}" for color, version in stamp.versions.items()) or "unknown"
    yield f"held by {stamp.release}, {stamp.phase}, step {stamp.step}, epoch {stamp.epoch}"
    yield f"lease: {lease}; back to: {stamp.back_to or 'nowhere'}; versions: {versions}"
    since = f"{stamp.at:%Y-%m-%d %H:%M:%S} UTC" if stamp.at else "unknown"
    yield f"last change: {since}: {_line(stamp.why)}"


def _line(text: str) -> str:
    return " ".join(text.split())
