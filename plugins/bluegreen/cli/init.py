"""``bluegreen init``: write a commented service file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bluegreen.catalog.load import read_text
from bluegreen.cli.exits import OK
from bluegreen.cli.found import existing, kind_of
from bluegreen.cli.lines import lines_of
from bluegreen.cli.service_file import NEXT, Answers, service_file, write_new
from bluegreen.cli.session import Folder, folder_of

EXAMPLE = "Example: bluegreen init shop --config /etc/nginx/nginx.conf --entry http://x"

Name = Annotated[str, typer.Argument(metavar="NAME", help="The service's name.", show_default=False)]
Kind = Annotated[
    Literal["haproxy", "nginx"] | None, typer.Option("--router", help="What decides the split.", show_default="haproxy")
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="haproxy.cfg or nginx.conf here: it says the rest.")
]
Url = Annotated[str, typer.Option("--entry", metavar="URL", help="Where users reach it, through the router.")]
Nodes = Annotated[
    list[str] | None,
    typer.Option("--node", metavar="SPEC", help="NAME=SOCKET,MAP,ENTRY; for nginx see docs/nginx.md."),
]
Blue = Annotated[list[str] | None, typer.Option("--blue", metavar="URL", help="Each of blue's servers.")]
Green = Annotated[list[str] | None, typer.Option("--green", metavar="URL", help="Each of green's servers.")]
Backends = Annotated[str | None, typer.Option(metavar="BLUE,GREEN", help="How FILE calls each color's servers.")]
Print = Annotated[bool, typer.Option("--print", help="Write nothing; print it, and lines for the router.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Instead of NAME.yaml in the services' folder.")]


def init(
    ctx: typer.Context,
    name: Name,
    *,
    config: Config = None,
    router: Kind = None,
    entry: Url = "",
    node: Nodes = None,
    blue: Blue = None,
    green: Green = None,
    backends: Backends = None,
    only_print: Print = False,
    out: Out = None,
    services: Folder = None,
) -> int:
    """Write a commented service file; ask for what is missing."""
    kind = router or (kind_of(config) if config else "haproxy")
    found = existing(kind, config, backends) if config else None
    answers = Answers.asked(name, kind, entry, node or [], blue or [], green or [], found)
    path = out or (Path(f"{name}.yaml") if only_print else folder_of(ctx, services) / f"{name}.yaml")
    text = service_file(answers)
    service = read_text(text, path)
    if only_print:
        print(f"{text}\n{lines_of(service).rstrip()}")
        return OK
    write_new(path, text)
    print(NEXT.format(path=path, name=name))
    return OK
