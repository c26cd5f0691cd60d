"""The command line: parse, call one use case, print. One module a verb."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence

import typer

from bluegreen import __version__
from bluegreen.cli import adopt, check, diagnose, guard, init, lines, migrations, restore, schema, status, watch
from bluegreen.cli.exits import EXIT_CODES, OK, complain, warn
from bluegreen.cli.session import Folder, Options

app = typer.Typer(
    name="bluegreen",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=f"\b\n{EXIT_CODES}\nExample: bluegreen restore shop --reason 'checkout is broken'",
)
for module in (status, check, diagnose, restore, guard, adopt, init, lines, schema):
    app.command(epilog=module.EXAMPLE)(getattr(module, module.__name__.rpartition(".")[2]))
app.add_typer(watch.app, name="watch", epilog="Example: bluegreen watch simulate shop --rps 100")
app.add_typer(migrations.app, name="migrations", epilog="Example: bluegreen migrations lint shop")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"bluegreen {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    services: Folder = None,
    debug: bool = typer.Option(False, "--debug", help="Log each step, and show where an error comes from."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Look at and put back blue-green traffic, also when Airflow is dead."""
    del version
    ctx.obj = Options(services, debug)
    if debug:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if args is None else args)
    try:
        return int(app(words, prog_name="bluegreen", standalone_mode=False) or OK)
    except typer.Abort:
        warn("stopped; nothing more was done")
        return 130
    except Exception as error:  # noqa: BLE001 - the last one to hear of it
        if "--debug" in words:
            traceback.print_exception(error)
        return complain(error)
