"""
``make demo``: a good release goes live and a bad one puts itself back, of a service behind real HAProxy and one behind real nginx.

The first has a real PostgreSQL: its good release expands the schema and fills it, one that would take a column from the
version that runs is refused, and what the good one made superfluous is taken away when nobody can go back to it.

``make demo ROUTER=kubernetes``: the same good and bad releases on a real Kubernetes control plane, of a service behind a
plain Service and one behind an HTTPRoute.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live

from demo.kubernetes import traefik
from demo.kubernetes.plane import sweep
from demo.kubernetes.services import on_kubernetes
from demo.processes import require_free
from demo.shop import BAD, FIRST, GOOD, PORTS, ROOT, Shop
from demo.stack import Released, Stack, running, side_by_side
from demo.story import Line, Story
from demo.told import tell

RATE = 200
"""Requests per second of the load: enough for a verdict in seconds, little enough for a laptop."""

ROUTERS = {"shop": "haproxy", "pay": "nginx"}
"""Service -> kind of router before it."""

DATABASES = {"shop"}
"""Services with a PostgreSQL."""

console = Console(highlight=False)


@contextmanager
def _proxies(work: Path, ports: Sequence[int]) -> Iterator[Sequence[Shop]]:
    yield [
        Shop(
            work / name,
            list(ports[PORTS * n :][:PORTS]),
            name,
            router,
            services_folder=work / "services",
            has_database=name in DATABASES,
        )
        for n, (name, router) in enumerate(ROUTERS.items())
    ]


@dataclass(frozen=True)
class Scene:
    """
    What the services stand on.

    :param ports: how many it takes above Airflow's
    :param rate: requests a second on each service
    :param says: what it is, where that is worth a line
    :param missing: says why it cannot be had here; empty where it can
    :param services: the services, not started yet; what they stand on ends with it
    :param settings: of Airflow, and ``imports``: see ``running``
    """

    ports: int
    rate: float
    says: str
    missing: Callable[[], str]
    services: Callable[[Path, Sequence[int]], AbstractContextManager[Sequence[Released]]]
    settings: Mapping[str, str] = field(default_factory=dict)
    imports: Sequence[str] = ()


SCENES = {
    "": Scene(PORTS * len(ROUTERS), RATE, "", str, _proxies),
    "kubernetes": Scene(
        1,
        RATE / 2,
        "a Kubernetes control plane, kube-proxy, Traefik",
        traefik.missing,
        on_kubernetes,
        # So many programs on two cores: who has to wait for them is not dead.
        {
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "120",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "60",
        },
        ["kubernetes.client"],  # its 700 modules take a task a second, and ten without compiled files
    ),
}
"""By ``ROUTER=``."""


def main() -> None:
    """Run the demo; the exit code says whether everything was so."""
    options = _options()
    scene = _scene(options.router)
    # Each ends it through every `finally`; a shell that starts it in the background would have Ctrl-C ignored.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    began = time.monotonic()
    try:
        with _stack(scene, options.port) as stack:
            good = _together(stack, lambda story: story.release(GOOD), stack.shops)
            with_database = [shop for shop in stack.shops if shop.database]
            changed = _together(stack, Story.change_database, with_database) if with_database else {}
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


def _scene(router: str) -> Scene:
    """Return it, or end in one sentence where there is no such, or it cannot be had here."""
    if router not in SCENES:
        allowed = ", ".join(f"ROUTER={name}" for name in SCENES if name)
        sys.exit(f"make demo: there is no ROUTER={router}; allowed is {allowed}, or none: HAProxy and nginx")
    if reason := SCENES[router].missing():
        sys.exit(f"make demo ROUTER={router} cannot run here: {reason}")
    return SCENES[router]


@contextmanager
def _stack(scene: Scene, port: int) -> Iterator[Stack]:
    build = ROOT / "build" / "demo"
    ports = [port, *range(port + 1, port + 1 + scene.ports)]
    require_free(ports, "make demo (choose others with make demo PORT=...)")
    sweep(build / "kubernetes")  # before nobody knows any more what a killed demo has left
    shutil.rmtree(build, ignore_errors=True)
    # In the clone, unless it lies too deep for the path of a unix socket.
    work = build if len(str(build)) < 60 else Path(tempfile.mkdtemp(prefix="bluegreen-demo-"))
    if scene.says:
        console.print(f"starting {scene.says} …", soft_wrap=True)
    with scene.services(work, ports[1:]) as shops:
        names = ", ".join(f"{shop.name} behind {shop.behind}" for shop in shops)
        console.print(f"starting {FIRST} on blue of {names}, and Airflow …", soft_wrap=True)
        with running(
            shops, build / "airflow", scene.rate, port=port, settings=scene.settings, imports=scene.imports
        ) as stack:
            yield stack


def _together(
    stack: Stack, part: Callable[[Story], dict[str, Any]], shops: Sequence[Released]
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
        console.print(f"{shop.name} {' and '.join(shop.entries)}")
    for shop in stack.shops:
        for name, told in shop.connections.items():
            console.print(f"export {name}='{told}'", soft_wrap=True)
    console.print(f"export BLUEGREEN_SERVICES={stack.catalog}", soft_wrap=True)
    console.print(".venv/bin/bluegreen status", soft_wrap=True)
    for line in dict.fromkeys(line for shop in stack.shops for line in shop.looks):
        console.print(line, soft_wrap=True)
    console.print("Ctrl-C stops everything")
    threading.Event().wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument(
        "--port", type=int, default=18080, help=f"of Airflow's UI; the {SCENES[''].ports} above it are taken too"
    )
    parser.add_argument("--router", default="", help="kubernetes, or none: HAProxy and nginx")
    return parser.parse_args()


if __name__ == "__main__":
    main()
