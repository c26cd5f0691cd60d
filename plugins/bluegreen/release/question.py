"""Question: what a person is shown who is asked whether a release may go on; markdown, without secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from bluegreen.catalog.durations import text
from bluegreen.core.colors import Color
from bluegreen.release.answer import APPROVE, REJECT
from bluegreen.release.plan import Plan

Gate = Literal["before_canary", "before_switch", "unknown"]

LONGEST_WORD = 200
"""Characters of a value that the form shows."""
MOST_TESTS = 12
"""Smoke tests that it names one by one: many targets would push the answer off the page."""


@dataclass(frozen=True)
class Evidence:
    """
    What the steps before left, as JSON; None where a step was left out.

    :param deploy: color, version, ready, total
    :param prewarm: requests, failures, first and last quantiles
    :param smoke: one result a test and target
    :param watch: how the last canary's watch ended
    """

    deploy: Mapping[str, Any] | None = None
    prewarm: Mapping[str, Any] | None = None
    smoke: list[Mapping[str, Any]] | None = None
    watch: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Question:
    """
    A form.

    :param subject: its head, plain text
    :param body: markdown
    """

    subject: str
    body: str


def question(plan: Plan, gate: Gate, until: datetime, evidence: Evidence, held_share: int | None = None) -> Question:
    """
    Ask with everything that is needed to answer.

    :param until: the deadline, absolute UTC
    :param held_share: what the new color has while people are asked, for ``unknown``; else the last canary's
    """
    canary = plan.service.release.canary
    held = gate == "unknown" or (gate == "before_switch" and bool(canary))
    at = held_share or (canary[-1].share if held else 0)
    share = next((step.share for step in canary if step.share > at), 100) if gate != "before_switch" else 100
    subject = f"{plan.service.service} {_cut(plan.version)}: {_share(share)} of the traffic?"
    if gate == "unknown":
        subject = f"{plan.service.service} {_cut(plan.version)}: too little evidence at {_share(at)}, go on?"
    found = _watched(plan, evidence.watch, at) if gate == "unknown" else _found(plan, evidence, held=held)
    parts = [_about(plan), found, _answers(plan, share, until, held=held, at=at)]
    return Question(subject, "\n\n".join("\n".join(lines) for lines in parts))


def word(value: object) -> str:
    """
    Write a foreign value as code, in which markdown and HTML mean nothing.

    What would end the code span or the line is taken out.
    """
    return f"`{_cut(value)}`"


def _cut(value: object) -> str:
    said = "".join(letter if letter.isprintable() else " " for letter in str(value).replace("`", "'"))
    said = " ".join(said.split()) or "-"
    return said if len(said) <= LONGEST_WORD else said[: LONGEST_WORD - 1] + "…"


def _share(share: int) -> str:
    return "all" if share == 100 else f"{share} %"


def _about(plan: Plan) -> Iterator[str]:
    old = word(plan.old_version) if plan.old_version else "an unknown version"
    release = plan.service.release
    steps = [f"{step.share} % for {text(step.watch)}" for step in release.canary] or ["no canary"]
    yield f"**{plan.service.service}**: {word(plan.version)} on {plan.idle}, in place of {old} on {plan.live}"
    yield ""
    yield f"- asked for by {word(plan.by)} in {word(plan.run)}"
    yield f"- plan: {', '.join(steps)}; then all, watched for {text(release.watch)}"
    if plan.skip or plan.skip_reason:
        yield f"- left out: {', '.join(plan.skip) or 'canary steps'}; reason: {word(plan.skip_reason)}"


def _found(plan: Plan, evidence: Evidence, *, held: bool) -> Iterator[str]:
    yield "**What was found**"
    yield ""
    yield f"- deploy: {_deployed(evidence.deploy)}"
    yield f"- prewarming: {_prewarmed(evidence.prewarm)}"
    yield from _smoked(evidence.smoke)
    if held:
        yield from _watched(plan, evidence.watch, plan.service.release.canary[-1].share)


def _deployed(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "left no result"
    return f"{found['color']} runs {word(found['version'])}, {found['ready']} of {found['total']} targets are healthy"


def _prewarmed(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "left out"
    first, last = found.get("first_ms") or {}, found.get("last_ms") or {}
    took = ", ".join(f"{name} {first[name]:g} → {last[name]:g} ms" for name in first if name in last)
    return f"{found['requests']} requests, {found['failures']} failed" + (f"; {took}" if took else "")


def _smoked(found: list[Mapping[str, Any]] | None) -> Iterator[str]:
    if not found:
        yield "- smoke tests: left out"
        return
    yield f"- smoke tests: {sum(bool(one['ok']) for one in found)} of {len(found)} passed"
    for one in found[:MOST_TESTS]:
        took = "no answer" if one["ms"] is None else f"{one['ms']:g} ms"
        yield f"    - {'ok' if one['ok'] else 'FAILED'}, {took}: {word(one['test'])} on {word(one['target'])}"
    if len(found) > MOST_TESTS:
        yield f"    - and {len(found) - MOST_TESTS} more"


def _watched(plan: Plan, found: Mapping[str, Any] | None, share: int) -> Iterator[str]:
    holds = "all of the traffic is" if share == 100 else f"the canary holds {share} % of the traffic"
    yield f"- {holds} on {plan.idle}; nobody watches while it is held"
    if not found:
        yield "- its watch: left no verdict"
        return
    yield f"- its watch: **{_plain(found.get('says'))}**"
    numbers = (found.get("verdict") or {}).get("numbers") or {}
    for by, colors in {"": numbers.get("colors") or {}, **(numbers.get("sources") or {})}.items():
        for color, seen in colors.items():
            counted = f", by {word(by)}" if by else ""
            if by or seen["requests"] or not numbers.get("sources"):
                yield f"    - {_plain(color)}: {int(seen['requests'])} requests, {int(seen['errors'])} failed{counted}"
    for rule in numbers.get("rules") or [{"state": found.get("says"), "text": found.get("reason")}]:
        yield f"    - {_plain(rule.get('state'))}: {word(rule.get('text'))}"


def _plain(value: object) -> str:
    return "".join(letter for letter in str(value) if letter.isalpha() or letter == " ")


def _answers(plan: Plan, share: int, until: datetime, *, held: bool, at: int) -> Iterator[str]:
    goes = f"{_share(share)} of the traffic goes to {plan.idle}"
    then = f"is watched for {text(plan.service.release.watch)} and then settled" if share == 100 else "and is watched"
    if at == 100:
        goes, then = f"all of the traffic stays on {plan.idle}", "and the release is settled"
    old: Color = plan.live
    back = f"all traffic goes back to {old}" if held else f"all traffic stays on {old}"
    yield "**What happens**"
    yield ""
    yield f"- **{APPROVE}**: health, version and owner are looked at again; {goes}, {then}"
    yield f"- **{REJECT}**: {back}; the release ends, not promoted"
    yield f"- no answer until **{until:%Y-%m-%d %H:%M:%S} UTC**: as {REJECT}" + (
        "; the guard puts the traffic back also when Airflow is down" if held else ""
    )
