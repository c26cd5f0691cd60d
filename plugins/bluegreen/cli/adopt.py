"""``bluegreen adopt``: take a service over as its traffic stands."""

from __future__ import annotations

from typing import Annotated

import typer

from bluegreen.catalog.load import load_service
from bluegreen.cli.exits import OK, WRONG
from bluegreen.cli.render import headline, paragraph
from bluegreen.cli.session import Folder, Reason, ServiceName, folder_of, ports_of, who
from bluegreen.core.colors import Color

EXAMPLE = "Example: bluegreen adopt shop --version 1.4.2 --reason 'first use'"

Version = Annotated[str, typer.Option(metavar="TEXT", help="What runs on the live color.")]
Live = Annotated[
    Color | None, typer.Option(help="Where the nodes differ: put all traffic on this color.", show_default=False)
]


def adopt(
    ctx: typer.Context,
    service: ServiceName,
    version: Version,
    reason: Reason,
    live: Live = None,
    services: Folder = None,
) -> int:
    """
    Take a service over as its traffic stands.

    Before its first release, or after a change by hand. Writes a stamp beside the split. Refused while a release is under way, while a node does not answer, and where the
    color does not serve.
    """
    from bluegreen.release.adopt import adopt as take_over  # noqa: PLC0415 - --help needs none of it

    ports = ports_of(load_service(folder_of(ctx, services), service))
    reading = take_over(ports, f"bluegreen adopt by {who()}", reason, version, live)
    print(headline(reading))
    print(paragraph(f"adopted: {reading.says()}"))
    return OK if reading.settled else WRONG
