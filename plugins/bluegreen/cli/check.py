"""``bluegreen check``: whether service files, routers and their configuration hold together."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bluegreen.cli.exits import OK, complain
from bluegreen.cli.findings import checked_code, checked_json, findings, show
from bluegreen.cli.session import AsJson, Folder, chosen, each, folder_of

EXAMPLE = "Example, in CI before a merge: bluegreen check --catalog"

Name = Annotated[str | None, typer.Argument(metavar="SERVICE", help="One service; else all.")]
CatalogOnly = Annotated[bool, typer.Option("--catalog", help="The service files only; nothing is connected to.")]


def check(
    ctx: typer.Context,
    service: Name = None,
    catalog: CatalogOnly = False,
    as_json: AsJson = False,
    services: Folder = None,
) -> int:
    """
    Find what would keep a release from doing what it says.

    Run it where Airflow's workers, its triggerer and the guard run: each of them must reach the routers.
    """
    folder = folder_of(ctx, services)
    found, errors = chosen(folder, [service] if service else [])
    answers = [] if catalog else list(each(found, findings))
    if as_json:
        print(json.dumps(checked_json(answers, errors), indent=2))
    else:
        print(f"{folder}: {len(found)} good, {len({error.file for error in errors})} broken")
        show(answers)
    codes = [complain(error) for error in errors]
    return max([OK, *codes, *(checked_code(answer) for _, answer in answers)])
