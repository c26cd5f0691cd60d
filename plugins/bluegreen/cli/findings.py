"""What ``check`` finds out about routers, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bluegreen.catalog.models import Service
from bluegreen.cli.exits import OK, WRONG, code_of, complain
from bluegreen.cli.render import paragraph
from bluegreen.cli.session import ports_of, who
from bluegreen.core.colors import Color
from bluegreen.core.errors import CatalogError
from bluegreen.core.ports import Finding
from bluegreen.release.ports import Ports

Answer = Sequence[Finding] | Exception


def findings(service: Service) -> list[Finding]:
    """Ask a service's router what is wrong with it, with the traffic as it stands, and with what a watch would ask."""
    ports = ports_of(service)
    router = ports.router
    reading = router.read()
    found = []
    if reading.reachable and reading.stamp is None:
        adopt = (
            f"bluegreen adopt {service.service} --version VERSION --reason 'first release', with what runs there now"
        )
        found.append(Finding("no-stamp", "error", "router", f"the traffic is nobody's: {reading.says()}", adopt))
    found += [_by_hand(service.service, node.node, str(node.split)) for node in reading.foreign]
    return [*found, *router.check(), *_without_counts(ports), *_without_a_number(ports, reading.live)]


def _without_counts(ports: Ports) -> list[Finding]:
    """Say which rules are held against counts that the router does not have."""
    # Not at the top: `bluegreen schema` and `--help` need no HTTP client.
    from bluegreen.release.evidence import NAME_A_SOURCE, uncounted  # noqa: PLC0415

    fact = f"{ports.service.router.type} counts no requests: no release begins"
    rules = [f"release.rules: {rule.says}" for rule in uncounted(ports)]
    return [Finding("no-counts", "error", rule, fact, NAME_A_SOURCE) for rule in rules]


def _without_a_number(ports: Ports, live: Color | None) -> list[Finding]:
    """Say which rules a watch of the live color could not judge now."""
    # Not at the top: `bluegreen schema` and `--help` need no HTTP client.
    from bluegreen.release.evidence import tried_rules  # noqa: PLC0415

    color = live or Color.BLUE
    found: dict[str, Finding] = {}
    for tried in tried_rules(ports, color):
        if tried.error:
            fact, where = f"no number for {color}: {tried.error}", f"release.rules: {tried.says}"
            missing = Finding("no-number", "warning", where, fact, "a watch would hold to its end, and fail then")
            refused = Finding("bad-query", "error", where, fact, "mend its query: until then no release begins")
            # Who does not answer at all is told once, not for each rule.
            found.setdefault(fact, refused if tried.refused else missing)
    return list(found.values())


def _by_hand(service: str, node: str, split: str) -> Finding:
    mend = f"put it back (bluegreen restore {service}), or take it as it is (bluegreen adopt {service})"
    return Finding("changed-by-hand", "error", node, f"somebody changed it to blue/green {split}", mend)


def show(answers: Sequence[tuple[Service, Answer]]) -> None:
    """Print each finding, and what to write instead."""
    for service, answer in answers:
        for finding in () if isinstance(answer, Exception) else answer:
            where = f"{service.service}: {finding.level}: {finding.code}: {finding.where}"
            print(f"{paragraph(f'{where}: {finding.fact}', rest='  ')}\n  mend: {finding.mend.rstrip()}")
        if not answer:
            print(f"{service.service}: ok, asked by {who()}")


def checked_code(answer: Answer) -> int:
    """Return one service's exit code; warnings alone are none."""
    if isinstance(answer, Exception):
        return complain(answer)
    return WRONG if any(finding.level == "error" for finding in answer) else OK


def checked_json(answers: Sequence[tuple[Service, Answer]], errors: Sequence[CatalogError]) -> dict[str, Any]:
    """Everything as JSON for scripts."""
    each_problem = [problem for error in errors for problem in error.problems]
    fields = ("file", "line", "key", "fact", "next_step")
    return {
        "asked_by": who(),
        "catalog": [{name: getattr(problem, name) for name in fields} for problem in each_problem],
        "services": {service.service: _answer_json(answer) for service, answer in answers},
    }


def _answer_json(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Exception):
        return {"error": str(answer), "exit": code_of(answer)}
    return {"findings": [asdict(finding) for finding in answer]}
