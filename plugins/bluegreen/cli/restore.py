"""``bluegreen restore``: the break-glass. Needs the router and the service file, and nothing of Airflow."""

from __future__ import annotations

import typer

from bluegreen.catalog.load import load_service
from bluegreen.cli.exits import OK, WRONG
from bluegreen.cli.render import headline, paragraph
from bluegreen.cli.session import Folder, Reason, ServiceName, folder_of, ports_of, who

EXAMPLE = "Example: bluegreen restore shop --reason 'checkout is broken'"


def restore(ctx: typer.Context, service: ServiceName, reason: Reason, services: Folder = None) -> int:
    """
    Put all traffic back on the color before the release.

    It needs that color to serve, and nothing else. Nodes that do not answer are tried for restore_within and then
    named; the guard brings them up later. A settled release stays: start rollback__ in Airflow.
    """
    from bluegreen.release.restore import restore as put_back  # noqa: PLC0415 - --help needs none of it

    found = put_back(ports_of(load_service(folder_of(ctx, services), service)), reason, f"bluegreen restore by {who()}")
    print(headline(found.reading))
    print(paragraph(found.says))
    return OK if found.whole and not found.reading.unreachable else WRONG
