"""What the demo shows at its end: figures of each service, and whether all was as promised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from demo.load import LoadProcess
from demo.shop import BAD, ROOT
from demo.shop_database import DESTRUCTIVE, NAMES, ROWS
from demo.stack import Released, Stack

Told = Mapping[str, Any]
"""What ``demo.story`` says of one release, or of the database."""


def tell(
    stack: Stack,
    good: Mapping[str, Told],
    database: Mapping[str, Told],
    bad: Mapping[str, Told],
    seconds: float,
    console: Console,
) -> bool:
    """Print the table, write the report, and say whether everything was as it should be."""
    found = json.loads(stack.bluegreen("status", "--json", answers=(0, 1)))
    status = {one["service"]: one for one in found}
    rows = {
        shop.name: figures(good[shop.name], bad[shop.name], status[shop.name], stack.loads[shop.name])
        | database_figures(good[shop.name], database.get(shop.name, {}))
        for shop in stack.shops
    }
    ok = all(as_promised(rows[shop.name], status[shop.name], shop) for shop in stack.shops)
    report = {"services": rows, "seconds": round(seconds, 1), "ok": ok}
    (ROOT / "build" / "demo-report.json").write_text(json.dumps(report, indent=2) + "\n")
    table = Table("", *rows, title="what happened")
    for key in dict.fromkeys(key for row in rows.values() for key in row):
        table.add_row(key, *(_shown(row[key]) if key in row else "" for row in rows.values()))
    console.print(table)
    console.print(f"{'ok' if ok else '[red]NOT ok[/]'} after {seconds:.0f} s; build/demo-report.json")
    return ok


def as_promised(row: Told, status: Told, shop: Released) -> bool:
    """Say whether one service's figures are as they should be."""
    told = (row["good"], row["bad"], row["failed_by_release"], row["live"])
    released = told == ("promoted", "restored", 0, status["live"]) and row["harmed_by_bad_version"] > 0
    return released and (shop.database is None or _database_as_promised(row))


def _database_as_promised(row: Told) -> bool:
    return (
        row["expanded"] == [f"{NAMES}.expand.sql"]
        and row["backfilled_rows"] >= ROWS
        and row["wrong_names_while_both_wrote"] == row["wrong_names"] == 0
        and (row["destructive"], row["touched_by_destructive"]) == ("refused by lint", [])
        and (row["contract_before_retire"], row["contract"]) == ("refused", "executed")
        and row["executed"] == [f"{NAMES}.contract.sql", f"{NAMES}.expand.sql"]
        and set(row["columns_expanded"]) - set(row["columns_contracted"]) == {"full_name"}
        and DESTRUCTIVE not in row["executed"]
    )


def figures(good: Told, bad: Told, status: Told, load: LoadProcess) -> dict[str, Any]:
    """Return the figures of one service's releases; it ends the load."""
    final = load.stop()
    end = next((w for w in bad["watches"] if w["says"] == "unhealthy"), {})
    at = {key: datetime.fromisoformat(end[key]) for key in ("verdict_at", "restored_at") if end.get(key)}
    # What the bad version answers with an error is its own harm; every other failed request would be ours.
    harmed = sum(series.failures.get("status_5xx", 0) for series in final.series if series.version == BAD)
    last_bad = max((series.last_end or 0 for series in final.series if series.version == BAD), default=0)
    return {
        "good": "promoted" if good["state"] == "success" else good["state"],
        "bad": "restored" if bad["state"] == "failed" and end.get("restored") else bad["state"],
        "live": "green" if good["state"] == "success" else "blue",
        "live_version": status["deployed"][status["live"]]["version"] if status["live"] else None,
        "requests": final.requests,
        "failed_by_release": final.failed - harmed,
        "harmed_by_bad_version": harmed,
        "answers_of_bad_version": sum(series.requests for series in final.series if series.version == BAD),
        "verdict_to_restored_s": _seconds(at.get("verdict_at"), at.get("restored_at")),
        "verdict_to_last_bad_answer_s": round(last_bad - at["verdict_at"].timestamp(), 3)
        if "verdict_at" in at
        else None,
        "p99_ms": round(load.p99_ms() or 0.0, 1),
    }


def database_figures(good: Told, database: Told) -> dict[str, Any]:
    """Return what happened to a service's database; nothing of one that has none."""
    if not database:
        return {}
    done = good["migrated"]
    filled = sum(one["rows"] for one in done.get("backfill", {}).values())
    return {"expanded": done.get("expand", {}).get("applied", []), "backfilled_rows": filled} | database


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "nothing"
    return str(value)


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return round((end - begin).total_seconds(), 3) if begin and end else None
