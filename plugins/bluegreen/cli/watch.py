"""``bluegreen watch replay`` and ``bluegreen watch simulate``: what the rules saw, and what they would see."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bluegreen.analysis.replay import replay as judged_again
from bluegreen.analysis.series import Counted
from bluegreen.analysis.simulation import Detection, Traffic, simulate, watched
from bluegreen.catalog.evidence import asked, counted
from bluegreen.catalog.models import Service
from bluegreen.cli.exits import OK
from bluegreen.cli.session import AsJson, ServiceName, chosen, folder_of, ports_of
from bluegreen.core.errors import CatalogError, ReleaseRefused
from bluegreen.core.evidence import Outlook
from bluegreen.release.tally import grown, tally

app = typer.Typer(
    no_args_is_help=True,
    help="Judge evidence again, or see what the rules would detect.",
    epilog="Example: bluegreen watch simulate shop --rps 100",
)

CANDIDATES = (2.0, 5.0, 20.0, 50.0, 100.0)
LISTEN = 5.0
"""Seconds for which the router's counters are watched where nobody says how much traffic there is."""

ReportFile = Annotated[Path, typer.Argument(metavar="REPORT", help="The JSON file of a report.", show_default=False)]
Rps = Annotated[
    float | None,
    typer.Option(metavar="N", help="Requests/s; by default what the router counts now.", show_default=False),
]
Baseline = Annotated[float, typer.Option(metavar="PERCENT", help="Of the old color's requests, what fails.")]
Runs = Annotated[int, typer.Option(metavar="N", help="Watches a row.")]


@app.command(epilog="Example: bluegreen watch replay reports/shop/manual__2026-11-24.json")
def replay(report: ReportFile, as_json: AsJson = False) -> int:
    """
    Judge each watch of a release again, from the evidence in its report.

    Counts are judged anew; what Prometheus or a health check said then is taken
    as it was. Exit code 1: another verdict than the watch had.
    """
    told = [_again(report, watch) for watch in _watches(report)]
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        for one in told:
            same = "the same verdict" if one["same"] else f"ANOTHER VERDICT: the watch said {one['said']}"
            print(f"{one['step']}: {one['says']} after {one['at']:.1f} s: {one['reason']}: {same}")
    return OK if all(one["same"] for one in told) else 1


def _watches(report: Path) -> Sequence[Mapping[str, Any]]:
    try:
        told = json.loads(report.read_text(encoding="utf-8"))
        found = [watch for watch in told["watches"] if watch.get("evidence") is not None]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CatalogError(
            f"is no report of a release: {type(error).__name__}: {error}",
            file=str(report),
            next_step="give the .json file that a release left in the folder of reports",
        ) from None
    if not found:
        fact, step = "holds no watch with evidence", "a run that was put back before its first watch has none"
        raise CatalogError(fact, file=str(report), next_step=step)
    return found


def _again(report: Path, watch: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found, at = judged_again(watch["evidence"], watch["rules"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        fact = f"the evidence of {watch.get('step')} is not whole: {str(error).splitlines()[0]}"
        raise CatalogError(fact, file=str(report), next_step="give the file as the release left it") from None
    said = watch["says"]
    if said == Outlook.UNHEALTHY and watch["reason"].startswith("too little evidence"):
        said = str(found.says)  # with nobody to ask it was put back: the watch says unhealthy, its rules unknown
    same = said in (str(found.says), "conflict")
    return {
        "step": watch["step"],
        "says": str(found.says),
        "said": said,
        "same": same,
        "at": at,
        "reason": found.reason,
    }


@app.command("simulate", epilog="Example: bluegreen watch simulate shop --rps 100 --baseline 0.5")
def simulate_(
    ctx: typer.Context,
    name: ServiceName,
    rps: Rps = None,
    baseline: Baseline = 0.5,
    runs: Runs = 200,
    as_json: AsJson = False,
) -> int:
    """
    Tell what a service's rules would detect, how fast, at which rate of false alarms.

    Watches are drawn by chance, for the traffic that the router counts now or
    --rps. Rules of type prometheus are not simulated.
    """
    _in_range("--rps", 1 if rps is None else rps, 0.1, 10_000)
    _in_range("--baseline", baseline, 0, 99)
    _in_range("--runs", runs, 1, 100_000)
    services, errors = chosen(folder_of(ctx, None), [name])
    if errors:
        raise errors[0]
    service = services[0]
    rows = list(_rows(service, rps or _counted(service), baseline, runs))
    if as_json:
        print(json.dumps(rows, indent=2))
        return OK
    left_out = [rule.says for rule in asked(service.release.rules)]
    print(f"{name}: {rows[0]['rps']:g} requests/s, {baseline:g} % of the old color's fail; {runs} watches a row")
    print(f"not simulated: {', '.join(left_out)}" if left_out else "all rules are simulated")
    print(
        f"{'watch':<18}{'new color fails':>16}{'put back':>10}{'unknown':>9}{'after (median)':>16}{'harmed (mean)':>15}"
    )
    for row in rows:
        after = "-" if row["detected_s_p50"] is None else f"{row['detected_s_p50']:.1f} s"
        stopped, unknown = f"{100 * row['stopped']:.1f} %", f"{100 * row['unknown']:.1f} %"
        failing = f"{row['candidate']:g} %"
        print(f"{row['watch']:<18}{failing:>16}{stopped:>10}{unknown:>9}{after:>16}{row['harmed_mean']:>15.1f}")
    return OK


def _in_range(option: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise typer.BadParameter(f"{value:g} is not between {least:g} and {most:g}", param_hint=option)


def _rows(service: Service, rps: float, baseline: float, runs: int) -> Sequence[dict[str, Any]]:
    release = service.release
    rules = counted(release.rules)
    watches = [
        (f"{step.share} % for {step.watch.total_seconds():g} s", step.share, step.watch) for step in release.canary
    ]
    watches.append((f"all for {release.watch.total_seconds():g} s", 100, release.watch))
    rows = []
    for said, share, span in watches:
        # The old color's past, as a canary of some minutes leaves it.
        past = Counted(int(300 * rps), int(3 * rps * baseline)) if share == 100 else None
        for candidate in (baseline, *(c for c in CANDIDATES if c > baseline)):
            interval = max(1.0, release.interval.total_seconds())
            traffic = Traffic(rps, share / 100, baseline / 100, candidate / 100, span.total_seconds(), interval)
            found: Detection = simulate(partial(watched, rules, release.false_alarms, past), traffic, runs)
            rows.append({"watch": said, "rps": rps, "baseline": baseline, "candidate": candidate, **vars(found)})
    return rows


def _counted(service: Service) -> float:
    ports = ports_of(service)
    before, began = tally(ports), time.monotonic()
    time.sleep(LISTEN)
    seconds, after = time.monotonic() - began, tally(ports)
    requests = sum(color.requests for color in grown(before["nodes"], after["nodes"])[0].values())
    if not requests:
        raise ReleaseRefused(
            f"the router counted no request in {LISTEN:g} s",
            service=service.service,
            next_step="say how many: --rps 100",
        )
    return requests / seconds
