"""``make demo``: a good release goes live and a bad one puts itself back, of a service behind real HAProxy and one behind real nginx."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live

from demo.processes import require_free
from demo.shop import BAD, FIRST, GOOD, PORTS, ROOT, Shop
from demo.stack import Stack, running, side_by_side
from demo.story import Line, Story
from demo.told import tell

RATE = 200
"""Requests per second of the load: enough for a verdict in seconds, little enough for a laptop."""

ROUTERS = {"shop": "haproxy", "pay": "nginx"}
"""Service -> kind of router before it."""

DATABASES = {"shop"}
"""Services with a PostgreSQL."""

console = Console(highlight=False)


def main() -> None:
    """Run the demo; the exit code says whether everything was so."""
    options = _options()
    # Each ends it through every `finally`; a shell that starts it in the background would have Ctrl-C ignored.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    began = time.monotonic()
    try:
        with _stack(options.port) as stack:
            good = _together(stack, lambda story: story.release(GOOD), stack.shops)
            changed = _together(stack, Story.change_database, [shop for shop in stack.shops if shop.database])
            bad = _together(stack, lambda story: story.release(BAD), stack.shops)
            ok = tell(stack, good, changed, bad, time.monotonic() - began, console)
            if options.keep:
                for load in stack.loads.values():
                    load.start()  # without traffic, no further release would have evidence
                _keep(stack)
    except KeyboardInterrupt:
        console.print("\ninterrupted: everything was stopped")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - what it was stands in one line; the logs are in build/demo
        console.print(f"[red]demo failed:[/] {type(error).__name__}: {error}", soft_wrap=True)
        sys.exit(1)
    sys.exit(0 if ok else 1)


@contextmanager
def _stack(port: int) -> Iterator[Stack]:
    build = ROOT / "build" / "demo"
    ports = [port, *range(port + 1, port + 1 + PORTS * len(ROUTERS))]
    require_free(ports, "make demo (choose others with make demo PORT=...)")
    shutil.rmtree(build, ignore_errors=True)
    # In the clone, unless it lies too deep for the path of a unix socket.
    work = build if len(str(build)) < 60 else Path(tempfile.mkdtemp(prefix="bluegreen-demo-"))
    shops = [
        Shop(
            work / name,
            ports[1 + PORTS * n :][:PORTS],
            name,
            router,
            services_folder=work / "services",
            has_database=name in DATABASES,
        )
        for n, (name, router) in enumerate(ROUTERS.items())
    ]
    names = ", ".join(
        f"{shop.name} behind two {shop.router} nodes{' with a PostgreSQL' if shop.database else ''}" for shop in shops
    )
    console.print(f"starting {FIRST} on blue of {names}, and Airflow …")
    with running(shops, build / "airflow", RATE, port=port) as stack:
        yield stack


def _together(
    stack: Stack, part: Callable[[Story], dict[str, Any]], shops: Sequence[Shop]
) -> dict[str, dict[str, Any]]:
    """Let a part of the story happen to services at the same time, with live progress; return what it told of each."""
    console.print()
    lines = {shop.name: Line(shop.name, stack.loads[shop.name]) for shop in shops}
    work = {shop.name: partial(part, Story(stack, shop, lines[shop.name], stack.rest(), console)) for shop in shops}
    with Live(console=console, refresh_per_second=4, transient=not console.is_terminal) as live:
        return side_by_side(work, lambda: live.update(Group(*(line.draw() for line in lines.values()))))


def _keep(stack: Stack) -> None:
    user, password = stack.airflow.login
    console.print(f"\nAirflow {stack.airflow.url}  user {user}  password {password}")
    for shop in stack.shops:
        console.print(f"{shop.name} http://{shop.nodes[0].entry}/ and http://{shop.nodes[1].entry}/")
    console.print(f"BLUEGREEN_SERVICES={stack.catalog} .venv/bin/bluegreen status", soft_wrap=True)
    console.print("Ctrl-C stops everything")
    threading.Event().wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument(
        "--port", type=int, default=18080, help=f"of Airflow's UI; the {PORTS * len(ROUTERS)} above it are taken too"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
