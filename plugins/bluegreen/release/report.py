"""
The report of a run: what moved when, what was proven and counted, who asked, and what serves now.

It is built from what the steps left behind, whatever of that is there: a run that was killed has a report, too. Times
are UTC in ISO 8601. The keys are told in ``docs/report.md``; ``report_text`` writes it for people.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from bluegreen.core.colors import Color
from bluegreen.core.stamp import Phase
from bluegreen.release.tally import grown

SCHEMA = 1
LARGEST = 60_000
"""Characters of a report as JSON: it must fit into any database's XCom column."""

Json = Mapping[str, Any]
Kind = Literal["release", "rollback"]


@dataclass(frozen=True)
class Step:
    """
    What one task left behind; each part may be missing.

    :param task: task id
    :param state: its state in Airflow
    :param value: what it returned
    :param end: a watch's ``WatchEnd``
    :param error: why it failed
    :param left_out: why it did nothing
    :param by_hand: which verdict somebody's own word stood in for
    """

    task: str
    state: str | None = None
    value: Json | None = None
    end: Json | None = None
    error: str | None = None
    left_out: str | None = None
    by_hand: str | None = None


@dataclass(frozen=True)
class Ran:
    """
    The run as a whole.

    :param kind: a release, or a ``rollback__``
    :param outcome: ``promoted``, ``not promoted``, ``dry run``, ``rolled back`` or ``not rolled back``
    :param reason: one line for people
    :param by: who asked
    :param plan: the frozen release, if it came to one
    :param reading: the router at the end, as JSON; None where no node answered
    :param begun: counts of every node after the claim, see ``tally``
    :param ended: the same at the end
    :param changes: the lines of a dry run
    :param database: what the database is like, where a release with migrations has failed
    """

    kind: Kind
    service: str
    run: str
    outcome: str
    reason: str
    by: str
    version: str | None = None
    began: str | None = None
    written: str | None = None
    plan: Json | None = None
    reading: Json | None = None
    begun: Json | None = None
    ended: Json | None = None
    changes: Sequence[str] = ()
    database: Json | None = None


@dataclass(frozen=True)
class Report:
    """A run's report; ``docs/report.md`` tells each key."""

    kind: Kind
    service: str
    run: str
    outcome: str
    reason: str
    by: str
    version: str | None
    old_version: str | None
    began: str | None
    written: str | None
    now: Json | None
    shifts: Sequence[Json]
    way_back: Json | None
    requests: Json | None
    watches: Sequence[Json]
    approvals: Sequence[Json]
    by_hand: Sequence[str]
    warnings: Sequence[str]
    skipped: Sequence[Json]
    skip_reason: str
    drained: Json | None
    errors: Sequence[Json]
    steps: Mapping[str, str | None]
    diagnosis: Json | None = None
    database: Json | None = None
    changes: Sequence[str] = ()
    calls: Mapping[str, int] = field(default_factory=dict)
    shortened: bool = field(default=False, kw_only=True)

    def as_json(self) -> dict[str, Any]:
        """JSON of a bounded size: lists and texts are cut, ever more, until it fits."""
        whole = json.loads(json.dumps({"schema": SCHEMA, **asdict(self)}, default=str))
        evidence = [watch.pop("evidence", None) for watch in whole["watches"]]
        for items, letters in ((200, 2000), (50, 500), (20, 200), (5, 100)):
            cut = _cut(whole, items, letters)
            if len(json.dumps(cut)) <= LARGEST:
                break
        shortened = cut != whole
        # Evidence that is cut gives another verdict: it is there whole or not at all, the last watch's first.
        for watch, rows in reversed(list(zip(cut["watches"], evidence, strict=False))):
            fits = len(json.dumps(cut)) + len(json.dumps(rows)) <= LARGEST
            watch["evidence"], shortened = (rows if fits else None), shortened or not fits
        return dict(cut) | {"shortened": shortened}


def report(ran: Ran, steps: Sequence[Step]) -> Report:
    """Build a report from what is there."""
    plan, steps = ran.plan or {}, [_of_this_release(step, ran) for step in steps]
    shifts, now = _shifts(ran, steps), _now(ran.reading)
    live = now["live"] if now and ran.kind == "rollback" else None
    told = now["versions"] if now and live else {}
    return Report(
        kind=ran.kind,
        service=ran.service,
        run=ran.run,
        outcome=ran.outcome,
        reason=ran.reason,
        by=ran.by,
        version=plan.get("version") or ran.version or next((v for color, v in told.items() if color != live), None),
        old_version=plan.get("old_version") or told.get(live),
        began=ran.began,
        written=ran.written,
        now=now,
        shifts=shifts,
        way_back=_way_back(steps, shifts),
        requests=_requests(ran, steps),
        watches=[_watch(step.task, step.end) for step in steps if step.end],
        approvals=[{"step": s.task, **s.value} for s in steps if s.value and "chosen" in s.value],
        by_hand=[step.by_hand for step in steps if step.by_hand],
        warnings=[line for step in steps if step.value for line in step.value.get("warnings", ())],
        skipped=[{"step": step.task, "why": step.left_out} for step in steps if step.left_out],
        skip_reason=plan.get("skip_reason") or "",
        drained=next((step.value["drained"] for step in steps if step.value and "drained" in step.value), None),
        errors=[{"step": step.task, "error": step.error} for step in steps if step.error],
        steps={step.task: step.state for step in steps},
        diagnosis=next((step.value["diagnosis"] for step in steps if step.value and step.value.get("diagnosis")), None),
        database=_database(ran, steps),
        changes=ran.changes,
        # A watch that was healthy leaves its end as its value, too.
        calls=_calls([plan, *(left for step in steps if (left := step.end or step.value))]),
    )


def _calls(left: Sequence[Json]) -> dict[str, int]:
    """Add up what tasks and watches asked of an API with other clients."""
    return dict(sorted(sum((Counter(value.get("calls") or {}) for value in left), Counter[str]()).items()))


def _of_this_release(step: Step, ran: Ran) -> Step:
    """Leave out what an earlier attempt of a cleared run left: Airflow deletes it only when the task starts again."""
    if not ran.plan:
        return step
    own = ran.plan["release"]

    def ours(left: Json | None) -> Json | None:
        if not left:
            return None
        stamp = (left.get("reading") or {}).get("stamp") or {}
        return left if own == (left.get("release") or stamp.get("release") or own) else None

    return replace(step, value=ours(step.value), end=ours(step.end))


def _now(reading: Json | None) -> Json | None:
    if reading is None:
        return None
    stamp = reading.get("stamp") or {}
    versions = {str(color): stamp.get(f"version_{color}", "-") for color in Color}
    return {
        "live": reading.get("live"),
        "split": reading.get("split"),
        "settled": reading.get("settled"),
        "versions": {color: None if version == "-" else version for color, version in versions.items()},
        **{key: stamp.get(key) for key in ("epoch", "release", "phase", "step", "at", "why")},
        "nodes": reading.get("nodes", []),
    }


def _readings(step: Step) -> list[Json]:
    """Return what a step left that holds a reading and a proof: a shift, a restore, or a watch's restore."""
    found = (step.value, (step.end or {}).get("restored"))
    return [value for value in found if value and value.get("reading")]


def _shifts(ran: Ran, steps: Sequence[Step]) -> list[Json]:
    """Return every write of the release, by epoch; one that no step could tell of is named, too."""
    rows: dict[int, dict[str, Any]] = {}
    if ran.plan:
        plan, split = ran.plan, "100/0" if ran.plan["live"] == Color.BLUE else "0/100"
        told = {"at": plan.get("at"), "phase": "claimed", "split": split, "by": "plan", "proof": None}
        rows[plan["epoch"]] = told | {"why": f"{ran.by} releases {plan['version']} to {plan['idle']}"}
    told_of = [value for step in steps for value in _readings(step)]
    for value in [*told_of, *([{"reading": ran.reading}] if ran.reading else [])]:
        stamp, reading = value["reading"].get("stamp"), value["reading"]
        if not stamp or not _wrote(ran, stamp["release"]):
            continue
        row = rows.setdefault(int(stamp["epoch"]), {"proof": None})
        row |= {key: stamp[key] for key in ("at", "phase", "why")}
        row |= {"split": reading["split"], "by": _by(stamp)}
        row["proof"] = row["proof"] or value.get("proof")
    gaps = set(range(min(rows), max(rows))) - set(rows) if rows else set()
    unknown = {"at": None, "phase": "unknown", "split": None, "by": "unknown", "proof": None}
    rows |= {epoch: unknown | {"why": "its step was ended before it could tell"} for epoch in gaps}
    return [{"epoch": epoch, **rows[epoch]} for epoch in sorted(rows)]


def _by(stamp: Json) -> str:
    """A restore keeps who did it in its reason: ``guardian: the lease ran out``."""
    return str(stamp["why"].partition(":")[0] if stamp["step"] in ("restore", "rollback") else stamp["step"])


def _wrote(ran: Ran, release: str) -> bool:
    if ran.plan:
        return release == str(ran.plan["release"])
    return ran.kind == "rollback" or release.rpartition("@")[0] == ran.run


def _way_back(steps: Sequence[Step], shifts: Sequence[Json]) -> Json | None:
    """Return the three times: verdict, restored, last answer of the color that was left."""
    for step in steps:
        watched = step.end or {}
        back = watched.get("restored") or step.value or {}
        if back.get("outcome") in ("restored", "stranded") and back.get("at"):
            return {
                "outcome": back["outcome"],
                "by": step.task,
                "verdict_at": watched.get("verdict_at"),
                "restored_at": back["at"],
                "last_answer": watched.get("last_answer") or back.get("last_answer"),
                "says": back["says"],
            }
    if not shifts or shifts[-1]["phase"] not in (Phase.RESTORED, Phase.STRANDED):
        return None
    last = shifts[-1]
    nobody = {"at": None, "known": False, "says": "unknown: who restored did not look"}
    return {
        "outcome": last["phase"],
        "by": last["by"],
        "verdict_at": None,
        "restored_at": last["at"],
        "last_answer": nobody,
        "says": last["why"],
    }


def _watch(task: str, end: Json) -> Json:
    verdict = end.get("verdict") or {}
    numbers = verdict.get("numbers") or {}
    return {
        "step": task,
        "says": end.get("says"),
        "reason": end.get("reason"),
        "verdict_at": end.get("verdict_at"),
        "colors": numbers.get("colors"),
        "sources": numbers.get("sources") or {},
        "rules": numbers.get("rules", []),
        "gaps": numbers.get("gaps", []),
        "evidence": numbers.get("evidence"),
    }


def _requests(ran: Ran, steps: Sequence[Step]) -> Json | None:
    """Return what the router counted between claim and end; None where it does not count."""
    if not ran.begun or not ran.ended or not ran.begun["nodes"]:
        return None
    colors, unsure = grown(ran.begun["nodes"], ran.ended["nodes"])
    return {
        "since": ran.begun["at"],
        "until": ran.ended["at"],
        "colors": {str(color): {"requests": c.requests, "errors": c.errors} for color, c in colors.items()},
        "proofs": _proof_requests(steps),
        "nodes_unsure": sorted(unsure),
    }


def _database(ran: Ran, steps: Sequence[Step]) -> Json | None:
    """Return what migrations did, and what the database is like where the release failed; None without migrations."""
    left = {step.task: step.value or {} for step in steps if step.task in ("expand", "backfill", "caught_up")}
    if not left and not ran.database:
        return None
    expand = left.get("expand") or {}
    return {
        "applied": expand.get("applied", []),
        "accepted": expand.get("accepted", []),
        "backfills": left.get("backfill") or {},
        "caught_up": left.get("caught_up") or {},
        "state": ran.database,
    }


def _proof_requests(steps: Sequence[Step]) -> int:
    proofs = [value.get("proof") or {} for step in steps for value in _readings(step)]
    nodes = [node for proof in proofs for node in proof.get("nodes", [])]
    return sum(sum(node["answers"].values()) + sum(node["failures"].values()) for node in nodes)


def _cut(value: Any, items: int, letters: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= letters else value[: letters - 1] + "…"
    if isinstance(value, list):
        return [_cut(item, items, letters) for item in value[:items]]
    if isinstance(value, dict):
        return {key: _cut(item, items, letters) for key, item in list(value.items())[: max(items, 40)]}
    return value
