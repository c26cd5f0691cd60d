"""``bluegreen diagnose``: the likely cause, the next command, and the facts."""

from __future__ import annotations

import json

import typer

from bluegreen.cli.exits import OK, UNREACHABLE, WRONG, complain
from bluegreen.cli.session import AsJson, Folder, ServiceName, chosen, folder_of, ports_of
from bluegreen.core.env_secrets import EnvironmentSecrets

EXAMPLE = "Example: bluegreen diagnose shop"


def diagnose(ctx: typer.Context, service: ServiceName, as_json: AsJson = False, services: Folder = None) -> int:
    """
    Say what is likely wrong, and what to type; then the facts.

    Asks routers, targets, entry, DNS servers and the deployer at the same time, each with its own time-out. Reads
    only. Exit 1: a cause was found.
    """
    from bluegreen.release.diagnose import diagnose as look  # noqa: PLC0415 - --help needs none of it

    found, errors = chosen(folder_of(ctx, services), [service], way_back=True)
    codes = [complain(error) for error in errors]
    for one in found:
        told = look(ports_of(one), EnvironmentSecrets())
        print(json.dumps(told.as_json(), indent=2) if as_json else told.text())
        reading = told.facts.reading
        gone = reading is None or not reading.reachable
        codes.append(UNREACHABLE if gone else WRONG if told.causes else OK)
    return max(codes)
