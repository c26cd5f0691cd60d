"""``bluegreen status``: what the routers and the targets say now."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from bluegreen.catalog.models import Service
from bluegreen.cli.exits import OK, UNREACHABLE, USAGE, WRONG, code_of, complain, warn
from bluegreen.cli.render import faults, overview, sheet
from bluegreen.cli.session import AsJson, Folder, chosen, each, folder_of, ports_of
from bluegreen.release.status import Status
from bluegreen.release.status import status as ask

EXAMPLE = "Example: bluegreen status shop"

Name = Annotated[str | None, typer.Argument(metavar="SERVICE", help="One service in full; else all.")]


def status(ctx: typer.Context, service: Name = None, as_json: AsJson = False, services: Folder = None) -> int:
    """Show who has the traffic, on every node, and what runs."""
    folder = folder_of(ctx, services)
    found, errors = chosen(folder, [service] if service else [], way_back=True)
    if not found and not errors:
        warn(f"{folder}: no service files; bluegreen init makes one")
        return USAGE
    answers = list(each(found, lambda one: ask(ports_of(one))))
    if as_json:
        print(json.dumps([_as_json(*answer) for answer in answers], indent=2))
    elif service:
        print("\n\n".join(sheet(answer) for _, answer in answers if isinstance(answer, Status)))
    elif answers:
        print(overview([(one.service, answer) for one, answer in answers]))
    codes = [complain(error) for error in errors]
    return max([OK, *codes, *(_code(answer, say=bool(service)) for _, answer in answers)])


def _as_json(service: Service, answer: Status | Exception) -> dict[str, Any]:
    if isinstance(answer, Exception):
        return {"service": service.service, "error": str(answer)}
    return answer.as_json() | {"faults": faults(answer)}


def _code(answer: Status | Exception, *, say: bool) -> int:
    if isinstance(answer, Exception):
        return complain(answer) if say else code_of(answer)
    if not answer.reading.reachable:
        return UNREACHABLE
    return WRONG if faults(answer) else OK
