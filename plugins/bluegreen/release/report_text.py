"""The report for people: read at 3 a.m., so the first line says how it ended and the second what serves now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]
_LOUD = {"not promoted": "NOT promoted", "not rolled back": "NOT rolled back"}


def markdown(told: Json) -> str:
    """
    Return a report as Markdown.

    :param told: ``Report.as_json()``
    """
    parts = (
        _head,
        _warnings,
        _diagnosis,
        _database,
        _way_back,
        _shifts,
        _requests,
        _watches,
        _people,
        _proofs,
        _steps,
        _calls,
        _changes,
    )
    return "\n".join(line for part in parts for line in part(told)) + "\n"


def _head(told: Json) -> Iterator[str]:
    outcome = _LOUD.get(told["outcome"], told["outcome"])
    yield f"# {outcome}: {_short(told['reason'])}"
    yield ""
    yield f"**Now:** {_now(told['now'])}"
    yield ""
    began = _moment(told["began"])
    day = f"{began:%Y-%m-%d} " if began else ""
    yield (
        f"{told['service']} {told['version'] or ''} (before: {told['old_version'] or 'unknown'}), asked for by "
        f"{_plain(told['by'])}, {day}{_time(told['began'])} to {_time(told['written'])} UTC, run `{told['run']}`"
    )
    yield ""


def _warnings(told: Json) -> Iterator[str]:
    if told["warnings"]:
        yield from (f"**Warning:** {_plain(line)}\n" for line in told["warnings"])


def _diagnosis(told: Json) -> Iterator[str]:
    found = told["diagnosis"]
    if not found:
        return
    yield "## Diagnosis"
    yield ""
    yield from (f"* {_plain(line)}" for line in found["head"])
    yield ""
    rows = [(cause["code"], cause["says"], cause["next_step"]) for cause in found["causes"]]
    yield from _table(("likely cause", "what was seen", "next command"), rows) if rows else ()


def _database(told: Json) -> Iterator[str]:
    found = told.get("database")
    if not found or not any(found.values()):
        return
    yield "## Database"
    yield ""
    yield f"* applied: {', '.join(_plain(name) for name in found['applied']) or 'nothing'}"
    for name, done in found["backfills"].items():
        yield f"* backfill {_plain(name)}: {done['rows']} rows in {done['batches']} batches, drift {done['drift']:g}"
    for one in found["accepted"]:
        yield f"* accepted in {_plain(one['file'])}: {one['rule']}: {_plain(one['accepted'])}"
    state = found["state"] or {}
    if "version" in state:
        yield f"* schema version: {_plain(state['version'] or 'none')}"
    waiting = ", ".join(_plain(f"{name} ({now})") for name, now in state.get("migrations", {}).items() if now != "done")
    yield from [f"* not done: {waiting}"] if waiting else []
    yield from (f"* {_plain(name)} ended: {_plain(error)}" for name, error in state.get("errors", {}).items())
    for lock in state.get("locks", []):
        yield (
            f"* {_plain(str(lock['waits']))} (process {lock['waits_pid']}) waits for {lock['wants']} on "
            f"{_plain(str(lock['relation']))}, held by {_plain(str(lock['holds']))} (process {lock['holds_pid']}): "
            f"{_plain(str(lock['holds_query']))}"
        )
    for slot in state.get("slots", []):
        yield f"* slot {_plain(slot['slot_name'])}: {'active' if slot['active'] else 'NOT active'}, {slot['bytes_behind']} bytes behind"
    yield from (f"* application: {_plain(line)}" for line in state.get("sql_errors", []))
    yield from (f"* not known, {name}: {_plain(why)}" for name, why in state.get("not_known", {}).items())
    yield ""


def _now(now: Json | None) -> str:
    if now is None:
        return "unknown, no node answered. Look at once: `bluegreen status`"
    live, agree = now["live"], "all nodes agree" if now["settled"] else "NOT all nodes agree: `bluegreen status`"
    if live is None:
        return f"blue/green {now['split']}, NOT whole on one color; {now['phase'] or 'no stamp'}; {agree}"
    version = now["versions"].get(live) or "version unknown"
    whose = f"{now['phase']} at epoch {now['epoch']}: {_plain(now['why'])}" if now["phase"] else "no stamp"
    return f"{live} ({version}) has all traffic; {agree}; {whose}"


def _way_back(told: Json) -> Iterator[str]:
    back = told["way_back"]
    if not back:
        return
    last = back["last_answer"]
    yield f"**Way back** by {_plain(back['by'])}: {_plain(back['says'])}"
    yield ""
    yield from _table(
        ("verdict (UTC)", "restored", "last bad answer"),
        [(_time(back["verdict_at"]), _after(back["restored_at"], back["verdict_at"]), _last(last, back))],
    )


def _last(last: Json | None, back: Json) -> str:
    if not last:
        return "unknown"
    at = _after(last["at"], back["verdict_at"] or back["restored_at"]) if last["at"] else ""
    return " ".join(word for word in (at, f"({last['says']})") if word)


def _shifts(told: Json) -> Iterator[str]:
    if not told["shifts"]:
        yield "**Nothing was written to the router.**"
        yield ""
        return
    yield "## What moved"
    yield ""
    yield from _table(
        ("epoch", "at (UTC)", "phase", "blue/green", "written by", "proof", "why"),
        [
            (
                s["epoch"],
                _time(s["at"]),
                s["phase"],
                s["split"],
                s["by"],
                (s["proof"] or {}).get("says", "-"),
                s["why"],
            )
            for s in told["shifts"]
        ],
    )


def _requests(told: Json) -> Iterator[str]:
    yield "## Requests"
    yield ""
    seen = told["requests"]
    if not seen:
        others = any(_counted(totals) for watch in told["watches"] for totals in watch.get("sources", {}).values())
        yield (
            "The router counts none; what others counted stands with the watches."
            if others
            else "Not known: the router counted nothing, or the run did not come to a plan."
        )
        yield ""
        return
    unsure = f" **Not sure:** without {', '.join(seen['nodes_unsure'])}." if seen["nodes_unsure"] else ""
    yield (
        f"What the router counted from {_time(seen['since'])} to {_time(seen['until'])}, "
        f"{seen['proofs']} proof requests among them.{unsure}"
    )
    yield ""
    rows = [(color, c["requests"], c["errors"], _share(c)) for color, c in seen["colors"].items()]
    yield from _table(("color", "requests", "5xx among them", "share"), rows)
    if drained := told["drained"]:
        left = "an unknown number of" if drained["in_flight"] is None else drained["in_flight"]
        by_color = ", ".join(f"{c} {'unknown' if n is None else n}" for c, n in drained.get("colors", {}).items())
        open_ones = drained.get("unit") == "connections"
        what, state = ("connections", "open") if open_ones else ("requests", "in flight")
        ends = f" {state.capitalize()} at the end: {by_color}." if by_color else ""
        yield f"Drained {drained['color']} for {drained['seconds']} s: {left} {what} were still {state}.{ends}"
        yield ""


def _watches(told: Json) -> Iterator[str]:
    if not told["watches"]:
        return
    yield "## Watches"
    yield ""
    rows = []
    for watch in told["watches"]:
        seen = "; ".join(f"{name}: {_spelled(totals)}" for name, totals in watch.get("sources", {}).items())
        if not seen or _counted(watch["colors"] or {}):  # a router that counts nothing says nothing beside one who does
            seen = "; ".join(filter(None, (_spelled(watch["colors"] or {}), seen)))
        rows.append((watch["step"], watch["says"], _time(watch["verdict_at"]), seen or "-", watch["reason"]))
    yield from _table(("watch", "verdict", "at (UTC)", "requests seen", "why"), rows)
    gaps = [f"* no evidence: {watch['step']}: {_plain(gap)}" for watch in told["watches"] for gap in watch["gaps"]]
    yield from [*gaps, ""] if gaps else ()


def _counted(totals: Json) -> bool:
    return any(each["requests"] for each in totals.values())


def _spelled(totals: Json) -> str:
    return ", ".join(f"{color} {each['requests']} ({each['errors']} failed)" for color, each in totals.items())


def _people(told: Json) -> Iterator[str]:
    lines = [
        f"{a['step']}: {a.get('chosen')} by {a.get('by')} at {a.get('at')}: {a.get('comment') or 'no comment'}"
        for a in told["approvals"]
    ]
    lines += [f"by hand: {said}" for said in told["by_hand"]]
    lines += [f"left out {one['step']}: {one['why']}" for one in told["skipped"]]
    if lines:
        yield "## Approved, by hand, left out"
        yield ""
        yield from (f"* {_plain(line)}" for line in lines)
        yield ""


def _proofs(told: Json) -> Iterator[str]:
    rows = [
        (s["epoch"], node["node"], node["answers"].get("blue", 0), node["answers"].get("green", 0), _kinds(node))
        for s in told["shifts"]
        for node in (s["proof"] or {}).get("nodes", [])
    ]
    if rows:
        yield "## Proofs: answers to fresh requests"
        yield ""
        yield from _table(("epoch", "node", "blue", "green", "no answer of a color"), rows)


def _kinds(node: Json) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in node["failures"].items()) or "0"


def _steps(told: Json) -> Iterator[str]:
    if not told["steps"]:
        return
    yield "## Steps"
    yield ""
    errors = {one["step"]: one["error"] for one in told["errors"]}
    rows = [(step, state or "not run", errors.get(step, "")) for step, state in told["steps"].items()]
    yield from _table(("step", "state", "error"), rows)


def _calls(told: Json) -> Iterator[str]:
    if calls := told.get("calls"):
        yield f"Calls to API servers: {', '.join(f'{n} {verb}' for verb, n in calls.items())}."
        yield ""


def _changes(told: Json) -> Iterator[str]:
    if told["changes"]:
        yield "## What a release would do"
        yield ""
        yield from (f"* {_plain(line)}" for line in told["changes"])
        yield ""
    if told["shortened"]:
        yield "Long lists and texts were cut."


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(_plain("-" if cell is None else cell) for cell in row) + " |"
    yield ""


def _plain(value: object) -> str:
    """One line that cannot break a table, and is no HTML."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def _short(text: str) -> str:
    """For the first line; the whole of it stands beside its step."""
    line = _plain(text)
    return line if len(line) <= 300 else line[:299] + "…"


def _time(text: str | None) -> str:
    moment = _moment(text)
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}" if moment else "-"


def _after(text: str | None, since: str | None) -> str:
    moment, begin = _moment(text), _moment(since)
    return _time(text) + (f" (+{(moment - begin).total_seconds():.2f} s)" if moment and begin else "")


def _moment(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _share(counts: Json) -> str:
    return f"{100 * counts['errors'] / counts['requests']:.2f} %" if counts["requests"] else "-"
