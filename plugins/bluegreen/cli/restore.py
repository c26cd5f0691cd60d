"""``bluegreen restore``: the break-glass. Needs the router and the service file, and nothing of Airflow."""

from __future__ import annotations

import typer

from bluegreen.cli.exits import OK, WRONG, complain
from bluegreen.cli.render import headline, paragraph
from bluegreen.cli.session import Folder, Reason, ServiceName, chosen, folder_of, ports_of, who

EXAMPLE = "Example: bluegreen restore shop --reason 'checkout is broken'"


def restore(ctx: typer.Context, service: ServiceName, reason: Reason, services: Folder = None) -> int:
    """
    Put all traffic back on the color before the release.

    It needs that color to serve, and nothing else. Nodes that do not answer are tried for restore_within and then
    named; the guard brings them up later. A settled release stays: start rollback__ in Airflow.
    """
    from bluegreen.release.restore import restore as put_back  # noqa: PLC0415 - --help needs none of it

    readable, errors = chosen(folder_of(ctx, services), [service], way_back=True)
    codes = [complain(error) for error in errors]
    if not readable:
        return max(codes)
    found = put_back(ports_of(readable[0]), reason, f"bluegreen restore by {who()}")
    print(headline(found.reading))
    print(paragraph(found.says))
    whole = found.whole and not found.reading.unreachable and not found.astray
    return max([OK if whole else WRONG, *codes])
