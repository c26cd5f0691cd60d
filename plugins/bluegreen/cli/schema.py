"""``bluegreen schema``: the JSON Schema of a service file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bluegreen.catalog.schema import FIRST_LINE, schema_text
from bluegreen.cli.exits import OK

EXAMPLE = "Example: bluegreen schema --out include/services/service.schema.json"

Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there.", show_default=False)]


def schema(out: Out = None) -> int:
    """
    Print the JSON Schema of a service file.

    Editors complete and check with it. The first line of a service file names it:

    # yaml-language-server: $schema=service.schema.json
    """
    if out is None:
        print(schema_text(), end="")
    else:
        out.write_text(schema_text(), encoding="utf-8")
        print(f"{out} is written; the first line of a service file names it:\n{FIRST_LINE}")
    return OK
