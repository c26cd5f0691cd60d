"""What every verb needs: the service files, ports to the world, who we are, and many services at a time."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bluegreen.catalog.load import load_all, load_service, load_way_back, services_folder
from bluegreen.catalog.models import Service
from bluegreen.core.env_secrets import EnvironmentSecrets
from bluegreen.core.errors import CatalogError

if TYPE_CHECKING:
    from bluegreen.release.ports import Ports

T = TypeVar("T")
MOST_AT_ONCE = 64

ServiceName = Annotated[str, typer.Argument(metavar="SERVICE", help="Its name in the catalog.", show_default=False)]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it stands in the router and in reports.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Folder = Annotated[
    Path | None, typer.Option("--services", metavar="FOLDER", help="Folder of the service files.", show_default=False)
]


@dataclass(frozen=True)
class Options:
    """
    What was said before the verb.

    :param folder: ``--services``
    :param debug: ``--debug``
    """

    folder: Path | None = None
    debug: bool = False


def folder_of(ctx: typer.Context, named: Path | None) -> Path:
    """Return the folder of the service files: ``--services``, else where they usually are."""
    return named or ctx.ensure_object(Options).folder or services_folder()


def chosen(folder: Path, names: Sequence[str], *, way_back: bool = False) -> tuple[list[Service], list[CatalogError]]:
    """
    Return the services of these names, or all; what cannot be read does not keep the others away.

    :param way_back: also of broken files what a restore needs
    """
    if not names:
        catalog = load_all(folder)
        partly = catalog.way_back if way_back else {}
        return [*catalog.services.values(), *partly.values()], list(catalog.errors)
    services, errors = [], []
    for name in dict.fromkeys(names):
        try:
            services.append(load_service(folder, name))
        except CatalogError as error:
            errors.append(error)
            partly_read = load_way_back(folder / f"{name}.yaml") if way_back else None
            services += [partly_read] if partly_read else []
    return services, errors


def ports_of(service: Service) -> Ports:
    """Build the ports of a service with the environment's secrets."""
    # Not at the top: `bluegreen schema` and `--help` need no router, deployer or HTTP client.
    from bluegreen.release import wiring  # noqa: PLC0415

    return wiring.ports_for(service, EnvironmentSecrets())


def each(services: Sequence[Service], work: Callable[[Service], T]) -> Iterator[tuple[Service, T | Exception]]:
    """Do the same for each service at the same time; an error is one service's answer. In the order given."""

    def safely(service: Service) -> T | Exception:
        try:
            return work(service)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            return error

    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        yield from zip(services, pool.map(safely, services), strict=True)


def who() -> str:
    """Return user and host, for the stamp."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's bare user id
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
