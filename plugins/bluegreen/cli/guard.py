"""``bluegreen guard``: what the guardian DAG does, for when Airflow itself is dead or paused."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from bluegreen.catalog.models import Service
from bluegreen.cli.exits import OK, WRONG, complain
from bluegreen.cli.rounds import Rounds
from bluegreen.cli.session import Folder, chosen, folder_of, ports_of, who
from bluegreen.core.errors import BlueGreenError

EXAMPLE = "Example, each minute from cron: * * * * * bluegreen guard"

Names = Annotated[list[str] | None, typer.Argument(metavar="SERVICE", help="These; else all.")]
Watch = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", min=1, help="Do not end: look this often.", show_default=False),
]


def guard(ctx: typer.Context, names: Names = None, watch: Watch = None, services: Folder = None) -> int:
    """
    Put back each service whose lease has run out.

    All services at the same time; a broken one, or a broken file, keeps none of the others from it. Says nothing
    where all is well. Exit 1: something was restored, a person must look, or something could not be guarded.
    """
    rounds = Rounds(_look)
    while True:
        began = time.monotonic()
        code = _round(ctx, rounds, names or [], watch, services)
        if watch is None:
            return code
        time.sleep(max(0.0, watch - (time.monotonic() - began)))


def _round(ctx: typer.Context, rounds: Rounds, names: list[str], watch: float | None, services: Folder) -> int:
    try:
        found, errors = chosen(folder_of(ctx, services), names, way_back=True)
    except BlueGreenError as error:
        return complain(error)
    codes = [complain(error) for error in errors]
    return max([OK, *codes, *rounds.run(found, watch)])


def _look(service: Service) -> int:
    from bluegreen.release.guard import guard as look  # noqa: PLC0415 - --help needs none of it

    try:
        found = look(ports_of(service), f"bluegreen guard by {who()}")
    except Exception as error:  # noqa: BLE001 - whatever it is, the others are guarded
        return complain(error)
    if found.action != "none":
        print(f"{service.service}: {found.says}", flush=True)
    return WRONG if found.action in ("restored", "reported") else OK
